"""Figures of many cells together: histograms, and rates by site and store. Plain values, to be drawn by a template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2

from stress.atomicity import REGIMES
from stress.charges import Record
from stress.grade import Verdict
from stress.stats import rate_text
from stress.table import si

UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns"))


@dataclass(frozen=True, slots=True)
class Bar:
    """One column of a histogram: `label` where it begins, `n` of what is counted, `height` 0 to 1."""

    label: str
    n: int
    height: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Columns of equal width on a logarithmic axis, and in words what they count."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A site and a store, of the regimes that add nothing: `share` of executions that were events; `log`: 0 to 1."""

    site: str
    store: str
    cells: int
    executions: int
    events: int
    rate: str
    log: float


def duration(nanoseconds: float) -> str:
    """Return a time with the unit that leaves the shortest figure: `420 ns`, `1.6 ms`."""
    scale, unit = next(((s, u) for s, u in UNITS if nanoseconds >= s), UNITS[-1])
    return f"{nanoseconds / scale:.3g} {unit}"


def histogram(title: str, counts: Mapping[str, int], unit: float | None = None) -> Histogram | None:
    """Return the columns of log2 buckets as records keep them (bucket i > 0 begins at 2^(i-1)); None where empty.

    `unit`: nanoseconds of one, where the axis is time.
    """
    found = {int(bucket): n for bucket, n in counts.items() if n}
    if not found:
        return None
    most = max(found.values())
    bars = []
    for bucket in range(min(found), max(found) + 1):
        begins = 1 << bucket >> 1
        label = duration(begins * unit) if unit else si(begins)
        bars.append(Bar(label, found.get(bucket, 0), found.get(bucket, 0) / most))
    return Histogram(title, tuple(bars))


def add_up(tables: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return several log2 histograms as one."""
    together: dict[str, int] = {}
    for table in tables:
        for bucket, n in table.items():
            together[bucket] = together.get(bucket, 0) + n
    return together


def staleness(records: Sequence[Record]) -> tuple[Histogram, ...]:
    """Return how late stale executions were, in generations and in time."""
    generations = add_up([r.get("stale_generations", {}) for r in records])
    ticks = add_up([r.get("stale_ticks", {}) for r in records])
    hz = next((r["tsc_hz"] for r in records if r.get("tsc_hz")), 0)
    found = (
        histogram("Patches that it was behind", generations),
        histogram("Time since the younger code had been published", ticks, 1e9 / hz if hz else None),
    )
    return tuple(each for each in found if each)


def places(cells: Iterable[tuple[Record, Verdict]]) -> tuple[Place, ...]:
    """Return what cells without any synchronization showed, by site and store, most events first."""
    by_place: dict[tuple[str, str], list[Verdict]] = {}
    for record, verdict in cells:
        if record["regime"] in REGIMES:
            by_place.setdefault((record["site"], record["store"]), []).append(verdict)
    found = []
    for (site, store), verdicts in by_place.items():
        trials, events = sum(v.trials for v in verdicts), sum(v.events for v in verdicts)
        # One in a thousand million and fewer is the left end of the axis, every execution the right one.
        log = max(0.02, 1 + log2(events / trials) / log2(1e9)) if events else 0.0
        found.append(Place(site, store, len(verdicts), trials, events, rate_text(events, trials), log))
    return tuple(sorted(found, key=lambda p: (-p.log, p.site, p.store)))


def paces(records: Iterable[Record]) -> tuple[Histogram, ...]:
    """Return how long it took from one patch to the next: cells by their mean."""
    buckets: dict[str, int] = {}
    for record in records:
        if patches := record["patches"]:
            bucket = str(int(record["seconds"] * 1e9 / patches).bit_length())
            buckets[bucket] = buckets.get(bucket, 0) + 1
    made = histogram("Pace: mean time from one patch to the next, of each cell", buckets, 1.0)
    return (made,) if made else ()
