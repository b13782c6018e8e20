"""Evidence: which records stand beside which, and that a run which could have seen nothing claims nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from stress.cases import load_cases
from stress.evidence import CONTROL_STORE, cells_of, companions, controls, gather, role_of, saw_events
from stress.grade import grade
from stress.model import Cell, Grade, Limits, Placement, Site
from stress.plan import as_dict, describe, plan_id, plans
from stress.promises import load_promises
from stress.regimes import load_regimes
from stress.runner import EMPTY
from stress.sites import misfit
from stress.witness import Tears, witnesses
from tests.support import QUIET, Record, aggregate, as_json, shown

CASES = load_cases()
REGIMES = load_regimes()
PROMISES = load_promises()
NEAR, FAR = Placement("l3", 0, (1,)), Placement("package", 0, (8,))
STRADDLING = Site(64, 2)
GOOD = {"old": 6_000_000, "new": 4_000_000}
RUN: Record = {"schema": 1}


def cell(
    case: str = "mov-imm32",
    regime: str = "none",
    site: Site = STRADDLING,
    store: str = "whole",
    where: Placement = NEAR,
) -> Cell:
    return Cell(CASES[case], site, store, REGIMES[regime], (QUIET,), where)


def ended(of: Cell, seen: Mapping[str, int] | None = None, **changes: Any) -> Record:
    """The record of a cell that executed plenty of good code, and what was `seen` beside it."""
    (plan,) = plans([of], Limits(0.5), seed=1)
    resolved = as_dict(plan)
    outcomes = {"concurrent": GOOD | dict(seen or {}), "post": GOOD}
    share = {"seconds": 0.5, "patches": 20_000, "outcomes": outcomes}
    return {
        "schema": 1,
        "type": "end",
        "id": plan_id(resolved),
        **describe(of),
        "plan": resolved,
        "host": "0123456789ab",
        "vendor": "AuthenticAMD",
        "started": "2026-11-22T12:00:00Z",
        "status": "ok",
        "reason": "",
        **EMPTY,
        **share,
        "provocations": {QUIET.name: share},
        **changes,
    }


def control(of: Cell, events: int, **changes: Any) -> Record:
    """The record of the positive control of a cell."""
    return ended(controls([of])[0], {"torn": events}, **changes)


def witness(of: Cell, front: int = 0, back: int = 0, planted: int = 50, **changes: Any) -> Record:
    """The record of a cell's witness that saw so many real tears front first and back first at the split point."""
    split, n = of.site.front or of.case.patch_len // 2, of.case.patch_len
    here = {"samples": [1000, 1000], "tears": [[front, planted, 0], [back, 0, planted]]}
    none = {"samples": [1000, 1000], "tears": [[0, 0, 0], [0, 0, 0]]}
    pairs = [here if i in (split - 1, n - 1) else none for i in range(n)]
    return ended(witnesses([of])[0], pairs=pairs, **changes)


def wrong(label: str, count: int, outcome: str = "torn") -> dict[str, Any]:
    """A signature that was attributed to one mix."""
    names = {"signal": "", "code": 0, "pc": 0, "value": 0, "phase": "concurrent"}
    return names | {"count": count, "outcome": outcome, "mixes": [label]}


def torn(of: Cell, count: int = 95, label: str = "1100", **changes: Any) -> Record:
    """The record of a cell of which `count` executions ran the mix `label`."""
    return ended(of, {"torn": count}, signatures=[wrong(label, count)], **changes)


# ---- what runs beside the cells --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_control_runs_wherever_bytes_can_be_stored_one_by_one(name: str) -> None:
    for site in (Site(0), Site(8, 1), Site(64, CASES[name].patch_len)):
        found = controls([cell(name, site=site)])
        assert bool(found) == (not misfit(CASES[name], site, CONTROL_STORE)), site.name


def test_one_control_serves_all_regimes_and_stores_of_a_place() -> None:
    cells = [cell(regime=r, store=s) for r in ("none", "idle", "int3+sync-core") for s in ("whole", "split")]
    found = controls(cells)
    assert [c.name for c in found] == [f"mov-imm32@x64+2/bytes:control:l3~{QUIET.name}"]
    assert len(controls([*cells, cell("mov-imm64"), cell(site=Site(0)), cell(where=FAR)])) == 4


