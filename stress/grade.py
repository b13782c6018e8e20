"""Outcomes held against promises. Pure: a grade is computed whenever records are read, and never stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from stress.charges import Charge, Counts, Held, Record, charges, held, modified, promised
from stress.model import EXPECTED, Grade, Outcome, Phase, Status
from stress.promises import STRENGTH, Level, Promise, Promises
from stress.stats import short_rate, upper_bound_95

EVENTS = tuple(outcome for outcome in Outcome if outcome not in EXPECTED)
"""What a run looks for: torn, stale, fault, hang.

A trap is none, in any phase: one that a protocol left standing when it had declared itself complete was
counted as stale, and a trap after completion is an image that traps by itself.
"""

GRADES = {
    Level.FORBIDDEN: Grade.FORBIDDEN,
    Level.RELIED_ON: Grade.SURPRISING,
    Level.ALLOWED: Grade.INTERESTING,
}
"""What it is called that an outcome of this level was seen."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What a run must have made before having seen nothing means something."""

    executions: int
    patches: int


NEEDED = {
    Level.FORBIDDEN: Needed(100_000, 1_000),
    Level.RELIED_ON: Needed(100_000, 1_000),
    Level.ALLOWED: Needed(10_000, 100),
}
"""By the strongest promise at stake.

Every patch is one chance to see something: 1000 of them without an event put the chance under 0.3 % (95 %),
100 under 3 %. A hundred executions a patch make it likely that each was met by some.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cell's grade, and why.

    `promise_level`: of the worst that was seen, or, where nothing was, the strongest that was at stake.
    `upper_bound`: one-sided 95 % bound of the chance of an event per execution; `trials`: executions, in
    all phases; `events`: those among them that were torn, stale, faulting or hung. `proving`: executions in the
    phases where the promise at stake could have been broken, 0 where the control saw nothing; `only_short`: it ran to
    its end, and is UNPROVEN because that was too little, so that others of the same regime may make up for it.
    """

    grade: Grade
    promise_level: Level
    reasons: tuple[str, ...]
    trials: int
    events: int
    proving: int = 0
    only_short: bool = False

    @property
    def upper_bound(self) -> float:
        """Made when asked for: an exact bound takes as long as a grade, and most are shown without."""
        return upper_bound_95(self.events, self.trials)


PHASES = {phase.value: phase for phase in Phase}
OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def counts_of(record: Record) -> Counts:
    """Return what the cell counted, or one provocation's share of it: nothing, where it never ran."""
    return {
        PHASES[phase]: {OUTCOMES[name]: n for name, n in row.items()}
        for phase, row in record["outcomes"].items()
    }


def total(counts: Counts, *outcomes: Outcome) -> int:
    """Return the executions in all phases that ended in one of `outcomes`; in any, where none is named."""
    if not outcomes:
        return sum([sum(row.values()) for row in counts.values()])
    return sum([n for row in counts.values() for outcome, n in row.items() if outcome in outcomes])


def grade(record: Record, promises: Promises, control: bool | None = None, vendor: str = "") -> Verdict:
    """Return the verdict on one cell.

    `control`: whether the cell's positive control saw an event; None: the run had none for it. `vendor`:
    whose promises to hold it against, "" for the CPU's own.

    Raises:
        CaseError: the record's kind or regime code is unknown.
    """
    counts = counts_of(record)
    # A trap that was published is the filler of an address that was called filled.
    trap_expected = modified(record) and record.get("shape") != "publish"
    looked_for = EVENTS if trap_expected else (*EVENTS, Outcome.TRAP)
    vendor = vendor or record["vendor"]
    trials, events = total(counts), total(counts, *looked_for)
    seen = charges(record, counts, looked_for, promises, vendor)
    if seen:
        level = seen[0].promise.level
        return Verdict(GRADES[level], level, (*_tell_all(seen, trials), *_ended(record)), trials, events)
    at_stake, phases = _at_stake(held(record, promises, vendor))
    proving = sum(sum(counts.get(phase, {}).values()) for phase in phases)
    lacking = _ended(record) + _lacking(record, proving, phases, NEEDED[at_stake.level], control)
    verdict = Grade.UNPROVEN if lacking else Grade.CLEAN
    bound = upper_bound_95(0, trials)
    none = [
        f"none of {trials:,} executions showed anything: less than {short_rate(bound)} each, one-sided 95 %"
    ]
    clean = [] if lacking else _clean(record, control)
    reasons = [*lacking, *(none if trials else []), *clean, f"what is promised: {_tell(at_stake)}"]
    only_short = bool(lacking) and not _ended(record)
    proving = 0 if control is False else proving
    return Verdict(verdict, at_stake.level, tuple(reasons), trials, events, proving, only_short)


