"""Grades: worst first, never better than what the run could have seen, and the same figures summed by
regime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress.aggregate import worst
from stress.charges import Record
from stress.errors import CaseError
from stress.grade import DID, EVENTS, NEEDED, counts_of, grade, total
from stress.model import Grade, Outcome, Phase
from stress.promises import Level, load_promises
from stress.stats import upper_bound_95
from tests.support import aggregate

PROMISES = load_promises()
PLENTY = {"concurrent": {"old": 3_000_000, "new": 1_000_000}, "post": {"new": 6_000_000}}


def record(seen: Any = None, **changes: Any) -> dict[str, Any]:
    """Return a field store inside 8 bytes under `sync-core` on AMD: what was `seen` beside plenty of good."""
    wanted = {**PLENTY, **(seen or {})}
    counted = {phase: {**PLENTY.get(phase, {}), **row} for phase, row in wanted.items()}
    return {
        "schema": 1,
        "type": "end",
        "id": "0123456789abcdef",
        "cell": "mov-imm32@in8/whole:sync-core:l3",
        "case": "mov-imm32",
        "kind": "K1",
        "site": "in8",
        "store": "whole",
        "regime": "sync-core",
        "code": "R3",
        "completes": True,
        "ablation_of": "",
        "provocation": "auto",
        "placement": "l3",
        "cpus": [0, 1],
        "vendor": "AuthenticAMD",
        "status": "ok",
        "reason": "",
        "seconds": 0.5,
        "patches": 20_000,
        "outcomes": counted,
        "signatures": [],
        "plan": None,
        "provocations": {"none": {"seconds": 0.5, "patches": 20_000, "outcomes": counted}},
        **changes,
    }


SKIPPED: dict[str, Any] = {
    "status": "skipped",
    "reason": "no SERIALIZE",
    "outcomes": {},
    "patches": 0,
    "seconds": 0.0,
}


def of(seen: Any = None, control: bool | None = None, vendor: str = "", **changes: Any) -> Grade:
    return grade(record(seen, **changes), PROMISES, control, vendor).grade


def test_enough_and_nothing_seen_is_clean_with_a_bound_and_what_it_survived() -> None:
    verdict = grade(record(), PROMISES)
    assert verdict.grade == Grade.CLEAN
    assert (verdict.trials, verdict.events) == (10_000_000, 0)
    assert verdict.upper_bound == upper_bound_95(0, 10_000_000)
    assert verdict.promise_level == Level.FORBIDDEN
    assert "nothing provoked it" in verdict.reasons
    assert any("3.0e-7" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("outcome", EVENTS)
def test_what_the_manual_forbids_is_forbidden_and_says_by_which_text(outcome: Outcome) -> None:
    verdict = grade(record({"post": {outcome: 1}}), PROMISES)
    assert (verdict.grade, verdict.promise_level) == (Grade.FORBIDDEN, Level.FORBIDDEN)
    assert "7.6.1" in verdict.reasons[0]
    told = (
        f"1 of 10,000,001 executions {DID[outcome]} when the change had been declared complete: forbidden. "
    )
    assert verdict.reasons[0].startswith(told)


def test_what_only_folklore_excludes_is_surprising() -> None:
    assert of({"concurrent": {"torn": 1}}, vendor="GenuineIntel") == Grade.SURPRISING
    assert of({"post": {"stale": 1}}, code="R5") == Grade.SURPRISING


def test_what_is_allowed_is_interesting() -> None:
    verdict = grade(record({"concurrent": {"torn": 5, "fault": 2}}, kind="K3"), PROMISES)
    assert (verdict.grade, verdict.promise_level, verdict.events) == (Grade.INTERESTING, Level.ALLOWED, 7)
    assert verdict.upper_bound > 7 / verdict.trials


def test_the_worst_outcome_decides_and_comes_first() -> None:
    verdict = grade(record({"concurrent": {"torn": 90_000}, "post": {"stale": 1}}, kind="K3"), PROMISES)
    assert verdict.grade == Grade.FORBIDDEN
    assert verdict.reasons[0].startswith("1 of 10,090,001 executions ran stale code")
    assert verdict.reasons[1].startswith("90,000 of 10,090,001 executions ran torn code")


def test_the_vendor_asked_for_replaces_the_cpus_own() -> None:
    seen = {"concurrent": {"torn": 1}}
    assert of(seen) == Grade.FORBIDDEN
    assert of(seen, vendor="intel") == of(seen, vendor="generic") == Grade.SURPRISING


def test_an_ablation_that_goes_red_is_interesting() -> None:
    ablation: dict[str, Any] = {"code": "R4", "ablation_of": "int3+sync-core"}
    assert of({"concurrent": {"torn": 1}, "post": {"stale": 1}}, **ablation) == Grade.INTERESTING


@pytest.mark.parametrize("phase", [Phase.INTERIOR, Phase.RESUMED])
def test_interior_and_resumed_executions_never_violate_anything(phase: Phase) -> None:
    assert of({phase: {"torn": 3, "stale": 3, "fault": 3}}) == Grade.INTERESTING


@pytest.mark.parametrize("phase", Phase)
def test_traps_are_no_event_in_any_phase(phase: Phase) -> None:
    assert of({phase: {"trap": 1000}}) == Grade.CLEAN


@pytest.mark.parametrize("outcome", [*EVENTS, Outcome.TRAP])
def test_an_idle_writer_explains_nothing(outcome: Outcome) -> None:
    idle: dict[str, Any] = {"regime": "idle", "code": "R0", "completes": False, "patches": 0, "kind": "K3"}
    assert of(**idle) == Grade.CLEAN
    verdict = grade(record({"concurrent": {outcome: 1}}, **idle), PROMISES, vendor="intel")
    assert verdict.grade == Grade.FORBIDDEN
    assert verdict.events == 1


def test_an_idle_writer_that_patched_is_not_idle() -> None:
    seen = {"concurrent": {"torn": 1}}
    assert of(seen, regime="idle", code="R0", completes=False, kind="K3") == Grade.INTERESTING


# ---- unproven
# --------------------------------------------------------------------------------------------------


def test_a_skipped_cell_is_unproven_and_says_why() -> None:
    verdict = grade(record(**SKIPPED), PROMISES)
    assert (verdict.grade, verdict.trials, verdict.upper_bound) == (Grade.UNPROVEN, 0, 1.0)
    assert verdict.reasons[0] == "skipped: no SERIALIZE"


@pytest.mark.parametrize("status", ["timeout", "crashed", "error"])
def test_a_cell_that_did_not_end_well_is_unproven_but_its_events_count(status: str) -> None:
    ended: dict[str, Any] = {"status": status, "reason": "the worker died of SIGSEGV"}
    assert of(**ended) == Grade.UNPROVEN
    verdict = grade(record({"post": {"stale": 1}}, **ended), PROMISES)
    assert verdict.grade == Grade.FORBIDDEN
    assert verdict.reasons[-1] == f"{status}: the worker died of SIGSEGV; graded on what it had counted"


def test_a_control_that_saw_nothing_leaves_the_cell_unproven_and_one_that_saw_does_not() -> None:
    assert of(control=False) == Grade.UNPROVEN
    assert of(control=True) == of(control=None) == Grade.CLEAN
    assert of({"post": {"stale": 1}}, control=False) == Grade.FORBIDDEN


@pytest.mark.parametrize(("kind", "code", "level"), [("K1", "R3", "forbidden"), ("K3", "R1", "allowed")])
def test_too_few_executions_or_patches_are_unproven(kind: str, code: str, level: Level) -> None:
    needed = NEEDED[level]
    cell: dict[str, Any] = {"kind": kind, "code": code}
    enough = {"concurrent": {"old": needed.executions}}
    assert of(**cell, patches=needed.patches) == Grade.CLEAN
    assert of(**cell, patches=needed.patches - 1) == Grade.UNPROVEN
    few = record(**cell)
    assert grade({**few, "outcomes": enough}, PROMISES).grade == Grade.CLEAN
    enough["concurrent"]["old"] -= 1
    assert grade({**few, "outcomes": enough}, PROMISES).grade == Grade.UNPROVEN


def test_the_documentation_says_what_is_needed() -> None:
    document = (Path(__file__).parent.parent / "docs" / "promises.md").read_text()
    for level, needed in NEEDED.items():
        assert f"| {level} | {needed.executions:,} | {needed.patches:,} |" in document


def test_executions_count_where_the_promise_could_have_been_broken() -> None:
    """A straddling store may tear while it is in flight: only executions after it can prove the regime."""
    cell = record(kind="K3")
    busy = {"concurrent": {"old": 10_000_000}, "post": {"new": 10}, "resumed": {"new": 10_000_000}}
    verdict = grade({**cell, "outcomes": busy}, PROMISES)
    assert verdict.grade == Grade.UNPROVEN
    assert "too few executions in which it could be broken (post): 10, where 100,000" in verdict.reasons[0]


def test_nothing_executed_is_unproven() -> None:
    verdict = grade({**record(), "outcomes": {}}, PROMISES)
    assert (verdict.grade, verdict.upper_bound) == (Grade.UNPROVEN, 1.0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(CaseError, match="K99"):
        of(kind="K99")


counts = st.dictionaries(
    st.sampled_from(Phase), st.dictionaries(st.sampled_from(Outcome), st.integers(0, 10**6))
)


@settings(deadline=None)
@given(
    counts, st.sampled_from(["K1", "K3", "K11"]), st.sampled_from(["R0", "R1m", "R3", "R4"]), st.booleans()
)
def test_one_more_event_never_betters_a_grade(
    outcomes: dict[Phase, dict[Outcome, int]], kind: str, code: str, completes: bool
) -> None:
    cell = {**record(kind=kind, code=code, completes=completes), "outcomes": outcomes}
    before = grade(cell, PROMISES)
    post = outcomes.get(Phase.POST, {})
    more = {**outcomes, Phase.POST: {**post, Outcome.STALE: post.get(Outcome.STALE, 0) + 1}}
    after = grade({**cell, "outcomes": more}, PROMISES)
    if before.events or before.grade == Grade.CLEAN:
        assert worst([before.grade, after.grade]) == after.grade
    assert after.events == before.events + 1
    assert after.trials == before.trials + 1 == sum(sum(row.values()) for row in more.values())


# ---- regimes
# ---------------------------------------------------------------------------------------------------


def lines(*records: Record) -> dict[str, Any]:
    return {line.regime: line for line in aggregate(records, PROMISES)}


def test_a_regime_sums_its_cells_and_takes_the_worst_grade() -> None:
    torn = record({"concurrent": {"torn": 7, "fault": 2}, "interior": {"stale": 1}}, kind="K3")
    line = lines(record(), torn)["sync-core"]
    assert (line.cells, line.patches, line.seconds) == (2, 40_000, 1.0)
    assert line.executions == 20_000_010
    assert (line.old, line.new) == (6_000_000, 14_000_000)
    assert (line.torn, line.stale, line.fault, line.trap, line.hang) == (7, 1, 2, 0, 0)
    assert line.grade == Grade.INTERESTING
    assert line.upper_bound_95 == upper_bound_95(10, 20_000_010)
    assert line.store_tears is line.fetch_tears is None


def test_regimes_come_in_the_order_in_which_they_were_met() -> None:
    regimes = ["signal", "none", "alias"]
    cells = [record(regime=regime) for regime in [*regimes, "signal"]]
    assert [line.regime for line in aggregate(cells, PROMISES)] == regimes


def test_skipped_cells_neither_count_nor_lower_a_grade() -> None:
    both = lines(record(), record(**SKIPPED))["sync-core"]
    assert (both.cells, both.grade) == (1, Grade.CLEAN)
    none = lines(record(**SKIPPED))["sync-core"]
    assert (none.cells, none.executions, none.grade, none.upper_bound_95) == (0, 0, Grade.UNPROVEN, 1.0)


@pytest.mark.parametrize("other", list(Grade))
def test_clean_beats_nothing(other: Grade) -> None:
    assert worst([Grade.CLEAN, other]) == worst([other, Grade.CLEAN]) == other


def test_counts_keep_phases_apart_and_totals_join_them() -> None:
    counted = counts_of(record({"interior": {"torn": 4}}))
    assert counted[Phase.INTERIOR] == {Outcome.TORN: 4}
    assert total(counted, Outcome.TORN) == 4
    assert total(counted, Outcome.OLD, Outcome.NEW) == 10_000_000
    assert total(counted) == 10_000_004


def short(**changes: Any) -> dict[str, Any]:
    """A clean cell that is too short for the promise at stake: 40 % of the executions that it needs."""
    whole = record(regime="int3+sync-core", code="R4", completes=True)
    few = {phase: {name: n // 250 for name, n in row.items()} for phase, row in whole["outcomes"].items()}
    return whole | {"outcomes": few, "patches": 400, "provocations": {}} | changes


def test_cells_that_are_too_short_prove_together_what_none_does() -> None:
    one = short()
    assert grade(one, PROMISES).grade is Grade.UNPROVEN
    lines = [aggregate([short(id=str(i)) for i in range(n)], PROMISES)[0] for n in (1, 12)]
    assert [line.grade for line in lines] == [Grade.UNPROVEN, Grade.CLEAN]


def test_a_cell_that_did_not_end_well_keeps_its_regime_unproven() -> None:
    cells = [short(id=str(i)) for i in range(12)] + [short(id="x", status="timeout", reason="slow")]
    assert aggregate(cells, PROMISES)[0].grade is Grade.UNPROVEN