def test_a_control_stores_as_its_cell_does_and_synchronizes_nothing() -> None:
    (found,) = controls([cell(regime="alias+int3+sync-core")])
    assert found.regime.via == "alias"
    assert [step.text for step in found.regime.writer] == ["store all new"]
    assert not found.regime.executor
    assert not found.regime.completes


def test_companions_are_controls_and_witnesses_and_no_cell_twice() -> None:
    cells = [cell(case, regime) for case in CASES for regime in ("none", "sync-core")]
    found = companions(cells)
    assert found == controls(cells) + witnesses(cells)
    assert {c.regime.role for c in found} == {"control", "witness"}
    assert len({c.name for c in [*cells, *found]}) == len(cells) + len(found)
    assert companions([]) == []


# ---- which record stands beside which --------------------------------------------------------------------------


def test_roles_are_told_apart_and_an_old_record_without_one_is_a_cell() -> None:
    here = cell()
    kept = [torn(here), control(here, 3), witness(here)]
    assert [role_of(r) for r in kept] == ["cell", "control", "witness"]
    old = torn(here)
    del old["role"]
    start = {"type": "start", "id": "x", "cell": here.name}
    evidence = gather([start, *kept, old])
    assert list(cells_of([start, *kept, old])) == [kept[0], old]
    assert len(evidence.controls) == len(evidence.witnesses) == 1


def test_nothing_gathered_says_nothing() -> None:
    evidence = gather([])
    assert (evidence.control(torn(cell())), evidence.tears(torn(cell()))) == (None, None)


@pytest.mark.parametrize("events", [0, 3])
def test_a_control_speaks_for_every_cell_in_its_place(events: int) -> None:
    evidence = gather([control(cell(), events)])
    for regime, store in (("none", "whole"), ("sync-core", "split"), ("idle", "whole")):
        assert evidence.control(ended(cell(regime=regime, store=store))) is (events > 0)


@pytest.mark.parametrize(
    "elsewhere",
    [
        ended(cell("mov-imm64")),
        ended(cell(site=Site(64, 1))),
        ended(cell(where=FAR)),
        ended(cell(), host="another"),
    ],
)
def test_a_control_says_nothing_of_another_place_or_machine(elsewhere: Record) -> None:
    assert gather([control(cell(), 3)]).control(elsewhere) is None


def test_of_several_controls_in_one_place_one_that_saw_is_enough() -> None:
    blind, seeing = control(cell(), 0), control(cell(), 1)
    for both in ([blind, seeing], [seeing, blind]):
        assert gather(both).control(ended(cell())) is True


@pytest.mark.parametrize("status", ["skipped", "crashed", "timeout", "error"])
def test_a_control_or_witness_that_did_not_end_well_says_nothing(status: str) -> None:
    evidence = gather([control(cell(), 0, status=status), witness(cell(), front=7, status=status)])
    assert evidence.control(ended(cell())) is None
    assert evidence.tears(torn(cell())) is None


@pytest.mark.parametrize("outcome", ["torn", "fault", "hang"])
@pytest.mark.parametrize("phase", ["concurrent", "post", "interior", "resumed"])
def test_events_are_what_tears_and_faults_in_whatever_phase(outcome: str, phase: str) -> None:
    assert saw_events({"outcomes": {phase: {"old": 5, outcome: 1}}})
    assert not saw_events({"outcomes": {phase: {"old": 5, "new": 5, "trap": 3, outcome: 0}}})


def test_where_no_witness_ran_the_tears_of_a_cell_are_not_known() -> None:
    assert gather([]).tears(torn(cell())) is None
    assert gather([]).tears(ended(cell())) == Tears()  # there is nothing to attribute


def test_a_witness_speaks_for_its_own_store_place_and_machine() -> None:
    evidence = gather([witness(cell(), front=7)])
    assert evidence.tears(torn(cell())) == Tears(store=95)
    assert evidence.tears(torn(cell(regime="sync-core"), label="0011")) == Tears(fetch=95)
    for other in (cell(store="split"), cell(site=Site(64, 1)), cell(where=FAR)):
        assert evidence.tears(torn(other)) is None
    assert evidence.tears(torn(cell(), host="another")) is None


