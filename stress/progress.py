"""What a run says on stderr while it runs: a line that rewrites itself, on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, TextIO

from stress.campaign import Progress


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


def _rate(record: dict[str, Any]) -> str:
    executions = sum(n for row in record["outcomes"].values() for n in row.values())
    return (
        f"{executions / record['seconds'] / 1e6:.1f}M executions/s" if record["seconds"] else record["status"]
    )


class Line:
    """One line of progress: cells done, the cell that runs, the last cell's rate, the time left."""

    def __init__(self, quiet: bool, stream: TextIO | None = None) -> None:
        """`quiet`: say nothing. Nothing is said either where `stream` (stderr by default) is no terminal."""
        self._stream = stream or sys.stderr
        self._on = not quiet and self._stream.isatty()
        self._rate = ""

    def tell(self, progress: Progress) -> None:
        """Show `progress`."""
        if progress.record:
            self._rate = _rate(progress.record)
        if not self._on:
            return
        now = progress.running[0] if progress.running else ""
        parts = [f"{progress.done}/{progress.total}", now, self._rate, f"{span(progress.left_seconds)} left"]
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\033[K" + "  ".join(part for part in parts if part)[:width])
        self._stream.flush()

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._on:
            self._stream.write("\r\033[K")
            self._stream.flush()
