"""Byte mixes: all of them, each named by the bytes it is made of, each known again by what it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress.cases import load_cases
from stress.mixes import (
    FULL,
    Mix,
    Signature,
    attribute,
    boundaries,
    decode_text,
    mixes_of,
    of_plan,
    strangers,
    table,
    thirds,
)
from stress.model import Case, Limits, Placement, Site, Step
from stress.plan import as_dict
from stress.regimes import load_provocations, load_regimes
from stress.sites import middle
from tests.support import (
    GADGET,
    ROOT,
    count,
    gadget_case,
    halves,
    make_plan,
    placement,
    regime,
    run_cell,
    run_plan,
)

CASES = load_cases()
SPLITTABLE = [name for name, case in CASES.items() if case.patch_len > 1]
NOWHERE = Placement("l3", 0, (1,))
"""For plans that are not run."""


def codes(case: Case) -> list[bytes]:
    return [image.bytes for image in case.images]


def mixes(case: Case) -> list[Mix]:
    return mixes_of(codes(case), case.patch, case.patch_len)


def rebuilt(images: list[bytes], patch: int, label: str) -> bytes:
    """The content that a label says it is."""
    content = bytearray(images[0])
    for at, source in enumerate(label, patch):
        content[at] = images[int(source, 16)][at]
    return bytes(content)


@st.composite
def patched(draw: st.DrawFn, most_images: int = 4) -> tuple[list[bytes], int, int]:
    """Images that differ in the patched bytes only, where patched bytes often agree; patch and patch_len."""
    outside = st.binary(max_size=3)
    head, tail, length = draw(outside), draw(outside), draw(st.integers(1, 12))
    parts = st.lists(st.integers(0, 2), min_size=length, max_size=length).map(bytes)
    bodies = draw(st.lists(parts, min_size=2, max_size=most_images, unique=True))
    return [head + body + tail for body in bodies], len(head), length


def differing(a: bytes, b: bytes) -> list[int]:
    return [at for at in range(len(a)) if a[at] != b[at]]


# ---- which mixes there are -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(patched())
def test_a_label_says_where_each_byte_is_from(given_images: tuple[list[bytes], int, int]) -> None:
    images, patch, length = given_images
    found = mixes_of(images, patch, length)
    for mix in found:
        assert len(mix.label) == length
        assert len(set(mix.label)) == 2
        assert rebuilt(images, patch, mix.label) == mix.bytes
    assert len({mix.bytes for mix in found}) == len(found)


@settings(deadline=None)
@given(patched())
def test_no_mix_is_an_image_not_even_one_of_the_others(given_images: tuple[list[bytes], int, int]) -> None:
    images, patch, length = given_images
    assert not {mix.bytes for mix in mixes_of(images, patch, length)} & set(images)


@settings(deadline=None)
@given(patched())
def test_up_to_eight_differing_bytes_every_choice_of_bytes_is_a_mix(
    given_images: tuple[list[bytes], int, int],
) -> None:
    images, patch, length = given_images
    wanted = set()
    for a, b in combinations(images, 2):
        where = differing(a, b)
        choices: Iterable[tuple[int, ...]] = product((0, 1), repeat=len(where))
        if len(where) > FULL:  # then only the front from one, the back from the other
            choices = (
                tuple(int(i < cut) ^ flip for i in range(len(where)))
                for cut in range(len(where))
                for flip in (0, 1)
            )
        for choice in choices:
            content = bytearray(a)
            for at, other in zip(where, choice, strict=True):
                content[at] = (a, b)[other][at]
            wanted.add(bytes(content))
    assert {mix.bytes for mix in mixes_of(images, patch, length)} == wanted - set(images)


@pytest.mark.parametrize("k", range(1, FULL + 1))
def test_two_images_have_two_to_the_k_less_two_mixes(k: int) -> None:
    assert len(mixes_of([bytes(k), bytes([1] * k)], 0, k)) == 2**k - 2


@pytest.mark.parametrize("k", [FULL + 1, 12, 15])
def test_beyond_eight_bytes_the_front_comes_from_one_and_the_back_from_the_other(k: int) -> None:
    labels = {mix.label for mix in mixes_of([bytes(k), bytes([1] * k)], 0, k)}
    assert labels == {x * cut + y * (k - cut) for x, y in ("01", "10") for cut in range(1, k)}


def test_bytes_in_which_two_images_agree_make_no_mixes_and_are_the_lower_ones() -> None:
    found = mixes_of([b"\x01\x05\x03", b"\x11\x05\x13"], 0, 3)
    assert {mix.label: mix.bytes for mix in found} == {"100": b"\x11\x05\x03", "001": b"\x01\x05\x13"}


def test_three_images_are_mixed_two_by_two() -> None:
    labels = [mix.label for mix in mixes_of([b"\x10\x20", b"\x11\x21", b"\x12\x22"], 0, 2)]
    assert sorted(labels) == ["01", "02", "10", "12", "20", "21"]


@pytest.mark.parametrize("name", CASES)
def test_the_shipped_cases_have_the_mixes_that_their_bytes_make(name: str) -> None:
    case = CASES[name]
    found = mixes(case)
    assert len({mix.bytes for mix in found}) == len(found)
    assert bool(found) == (case.patch_len > 1)
    for mix in found:
        assert rebuilt(codes(case), case.patch, mix.label) == mix.bytes
        outside = differing(mix.bytes, case.images[0].bytes)
        assert set(outside) <= set(range(case.patch, case.patch + case.patch_len))


def test_a_plan_has_the_mixes_of_its_case() -> None:
    case = CASES["mov-imm32"]
    plan = as_dict(make_plan(case, regime(Step("store", "all", "new")), Limits(1.0), where=NOWHERE))
    assert of_plan(plan) == mixes(case)


# ---- where a mix changes from one image to the other -----------------------------------------------------------

WHOLLY = (b"\x90\x01\x01\x01\x01\xc3", b"\x90\x02\x02\x02\x02\xc3", b"\x90\x03\x03\x03\x03\xc3")


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("0011", [(1,)]),
        ("1000", [(0,)]),
        ("0002", [(2,)]),
        ("0101", [(0,), (1,), (2,)]),
        ("0110", [(0,), (2,)]),
        ("0000", []),
        ("0012", []),  # three images: no mix of two
    ],
)
def test_a_mix_changes_where_its_label_does(label: str, found: list[tuple[int, ...]]) -> None:
    assert boundaries(label, WHOLLY, 1) == found


def test_a_byte_in_which_the_images_agree_ends_no_run() -> None:
    images = (b"\x01\x05\x03\x07\x09", b"\x11\x05\x13\x17\x09")
    found = {label: boundaries(label, images, 0) for label in ("10000", "10100", "00010")}
    assert found == {
        "10000": [(0, 1)],  # before byte 1 or behind it
        "10100": [(2,)],  # byte 1 passes for image 1's, too
        "00010": [(2,)],  # as byte 4 does, behind the last change
    }


@settings(deadline=None)
@given(patched(most_images=2))
def test_a_mix_can_be_made_by_changing_over_at_any_of_the_places_that_each_change_may_be(
    given_images: tuple[list[bytes], int, int],
) -> None:
    images, patch, length = given_images
    for mix in mixes_of(images, patch, length):
        changes = boundaries(mix.label, tuple(images), patch)
        first = next(at for at in range(length) if images[0][patch + at] != images[1][patch + at])
        for choose in (min, max):
            content, source = bytearray(mix.bytes), int(mix.label[first])
            ends = [choose(cuts) for cuts in changes]
            for at in range(length):
                content[patch + at] = images[source][patch + at]
                source ^= at in ends
            assert bytes(content) == mix.bytes


# ---- signatures ------------------------------------------------------------------------------------------------


def signature(signal: str = "", code: int = 0, pc: int = 0, value: int = 0) -> Signature:
    return signal, code, pc, value


def test_mixes_that_show_the_same_are_ambiguous_with_each_other() -> None:
    a, b, c = Mix("01", b"a"), Mix("10", b"b"), Mix("02", b"c")
    known = table([a, b, c], [signature(value=7), signature("SIGILL", 2, 0), signature(value=7)])
    assert known == {signature(value=7): [a, c], signature("SIGILL", 2, 0): [b]}


def test_every_mix_needs_its_signature() -> None:
    with pytest.raises(ValueError, match="zip"):
        table([Mix("01", b"a")], [])


def test_what_was_seen_is_attributed_to_every_mix_that_shows_it_and_else_to_none() -> None:
    known = table([Mix("01", b"a"), Mix("10", b"b")], [signature(value=7), signature(value=7)])
    seen: list[dict[str, Any]] = [
        {"signal": "", "code": 0, "pc": 0, "value": 7, "count": 3},
        {"signal": "", "code": 0, "pc": 0, "value": 8, "count": 1},
        {"signal": "SIGSEGV", "code": 0, "pc": 0, "value": 7, "count": 1},
    ]
    attribute(seen, known)
    assert [s["mixes"] for s in seen] == [["01", "10"], [], []]
    assert [s["count"] for s in seen] == [3, 1, 1]


def test_a_mix_that_shows_what_a_third_image_shows_is_a_stranger() -> None:
    mixes = [Mix("01", b"a"), Mix("02", b"b"), Mix("12", b"c"), Mix("21", b"d")]
    images = [signature(value=1), signature(value=2), signature("SIGTRAP", 1, 1)]
    # Its own image, a third one, one that traps at its head, and none at all.
    did = [signature(value=2), signature(value=2), signature(value=1), signature(value=9)]
    assert strangers(mixes, did, images) == {"02": 1, "12": 0}
    trapping = [signature("SIGTRAP", 1, 1), *did[1:]]
    assert strangers(mixes, trapping, images) == {"01": 2, "02": 1, "12": 0}
    assert strangers([], [], images) == {}


def test_a_mix_that_is_a_third_image_is_no_mix_and_is_told() -> None:
    images = [b"\x01\x01", b"\x02\x02", b"\x01\x02"]
    assert [mix.label for mix in mixes_of(images, 0, 2)] == ["10"]
    assert thirds(images, 0, 2) == {"01": 2}
    assert thirds(images[:2], 0, 2) == {}
    assert thirds([image.bytes for image in CASES["mov-imm32"].images], 1, 4) == {}


# ---- the decoder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "entry", "text"),
    [
        ("b811213141c3", 0, "mov $0x41312111,%eax; ret"),
        ("ccccb811213141c3", 2, "mov $0x41312111,%eax; ret"),
        ("ebfe9090", 0, "jmp 0"),
        ("06b801000000", 0, "(bad)"),
        ("9006", 0, "nop; (bad)"),
        ("", 0, ""),
    ],
)
def test_code_is_told_up_to_where_it_leaves_or_is_none(code: str, entry: int, text: str) -> None:
    told = decode_text(bytes.fromhex(code), entry, "x86_64")
    assert " ".join(told.split()).replace("0000000000000000h", "0") == text


@given(st.binary(max_size=20), st.integers(0, 19))
def test_any_bytes_can_be_told(code: bytes, entry: int) -> None:
    told = decode_text(code, entry, "x86_64")
    assert bool(told) == (entry < len(code))


def test_an_architecture_without_a_decoder_is_told_as_nothing() -> None:
    assert decode_text(b"\x90", 0, "riscv64") == ""


# ---- executed --------------------------------------------------------------------------------------------------

EXECUTE_TWICE = """
import json, sys
from stress import native
for line in sys.stdin:
    job = json.loads(line)
    codes = [bytes.fromhex(code) for code in job["mixes"]]
    once = native.run_mixes(job["plan"], codes)
    again = native.run_mixes(job["plan"], codes[::-1])[::-1]
    print(json.dumps([once, again]), flush=True)
