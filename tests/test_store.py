"""The run folder: what was appended is there, whole, whatever stopped the writer; what cannot be is one line."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress import store
from stress.errors import StoreError
from stress.store import (
    EVENTS,
    HALF_WRITTEN,
    RECORDS,
    RUN,
    RunFolder,
    read_events,
    read_records,
    read_run,
)

HEADER = {"seed": 7, "command": "stress run --cases all"}


def record(plan: str = "a", kind: str = "end", **more: Any) -> dict[str, Any]:
    return {"schema": 1, "type": kind, "id": plan, "cell": f"cell-{plan}", **more}


def new_folder(path: Path, *records: dict[str, Any]) -> Path:
    """Make a run folder that holds `records`, and return it closed."""
    with closing(RunFolder.create(path, HEADER)) as folder:
        for each in records:
            folder.append_record(each)
    return path


def told(caught: pytest.ExceptionInfo[StoreError]) -> str:
    """Return the error's text, which is one line and offers a remedy after a semicolon."""
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text
    return text


# ---- making and opening ----------------------------------------------------------------------------------------


def test_create_makes_the_folder_with_its_parents_and_open_finds_the_header(tmp_path: Path) -> None:
    path = new_folder(tmp_path / "deep" / "run")
    with closing(RunFolder.open(path)) as folder:
        assert folder.run == {"schema": 1, **HEADER} == read_run(path)
    assert sorted(entry.name for entry in path.iterdir()) == [EVENTS, RECORDS, RUN]


def test_an_empty_folder_and_the_rest_of_a_creation_cut_short_are_used(tmp_path: Path) -> None:
    (tmp_path / HALF_WRITTEN).write_text('{"sch')
    assert read_run(new_folder(tmp_path))["seed"] == 7


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    new_folder(tmp_path, record())
    with pytest.raises(StoreError, match="--resume") as caught:
        RunFolder.create(tmp_path, {})
    assert str(tmp_path) in told(caught)
    assert len(list(read_records(tmp_path))) == 1


def test_a_folder_with_anything_else_in_it_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not empty") as caught:
        RunFolder.create(tmp_path, HEADER)
    told(caught)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_opening_what_is_no_run_folder_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="no run folder") as caught:
        RunFolder.open(tmp_path / name)
    told(caught)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', "{}", "\udcff"])
def test_a_damaged_header_is_one_line(tmp_path: Path, content: str) -> None:
    path = new_folder(tmp_path / "run")
    (path / RUN).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(StoreError, match=RUN) as caught:
        RunFolder.open(path)
    told(caught)


def test_two_writers_are_refused_and_the_folder_is_free_after_close(tmp_path: Path) -> None:
    with closing(RunFolder.create(tmp_path, HEADER)):
        with pytest.raises(StoreError, match="another run writes to it") as caught:
            RunFolder.open(tmp_path)
        told(caught)
    RunFolder.open(tmp_path).close()


def test_a_failed_open_leaks_no_descriptor_and_no_lock(tmp_path: Path) -> None:
    path = new_folder(tmp_path / "run")
    (path / EVENTS).unlink()
    (path / EVENTS).mkdir()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError, match=EVENTS):
        RunFolder.open(path)
    assert set(os.listdir("/proc/self/fd")) == before
    (path / EVENTS).rmdir()
    RunFolder.open(path).close()


# ---- appending and reading -------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.dictionaries(st.sampled_from(["cell", "notes", "plan"]), values), max_size=5))
def test_what_is_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[str, Any]]
) -> None:
    written = [{**part, **record(str(n))} for n, part in enumerate(parts)]
    path = new_folder(tmp_path_factory.mktemp("run") / "run", *written)
    assert list(read_records(path)) == written


def test_a_record_beyond_64_kib_is_one_line(tmp_path: Path) -> None:
    big = record(notes=["x" * 300_000])
    assert list(read_records(new_folder(tmp_path, big, record("b")))) == [big, record("b")]


def events(path: Path) -> list[Any]:
    return [event["n"] for event in read_events(path)]


def some_events(name: str, *numbers: int) -> list[dict[str, Any]]:
    return [{"id": name, "n": n} for n in numbers]


def test_events_are_appended_together_and_none_is_nothing(tmp_path: Path) -> None:
    with closing(RunFolder.create(tmp_path, HEADER)) as folder:
        folder.append_end(record("none"), [])
        folder.append_end(record("a"), some_events("a", 0, 1, 2))
    assert events(tmp_path) == [0, 1, 2]
    assert [each["id"] for each in read_records(tmp_path)] == ["none", "a"]


