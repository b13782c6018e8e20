"""Files that survive anything: lines written whole and synced, and in one line what the system refuses."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stress.errors import StoreError

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or give another --out"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "give an --out that can be written"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "give an --out that is a folder"),
    errno.EAGAIN: "another run writes to it: wait for its end or give another --out",
}
"""errno -> what the user can do. EAGAIN comes from the lock alone."""


def append(descriptor: int, file: Path, data: bytes) -> None:
    """Append `data`, whole lines, to the open `file` with one write; it is on the disk when this returns.

    Raises:
        StoreError: it is not, and the file is as it was before.
    """
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


def open_file(file: Path, flags: int) -> int:
    """Return a descriptor of `file`, opened with `flags`."""
    with reporting(file, "cannot open"):
        return os.open(file, flags, 0o666)


def open_lines(file: Path, joined: bool) -> int:
    """Return a descriptor that appends to `file`; not `joined`: locked, with an unterminated last line cut off."""
    descriptor = open_file(file, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    if joined:
        return descriptor
    with reporting(file, "cannot open"):
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _cut_tail(descriptor)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def lock(descriptor: int, how: int) -> None:
    """Lock or unlock, where the file system can: two writers would cut off each other's lines."""
    try:
        fcntl.flock(descriptor, how)
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


def write_atomically(file: Path, text: str) -> None:
    """Make `file` hold `text` or leave it as it was, by way of `file`.tmp; durable once the names are synced."""
    scratch = file.with_name(file.name + ".tmp")
    with reporting(file, "cannot write"), scratch.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
        scratch.replace(file)


def sync_names(path: Path) -> None:
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
def reporting(path: Path, what: str, kind: type[StoreError] = StoreError) -> Iterator[None]:
    """Turn what the system refuses into one line with the path and a remedy, an error of that `kind`."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the folder or give another --out")
        raise kind(f"{path}: {what}: {error.strerror or error}; {remedy}") from error
