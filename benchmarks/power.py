"""Detection power: what `--provoke auto` sees a second, against a tester written by hand at its best fixed pace.

The naive tester (naive.c) gets every advantage that one can give it without provoking anything: its pause is swept from
none to 100 microseconds for each target, and the best one is kept.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import bare, cells
from benchmarks.figure import Figure, divide, once
from stress.host import read_host
from stress.model import Site
from stress.plan import PACE_LOG2

PAUSES_US = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
STARTS = 30
LONGEST_START = 0.3
"""Seconds after which a start that saw nothing is given up, and counted as so long."""


@dataclass(frozen=True)
class Target:
    """Something to be detected, in our words and in the naive tester's.

    `syncs`: bit n set where a membarrier stands in the protocol's nth place; `delay`: ticks in each place instead.
    `pauses`: those that the naive tester may choose from.
    """

    name: str
    regime: str
    site: Site
    case: str = "mov-imm32"
    protocol: bool = False
    trap: bool = False
    syncs: int = 0
    delay: int = 0
    pauses: tuple[float, ...] = PAUSES_US


COMMON = (
    Target("one store at x64+2", "none", Site(64, 2)),
    Target("one store at x4096+2", "none", Site(4096, 2)),
)


def _int3(what: str, regime: str, syncs: int, trap: bool = True, delay: int = 0) -> Target:
    return Target(f"INT3 {what}", regime, Site(64, 2), "mov-imm32", True, trap, syncs, delay)


def _without(what: str, steps: str, syncs: int, trap: bool = True) -> Target:
    return _int3(f"without {what}", f"int3+sync-core-without-{steps}", syncs, trap)


RARE = (
    _without("syncs", "2-4-6", 0),
    _without("sync 1", "2", 0b110),
    _without("syncs 1, 2", "2-4", 0b100),
    _without("syncs 1, 3", "2-6", 0b010),
    _without("the trap", "1", 0b111, trap=False),
    *(_int3(f"waits {ticks} ticks", f"int3+delay-{ticks}", 0, delay=ticks) for ticks in (250, 1000, 3000)),
    Target("one store at x32+1, throttled", "none", Site(32, 1), "mov-imm64", pauses=PAUSES_US[1:]),
)
"""Every ablation of the INT3 protocol that shows anything here (at x64+2), fixed waits, and a tear inside a line."""


@dataclass
class Side:
    """What one side saw, repeat by repeat."""

    torn: list[int]
    changes: list[int]
    seconds: list[float]

    @property
    def rates(self) -> list[float]:
        """Torn executions a second, repeat by repeat."""
        return [divide(n, s) for n, s in zip(self.torn, self.seconds, strict=True)]

    @property
    def at_most(self) -> float:
        """The median rate; where it is 0, the highest that the counts do not exclude (95 %)."""
        return statistics.median(self.rates) or (sum(self.torn) + 3) / sum(self.seconds)

    @property
    def per_change(self) -> float:
        """Torn executions for each one that met another image than the one before."""
        return divide(sum(self.torn), sum(self.changes))


def _resolved(target: Target, seconds: float, seed: int, until_first: bool = False) -> dict[str, Any]:
    discipline, every = cells.regime(target.regime), cells.auto()
    return cells.plan(
        cells.case(target.case), discipline, seconds, target.site, every, PACE_LOG2, seed, None, until_first
    )


def naive(target: Target, pause_us: float, seconds: float, until_first: bool = False) -> bare.Naive:
    """What the naive tester saw of `target` in so many seconds."""
    plan = _resolved(target, seconds, 0)
    region = plan["region"]
    n = bare.Naive()
    with bare.region(plan) as first:
        n.entry, n.head, n.patch = (first + region[key] for key in ("entry", "head", "patch"))
        n.width, n.images = region["patch_len"], len(region["images"])
        for i, (data, image) in enumerate(zip(bare.patches_of(plan), region["images"], strict=True)):
            n.bytes[i], n.value[i] = data, image["returns"]
        n.protocol, n.trap, n.syncs, n.delay = target.protocol, target.trap, target.syncs, target.delay
        n.pause, n.until_first = int(pause_us * 1e-6 * read_host().tsc_hz), until_first
        n.limit_ns = int(seconds * 1e9)
        n.writer_cpu, n.executor_cpu = plan["cpus"]["writer"], plan["cpus"]["executors"][0]
        bare.library().naive_run(ctypes.byref(n))
    return n


def best_pause(target: Target, seconds: float) -> float:
    """The pause, in microseconds, with which the naive tester sees most."""

    def rate(pause: float) -> float:
        seen = naive(target, pause, seconds)
        return float(seen.torn) / float(seen.ns)

    return max(target.pauses, key=rate)


def _repeat(
    target: Target, pause: float, rounds: int, seconds: float
) -> tuple[Side, Side, dict[str, list[float]]]:
    """Both sides in turn; and, by provocation, what ours saw of events and for how many seconds it was on."""
    ours, theirs, by = Side([], [], []), Side([], [], []), dict[str, list[float]]()
    for seed in range(rounds):
        result = cells.run(_resolved(target, seconds, seed))
        ours.torn.append(cells.count(result, *cells.EVENTS))
        ours.changes.append(cells.count(result, "new"))
        ours.seconds.append(result["seconds"])
        for name, share in result["provocations"].items():
            sums = by.setdefault(name, [0.0, 0.0])
            sums[0] += cells.count(share, *cells.EVENTS)
            sums[1] += share["seconds"]
        seen = naive(target, pause, seconds)
        theirs.torn.append(seen.torn)
        theirs.changes.append(seen.changes)
        theirs.seconds.append(seen.ns / 1e9)
    return ours, theirs, by


def _shares(by: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {divide(n, seconds):.3g}" for name, (n, seconds) in by.items())


def _ratio(name: str, ours: Side, theirs: Side, target: float | None, note: str) -> Figure:
    rate, base = statistics.median(ours.rates), theirs.at_most
    low, high = min(ours.rates) / base, max(ours.rates) / base
    return Figure(name, "naive", "/s", rate, base, rate / base, low, high, target, note=note)


def _firsts(target: Target, pause: float) -> tuple[list[float], list[float]]:
    """Seconds to the first torn execution, ours and theirs, start by start, in order of length."""
    ours, theirs = [], []
    for seed in range(STARTS):
        result = cells.run(_resolved(target, LONGEST_START, seed, until_first=True))
        ours.append(result["executors"][0]["first_event_seconds"] or LONGEST_START)
        seen = naive(target, pause, LONGEST_START, until_first=True)
        theirs.append(seen.first_ns / 1e9 or LONGEST_START)
    return sorted(ours), sorted(theirs)


def _first_figures(target: Target, pause: float) -> Iterator[Figure]:
    ours, theirs = _firsts(target, pause)
    late = sum(t >= LONGEST_START for t in theirs)
    note = (
        f"{late} of {STARTS} naive starts saw nothing in {LONGEST_START:g} s and count as that"
        if late
        else ""
    )
    for what, at in (("median", STARTS // 2), ("p95", STARTS * 95 // 100)):
        name = f"{target.name}: to the first, {what}"
        yield once(name, "naive", "ms", ours[at] * 1e3, theirs[at] * 1e3, 0.1, True, note)
        note = ""


def common(rounds: int, seconds: float) -> Iterator[Figure]:
    """The stores that tear by the million."""
    for target in COMMON:
        pause = best_pause(target, seconds / 2)
        ours, theirs, by = _repeat(target, pause, rounds, seconds)
        note = f"naive pauses {pause:g} us; a second by provocation: {_shares(by)}"
        yield _ratio(target.name, ours, theirs, 1.5, note)
        name = f"{target.name}: per visible transition"
        yield once(name, "naive", "", ours.per_change, theirs.per_change, 0.5)


def rare(rounds: int, seconds: float) -> Iterator[Figure]:
    """What one has to wait for."""
    for target in RARE:
        pause = best_pause(target, seconds / 2)
        ours, theirs, by = _repeat(target, pause, rounds, seconds)
        nothing = "" if any(theirs.torn) else "naive saw nothing: held against its 95 % bound; "
        note = f"{nothing}naive pauses {pause:g} us; a second by provocation: {_shares(by)}"
        yield _ratio(target.name, ours, theirs, 10.0, note)
        yield from _first_figures(target, pause)
    free = Target("one store at x32+1, unthrottled", "none", Site(32, 1), "mov-imm64")
    pause = best_pause(free, seconds / 2)
    ours, theirs, by = _repeat(free, pause, rounds, seconds)
    yield _ratio(
        free.name, ours, theirs, None, f"naive pauses {pause:g} us; a second by provocation: {_shares(by)}"
    )
