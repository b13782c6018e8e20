"""Charges: planted mixes, each held against the promise that its kind makes of it, and doubt that never accuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from stress.charges import Charge, charges
from stress.explain import explain
from stress.grade import EVENTS, counts_of, grade
from stress.model import Grade, Site
from stress.promises import load_promises
from tests.support import Record
from tests.test_evidence import cell, ended, wrong

PROMISES = load_promises()
INSIDE = Site(0)
AMD, INTEL = "AuthenticAMD", "GenuineIntel"


def planted(case: str, labels: dict[str, int], regime: str = "none", outcome: str = "torn") -> Record:
    """The record of a cell of which so many executions ran each mix; the label `unknown` stands for none."""
    seen = [
        wrong(label, count, outcome) if label != "unknown" else wrong("", count, outcome) | {"mixes": []}
        for label, count in labels.items()
    ]
    return ended(cell(case, regime, INSIDE), {outcome: sum(labels.values())}, signatures=seen)


def of(record: Record, vendor: str = AMD) -> list[Charge]:
    return charges(record, counts_of(record), EVENTS, PROMISES, vendor)


def graded(record: Record, vendor: str = "") -> Grade:
    return grade(record, PROMISES, vendor=vendor).grade


CERTAIN = [
    # K11: two instructions against two others
    ("two-imm8", "0001", Grade.INTERESTING, "AB'"),
    ("two-imm8", "0f00", Grade.INTERESTING, "AB'"),
    ("two-imm8", "0100", Grade.FORBIDDEN, "A'B"),
    ("two-imm8", "f0ff", Grade.FORBIDDEN, "A'B"),
    ("two-opcodes", "0000011", Grade.INTERESTING, "AB'"),
    ("two-opcodes", "1111100", Grade.FORBIDDEN, "A'B"),
    ("two-opcodes", "0100000", Grade.FORBIDDEN, "part"),
    # K12, from one to many, and K13, the way back: the same two bytes of the many in front of two of the one
    ("add-adds", "1100", Grade.FORBIDDEN, "A'X"),
    ("add-adds", "1122", Grade.INTERESTING, "AX"),
    ("add-adds", "3300", Grade.INTERESTING, "AX"),
    ("add-adds", "0111", Grade.FORBIDDEN, "part"),
    ("add-adds", "2211", Grade.FORBIDDEN, "part"),
    # K13 of two images: what is excluded both ways is excluded
    ("nops-mov5", "10000", Grade.FORBIDDEN, "part"),
    # K18
    ("xray-head", "01", Grade.FORBIDDEN, "part"),
]


@pytest.mark.parametrize(("case", "label", "expected", "pattern"), CERTAIN)
@pytest.mark.parametrize("outcome", ["torn", "fault", "hang"])
def test_a_mix_is_held_to_what_its_kind_promises_of_it(
    case: str, label: str, expected: Grade, pattern: str, outcome: str
) -> None:
    record = planted(case, {label: 95}, "none", outcome)
    assert graded(record) == expected
    (charge,) = of(record)
    assert charge.what.startswith(f", the mix {pattern} (")
    assert PROMISES.patterns[pattern] in charge.what


@pytest.mark.parametrize(("case", "label", "expected", "pattern"), CERTAIN)
def test_explain_names_the_mix_and_its_promise(case: str, label: str, expected: Grade, pattern: str) -> None:
    record = planted(case, {label: 95})
    text = " ".join(explain([record], record["cell"], PROMISES, "x86_64").split())
    assert f"the mix {pattern} ({PROMISES.patterns[pattern]})" in text
    assert "7.6.1" in text
    assert f"({pattern})" in text.partition("What ran")[2]


def test_on_intel_no_mix_of_them_is_excluded() -> None:
    for case, label, _, _ in CERTAIN[:-1]:
        assert graded(planted(case, {label: 95}), INTEL) == Grade.INTERESTING


def test_what_another_vendor_promises_is_the_weaker_of_both() -> None:
    assert graded(planted("two-imm8", {"0100": 95}), "generic") == Grade.INTERESTING
    assert graded(planted("xray-head", {"01": 95}), "generic") == Grade.SURPRISING


@pytest.mark.parametrize(
    ("case", "label"),
    [
        ("two-imm8", "0003"),  # three images apart: which is the older is not known
        ("nops-mov5", "01111"),  # two images
        ("nop5-adds", "11000"),
        (
            "add-adds",
            "1133",
        ),  # two patches at once, from many to many: as two instructions against two others
        ("two-imm8", "unknown"),
        ("add-adds", "unknown"),
    ],
)
def test_doubt_is_told_and_judged_mildly(case: str, label: str) -> None:
    record = planted(case, {label: 95})
    assert graded(record) == Grade.INTERESTING
    (charge,) = of(record)
    assert charge.what.endswith(
        (", so the milder promise counts", ", so the mildest promise for any mix counts")
    )
    assert charge.what in " ".join(explain([record], record["cell"], PROMISES, "x86_64").split())


def test_a_look_alike_is_as_good_as_the_better_of_the_two() -> None:
    record = planted("two-imm8", {"0001": 95})
    record["signatures"][0]["mixes"] = ["0100", "0001"]
    assert graded(record) == Grade.INTERESTING
    record["signatures"][0]["mixes"] = ["0100", "1211"]
    assert graded(record) == Grade.FORBIDDEN


def test_what_the_core_had_no_room_for_is_unknown() -> None:
    record = planted("two-imm8", {"0001": 5})
    record["outcomes"]["concurrent"]["torn"] = 9
    assert [(charge.count, "not known" in charge.what) for charge in of(record)] == [(5, False), (4, True)]


def test_the_gravest_comes_first_and_everything_is_counted_once() -> None:
    record = planted("two-imm8", {"0001": 50, "0100": 40, "0003": 1, "unknown": 7})
    found = of(record)
    assert [charge.count for charge in found] == [40, 50, 1, 7]
    assert graded(record) == Grade.FORBIDDEN


def lateness(behind: int, each: int) -> Record:
    """Executions that were one image behind, and `each` that were 8 to 14 images ahead, of sixteen."""
    ahead = {f"000{n:x}": each for n in range(8, 15)}
    return planted("two-imm8", {"0001": 1000, "0100": behind, **ahead})


@pytest.mark.parametrize(
    ("behind", "each", "expected"),
    [
        (40, 0, Grade.FORBIDDEN),
        (1000, 100, Grade.FORBIDDEN),
        (1, 0, Grade.INTERESTING),  # one execution is no proof: it may have taken fifteen patches
        (100, 100, Grade.INTERESTING),
        (40, 100, Grade.INTERESTING),
        (150, 100, Grade.INTERESTING),
    ],
)
def test_who_took_long_between_two_instructions_is_not_accused(
    behind: int, each: int, expected: Grade
) -> None:
    """Late by fifteen patches is not far more frequent than late by eight to fourteen: only an excess is forbidden."""
    record = lateness(behind, each)
    assert graded(record) == expected
    told = [charge.what for charge in of(record) if charge.count == behind and "A'B" in charge.what]
    assert any("with several patches in between" in what for what in told) == (expected is Grade.INTERESTING)


@pytest.mark.parametrize(
    "apart",
    [
        (5416, 3288, 2969, 2797, 2487, 2379, 2119, 2296, 2000, 2289, 2100, 2415, 2379, 2734, 2710),
        (6251, 3580, 1435, 1292, 1122, 1321, 1201, 1276, 1116, 1178, 1075, 1205, 1213, 1390, 1346),
        (3531, 2371, 1969, 1868, 1522, 953, 749, 567, 670, 1428, 808, 1439, 1625, 2793, 2397),
    ],
)
def test_a_writer_that_goes_round_the_rotation_in_a_fetch_accuses_nobody(apart: Sequence[int]) -> None:
    """As a Zen 4 showed it, with 10^9 patches a second."""
    record = planted(
        "two-imm8", {f"000{n:x}": count for n, count in enumerate(apart[:-1], 1)} | {"0100": apart[-1]}
    )
    assert graded(record) == Grade.INTERESTING


def test_a_mix_does_not_matter_where_the_promise_does_not_ask() -> None:
    for record in (planted("mov-imm32", {"1100": 5}), planted("two-imm8", {"0100": 5}, "int3+sync-core")):
        (charge,) = of(record)
        assert charge.what == ""


def test_stale_executions_ran_no_mix() -> None:
    record: dict[str, Any] = ended(cell("two-imm8", "sync-core", INSIDE), outcomes={"post": {"stale": 5}})
    (charge,) = of(record)
    assert (charge.what, charge.promise.level) == ("", "forbidden")


def test_after_completion_a_mix_is_excluded_whatever_it_is() -> None:
    record = planted("two-imm8", {"0001": 95}, "sync-core")
    record["outcomes"] = {"post": {"torn": 95}}
    record["signatures"][0]["phase"] = "post"
    assert graded(record) == Grade.FORBIDDEN


@pytest.mark.parametrize("phase", ["interior", "resumed"])
def test_interior_and_resumed_executions_are_not_divided(phase: str) -> None:
    record = planted("two-imm8", {"0100": 95})
    record["outcomes"] = {phase: {"torn": 95}}
    record["signatures"][0]["phase"] = phase
    assert [charge.what for charge in of(record)] == [""]
