"""A format of lines, written while the run goes on: each cell as soon as its result can no longer change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from stress.evidence import place_of, role_of
from stress.formats import Lines
from stress.reading import Reading, Record


class Live:
    """Follows the growing `records` of a run, and writes a line for each cell among them.

    What a cell showed is final; that it showed nothing counts only if its positive control saw something, which may
    run later. Such a cell is held back until the controls of its place have ended.
    """

    def __init__(
        self,
        lines: Lines,
        cells: int,
        records: Sequence[Record],
        controls: Iterable[Record],
        read: Callable[[Sequence[Record]], Reading],
        stream: TextIO,
    ) -> None:
        """`cells`: how many the run has. `controls`: those to come, as records name them; `read` makes a reading."""
        self._lines, self._records, self._read, self._stream = lines, records, read, stream
        self._places: dict[tuple[object, ...], list[Record]] = {}
        self._controls = {str(control["id"]): place_of(control) for control in controls}
        self._held: dict[tuple[object, ...], list[Record]] = {}
        self._seen = 0
        write_lines(lines.head(cells), stream)

    def look(self) -> None:
        """Write the lines of what has ended since the last look."""
        changed = {}
        for record in self._records[self._seen :]:
            self._seen += 1
            if record["type"] == "end":
                place = place_of(record)
                changed[place] = True
                self._places.setdefault(place, []).append(record)
                self._controls.pop(record["id"], None)
                if role_of(record) == "cell":
                    self._held.setdefault(place, []).append(record)
        for place in changed:
            self._release(place)

    def _release(self, place: tuple[object, ...]) -> None:
        waits = place in self._controls.values()
        reading = self._read(self._places[place])
        for record in self._held.pop(place, []):
            if waits and not reading.settled(record):
                self._held.setdefault(place, []).append(record)
            else:
                write_lines(self._lines.line(reading.finding(record)), self._stream)

    def close(self) -> None:
        """Write what was held back, what was begun before and never ended, and the format's end."""
        self.look()
        self._controls.clear()
        for place in list(self._held):
            self._release(place)
        reading = self._read(self._records)
        unfinished = map(reading.finding, reading.records.begun)
        for finding in unfinished:
            write_lines(self._lines.line(finding), self._stream)
        write_lines(self._lines.end(), self._stream)


def write_lines(text: str, stream: TextIO) -> None:
    """Write `text` with one write(2) a line, so that what else goes to a console does not cut a line in two."""
    stream.flush()
    for line in text.encode().splitlines(keepends=True):
        while line:
            line = line[os.write(stream.fileno(), line) :]
