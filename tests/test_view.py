"""The report page's view model: every figure is that of the records, and what is worth a look is looked at first."""

from __future__ import annotations

import pytest

from stress import view
from stress.cellview import CellView
from stress.charts import histogram
from stress.evidence import cells_of, gather
from stress.grade import grade
from stress.model import Grade, Status
from stress.promises import load_promises
from stress.view import Machine, noteworthy
from tests.pages import AMD, INTEL, as_expected, clean, made, plans, run, stale, torn, varied
from tests.support import aggregate, here

PROMISES = load_promises()


@pytest.fixture(scope="module")
def machine() -> Machine:
    (it,) = made(run(varied())).machines
    return it


def test_every_cell_that_ran_is_shown_with_the_grade_that_the_records_have(machine: Machine) -> None:
    records = [r | {"vendor": AMD, "host": "A CPU"} for r in varied()]
    evidence = gather(records)
    ran = {
        r["id"]: grade(r, PROMISES, evidence.control(r)).grade
        for r in cells_of(records)
        if r["status"] != Status.SKIPPED
    }
    shown = {c.record["id"]: c.verdict.grade for regime in machine.regimes for c in regime.cells}
    assert shown == ran
    assert dict(machine.tally) == {word: list(ran.values()).count(word) for word in Grade}
    lines = {line.regime: line for line in aggregate(records, PROMISES) if line.cells}
    assert {regime.line.regime: regime.line for regime in machine.regimes} == lines


def test_a_cell_of_the_matrix_is_the_worst_of_its_regime_and_case(machine: Machine) -> None:
    (matrix,) = machine.matrices
    rows = {r.line.regime: cells for _, _, rows in matrix.groups for r, cells in rows}
    at = matrix.cases.index("mov-imm32")
    worst = rows["none"][at]
    assert worst is not None
    assert worst.record["site"].startswith("x64")
    assert worst.verdict.grade is Grade.INTERESTING
    assert {name for name, cells in rows.items() if cells[at]} >= {"idle", "none", "sync-core"}


def test_broken_promises_come_first_then_failures() -> None:
    (machine,) = made(run(varied(), INTEL)).machines
    order = [s.cell for s in machine.sections]
    grades = [c.verdict.grade for c in order]
    assert grades[0] is Grade.FORBIDDEN
    assert grades == sorted(grades, key=lambda g: min(list(Grade).index(g), 2))
    rest = [c for c in order if c.verdict.grade not in (Grade.FORBIDDEN, Grade.SURPRISING)]
    assert [c.failed for c in rest] == sorted((c.failed for c in rest), reverse=True)


def test_each_regime_shows_its_worst_cell_before_any_shows_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SECTIONS", 2)
    monkeypatch.setattr(view, "SECTIONS_AT_LEAST", 1)
    some = plans(cases="mov-imm32,nop5-jmp5,jmp-rel32", regimes="none,alias", sites="x64")
    records = [
        torn(p, 500 if p.cell.regime.name == "none" else 5) for p in some if p.cell.regime.role == "cell"
    ]
    (machine,) = made(run(records)).machines
    assert [s.cell.record["regime"] for s in machine.sections] == ["none", "alias"]


def test_what_showed_nothing_and_ended_well_has_no_section() -> None:
    some = plans(cases="mov-imm32", regimes="none", sites="in,x64")
    (machine,) = made(run([clean(some[0]), torn(some[1], 5)])).machines
    assert [s.cell.record["id"] for s in machine.sections] == [torn(some[1], 5)["id"]]
    (regime,) = machine.regimes
    assert [bool(c.section) for c in regime.cells] == [False, True]


def test_the_headline_speaks_of_what_is_under_test_and_what_went_wrong_stands_worst_first() -> None:
    host = here().as_dict() | {"under": {"command": "/opt/bin/translate -q", "version": "1.0"}}
    some = plans(cases="mov-imm32", regimes="flag+cpuid,sync-core", sites="x64")
    by_regime = {p.cell.regime.name: p for p in some if p.cell.regime.role == "cell"}
    records = [torn(by_regime["flag+cpuid"], 9), stale(by_regime["sync-core"])]
    (machine,) = made(run(records, host=host)).machines
    assert machine.verdict == "translate executed what the vendor's manual forbids."
    assert machine.name.startswith("/opt/bin/translate -q (1.0) on ")
    assert [r.line.grade for r in machine.wrong] == [Grade.FORBIDDEN, Grade.INTERESTING]