"""


def everywhere() -> list[tuple[Case, Site]]:
    return [(CASES[n], site) for n in SPLITTABLE for site in (Site(0), Site(64, middle(CASES[n])))]


@pytest.mark.hardware
def test_every_mix_of_every_case_is_known_again_as_itself_or_as_one_that_its_table_calls_ambiguous() -> None:
    """Executed once for the table and once more, in another order, as if it had been met."""
    plain = regime(Step("store", "all", "new"))
    jobs = []
    for case, site in everywhere():
        plan = as_dict(make_plan(case, plain, Limits(1.0), site, where=placement()))
        jobs.append(json.dumps({"plan": plan, "mixes": [mix.bytes.hex() for mix in mixes(case)]}))
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE_TWICE],
        input="\n".join(jobs),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    planted = known_again = 0
    for (case, site), line in zip(everywhere(), done.stdout.splitlines(), strict=True):
        once, again = json.loads(line)
        every = mixes(case)
        known = table(every, map(tuple, once))
        seen = [dict(zip(("signal", "code", "pc", "value"), s, strict=True)) for s in again]
        attribute(seen, known)
        for mix, s in zip(every, seen, strict=True):
            planted += 1
            known_again += mix.label in s["mixes"]
            assert mix.label in s["mixes"], f"{case.name}@{site.name}: {mix.label} showed {s}"
    assert planted == known_again > 2 * 1000


WELL_MADE = {
    "call-rel32", "jcc-flip", "jmp-rel32", "mov-imm32", "mov-imm64", "nop2-jmp8", "nop5-call5", "nop5-jmp5"
}  # fmt: skip
"""Cases of which nearly every mix shows; tests/test_case_mixes.py plants those of all."""

LOOKS_LIKE_AN_IMAGE = {"jcc-flip": 1}
"""Planted mixes that nothing can tell from an image: a jne that falls through, whatever its displacement."""


@pytest.mark.hardware
@pytest.mark.parametrize("name", sorted(WELL_MADE & set(SPLITTABLE)))
def test_what_a_schedule_plants_is_attributed_to_the_bytes_that_it_planted(name: str) -> None:
    """The writer stores half a patch and waits: memory holds one mix, and executors are on it."""
    case, n, front = CASES[name], len(CASES[name].images), middle(CASES[name])
    record = run_cell(case, halves("front", "back"), Limits(20.0, patches=n), Site(64, front))
    assert (record["status"], record["reason"]) == ("ok", "")
    back = case.patch_len - front
    labels = [f"{(old + 1) % n}" * front + f"{old}" * back for old in range(n)]
    planted = {rebuilt(codes(case), case.patch, label) for label in labels}
    met = set()
    for s in record["signatures"]:
        assert s["outcome"] in ("torn", "fault", "hang")
        may_be = {rebuilt(codes(case), case.patch, label) for label in s["mixes"]} & planted
        assert may_be, s
        met |= may_be
    assert len(planted - met) == LOOKS_LIKE_AN_IMAGE.get(name, 0)


@pytest.mark.hardware
def test_a_mix_that_returns_what_an_image_does_but_spoils_a_register_is_known_by_that() -> None:
    case = gadget_case("4531e4b010c3")  # clears r12, then returns what image 0 does
    record = run_cell(case, halves("front", "back"), Limits(20.0, patches=4), Site(64, 1))
    assert (record["status"], record["reason"]) == ("ok", "")
    assert count(record, "torn") > 0
    # Registers are looked at when a loop ends, so an execution of the next image may be the one that is blamed.
    assert [s["mixes"] for s in record["signatures"] if s["value"] == GADGET] == [["10"]]


@pytest.mark.hardware
def test_every_torn_execution_of_a_well_made_case_is_attributed_to_one_mix() -> None:
    helped = (load_provocations()["writer-flush-tail"],)
    plan = make_plan(
        CASES["mov-imm32"], load_regimes()["none"], Limits(1.0), Site(64, 2), provocations=helped
    )
    for _ in range(5):  # where others use the CPUs too, the writer and the executor meet seldom
        record, _events = run_plan(plan)
        if record["status"] == "timeout":  # its threads got too little of the CPUs to end in time
            continue
        assert record["status"] == "ok", record["reason"]
        assert not any(executor["signatures_lost"] for executor in record["executors"])
        torn = [s for s in record["signatures"] if s["outcome"] == "torn"]
        assert [s for s in torn if len(s["mixes"]) != 1] == []
        assert sum(s["count"] for s in torn) == count(record, "torn")
        if torn:
            return
    raise AssertionError("no torn execution in five seconds of unsynchronized straddling stores")
