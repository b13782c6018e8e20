"""A run is a folder that survives anything: `run.json`, `records.jsonl`, `events.jsonl`.

A line is one JSON object, written with one `write` and synced before the call returns, so that a kill or a
power cut costs at most the line being written. That has no newline: readers ignore it, writers cut it off.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from stress.errors import StoreError

SCHEMA = 1
RUN = "run.json"
RECORDS = "records.jsonl"
EVENTS = "events.jsonl"
HALF_WRITTEN = RUN + ".tmp"

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or give another --out"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "give an --out that can be written"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "give an --out that is a folder"),
    errno.EAGAIN: "another run writes to it: wait for its end or give another --out",
}
"""errno -> what the user can do. EAGAIN comes from the lock alone."""

Line = dict[str, Any]


class RunFolder:
    """One run's folder, open for appending by this process alone. Use `create` or `open`; close when done."""

    def __init__(self, path: Path, run: Line) -> None:
        self.path = path
        self.run = run
        self._records = _open_lines(path / RECORDS)
        try:
            self._events = _open_lines(path / EVENTS)
            _sync_names(path)
        except StoreError:
            os.close(self._records)
            raise

    @classmethod
    def create(cls, path: str | os.PathLike[str], run: Mapping[str, Any]) -> Self:
        """Return a new run folder at `path`, made with its parents where it does not exist.

        `run`: the header, kept in `run.json` with the schema's number; of JSON types.

        Raises:
            StoreError: the folder holds something already, or cannot be made or written.
        """
        path = Path(path)
        with reporting(path, "cannot make the folder"):
            path.mkdir(parents=True, exist_ok=True)
            held = {entry.name for entry in path.iterdir()} - {HALF_WRITTEN}
        if RUN in held:
            raise StoreError(f"{path}: holds a run already; go on with --resume, or give another --out")
        if held:
            raise StoreError(f"{path}: is not empty and holds no run; give a new folder or an empty one")
        header = {"schema": SCHEMA, **run}
        _write_atomically(path / RUN, json.dumps(header, indent=1, allow_nan=False) + "\n")
        return cls(path, header)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the run folder at `path`, ready to go on: what a crash left half written is cut off.

        Raises:
            StoreError: there is none, it is damaged, another process writes to it, or it cannot be written.
        """
        return cls(Path(path), read_run(path))

    def append_record(self, record: Mapping[str, Any]) -> None:
        """Append one line to `records.jsonl`; it is on the disk when this returns.

        Raises:
            StoreError: it is not, and the file is as it was before.
        """
        _append(self._records, self.path / RECORDS, [record])

    def append_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to `events.jsonl`, as `append_record` does: all of them or none."""
        _append(self._events, self.path / EVENTS, events)

    def close(self) -> None:
        """Let other processes write to the folder."""
        os.close(self._records)
        os.close(self._events)


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
            raise StoreError(f"{path}: is no run folder, it has no {RUN}; give what --out was") from None


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
    file = Path(path) / EVENTS
    if not file.exists():
        return
    with reporting(file, "cannot read"), file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                yield decode(line, f"{file}:{number}")


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


def _append(descriptor: int, file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    compact = (json.dumps(line, separators=(",", ":"), allow_nan=False) for line in lines)
    data = "".join(f"{text}\n" for text in compact).encode()
    if not data:
        return
    before = os.fstat(descriptor).st_size
    with reporting(file, "cannot write"):
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, f"no space for more than {written} of {len(data)} bytes")
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):  # else the next writer does it
                os.ftruncate(descriptor, before)
            raise


def _open_lines(file: Path) -> int:
    """Return a descriptor that appends to `file`, locked for us, with an unterminated last line cut off."""
    with reporting(file, "cannot open"):
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            _cut_tail(descriptor)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock, where the file system can: two writers would cut off each other's lines."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def _cut_tail(descriptor: int) -> None:
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - 65536)
        kept = os.pread(descriptor, end - begin, begin).rfind(b"\n") + 1
        end = begin + kept
        if kept:
            break
    if end < size:
        os.ftruncate(descriptor, end)


def _write_atomically(file: Path, text: str) -> None:
    """Make `file` hold `text` or leave it as it was; durable once the folder's names are synced."""
    scratch = file.with_name(HALF_WRITTEN)
    with reporting(file, "cannot write"), scratch.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
        scratch.replace(file)


def _sync_names(path: Path) -> None:
    """Make the names in `path` durable, and its own name where we may read its parent."""
    parent = path.resolve().parent
    with reporting(path, "cannot sync"):
        for folder in (path, parent) if os.access(parent, os.R_OK) else (path,):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def reporting(path: Path, what: str) -> Iterator[None]:
    """Turn what the system refuses into one line with the path and a remedy."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the folder or give another --out")
        raise StoreError(f"{path}: {what}: {error.strerror or error}; {remedy}") from error
