"""What changed between runs: one machine over time, or many machines. Pure.

A cell of the first run is held against the cell of the same name in each other run. Rates are compared by an exact
test (`stats.rise_p`), two-sided and corrected for how many were made (Holm's), so that all changes that are called so
are real with 95 % confidence together, as far as executions are independent. Within one start of a cell they are not:
events come in bursts, and starts of one cell on one machine differ (docs/compare.md has figures). So a rate that was
seen before counts as changed only if it changed by more than a factor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isclose
from statistics import median
from typing import Any

from stress.aggregate import worst
from stress.model import Grade, Status
from stress.reading import Finding, Reading
from stress.stats import rise_p

ALPHA = 0.05
FACTOR = 10.0
"""By which a rate must have changed, beyond doubt, to be told."""

SCHEMA = 1


class Change(StrEnum):
    """What became of a cell, worst first; those of WORSE make `compare` exit with 1."""

    RED = "red"
    ROSE = "rose"
    BROKE = "broke"
    UNPROVEN = "unproven"
    FELL = "fell"
    GREEN = "green"
    MENDED = "mended"
    UNSURE = "unsure"
    SAME = "same"


WORSE = frozenset({Change.RED, Change.ROSE, Change.BROKE})

MEANING: Mapping[Change, str] = {
    Change.RED: "shows events that it did not show before, or breaks a promise that it kept",
    Change.ROSE: "showed events before, and shows more than {factor:g} times as many per execution",
    Change.BROKE: "ran to its end before, and does not now",
    Change.UNPROVEN: "was clean, and now the run could not have seen anything",
    Change.FELL: "showed events before, and shows less than 1/{factor:g} of them per execution",
    Change.GREEN: "showed events before, and shows none",
    Change.MENDED: "did not run to its end before, and does now",
    Change.UNSURE: "some events in one run and none in the other: too few to tell from chance",
    Change.SAME: "nothing that can be told from chance",
}


@dataclass(frozen=True, slots=True)
class Side:
    """A cell in one run, all its starts together. `status`: of the one that ended worst; `grade` "": it never ran."""

    status: str
    grade: str
    events: int
    executions: int
    starts: int
    starts_with_events: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A cell in the first run and in another, `run` from 1. `p`: of the test on its rates, corrected; None: no test."""

    cell: str
    run: int
    change: Change
    before: Side | None
    after: Side
    p: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells of all runs but the first. `gone`, `new`: cells that ran in the first run only, or in this one only.

    `differences`: what the runs' headers say differently of their machines, and how long cells took, by run: key,
    before, after.
    """

    runs: tuple[str, ...]
    cells: tuple[Compared, ...]
    gone: tuple[tuple[str, ...], ...]
    new: tuple[tuple[str, ...], ...]
    differences: tuple[tuple[tuple[str, str, str], ...], ...]
    tests: int
    factor: float

    def of(self, change: Change) -> list[Compared]:
        """Return the cells that changed so, the surest first."""
        cells = [c for c in self.cells if c.change is change]
        return sorted(cells, key=lambda c: (c.p if c.p is not None else -1, c.run, c.cell))

    @property
    def worse(self) -> bool:
        """Whether anything got worse."""
        return any(cell.change in WORSE for cell in self.cells)

    def as_dict(self) -> dict[str, Any]:
        """The comparison ready for JSON; cells that are the same are counted, not listed."""
        told = [asdict(cell) for change in Change if change is not Change.SAME for cell in self.of(change)]
        return {
            "schema": SCHEMA,
            "runs": self.runs,
            "worse": self.worse,
            "counts": {change.value: len(self.of(change)) for change in Change},
            "tests": self.tests,
            "factor": self.factor,
            "confidence": 1 - ALPHA,
            "differences": [
                [dict(zip(("key", "before", "after"), d, strict=True)) for d in of] for of in self.differences
            ],
            "gone": self.gone,
            "new": self.new,
            "cells": told,
        }


def compare(
    readings: Sequence[Reading], names: Sequence[str], fail_on: Collection[str], factor: float = FACTOR
) -> Comparison:
    """Hold the first of `readings`, called `names`, against each other one; `factor`: as in the module's text."""
    first, *others = (_sides(reading.findings) for reading in readings)
    pairs = [
        (run, cell, first.get(cell), after)
        for run, sides in enumerate(others, 1)
        for cell, after in sides.items()
        if _ran(after)
    ]
    raw = [_test(before, after, factor) for _, _, before, after in pairs]
    adjusted = holm(raw)
    cells = tuple(
        Compared(cell, run, _change(before, after, p, fail_on), before if _ran(before) else None, after, p)
        for (run, cell, before, after), p in zip(pairs, adjusted, strict=True)
    )
    gone = tuple(tuple(c for c in first if _ran(first[c]) and not _ran(sides.get(c))) for sides in others)
    new = tuple(tuple(c for c in sides if _ran(sides[c]) and not _ran(first.get(c))) for sides in others)
    hosts = [{**(reading.run.get("host") or {}), **_pace(reading.findings)} for reading in readings]
    differences = tuple(tuple(_differences(hosts[0], host)) for host in hosts[1:])
    return Comparison(tuple(names), cells, gone, new, differences, sum(p is not None for p in raw), factor)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return the p-values that a family of tests leaves each with (Holm 1979); None is no test and stays None."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


