"""What a run says on stderr while it runs: a few lines that rewrite themselves, on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Any, TextIO

from stress.campaign import Progress
from stress.grade import EVENTS, counts_of, total
from stress.table import WIDTH, si

ROWS = 10
"""Regimes that the table on the terminal names, the ones with most events a second."""

WIDTH_OF_TABLE = 53


def span(seconds: float) -> str:
    """A duration in at most six characters or so: `0.43 s`, `12 s`, `3 min`, `2.5 h`."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: a terminal, and no NO_COLOR in the environment."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def width_of(stream: TextIO) -> int:
    """Columns for a table that goes to `stream`: fewer than usual on a terminal that has not as many."""
    return min(WIDTH, shutil.get_terminal_size().columns) if stream.isatty() else WIDTH


def _rate(record: dict[str, Any]) -> str:
    executions = sum(n for row in record["outcomes"].values() for n in row.values())
    return (
        f"{executions / record['seconds'] / 1e6:.1f}M executions/s" if record["seconds"] else record["status"]
    )


class Line:
    """What a terminal shows while cells run: a table of the regimes that show most, and below it how far the run is.

    The line is: cells done, the cell that runs, the last cell's rate, the time left.
    """

    def __init__(self, quiet: bool, stream: TextIO | None = None) -> None:
        """`quiet`: say nothing. Nothing is said either where `stream` (stderr by default) is no terminal."""
        self._stream = stream or sys.stderr
        self._on = not quiet and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = wants_colour(self._stream)
        self._rate = ""
        self._regimes: dict[str, _Regime] = {}
        self._above = 0
        """Lines of the table on the screen, above the one that the cursor is in."""

    def tell(self, progress: Progress) -> None:
        """Show `progress`."""
        record = progress.record
        if record:
            self._rate = _rate(record)
            if record.get("role", "cell") == "cell" and record["seconds"]:
                self._regimes.setdefault(record["regime"], _Regime()).add(record)
        if not self._on:
            return
        size = shutil.get_terminal_size()
        now = progress.running[0] if progress.running else ""
        parts = [f"{progress.done}/{progress.total}", now, self._rate, f"{span(progress.left_seconds)} left"]
        rows = self._table(size.columns - 1, size.lines - 2)
        rows.append("  ".join(part for part in parts if part)[: size.columns - 1])
        self._stream.write(self._to_top() + "\n".join(f"\r\033[K{row}" for row in rows))
        self._stream.flush()
        self._above = len(rows) - 1

    def _table(self, width: int, height: int) -> list[str]:
        """The regimes with most events a second, the worst first; no line where there is no room for two."""
        shown = min(ROWS, height - 1, len(self._regimes))
        if shown < 1 or width < WIDTH_OF_TABLE:
            return []
        worst = sorted(self._regimes.items(), key=lambda item: (-item[1].rate, item[0]))[:shown]
        rows = [f"{'regime':24} {'cells':>5} {'execs':>6} {'events':>6} {'a second':>8}"]
        for name, regime in worst:
            figures = si(regime.executions), si(regime.events), si(round(regime.rate))
            row = "{:24} {:5} {:>6} {:>6} {:>8}".format(name[:24], regime.cells, *figures)
            rows.append(f"\033[33m{row}\033[0m" if self._colour and regime.events else row)
        return rows

    def _to_top(self) -> str:
        return f"\r\033[{self._above}A\033[J" if self._above else ""

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._on:
            self._stream.write(self._to_top() + "\r\033[K")
            self._stream.flush()
            self._above = 0


@dataclass(slots=True)
class _Regime:
    """What the cells of a regime showed so far, all together."""

    cells: int = 0
    executions: int = 0
    events: int = 0
    seconds: float = 0.0

    def add(self, record: dict[str, Any]) -> None:
        counts = counts_of(record)
        self.cells += 1
        self.executions += total(counts)
        self.events += total(counts, *EVENTS)
        self.seconds += record["seconds"]

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0
