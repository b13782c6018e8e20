"""The smallest plan that still shows an event: drop one thing after the other, and keep dropped what is not missed.

Whether a candidate still shows the event is a question about a rate. The rate of the plan so far is known from several
starts of it; a candidate is looked at for so long that an event ten times rarer would be missed with a probability
below 1e-3, and accepted only when several starts of it showed the event. What is promised of the event may not become
weaker on the way: without its synchronization any discipline tears, and that would be another event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stress.checks import CHECKS
from stress.errors import UsageError
from stress.event import low_rate, missed, seconds_for
from stress.model import Cell, Plan
from stress.publish import check_publishing
from stress.simpler import PUBLISHED, Move, Returns, moves
from stress.sites import misfit

STARTS = 5
"""Of the plan as it is, for its rate."""

ACCEPTED_AFTER = 3
"""Starts of a candidate that must all have shown the event."""

SHORTEST_SECONDS = 0.04
"""Of one search: a start takes some milliseconds of its own."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One search: how often the event was seen in how many seconds; `failed`: why the plan could not be run, or ""."""

    events: int
    seconds: float
    executions: int = 0
    failed: str = ""


Look = Callable[[Plan, float], Trial]
"""Runs a plan for at most so many seconds, or until the event is seen."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What could not be dropped: not seen without it in `seconds`; `missed`: how probably a tenth of the rate would not
    have been; `why`: where it was not tried.
    """

    text: str
    seconds: float
    missed: float
    why: str = ""


@dataclass(slots=True)
class Shrunk:
    """What became of a plan. `rate`: events a second of it that are not in doubt, at least."""

    plan: Plan
    rate: float
    dropped: list[str] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    starts: int = 0

    def lines(self) -> list[str]:
        """What was dropped and what could not be, as text."""
        lines = [
            f"smallest plan after {self.starts} starts, at least {self.rate:.3g} events a second (95 %):"
        ]
        lines += [f"  dropped {text}" for text in self.dropped] or ["  nothing could be dropped"]
        for kept in self.kept.values():
            why = kept.why or (
                f"not seen without it in {kept.seconds:.2f} s; at a tenth of the rate that has a chance of "
                f"{kept.missed:.1g}"
            )
            lines.append(f"  kept {kept.text}: {why}")
        return lines


@dataclass(frozen=True, slots=True)
class Rules:
    """What a shrinker asks others. `strength`: of what is promised of the event in a cell, weakest 0. `returns`: the
    case with what its images return found out by executing them, or None where one does not return. `longest`: seconds
    that one search may take.
    """

    look: Look
    strength: Callable[[Cell], int]
    returns: Returns
    longest: float


def shrink(plan: Plan, rules: Rules, tell: Callable[[str], None] = lambda _: None) -> Shrunk:
    """The smallest plan found, and what it took.

    Raises:
        UsageError: the plan does not show the event often enough to be made smaller.
    """
    trials = [rules.look(plan, rules.longest) for _ in range(STARTS)]
    events, seconds = sum(t.events > 0 for t in trials), sum(t.seconds for t in trials)
    if events < ACCEPTED_AFTER:
        raise UsageError(
            f"{plan.cell.name}: {events} of {STARTS} starts of {rules.longest:g} s showed the event; "
            "give --seconds more, or make its provocation stronger first"
        )
    shrunk = Shrunk(plan, low_rate(events, seconds), starts=STARTS)
    before, tried = None, dict[int, list[str]]()
    while before is not shrunk.plan:
        before = shrunk.plan
        for n, move in enumerate(PUBLISHED if plan.cell.regime.publish else moves(rules.returns)):
            _apply(move, shrunk, rules, tell, tried.setdefault(n, []))
    return shrunk


def _apply(move: Move, shrunk: Shrunk, rules: Rules, tell: Callable[[str], None], tried: list[str]) -> None:
    """Make one sort of thing as small as it goes. `tried`: what was kept of it for a plan that is not the last."""
    again = True
    while again:
        again = False
        for text in tried:
            shrunk.kept.pop(text, None)
        tried.clear()
        for text, candidate in move(shrunk.plan):
            tried.append(text)
            if _accept(text, candidate, shrunk, rules):
                tell(f"without {text}: still seen")
                shrunk.plan, again = candidate, True
                shrunk.dropped.append(text)
                break


def _accept(text: str, candidate: Plan, shrunk: Shrunk, rules: Rules) -> bool:
    """Whether the candidate shows the event; says what was kept where it does not."""
    if why := _objection(candidate, shrunk.plan, rules):
        shrunk.kept[text] = Kept(text, 0.0, 1.0, why)
        return False
    wanted = seconds_for(shrunk.rate)
    each = max(SHORTEST_SECONDS, min(wanted, rules.longest))
    spent, seen = 0.0, 0
    for _ in range(ACCEPTED_AFTER):
        # Two starts of half the time each: what one start's phase and place hide another may show.
        for _ in range(2):
            trial = rules.look(candidate, each / 2)
            shrunk.starts += 1
            spent += trial.seconds
            if trial.failed or trial.events:
                break
        if trial.failed or not trial.events:
            shrunk.kept[text] = Kept(text, spent, missed(shrunk.rate / 10, spent), trial.failed)
            return False
        seen += 1
    shrunk.rate = low_rate(seen, spent)
    return True


def _objection(candidate: Plan, plan: Plan, rules: Rules) -> str:
    """Why the candidate is not looked at."""
    if rules.strength(candidate.cell) < rules.strength(plan.cell):
        return "less is promised without it: that would be another event"
    cell = candidate.cell
    if cell.regime.publish:
        return next((text for _, text in check_publishing(cell.regime)), "")
    complaint = next((text for check in CHECKS for _, text in check(cell.regime)), "")
    return complaint or misfit(cell.case, cell.site, cell.store)
