"""What a run showed of the known bugs that it was asked for: the wrong protocol and the right one, side by side."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from stress.aggregate import ByRegime, RegimeLine
from stress.charges import Record
from stress.grade import EVENTS, Verdict, counts_of, total
from stress.model import Grade, Status
from stress.reading import Reading
from stress.stats import short_rate
from stress.table import peak, per_second, pipes, si
from stress.table import write as table


@dataclass(frozen=True, slots=True)
class SideLine:
    """One side of a known bug, all its cells that ran together.

    `rate`, `under`: most events a second that a cell showed, and under which provocation. `upper_bound`: one-sided 95 %
    bound of the chance of an event per execution. `skipped`: why cells did not run.
    """

    bug: str
    side: str
    cells: int
    executions: int
    patches: int
    events: int
    rate: float
    under: str
    upper_bound: float
    grade: Grade
    skipped: tuple[str, ...]


class Sides:
    """A line a side of every known bug in a run, of cells that are added one by one."""

    def __init__(self) -> None:
        # Graded as a regime's cells are, together: several that are too short may prove what none does alone.
        self._sums = ByRegime()
        self._events: Counter[str] = Counter()
        self._peaks: dict[str, tuple[str, float]] = {}
        self._skipped: dict[str, dict[str, None]] = {}

    def add(self, record: Record, verdict: Verdict) -> None:
        """Count one cell, wherever it belongs."""
        for label in record.get("bugs", ()):
            self._sums.add(record, verdict, name=label)
            if record["status"] == Status.SKIPPED:
                self._skipped.setdefault(label, {})[record["reason"]] = None
            if total(counts_of(record), *EVENTS):
                self._peaks[label] = max(self._peaks.get(label, ("", 0.0)), peak(record), key=lambda p: p[1])
            self._events[label] += verdict.events

    @property
    def lines(self) -> list[SideLine]:
        """Return them in the order of their names, the wrong side first."""
        order = sorted(
            self._sums.lines, key=lambda x: (x.regime.partition(":")[0], x.regime.endswith(":right"))
        )
        return [self._line(whole) for whole in order]

    def _line(self, whole: RegimeLine) -> SideLine:
        bug, _, side = whole.regime.partition(":")
        under, rate = self._peaks.get(whole.regime, ("", 0.0))
        return SideLine(
            bug=bug,
            side=side,
            cells=whole.cells,
            executions=whole.executions,
            patches=whole.patches,
            events=self._events[whole.regime],
            rate=rate,
            under=under,
            upper_bound=whole.upper_bound_95,
            grade=whole.grade,
            skipped=tuple(self._skipped.get(whole.regime, ())),
        )


def bug_lines(reading: Reading) -> list[SideLine]:
    """Return one line a side of every known bug in a run, in the order of their names, the wrong side first."""
    sides = Sides()
    for record in reading.records.cells:
        sides.add(record, reading.verdict(record))
    return sides.lines


def seen(line: SideLine) -> str:
    """Return in a few words what a side showed, or, where that was nothing, how little that can be."""
    if not line.cells:
        return f"skipped: {'; '.join(line.skipped)}"
    if line.events:
        return f"{si(line.events)} of {si(line.executions)}; {per_second(line.rate)} under {line.under}"
    return f"0 of {si(line.executions)}, <{short_rate(line.upper_bound)}"


def table_and_bugs(reading: Reading) -> str:
    """Return the table of a run, and below it the known bugs that it was asked for."""
    sides = Sides()
    above = table(reading, sides)
    rows = [f"  {line.bug:26} {line.side:5} {line.grade:11} {seen(line)}" for line in sides.lines]
    return above + "\n".join(["", "Known bugs (stress show bug NAME):", *rows, ""] if rows else [])


def write(reading: Reading) -> str:
    """Return the known bugs of a run as a Markdown table, a bug a row."""
    sides: dict[str, dict[str, SideLine]] = {}
    for line in bug_lines(reading):
        sides.setdefault(line.bug, {})[line.side] = line
    rows = [[f"`{bug}`", *(_cell(of.get(side)) for side in ("wrong", "right"))] for bug, of in sides.items()]
    return "\n".join(pipes(("bug", "wrong", "right"), rows)) + "\n"


def _cell(line: SideLine | None) -> str:
    return f"{line.grade}: {seen(line)}" if line else "-"
