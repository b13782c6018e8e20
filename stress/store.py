"""A run is a folder that survives anything: `run.json`, `records.jsonl`, `events.jsonl`.

A line is one JSON object, written with one `write` and synced before the call returns, so that a kill or a
power cut costs at most the line being written. That has no newline: readers ignore it, writers cut it off. A cell's
events come before its end record and count with it: whoever goes on cuts off those that none followed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from stress.durable import append, lock, open_file, open_lines, reporting, sync_names, write_atomically
from stress.errors import FolderError, StoreError

SCHEMA = 1
RUN = "run.json"
RECORDS = "records.jsonl"
EVENTS = "events.jsonl"
HALF_WRITTEN = RUN + ".tmp"

Line = dict[str, Any]


class RunFolder:
    """One run's folder, open for appending by the processes of this run alone; close when done.

    One of them holds it: use `create` or `open`. Others that it starts `join` it.
    """

    def __init__(self, path: Path, run: Line, joined: bool = False) -> None:
        self.path = path
        self.run = run
        with ExitStack() as opened:
            self._turn = open_file(path / RUN, os.O_RDWR)
            opened.callback(os.close, self._turn)
            self._records = open_lines(path / RECORDS, joined)
            opened.callback(os.close, self._records)
            self._events = open_lines(path / EVENTS, joined)
            opened.callback(os.close, self._events)
            if not joined:
                self._cut_orphans()
                sync_names(path)
            self._opened = opened.pop_all()

    @classmethod
    def create(cls, path: str | os.PathLike[str], run: Mapping[str, Any]) -> Self:
        """Return a new run folder at `path`, made with its parents where it does not exist.

        `run`: the header, kept in `run.json` with the schema's number; of JSON types.

        Raises:
            StoreError: the folder holds something already, or cannot be made or written.
        """
        path = Path(path)
        with reporting(path, "cannot make the folder", FolderError):
            path.mkdir(parents=True, exist_ok=True)
            held = {entry.name for entry in path.iterdir()} - {HALF_WRITTEN}
        if RUN in held:
            raise FolderError(f"{path}: holds a run already; go on with --resume, or give another --out")
        if held:
            raise FolderError(f"{path}: is not empty and holds no run; give a new folder or an empty one")
        header = {"schema": SCHEMA, **run}
        write_atomically(path / RUN, json.dumps(header, indent=1, allow_nan=False) + "\n")
        return cls(path, header)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the run folder at `path`, ready to go on: what a crash left half written is cut off.

        Raises:
            StoreError: there is none, it is damaged, another process writes to it, or it cannot be written.
        """
        return cls(Path(path), read_run(path))

    @classmethod
    def join(cls, path: str | os.PathLike[str]) -> Self:
        """Return the run folder at `path` for a process that was started by the one that holds it.

        Raises:
            StoreError: there is none, or it cannot be written.
        """
        return cls(Path(path), read_run(path), joined=True)

    def append_record(self, record: Mapping[str, Any]) -> None:
        """Append one line to `records.jsonl`; it is on the disk when this returns. Raises as `append_end`."""
        self.append_end(record, ())

    def append_end(self, record: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> None:
        """Append `events` to `events.jsonl`, all of them or none, then the record that they count with, to the disk.

        Raises:
            StoreError: the record is not stored, and the files are as they were before.
        """
        with self._alone():
            before = os.fstat(self._events).st_size
            if data := _lines(events):
                append(self._events, self.path / EVENTS, data)
            try:
                append(self._records, self.path / RECORDS, _lines([record]))
            except StoreError:
                with suppress(OSError):  # else who goes on does it
                    os.ftruncate(self._events, before)
                raise

    def close(self) -> None:
        """Let other runs write to the folder."""
        self._opened.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Take turns with who joined: who cannot write all of a line cuts it off, and nothing may stand behind it."""
        with reporting(self.path, "cannot lock"):
            lock(self._turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock(self._turn, fcntl.LOCK_UN)

    def _cut_orphans(self) -> None:
        """Cut off the events at the end whose cell has no end record: it will be run again, and leave its own."""
        if not os.fstat(self._events).st_size:
            return
        size = kept = 0
        ended = {heading.id for heading, _, _ in read_headings(self.path) if heading.type == "end"}
        for size, event in _numbered(self.path / EVENTS):
            if event.get("id") in ended:
                kept = size
        if kept < size:
            with reporting(self.path / EVENTS, "cannot write"):
                os.ftruncate(self._events, kept)


def read_run(path: str | os.PathLike[str]) -> Line:
    """Return the header of the run in folder `path`.

    Raises:
        StoreError: the folder holds none that this version can read.
    """
    file = Path(path) / RUN
    with reporting(file, "cannot read"):
        try:
            run = decode(file.read_bytes(), file)
            _check_schema(run.get("schema"), str(file))
            return run
        except (FileNotFoundError, NotADirectoryError):
            raise FolderError(f"{path}: is no run folder, it has no {RUN}; give what --out was") from None


class Heading(msgspec.Struct):
    """What a record is, without what it counted: little of a line needs to be looked at for it."""

    schema: Any = None
    type: str = ""
    id: str = ""
    cell: str = ""
    regime: str = ""
    role: str = "cell"
    host: str = ""


_heading = msgspec.json.Decoder(Heading).decode
_value = msgspec.json.Decoder().decode


def read_headings(path: str | os.PathLike[str]) -> Iterator[tuple[Heading, int, bytes]]:
    """Yield of each record of the run in folder `path` its heading, where its line begins in the file, and the line.

    A last line without a newline was being written when the run was cut short, and is left out.

    Raises:
        StoreError: a complete line is not a record; the text names file and line.
    """
    file, offset = Path(path) / RECORDS, 0
    with reporting(file, "cannot read"), file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                heading = _heading(line)
            except ValueError:
                decode(line, f"{file}:{number}")  # says what is wrong with it, where it is no JSON at all
                heading = Heading(SCHEMA)
            _check_schema(heading.schema, f"{file}:{number}")
            if heading.type not in ("start", "end") or not heading.id:
                raise StoreError(f"{file}:{number}: is no record; restore the file or delete the line")
            yield heading, offset, line
            offset += len(line)


def read_records(path: str | os.PathLike[str]) -> Iterator[Line]:
    """Yield the records of the run in folder `path`, start and end records alike, oldest first.

    Raises:
        StoreError: as `read_headings`.
    """
    for _, offset, line in read_headings(path):
        yield decode(line, f"{Path(path) / RECORDS}, byte {offset}")


def read_events(path: str | os.PathLike[str]) -> Iterator[Line]:
    """Yield the events of the run in folder `path`, oldest first; none where it kept none.

    Raises:
        StoreError: a complete line is no event; the text names file and line.
    """
    return (event for _, event in _numbered(Path(path) / EVENTS))


def _numbered(file: Path) -> Iterator[tuple[int, Line]]:
    """Yield each object of `file`, and the offset of the byte behind its line; none where there is no file."""
    if not file.exists():
        return
    end = 0
    with reporting(file, "cannot read"), file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                end += len(line)
                yield end, decode(line, f"{file}:{number}")


def decode(line: bytes, where: str | os.PathLike[str], by: Callable[[bytes], Any] = _value) -> Line:
    """Return the JSON object in `line`, as `by` decodes it; StoreError, which says `where`, if there is none."""
    try:
        value = by(line)
    except ValueError as error:  # malformed JSON or UTF-8
        raise StoreError(f"{where}: is damaged: {error}; restore the file or delete the line") from error
    if not isinstance(value, dict):
        raise StoreError(f"{where}: is no JSON object; restore the file or delete the line")
    return value


def _check_schema(schema: Any, where: str) -> None:
    if schema != SCHEMA:
        raise StoreError(f"{where}: has schema {schema!r}, we read {SCHEMA}; use its own version")


def _lines(objects: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(o, separators=(",", ":"), allow_nan=False).encode() + b"\n" for o in objects)
