"""A figure: a ratio to a baseline that ran in alternation with ours, in this run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Pair = Callable[[float], tuple[float, float]]
"""Seconds to spend on each side -> (ours, baseline), in the figure's unit."""


@dataclass(frozen=True)
class Figure:
    """One line of the result.

    `low`, `high`: the extreme ratios of the rounds. `target` None: told, not judged. `at_most`: a ratio above the
    target misses it, not one below.
    """

    name: str
    baseline: str
    unit: str
    ours: float
    base: float
    ratio: float
    low: float
    high: float
    target: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the ratio is on the right side of the target, or there is none."""
        if self.target is None:
            return True
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or, where nothing is judged, nothing."""
        return "" if self.target is None else "met" if self.met else "MISSED"


def compare(
    name: str,
    baseline: str,
    pair: Pair,
    rounds: int,
    seconds: float,
    target: float | None = None,
    unit: str = "/s",
    at_most: bool = False,
    note: str = "",
) -> Figure:
    """The median ratio of `rounds` rounds, after one that is thrown away.

    A machine whose speed drifts drifts under both sides of a round.
    """
    pair(seconds)
    seen = [pair(seconds) for _ in range(rounds)]
    ratios = sorted(divide(ours, base) for ours, base in seen)
    ours, base = (statistics.median(side) for side in zip(*seen, strict=True))
    ratio = statistics.median(ratios)
    return Figure(name, baseline, unit, ours, base, ratio, ratios[0], ratios[-1], target, at_most, note)


def once(
    name: str,
    baseline: str,
    unit: str,
    ours: float,
    base: float,
    target: float | None = None,
    at_most: bool = False,
    note: str = "",
) -> Figure:
    """A figure of which there is one value, or one that has been made of many already."""
    ratio = divide(ours, base)
    return Figure(name, baseline, unit, ours, base, ratio, ratio, ratio, target, at_most, note)


def within(name: str, seen: Iterable[float], limit: float, unit: str, note: str = "") -> Figure:
    """The median of what was `seen` must not exceed `limit`."""
    values = sorted(seen)
    middle, low, high = statistics.median(values), values[0] / limit, values[-1] / limit
    return Figure(name, f"{limit:g} {unit}", unit, middle, limit, middle / limit, low, high, 1.0, True, note)


def divide(a: float, b: float) -> float:
    """`a / b`, where nothing over nothing is 1 and something over nothing is without bound."""
    return a / b if b else float("inf") if a else 1.0


def short(value: float, unit: str) -> str:
    """A value in four characters or so, with its unit."""
    if unit == "/s":
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:.3g}{letter}/s"
        return f"{value:.3g}/s"
    return f"{value:.3g} {unit}"


def table(figures: Iterable[Figure]) -> str:
    """The figures as text, a line each, with a line below those that have a note."""
    head = f"{'figure':44} {'ours':>9} {'baseline':>9} {'ratio':>6} {'low':>6} {'high':>6}  target"
    lines = [head]
    for f in figures:
        sign = "" if f.target is None else f"{'<=' if f.at_most else '>='} {f.target:g} {f.verdict}"
        lines.append(
            f"{f.name:44} {short(f.ours, f.unit):>9} {short(f.base, f.unit):>9} "
            f"{f.ratio:6.3g} {f.low:6.3g} {f.high:6.3g}  {sign}"
        )
        if f.note:
            lines.append(f"    {f.note}")
    return "\n".join(lines)