def _sides(findings: Iterable[Finding]) -> dict[str, Side]:
    """Return each cell's starts together, in the order of the findings."""
    starts: dict[str, list[Finding]] = {}
    for finding in findings:
        starts.setdefault(finding.cell, []).append(finding)
    return {cell: _side(these) for cell, these in starts.items()}


def _side(starts: Sequence[Finding]) -> Side:
    ran = [f for f in starts if f.status != Status.SKIPPED] or starts
    verdicts = [f.verdict for f in ran if f.verdict]
    grades = [f.verdict.grade for f in ran if f.verdict and f.grade]
    return Side(
        status=next((f.status for f in ran if f.status != Status.OK), Status.OK.value),
        grade=worst(grades) if grades else "",
        events=sum(v.events for v in verdicts),
        executions=sum(v.trials for v in verdicts),
        starts=len(ran),
        starts_with_events=sum(v.events > 0 for v in verdicts),
    )


def _ran(side: Side | None) -> bool:
    return side is not None and side.status != Status.SKIPPED


def _test(before: Side | None, after: Side, factor: float) -> float | None:
    """Return the two-sided p of the test on the rates, against `factor` where both saw events; None: no test."""
    if before is None or not (before.executions and after.executions and before.events + after.events):
        return None
    by = factor if before.events and after.events else 1.0
    old, new = (before.events, before.executions), (after.events, after.executions)
    return min(1.0, 2 * min(rise_p(old, new, by), rise_p(new, old, by)))


def _change(before: Side | None, after: Side, p: float | None, fail_on: Collection[str]) -> Change:
    if not _ran(before) or before is None:
        return Change.RED if after.grade in fail_on else Change.SAME
    if after.grade in fail_on and worst([Grade(after.grade), Grade(before.grade or "CLEAN")]) != before.grade:
        return Change.RED  # a promise that is broken once is broken, however rarely
    if (before.status == Status.OK) != (after.status == Status.OK):
        return Change.BROKE if before.status == Status.OK else Change.MENDED
    if p is None:
        lost = before.grade == Grade.CLEAN and after.grade == Grade.UNPROVEN
        return Change.UNPROVEN if lost else Change.SAME
    rose = after.events * before.executions > before.events * after.executions
    if not (before.events and after.events):
        sure = Change.RED if rose else Change.GREEN
        return sure if p < ALPHA else Change.UNSURE
    sure = Change.ROSE if rose else Change.FELL
    return sure if p < ALPHA else Change.SAME


def _pace(findings: Iterable[Finding]) -> dict[str, str]:
    """How long a cell took, to one digit: runs that differ in it saw different things."""
    seconds = [f.record["seconds"] for f in findings if f.verdict and f.record["seconds"]]
    return {"seconds a cell": f"{median(seconds):.1g}"} if seconds else {}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """What two hosts say differently of themselves, of what is one word; a clock measured twice is the same clock."""
    for key in dict.fromkeys((*before, *after)):
        one, other = before.get(key, ""), after.get(key, "")
        if isinstance(one, dict | list) or isinstance(other, dict | list):
            continue
        numbers = isinstance(one, int | float) and isinstance(other, int | float)
        if one != other and not (numbers and isclose(one, other, rel_tol=1e-4)):
            yield key, str(one), str(other)
