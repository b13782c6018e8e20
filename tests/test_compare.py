"""Comparison: a planted change is named, and it alone; what may be chance is not called a change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, false_discovery_control

from stress import cli
from stress.changes import WRITERS
from stress.compare import ALPHA, MEANING, Change, Comparison, compare, holm
from stress.evidence import role_of
from stress.grade import EVENTS
from stress.reading import Listed, Reading
from stress.severity import FAIL_ON
from stress.stats import rise_p
from stress.store import read_records
from tests.support import count, stress
from tests.test_collectors import PROMISES, folder, schema
from tests.test_formats import RUN, record, skipped

MILLION = 1_000_000
Record = dict[str, Any]


def cell(events: int = 0, executions: int = MILLION, name: str = "a", **more: Any) -> Record:
    """A cell of a regime that claims nothing, across a line: whatever it shows is allowed."""
    outcomes = {"concurrent": {"old": executions - events, "torn": events}}
    return record(case=name, site="x64+2", outcomes=outcomes, provocations={}, **more)


def held(before: list[Record], *after: list[Record], **how: Any) -> Comparison:
    runs = [Reading(RUN, Listed(records), PROMISES) for records in (before, *after)]
    return compare(runs, [f"run{i}" for i in range(len(runs))], FAIL_ON, **how)


def changes(found: Comparison) -> dict[str, Change]:
    """The cells that changed."""
    return {c.cell: c.change for c in found.cells if c.change is not Change.SAME}


def change(before: Record, after: Record) -> Change:
    (found,) = held([before], [after]).cells
    return found.change


# ---- the test on rates -----------------------------------------------------------------------------------------


@given(
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(100, 10**9),
    st.integers(100, 10**9),
    st.integers(1, 20),
)
def test_rises_are_tested_as_scipy_tests_them(
    few: int, many: int, short: int, long: int, factor: int
) -> None:
    p = rise_p((few, short), (many, long), factor)
    share = factor * long / (short + factor * long)
    exact = binomtest(many, few + many, share, "greater").pvalue if few + many else 1.0
    assert p == pytest.approx(exact, rel=1e-8, abs=1e-290)


@pytest.mark.parametrize(
    ("before", "after", "p"),
    [((0, 1), (0, 1), 1.0), ((7, 1), (0, 1), 1.0), ((0, 1), (7, 1), 2**-7), ((10**9, 1), (10**9, 1), 0.5)],
)
def test_rises_at_the_edges(before: tuple[int, int], after: tuple[int, int], p: float) -> None:
    assert rise_p(before, after) == pytest.approx(p, abs=1e-4)


@pytest.mark.parametrize("wrong", [((-1, 1), (0, 1), 1), ((0, 0), (0, 1), 1), ((0, 1), (0, 1), 0.5)])
def test_rises_of_nonsense_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        rise_p(*wrong)


@given(st.lists(st.none() | st.floats(0, 1), max_size=20))
def test_the_correction_is_never_kinder_than_one_that_is_known_to_be_kinder(ps: list[float | None]) -> None:
    adjusted = holm(ps)
    real = [p for p in ps if p is not None]
    ours = [p for p in adjusted if p is not None]
    assert [p is None for p in adjusted] == [p is None for p in ps]
    assert all(p <= q <= min(1.0, p * len(real)) + 1e-12 for p, q in zip(real, ours, strict=True))
    if real:
        assert all(q >= k - 1e-12 for q, k in zip(ours, false_discovery_control(real), strict=True))


def test_the_correction_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])


# ---- what is called what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (cell(0), cell(0), Change.SAME),
        (cell(0), cell(50), Change.RED),
        (cell(50), cell(0), Change.GREEN),
        (cell(0), cell(3), Change.UNSURE),
        (cell(3), cell(0), Change.UNSURE),
        (cell(0, 1000), cell(50, MILLION), Change.UNSURE),  # the first run could not have seen it
        (cell(100), cell(400), Change.SAME),  # four times: starts of one cell differ that much
        (cell(100), cell(4000), Change.ROSE),
        (cell(4000), cell(100), Change.FELL),
        (cell(1), cell(30), Change.SAME),
        (cell(0), cell(0, status="crashed", reason="SIGSEGV"), Change.BROKE),
        (cell(0, status="timeout", reason="late"), cell(0), Change.MENDED),
        (cell(0), cell(0, 100), Change.UNPROVEN),
        (skipped("no"), record(), Change.SAME),
    ],
)
def test_changes_are_called_what_they_are(before: Record, after: Record, expected: Change) -> None:
    assert change(before, after) is expected


def forbidden(events: int) -> Record:
    """A cell of AMD's, inside an aligned quadword: its tears are forbidden."""
    return record(case="kept", outcomes={"concurrent": {"old": MILLION, "torn": events}}, provocations={})


