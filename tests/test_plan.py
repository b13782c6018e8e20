"""From words to plans: what is selected, what is skipped and why, and what names a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stress.cases import load_cases
from stress.errors import UsageError
from stress.model import Cell, ExecStep, Limits, Placement, Plan, Provocation, Site, Step
from stress.plan import as_dict, cells, check_stores, describe, plan_id, plans, select
from stress.regimes import FEATURES, load_provocations, load_regimes
from stress.sites import STORES
from tests.support import MOV, QUIET, image, make_case, regime

ALL = frozenset(FEATURES)
PLACE = Placement("l3", 0, (1,))
FRUIT = {name: name.upper() for name in ("apple", "apricot", "flag+cpuid", "pear", "[x]")}
NONE = regime(Step("store", "all", "new"))
CELL = Cell(MOV, Site(64, 2), "whole", NONE, (QUIET,), PLACE)
LIMITS = st.builds(
    Limits,
    seconds=st.floats(0, 1e4, allow_nan=False),
    executions=st.integers(0, 2**60),
    patches=st.integers(0, 2**60),
    until_first_event=st.booleans(),
)


def combine(**changed: Any) -> tuple[list[Cell], list[str]]:
    """Names of nothing but what the test varies; reasons of the skips."""
    given: dict[str, Any] = {
        "cases": [MOV],
        "sites": ["x64"],
        "stores": ["whole"],
        "regimes": [NONE],
        "provocations": [(QUIET,)],
        "placements": [PLACE],
        "features": ALL,
    }
    run, skips = cells(**(given | changed))
    return run, [skip.reason for skip in skips]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["apple"], "APPLE"),
        (["all"], "APPLE APRICOT FLAG+CPUID PEAR [X]"),
        (["*"], "APPLE APRICOT FLAG+CPUID PEAR [X]"),
        (["pear,apple"], "APPLE PEAR"),
        (["pear", "apple"], "APPLE PEAR"),
        (["ap*"], "APPLE APRICOT"),
        (["ap*, pear"], "APPLE APRICOT PEAR"),
        (["apple,apple", "a*"], "APPLE APRICOT"),
        (["flag+cpuid"], "FLAG+CPUID"),
        (["flag*"], "FLAG+CPUID"),
        (["[x]"], "[X]"),
        (["?ear"], "PEAR"),
    ],
)
def test_words_select_names_in_the_order_in_which_they_are_known(words: list[str], chosen: str) -> None:
    assert select(FRUIT, words, "--fruit") == chosen.split()


@pytest.mark.parametrize("word", ["plum", "APPLE", "", "appl", "pl*", "apple;pear", "al"])
def test_a_word_that_matches_nothing_is_refused_with_what_there_is(word: str) -> None:
    told = f"--fruit: '{word}' matches nothing; there are: apple, apricot, flag+cpuid, pear, [x]"
    with pytest.raises(UsageError, match=re.escape(told)):
        select(FRUIT, ["pear", word], "--fruit")


@pytest.mark.parametrize("words", [["apple,"], [",apple"], ["apple,,pear"]])
def test_an_empty_word_between_commas_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        select(FRUIT, words, "--fruit")


def test_stores_come_in_one_order() -> None:
    assert check_stores(["split,whole"]) == ["whole", "split"]
    assert check_stores(["all"]) == list(STORES)
    with pytest.raises(UsageError, match="--stores: 'nope' matches nothing"):
        check_stores(["nope"])


def test_every_combination_is_run_once() -> None:
    other = replace(MOV, name="other")
    provocations = [(QUIET,), (QUIET, replace(QUIET, name="loud"))]
    near = Placement("smt", 0, (2,))
    run, reasons = combine(
        cases=[MOV, other],
        sites=["in8,x64", "x8"],
        stores=["whole", "bytes"],
        regimes=[NONE, replace(NONE, name="again")],
        provocations=provocations,
        placements=[PLACE, near],
    )
    assert len(run) == len({cell.name for cell in run}) == 2 * 3 * 2 * 2 * 2 * 2
    assert not reasons


def test_a_site_that_two_words_name_is_run_once() -> None:
    run, _ = combine(sites=["x64", "x64+2,x64+*"])
    assert [cell.site.name for cell in run] == ["x64+2", "x64+1", "x64+3"]


def test_sites_may_come_from_any_iterable() -> None:
    def words() -> Iterator[str]:
        yield "in8"

    run, _ = combine(cases=[MOV, replace(MOV, name="other")], sites=words())
    assert [cell.case.name for cell in run] == ["made", "other"]


def test_a_writer_that_stores_nothing_is_not_run_once_a_store() -> None:
    plain = ["whole", "qword", "bytes", "split"]
    run, _ = combine(regimes=[regime(), NONE], stores=plain, sites=["in8"])
    assert [(len(cell.regime.writer), cell.store) for cell in run] == [(0, "whole"), *((1, s) for s in plain)]


ONE = make_case(image("05112131 41c3", 1), image("2d112131 41c3", 2), patch=(0, 1))
TRAPPING = make_case(image("b811213141c3", 1), image("cc11213141c3", traps=True), patch=(0, 1))
LONG = make_case(image("90" * 20), image("91" * 20), patch=(0, 20))
TRAPS = regime(Step("store", "first", "trap"), Step("store", "all", "new"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"cases": [ONE], "sites": ["x64+1"]}, "a patch of 1 byte cannot straddle"),
        ({"cases": [LONG], "sites": ["in8"]}, "a patch of 20 bytes does not fit inside an aligned 8"),
        ({"cases": [LONG]}, "this machine lacks avx"),
        (
            {"cases": [LONG], "regimes": [replace(NONE, via="procmem")]},
            "the kernel copies the bytes for procmem: 20 are no single store there",
        ),
        ({"stores": ["qword"]}, "'qword' stores an aligned 8, and the patch straddles one"),
        (
            {"cases": [ONE], "sites": ["in8"], "regimes": [replace(NONE, min_patch=2)]},
            "the regime needs 2 patched bytes, the case has 1",
        ),
        (
            {"cases": [TRAPPING], "sites": ["in8"], "regimes": [TRAPS]},
            "the case itself traps at its head, so the regime's own traps could not be told apart",
        ),
        (
            {"regimes": [replace(NONE, needs=("alias",))], "features": ALL - {"alias"}},
            "this machine lacks alias",
        ),
        (
            {"regimes": [replace(NONE, needs=("serialize", "rwx", "alias"))], "features": frozenset({"rwx"})},
            "this machine lacks serialize, alias",
        ),
    ],
)
def test_what_cannot_be_run_is_skipped_with_the_reason(changed: dict[str, Any], reason: str) -> None:
    assert combine(**changed) == ([], [reason])


def test_every_package_cell_is_either_run_or_skipped_and_never_both() -> None:
    needed = {need for regime in load_regimes().values() for need in regime.needs}
    everything: dict[str, Any] = {
        "cases": list(load_cases().values()),
        "sites": ["in,x64+*,x8"],
        "stores": ["whole", "bytes"],
        "regimes": list(load_regimes().values()),
        "provocations": [tuple(p for p in load_provocations().values() if not p.antagonist)],
        "placements": [PLACE],
        "features": frozenset(needed) - {"serialize"},
    }
    run, skips = cells(**everything)
    names = [cell.name for cell in run] + [skip.cell.name for skip in skips]
    assert len(set(names)) == len(names) > 1000
    here = {name for name, regime in load_regimes().items() if "serialize" not in regime.needs}
    assert {cell.regime.name for cell in run} == here
    assert all(skip.reason for skip in skips)


def test_cells_are_named_by_all_that_tells_them_apart() -> None:
    assert CELL.name == "made@x64+2/whole:planted:l3~none"
    assert replace(CELL, provocations=(QUIET, QUIET)).name == "made@x64+2/whole:planted:l3"


def test_a_record_describes_its_cell() -> None:
    ours = replace(NONE, code="R4", completes=True, ablation_of="full")
    assert describe(replace(CELL, regime=ours)) == {
        "cell": "made@x64+2/whole:planted:l3~none",
        "case": "made",
        "kind": "K3",
        "site": "x64+2",
        "store": "whole",
        "regime": "planted",
        "code": "R4",
        "completes": True,
        "ablation_of": "full",
        "role": "cell",
        "shape": "toggle",
        "provocation": "none",
        "placement": "l3",
        "cpus": [0, 1],
        "bugs": [],
    }


@given(LIMITS, st.integers(0, 2**63 - 1), st.integers(1, 5))
def test_a_resolved_plan_survives_json(limits: Limits, seed: int, repeat: int) -> None:
    for plan in plans([CELL], limits, seed, repeat):
        resolved = as_dict(plan)
        again = json.loads(json.dumps(resolved, allow_nan=False))
        assert again == resolved
        assert plan_id(again) == plan_id(resolved)


@given(LIMITS, LIMITS, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_an_id_changes_with_seed_and_limits_and_with_nothing_else(
    limits: Limits, others: Limits, seed: int, other: int
) -> None:
    def name(limits: Limits, seed: int) -> str:
        return plan_id(as_dict(plans([CELL], limits, seed)[0]))

    assert re.fullmatch("[0-9a-f]{16}", name(limits, seed))
    assert name(limits, seed) == name(limits, seed)
    assert (name(limits, seed) == name(limits, other)) == (seed == other)
    assert (name(limits, seed) == name(others, seed)) == (limits == others)


PLAN = Plan(CELL, Limits(1.0), 7, 12, 5000)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, seed=8),
        replace(PLAN, pace_log2=11),
        replace(PLAN, slice_us=5001),
        replace(PLAN, repeat=1),
        replace(PLAN, hang_ms=101),
        *(
            replace(PLAN, limits=limits)
            for limits in (
                Limits(2.0),
                Limits(1.0, 5),
                Limits(1.0, 0, 5),
                Limits(1.0, until_first_event=True),
            )
        ),
        *(
            replace(PLAN, cell=cell)
            for cell in (
                replace(CELL, case=replace(MOV, images=MOV.images[::-1])),
                replace(CELL, case=replace(MOV, patch=2, patch_len=3)),
                replace(CELL, case=replace(MOV, head=1)),
                replace(CELL, site=Site(64, 1)),
                replace(CELL, site=Site(16, 2)),
                replace(CELL, store="bytes"),
                replace(CELL, regime=replace(NONE, via="alias")),
                replace(CELL, regime=replace(NONE, writer=(*NONE.writer, Step("publish")))),
                replace(CELL, regime=replace(NONE, executor=(ExecStep("lfence"),))),
                replace(CELL, provocations=(QUIET, QUIET)),
                replace(CELL, provocations=(Provocation("none", "", (Step("flush", "all"),)),)),
                replace(CELL, placement=Placement("l3", 1, (0,))),
                replace(CELL, placement=Placement("l2", 0, (1,))),
            )
        ),
    ],
    ids=str,
)
def test_every_field_that_decides_what_is_run_changes_the_id(other: Plan) -> None:
    assert plan_id(as_dict(other)) != plan_id(as_dict(PLAN))


def test_what_decides_nothing_does_not_change_the_id() -> None:
    told = replace(CELL, case=replace(MOV, summary="said otherwise"), regime=replace(NONE, summary="too"))
    assert plan_id(as_dict(replace(PLAN, cell=told))) == plan_id(as_dict(PLAN))


@given(st.integers(0, 2**63 - 1))
def test_every_cell_and_repetition_has_a_seed_of_its_own(seed: int) -> None:
    run, _ = combine(sites=["x64+*"], stores=["whole", "bytes"])
    made = plans(run, Limits(), seed, repeat=3)
    assert len({plan.seed for plan in made}) == len(made) == 18
    assert all(0 <= plan.seed < 2**63 for plan in made)
    assert [plan.repeat for plan in made] == [0] * 6 + [1] * 6 + [2] * 6


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_cell_keeps_its_seed_whatever_else_is_run(seed: int, other: int) -> None:
    assume(seed != other)
    run, _ = combine(sites=["x64+*"])
    together = {plan.cell.name: plan.seed for plan in plans(run, Limits(), seed)}
    for cell in run:
        assert plans([cell], Limits(9.0), seed)[0].seed == together[cell.name]
        assert plans([cell], Limits(), other)[0].seed != together[cell.name]


@pytest.mark.parametrize("slots", [1, 2, 5, 16])
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.4, 2.0, 1000.0])
def test_every_provocation_gets_its_turn_unless_the_cell_is_too_short(seconds: float, slots: int) -> None:
    cell = replace(CELL, provocations=(QUIET,) * slots)
    slice_us = plans([cell], Limits(seconds), 1)[0].slice_us
    assert 2_000 <= slice_us <= 50_000
    if seconds >= 0.1:
        assert slots * slice_us <= seconds * 1e6
