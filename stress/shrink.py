"""The smallest plan that still shows an event: drop one thing after the other, and keep dropped what is not missed.

Whether a candidate still shows the event is a question about a rate. The rate of the plan so far is known from several
starts of it; a candidate is looked at for so long that an event ten times rarer would be missed with a probability
below 1e-3, and accepted only when several starts of it showed the event. What is promised of the event may not become
weaker on the way: without its synchronization any discipline tears, and that would be another event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from stress.checks import CHECKS
from stress.errors import UsageError
from stress.event import low_rate, missed, seconds_for
from stress.model import Case, Cell, Plan, Provocation, Site
from stress.sites import BOUNDARIES, block_of, misfit

STARTS = 5
"""Of the plan as it is, for its rate."""

ACCEPTED_AFTER = 3
"""Starts of a candidate that must all have shown the event."""

SHORTEST_SECONDS = 0.04
"""Of one search: a start takes some milliseconds of its own."""

NOTHING = Provocation("none", "nothing is done to help")


@dataclass(frozen=True, slots=True)
class Trial:
    """One search: how often the event was seen in how many seconds; `failed`: why the plan could not be run, or ""."""

    events: int
    seconds: float
    executions: int = 0
    failed: str = ""


Look = Callable[[Plan, float], Trial]
"""Runs a plan for at most so many seconds, or until the event is seen."""

Move = Callable[[Plan], Iterator[tuple[str, Plan]]]
"""Yields simpler plans, the simplest first, each with what it drops."""


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
    returns: Callable[[Plan], Case | None]
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
        for n, move in enumerate(moves(rules)):
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
    complaint = next((text for check in CHECKS for _, text in check(cell.regime)), "")
    return complaint or misfit(cell.case, cell.site, cell.store)


def moves(rules: Rules) -> Sequence[Move]:
    """Everything that may be dropped, what costs most first."""
    return (
        fewer_provocations,
        fewer_executors,
        fewer_images,
        fewer_writer_steps,
        fewer_executor_steps,
        lambda plan: fewer_bytes(plan, rules),
        simpler_site,
        simpler_store,
        shorter_pace,
        lambda plan: fewer_pads(plan, rules),
    )


def _with(plan: Plan, **changes: object) -> Plan:
    return replace(plan, cell=replace(plan.cell, **changes))  # type: ignore[arg-type]


def fewer_provocations(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """None at all; else one of those that take turns."""
    these = plan.cell.provocations
    if these != (NOTHING,) and any(p.writer or p.executor or p.signal_us for p in these):
        yield f"provocation {plan.cell.provocation}", _with(plan, provocations=(NOTHING,))
    for one in these if len(these) > 1 else ():
        yield f"provocations but {one.name}", _with(plan, provocations=(one,))


def fewer_executors(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One executor; else one fewer."""
    where = plan.cell.placement
    n = len(where.executor_cpus)
    for fewer in dict.fromkeys((1, n - 1)) if n > 1 else ():
        less = replace(where, executor_cpus=where.executor_cpus[:fewer])
        yield f"{n - fewer} of {n} executors", _with(plan, placement=less)


def fewer_images(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Two images that follow each other; else one fewer."""
    images = plan.cell.case.images
    n = len(images)
    for fewer in dict.fromkeys((2, n - 1)) if n > 2 else ():
        for first in range(n - fewer + 1):
            case = replace(plan.cell.case, images=images[first : first + fewer])
            yield f"{n - fewer} of {n} images", _with(plan, case=case)


def fewer_writer_steps(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One writer step fewer, the last first."""
    regime = plan.cell.regime
    for at in reversed(range(len(regime.writer))):
        less = replace(regime, writer=regime.writer[:at] + regime.writer[at + 1 :])
        yield f"writer step `{regime.writer[at].text}`", _with(plan, regime=less)


def fewer_executor_steps(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One executor step fewer, the last first."""
    regime = plan.cell.regime
    for at in reversed(range(len(regime.executor))):
        less = replace(regime, executor=regime.executor[:at] + regime.executor[at + 1 :])
        yield f"executor step `{regime.executor[at].text}`", _with(plan, regime=less)


def _narrowed(plan: Plan, start: int, end: int) -> Plan | None:
    """Only the bytes from `start` to `end` change; None where the images are then no longer all different."""
    case, site = plan.cell.case, plan.cell.site
    first = case.images[0].bytes
    contents = [first[:start] + image.bytes[start:end] + first[end:] for image in case.images]
    if len(set(contents)) < len(contents):
        return None
    images = tuple(replace(i, bytes=content) for i, content in zip(case.images, contents, strict=True))
    front = case.patch + site.front - start if site.boundary else 0
    where = Site(site.boundary, front) if site.boundary else site
    less = replace(case, patch=start, patch_len=end - start, images=images)
    where = where if where.boundary else Site(0, inside=block_of(less))
    return _with(plan, case=less, site=where)


def fewer_bytes(plan: Plan, rules: Rules) -> Iterator[tuple[str, Plan]]:
    """A shorter run of patched bytes, on both sides of the boundary where there is one."""
    case, site = plan.cell.case, plan.cell.site
    point = case.patch + site.front if site.boundary else 0
    runs = [
        (start, end)
        for start in range(case.patch, case.patch + case.patch_len)
        for end in range(start + 2, case.patch + case.patch_len + 1)
        if end - start < case.patch_len and (not site.boundary or start < point < end)
    ]
    for start, end in sorted(runs, key=lambda run: run[1] - run[0]):
        less = _narrowed(plan, start, end)
        found = rules.returns(less) if less else None
        if less and found:
            yield (
                f"{case.patch_len - (end - start)} of {case.patch_len} patched bytes",
                _with(less, case=found),
            )


def simpler_site(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Inside one aligned block; else across the smallest boundary."""
    case, site = plan.cell.case, plan.cell.site
    if not site.boundary:
        return
    yield f"site x{site.boundary}", _with(plan, site=Site(0, inside=block_of(case)))
    for boundary in (b for b in BOUNDARIES if b < site.boundary):
        yield f"site x{site.boundary}, in favour of x{boundary}", _with(plan, site=Site(boundary, site.front))


def simpler_store(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One plain store."""
    if plan.cell.store != "whole":
        yield f"store {plan.cell.store}", _with(plan, store="whole")


def shorter_pace(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """No pause between patches; else half the range of pauses."""
    for shorter in dict.fromkeys((0, plan.pace_log2 // 2)) if plan.pace_log2 else ():
        yield f"pace 2^{plan.pace_log2}, in favour of 2^{shorter}", replace(plan, pace_log2=shorter)


def fewer_pads(plan: Plan, rules: Rules) -> Iterator[tuple[str, Plan]]:
    """One pad fewer, which no image needs: without it each still returns what it did."""
    pads = plan.cell.case.pads
    for at, pad in enumerate(pads):
        less = replace(plan.cell.case, pads=pads[:at] + pads[at + 1 :])
        without = _with(plan, case=less)
        if rules.returns(without) == less:
            yield f"the pad at {pad.offset:+#x}", without