def test_the_room_for_sections_is_shared_by_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "SECTIONS", 4)
    monkeypatch.setattr(view, "SECTIONS_AT_LEAST", 1)
    assert [len(m.sections) for m in made(run(varied())).machines] == [4]
    both = made(run(varied(), AMD, "one"), run(varied(), INTEL, "other")).machines
    assert [len(m.sections) for m in both] == [2, 2]


def test_runs_of_one_machine_are_one_and_the_first_record_of_a_plan_stays() -> None:
    some = plans(cases="mov-imm32", regimes="none", sites="in,x64")
    page = made(run([clean(some[0])]), run([torn(some[0], 5), torn(some[1], 5)]))
    (machine,) = page.machines
    assert machine.tally[Grade.CLEAN] == machine.tally[Grade.INTERESTING] == 1
    assert len(machine.runs) == 2


def test_machines_stand_side_by_side_and_the_headline_counts_them() -> None:
    some = plans(cases="mov-imm32", regimes="none,flag+cpuid", sites="x64")
    good, bad = [as_expected(p) for p in some], [stale(p) for p in some if p.cell.regime.completes]
    page = made(run(good, INTEL, "one"), run(bad, INTEL, "two"))
    table = {name: [r.line.grade if r else None for r in cells] for name, cells in page.side_by_side}
    assert table == {"none": [Grade.CLEAN, None], "flag+cpuid": [Grade.CLEAN, Grade.FORBIDDEN]}
    assert page.grade is Grade.FORBIDDEN
    assert page.verdict.startswith("1 of 2 machines executed")


def test_protocols_are_sorted_by_whether_they_held(machine: Machine) -> None:
    def names(regimes: tuple[view.Regime, ...]) -> set[str]:
        return {r.line.regime for r in regimes}

    assert names(machine.held) == {"sync-core", "int3+sync-core"}
    assert names(machine.wrong) == {"flag+cpuid", "hop"}
    assert not names(machine.held + machine.wrong + machine.unsettled) & {"none", "int3+sync-core-without-2"}


def test_rates_by_site_and_store_count_every_unsynchronized_cell(machine: Machine) -> None:
    plain = [c for r in machine.regimes if r.line.regime in ("none", "alias") for c in r.cells]
    assert sum(p.events for p in machine.places) == sum(c.verdict.events for c in plain)
    assert sum(p.executions for p in machine.places) == sum(c.verdict.trials for c in plain)
    assert [p.log for p in machine.places] == sorted((p.log for p in machine.places), reverse=True)


def test_histograms_begin_and_end_with_what_was_counted() -> None:
    made_ = histogram("late", {"9": 5, "11": 10}, 0.4)
    assert made_ is not None
    assert [(b.label, b.n, b.height) for b in made_.bars] == [
        ("102 ns", 5, 0.5),
        ("205 ns", 0, 0.0),
        ("410 ns", 10, 1.0),
    ]
    assert histogram("nothing", {"3": 0}) is None
    by_patches = histogram("behind", {"0": 1, "1": 1, "2": 4})
    assert by_patches is not None
    assert [b.label for b in by_patches.bars] == ["0", "1", "2"]


def test_staleness_and_pace_are_those_of_the_records(machine: Machine) -> None:
    records = [c.record for r in machine.regimes for c in r.cells]
    for shown, key in zip(machine.stale, ("stale_generations", "stale_ticks"), strict=True):
        assert sum(b.n for b in shown.bars) == sum(sum(r[key].values()) for r in records)
    (pace,) = machine.paces
    assert sum(b.n for b in pace.bars) == sum(r["patches"] > 0 for r in records)


def test_a_sections_command_names_the_cell() -> None:
    (plan,) = plans(cases="mov-imm32", regimes="none", sites="x64+2", placements="auto")[:1]
    (machine,) = made(run([torn(plan, 4)])).machines
    (section,) = machine.sections
    place = plan.cell.placement.relation
    assert section.command == (
        f"stress run --cases mov-imm32 --sites x64+2 --stores whole --regimes none --placements {place} "
        "--seconds 0.01"
    )


def test_noteworthy_orders_by_rate_within_a_grade() -> None:
    some = plans(cases="mov-imm32,nop5-jmp5,jmp-rel32", regimes="none", sites="x64")
    records = [torn(p, n) for p, n in zip(some[:3], (5, 50, 7), strict=True)]
    cells = [CellView(r, grade(r, PROMISES), str(i)) for i, r in enumerate(cells_of(records))]
    assert [c.verdict.events for c in noteworthy(cells)] == [50, 7, 5]