def test_a_promise_that_is_newly_broken_is_red_however_rarely() -> None:
    assert change(forbidden(0), forbidden(1)) is Change.RED
    assert change(forbidden(1), forbidden(1)) is Change.SAME
    assert changes(held([], [forbidden(1)])) == {forbidden(1)["cell"]: Change.RED}


def test_starts_of_one_cell_are_taken_together() -> None:
    starts = [cell(events, id=str(events)) for events in (0, 30, 20)]
    (found,) = held([cell(0)], starts).cells
    assert (found.after.events, found.after.executions) == (50, 3 * MILLION)
    assert (found.after.starts, found.after.starts_with_events) == (3, 2)


def test_many_cells_make_chance_likelier_and_the_test_says_so() -> None:
    alone = held([cell(0)], [cell(7)])
    assert [c.change for c in alone.cells] == [Change.RED]
    others = [cell(10, name=f"b{n}") for n in range(50)]
    among = held([cell(0), *others], [cell(7), *others])
    assert changes(among) == {cell()["cell"]: Change.UNSURE}
    assert (alone.tests, among.tests) == (1, 51)


@given(st.lists(st.integers(0, 10**5), min_size=1, max_size=8))
def test_a_run_has_not_changed_from_itself(events: list[int]) -> None:
    cells = [cell(n, name=f"c{i}") for i, n in enumerate(events)]
    found = held(cells, cells)
    assert not changes(found)
    assert not found.worse