@pytest.mark.parametrize("before", [[], ["a"], ["a", "b"]])
def test_events_that_no_end_record_follows_are_cut_off_by_who_goes_on(
    tmp_path: Path, before: list[str]
) -> None:
    with closing(RunFolder.create(tmp_path, HEADER)) as folder:
        for name in before:
            folder.append_end(record(name), some_events(name, 1, 2))
        folder.append_record(record("c", "start"))
    whole = (tmp_path / EVENTS).read_bytes()
    with (tmp_path / EVENTS).open("a") as lines:  # what a kill leaves between the one file and the other
        lines.writelines(json.dumps(event) + "\n" for event in some_events("c", 7, 8))
    with closing(RunFolder.join(tmp_path)):
        assert events(tmp_path) == [1, 2] * len(before) + [7, 8]
    with closing(RunFolder.open(tmp_path)) as folder:
        assert (tmp_path / EVENTS).read_bytes() == whole
        folder.append_end(record("c"), some_events("c", 9))
    assert events(tmp_path) == [1, 2] * len(before) + [9]


def test_events_go_where_their_record_cannot_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with closing(RunFolder.create(tmp_path, HEADER)) as folder:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StoreError, match="free some space"):
                folder.append_end(record("a"), some_events("a", 1))
        assert (events(tmp_path), list(read_records(tmp_path))) == ([], [])


def test_who_joins_appends_beside_who_holds_it_and_cuts_nothing_off(tmp_path: Path) -> None:
    with closing(RunFolder.create(tmp_path, HEADER)) as held, closing(RunFolder.join(tmp_path)) as joined:
        with (tmp_path / RECORDS).open("ab") as lines:
            lines.write(b"{")
        RunFolder.join(tmp_path).close()
        assert (tmp_path / RECORDS).read_bytes() == b"{"
        (tmp_path / RECORDS).write_bytes(b"")
        joined.append_end(record("a"), some_events("a", 1))
        held.append_end(record("b"), some_events("b", 2))
        with pytest.raises(StoreError, match="another run writes to it"):
            RunFolder.open(tmp_path)
    assert [each["id"] for each in read_records(tmp_path)] == ["a", "b"]


def test_processes_that_joined_take_turns(tmp_path: Path) -> None:
    """While one is between its write and the cut that a full disk makes of it, nothing is written behind."""
    with closing(RunFolder.create(tmp_path, HEADER)) as held, closing(RunFolder.join(tmp_path)) as joined:
        done = threading.Thread(target=joined.append_record, args=(record("b"),))
        with held._alone():
            done.start()
            done.join(0.2)
            assert done.is_alive()
            assert not list(read_records(tmp_path))
        done.join(20)
        assert [each["id"] for each in read_records(tmp_path)] == ["b"]


def test_a_record_is_one_write_and_synced_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    write, sync = os.write, os.fsync

    def counted_write(descriptor: int, data: bytes) -> int:
        calls.append(("write", len(data)))
        return write(descriptor, data)

    def counted_sync(descriptor: int) -> None:
        calls.append(("sync", 0))
        sync(descriptor)

    with closing(RunFolder.create(tmp_path, HEADER)) as folder, monkeypatch.context() as patch:
        patch.setattr(os, "write", counted_write)
        patch.setattr(os, "fsync", counted_sync)
        folder.append_record(record())
    assert calls == [("write", (tmp_path / RECORDS).stat().st_size), ("sync", 0)]


@pytest.mark.parametrize("tail", [b'{"schema":1,"ty', b"{", b"\0" * 5000, b"x" * 200_000])
def test_an_unterminated_last_line_is_ignored_by_readers_and_cut_off_by_the_next_writer(
    tmp_path: Path, tail: bytes
) -> None:
    new_folder(tmp_path, record("a"), record("b"))
    whole = (tmp_path / RECORDS).read_bytes()
    with (tmp_path / RECORDS).open("ab") as lines:
        lines.write(tail)
    assert [each["id"] for each in read_records(tmp_path)] == ["a", "b"]
    with closing(RunFolder.open(tmp_path)) as folder:
        assert (tmp_path / RECORDS).read_bytes() == whole
        folder.append_record(record("c"))
    assert [each["id"] for each in read_records(tmp_path)] == ["a", "b", "c"]