def test_witnesses_of_two_machines_are_kept_apart() -> None:
    evidence = gather([witness(cell(), front=7), witness(cell(), host="another")])
    assert evidence.tears(torn(cell())) == Tears(store=95)
    assert evidence.tears(torn(cell(), host="another")) == Tears(fetch=95)


# ---- what it does to grades and figures ------------------------------------------------------------------------


def test_cells_whose_control_saw_nothing_are_unproven_everywhere() -> None:
    clean = ended(cell(regime="sync-core"))
    for records, wanted in (
        ([clean], Grade.CLEAN),
        ([clean, control(cell(), 3)], Grade.CLEAN),
        ([clean, control(cell(), 0)], Grade.UNPROVEN),
    ):
        verdict = grade(clean, PROMISES, gather(records).control(clean))
        assert verdict.grade == wanted
        assert [line.grade for line in aggregate(records, PROMISES)] == [wanted]
        result = as_json(RUN, records, PROMISES)
        assert [c["grade"] for c in result["cells"]] == [wanted]
        assert [line["grade"] for line in result["regimes"]] == [wanted]
        row = shown("table", RUN, records, PROMISES).splitlines()[1].split()
        assert (row[0], row[-1]) == ("sync-core", wanted)


def test_a_blind_control_takes_no_event_away() -> None:
    records = [torn(cell(regime="none")), control(cell(), 0)]
    assert [line.grade for line in aggregate(records, PROMISES)] == [Grade.INTERESTING]


def test_a_blind_control_leaves_the_cells_of_other_places_alone() -> None:
    records = [ended(cell(regime="sync-core", site=Site(0))), control(cell(), 0)]
    assert [line.grade for line in aggregate(records, PROMISES)] == [Grade.CLEAN]


def test_the_table_counts_the_controls_that_saw() -> None:
    records = [ended(cell()), control(cell(), 3), ended(cell("mov-imm64")), control(cell("mov-imm64"), 0)]
    assert "positive controls: 1 of 2 saw events" in shown("table", RUN, records, PROMISES)
    assert "positive controls" not in shown("table", RUN, [ended(cell())], PROMISES)


def test_controls_and_witnesses_are_counted_in_no_figure() -> None:
    alone = [torn(cell())]
    beside = [*alone, control(cell(), 1000), witness(cell(store="split"), front=7)]
    assert aggregate(beside, PROMISES) == aggregate(alone, PROMISES)
    assert as_json(RUN, beside, PROMISES) == as_json(RUN, alone, PROMISES)


def test_a_control_that_did_not_run_is_told_of() -> None:
    failed = replace(controls([cell()])[0])
    text = shown("table", RUN, [ended(cell()), ended(failed, status="skipped", reason="no RWX")], PROMISES)
    assert "skipped 1: no RWX (control)" in text


def test_tears_are_told_where_a_witness_ran_and_null_where_none_did() -> None:
    told = [torn(cell()), torn(cell(regime="sync-core"), label="0011"), witness(cell(), front=7)]
    result = as_json(RUN, told, PROMISES)
    assert [(c["store_tears"], c["fetch_tears"]) for c in result["cells"]] == [(95, 0), (0, 95)]
    assert [(r["store_tears"], r["fetch_tears"]) for r in result["regimes"]] == [(95, 0), (0, 95)]
    assert "95 torn (95 store tears, 0 fetch tears)" in shown("table", RUN, told, PROMISES)

    untold = as_json(RUN, told[:1], PROMISES)
    assert untold["cells"][0]["store_tears"] is untold["cells"][0]["fetch_tears"] is None
    assert untold["regimes"][0]["store_tears"] is untold["regimes"][0]["fetch_tears"] is None
    assert "store tears" not in shown("table", RUN, told[:1], PROMISES)


def test_a_regime_of_which_one_cell_had_no_witness_tells_no_sum() -> None:
    records = [torn(cell()), torn(cell("mov-imm64"), label="11110000"), witness(cell(), front=7)]
    (line,) = aggregate(records, PROMISES)
    assert line.store_tears is line.fetch_tears is None
    (line,) = aggregate([*records, ended(cell("jmp-rel32"))], PROMISES)
    assert line.store_tears is None