def _ran(record: Record) -> bool:
    return bool(record["status"] != Status.SKIPPED)


@cache
def _at_stake(to: Held) -> tuple[Promise, list[Phase]]:
    """Return the strongest promise, and the phases in which an execution could have broken one as strong."""
    strongest = {
        phase: max((promised(to, phase, event) for event in EVENTS), key=lambda p: STRENGTH[p.level])
        for phase in (Phase.POST, Phase.CONCURRENT)
    }
    best = max(strongest.values(), key=lambda p: STRENGTH[p.level])
    return best, [phase for phase, its in strongest.items() if its.level is best.level]


SURENESS = {"H": "", "M": ", by inference", "U": ", unconfirmed"}
"""How a promise says that it rests on less than the primary text: by its confidence."""


DID = {
    Outcome.TORN: "ran torn code",
    Outcome.STALE: "ran stale code",
    Outcome.FAULT: "faulted",
    Outcome.HANG: "hung",
    Outcome.TRAP: "met a trap",
}
WHEN = {
    Phase.CONCURRENT: "with a patch in flight",
    Phase.POST: "when the change had been declared complete",
    Phase.INTERIOR: "from where they had been stopped, inside the patched bytes",
    Phase.RESUMED: "right after a recovered signal",
}


def _tell_all(seen: Iterable[Charge], trials: int) -> Iterator[str]:
    """Yield what was seen and what is promised of it, each promise once."""
    told: set[Promise] = set()
    for c in seen:
        promised = f"{c.promise.level}, as above" if c.promise in told else _tell(c.promise)
        told.add(c.promise)
        yield f"{c.count:,} of {trials:,} executions {DID[c.outcome]} {WHEN[c.phase]}{c.what}: {promised}"


def _tell(promise: Promise) -> str:
    source = f" [{promise.source}]" if promise.source else ""
    return f"{promise.level}{SURENESS[promise.confidence]}. {promise.why}{source}"


def _ended(record: Record) -> list[str]:
    """Return what became of a cell that did not end well: what it had counted is evidence all the same."""
    if record["status"] == Status.OK:
        return []
    tail = "" if record["status"] == Status.SKIPPED else "; graded on what it had counted"
    return [f"{record['status']}: {record['reason'] or 'no reason given'}{tail}"]


def _lacking(
    record: Record, proving: int, phases: list[Phase], needed: Needed, control: bool | None
) -> list[str]:
    """Return why this cell could not have seen anything, a line each.

    `proving`: executions in the `phases` where the promise at stake could have been broken.
    """
    if not _ran(record):
        return []
    lacking = []
    if proving < needed.executions:
        where = " and ".join(phases)
        lacking.append(
            f"too few executions in which it could be broken ({where}): {proving:,}, "
            f"where {needed.executions:,} are needed"
        )
    if modified(record) and record["patches"] < needed.patches:
        lacking.append(f"too few patches: {record['patches']:,}, where {needed.patches:,} are needed")
    if control is False:
        lacking.append("its positive control, on the same CPUs and site, saw nothing either")
    return lacking


def _clean(record: Record, control: bool | None) -> list[str]:
    """Return what makes having seen nothing mean something, a line each."""
    names = ", ".join(name for name in record["provocations"] or [record["provocation"]] if name != "none")
    firsts = []
    if record.get("shape") == "publish":
        # Only the first execution of a publication can meet what was fetched before it.
        n = total(counts_of(record), Outcome.NEW)
        rate = short_rate(upper_bound_95(0, n))
        firsts = [f"none of {n:,} first executions of a publication: less than {rate} each"]
    return [
        *firsts,
        f"provoked by {names}" if names else "nothing provoked it",
        "its positive control, a store known to tear, on the same CPUs and site, saw events"
        if control
        else "no positive control was part of the run, so nothing says that it could have seen anything",
    ]