def test_one_planted_regression_among_many_is_named_and_it_alone() -> None:
    before = [cell(0 if n % 3 else 500 * n, name=f"c{n}") for n in range(100)]
    # Rates that were seen wander up and down by a factor of three, as they do from start to start.
    after = [
        cell(0 if n % 3 else 500 * n * (3 if n % 2 else 1) // (1 if n % 2 else 3), name=f"c{n}")
        for n in range(100)
    ]
    after[31] = cell(40, name="c31")
    assert changes(held(before, after)) == {"c31@x64+2/whole:none:l3": Change.RED}


def test_many_machines_are_each_held_against_the_first() -> None:
    found = held([cell(0)], [cell(0)], [cell(60)], [skipped("lacks it", cell=cell()["cell"])])
    assert [(c.run, c.change) for c in found.cells] == [(1, Change.SAME), (2, Change.RED)]
    assert found.gone == ((), (), (cell()["cell"],))
    assert "(run2)" in WRITERS["table"](found)


def test_what_the_machines_say_differently_of_themselves_is_told() -> None:
    said = ({"microcode": "0x1", "tsc_hz": 2_596_154_603}, {"microcode": "0x2", "tsc_hz": 2_596_173_378})
    runs = [{"host": {"isa": "x", "cpus": [i], **its}} for i, its in enumerate(said)]
    readings = [Reading(run, Listed([cell()]), PROMISES) for run in runs]
    found = compare(readings, ["a", "b"], FAIL_ON)
    assert found.differences == ((("microcode", "0x1", "0x2"),),)
    assert "microcode: 0x1 -> 0x2" in WRITERS["table"](found)


def test_runs_whose_cells_took_longer_say_so() -> None:
    (differences,) = held([cell(0, seconds=0.03)], [cell(0, seconds=0.3)]).differences
    assert differences == (("seconds a cell", "0.03", "0.3"),)


def test_every_change_has_a_meaning() -> None:
    assert set(MEANING) == set(Change)


@pytest.mark.parametrize("style", list(WRITERS))
def test_every_format_names_what_changed_and_not_the_rest(style: str) -> None:
    same = cell(7, name="same")
    text = WRITERS[style](held([cell(0), same], [cell(60), same]))
    assert cell()["cell"] in text
    assert same["cell"] not in text
    assert text.endswith("\n")
    if style == "json":
        schema("comparison").validate(json.loads(text))
        (named,) = json.loads(text)["cells"]
        assert named["p"] == pytest.approx(2 * 0.5**60 * 2)
        assert named["after"]["events"] == 60


@pytest.mark.parametrize("style", ["table", "markdown"])
def test_texts_stay_short_however_much_changed(style: str) -> None:
    before, after = ([cell(n, name=f"c{i}") for i in range(500)] for n in (0, 100))
    text = WRITERS[style](held(before, after))
    assert len(text.splitlines()) < 60
    assert "and 480 more" in text
    if style == "table":
        assert max(map(len, text.splitlines())) <= 100


# ---- the command -----------------------------------------------------------------------------------------------


def test_the_command_fails_where_something_got_worse(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", cell(0)), folder(tmp_path / "two", cell(60))
    assert stress("compare", one, one).returncode == cli.CLEAN
    assert stress("compare", two, one).returncode == cli.CLEAN
    told = stress("compare", one, two)
    assert (told.returncode, told.stderr) == (cli.FOUND, "")
    assert f"red 1: {MEANING[Change.RED]}" in " ".join(told.stdout.split())


@pytest.mark.parametrize("args", [["one"], ["one", "nope"], ["one", "one", "--fail-on", "x"]])
def test_wrong_usage_is_one_line(tmp_path: Path, args: list[str]) -> None:
    folder(tmp_path / "one", cell(0))
    told = stress("compare", *(tmp_path / a if a in ("one", "nope") else a for a in args))
    assert told.returncode in (cli.USAGE, cli.BROKEN)
    assert told.stderr.count("\n") == 1


@pytest.mark.hardware
def test_two_recorded_runs_with_one_planted_regression(tmp_path: Path) -> None:
    """Two real runs of cells that showed nothing; then one record of the second is given tears."""
    options = (
        "--cases",
        "mov-imm32,nop5-jmp5,opcode-byte",
        "--sites",
        "in",
        "--regimes",
        "idle,none,flag+cpuid",
    )
    for name in ("one", "two"):
        told = stress(
            "run", *options, "--seconds", "0.1", "--out", tmp_path / name, "--fail-on", "never", "--quiet"
        )
        assert told.returncode == cli.CLEAN, told.stderr
    assert stress("compare", tmp_path / "one", tmp_path / "two").returncode == cli.CLEAN
    shutil.copytree(tmp_path / "two", tmp_path / "worse")
    records = list(read_records(tmp_path / "two"))
    victim = next(r for r in records if r["type"] == "end" and role_of(r) == "cell" and not count(r, *EVENTS))
    victim["outcomes"] = {"concurrent": {**victim["outcomes"]["concurrent"], "torn": 40}}
    (tmp_path / "worse" / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    told = stress("compare", tmp_path / "one", tmp_path / "worse", "--format", "json")
    assert told.returncode == cli.FOUND
    found = json.loads(told.stdout)
    assert [c["cell"] for c in found["cells"] if c["change"] in ("red", "rose", "broke")] == [victim["cell"]]
    assert found["confidence"] == 1 - ALPHA