def test_a_file_of_one_unterminated_line_becomes_empty(tmp_path: Path) -> None:
    new_folder(tmp_path)
    (tmp_path / RECORDS).write_bytes(b"x" * 200_000)
    RunFolder.open(tmp_path).close()
    assert (tmp_path / RECORDS).read_bytes() == b""


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_file_cut_anywhere_yields_the_records_before_the_cut(tmp_path: Path, cut: int) -> None:
    path = new_folder(tmp_path / "run", record("a"), record("b"), record("c"))
    whole = (path / RECORDS).read_bytes()
    (path / RECORDS).write_bytes(whole[:cut])
    assert [each["id"] for each in read_records(path)] == ["a", "b", "c"][: whole[:cut].count(b"\n")]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"",
        b"[1]",
        b"\xff\xfe",
        b'{"schema":2,"type":"end","id":"a"}',
        b'{"schema":1,"type":"middle","id":"a"}',
        b'{"schema":1,"type":"end"}',
    ],
)
def test_a_damaged_line_is_named_by_file_and_number(tmp_path: Path, line: bytes) -> None:
    new_folder(tmp_path, record())
    with (tmp_path / RECORDS).open("ab") as lines:
        lines.write(line + b"\n")
    with pytest.raises(StoreError) as caught:
        list(read_records(tmp_path))
    assert told(caught).startswith(f"{tmp_path / RECORDS}:2: ")


def test_a_writer_killed_at_any_moment_leaves_whole_records(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom stress.store import RunFolder\n"
        "folder = RunFolder.create(sys.argv[1], {})\n"
        "for n in range(10**9):\n"
        "    folder.append_record({'schema': 1, 'type': 'end', 'id': str(n), 'notes': ['x' * 5000]})\n"
        "    print(n, flush=True)\n"
    )
    root = str(Path(store.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    for attempt in range(3):
        path = tmp_path / str(attempt)
        command = [sys.executable, "-c", program, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(20 + attempt):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        RunFolder.open(path).close()
        ids = [int(each["id"]) for each in read_records(path)]
        assert ids == list(range(len(ids)))
        assert len(ids) > acknowledged


# ---- what the system refuses -----------------------------------------------------------------------------------


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: the kernel cuts the write that would."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_cut_short_is_taken_back_and_the_next_one_works(tmp_path: Path) -> None:
    with closing(RunFolder.create(tmp_path, HEADER)) as folder:
        folder.append_record(record("a"))
        before = (tmp_path / RECORDS).read_bytes()
        with (
            file_size_limit(len(before) + 50),
            pytest.raises(StoreError, match="no space for more than 50") as caught,
        ):
            folder.append_record(record("b", notes=["x" * 500]))
        assert "free some space" in told(caught)
        assert (tmp_path / RECORDS).read_bytes() == before
        folder.append_record(record("c"))
    assert [each["id"] for each in read_records(tmp_path)] == ["a", "c"]


def test_a_full_disk_is_one_line_with_the_path(tmp_path: Path) -> None:
    new_folder(tmp_path)
    (tmp_path / RECORDS).unlink()
    (tmp_path / RECORDS).symlink_to("/dev/full")
    full = pytest.raises(StoreError, match="No space left")
    with closing(RunFolder.open(tmp_path)) as folder, full as caught:
        folder.append_record(record())
    assert told(caught).startswith(f"{tmp_path / RECORDS}: cannot write: ")


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_whatever_the_system_refuses_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with closing(RunFolder.create(tmp_path, HEADER)) as folder:
        folder.append_record(record("a"))
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(StoreError, match=os.strerror(number)) as caught:
                folder.append_record(record("b"))
    told(caught)
    assert [each["id"] for each in read_records(tmp_path)] == ["a"]


@pytest.mark.parametrize("where", ["/proc/stress", "/dev/null/run", "/sys/stress"])
def test_a_folder_that_cannot_be_made_is_one_line(where: str) -> None:
    with pytest.raises(StoreError, match=where) as caught:
        RunFolder.create(where, HEADER)
    told(caught)


def test_a_file_in_the_folders_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StoreError, match="give an --out that is a folder") as caught:
            RunFolder.create(path, HEADER)
        told(caught)


def test_a_read_only_file_system_is_one_line_and_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match="Read-only file system; give an --out that can be written"):
            RunFolder.create(tmp_path / "run", HEADER)
    new_folder(tmp_path / "run", record())


def test_reading_a_folder_without_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=RECORDS) as caught:
        list(read_records(tmp_path))
    told(caught)
