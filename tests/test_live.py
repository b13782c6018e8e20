"""Lines while a run goes on: each cell once, as soon as nothing can change its result, a write a line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest

from stress.formats import lines_of, write
from stress.live import Live, write_lines
from stress.promises import load_promises
from stress.reading import Listed, Reading
from tests.test_formats import RUN, START, record, skipped, torn

PROMISES = load_promises()
Record = dict[str, Any]


def control(events: int, **more: Any) -> Record:
    outcomes = {"concurrent": {"old": 1000, "torn": events}}
    return record(regime="control", role="control", outcomes=outcomes, id="control", **more)


CLEAN = record(regime="int3+sync-core", code="R4", completes=True)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "out").open("w") as out:
        yield out


def read(records: Sequence[Any]) -> Reading:
    return Reading(RUN, Listed(records), PROMISES)


def follow(
    stream: TextIO, records: list[Record], to_come: list[Record] | None = None, style: str = "ktap"
) -> Live:
    return Live(lines_of(style), 9, records, to_come or [], read, stream)


def written(stream: TextIO) -> list[str]:
    """The cells' lines so far, without the head."""
    return Path(stream.name).read_text().splitlines()[2:]


def test_what_was_seen_is_written_at_once(stream: TextIO) -> None:
    records: list[Record] = []
    live = follow(stream, records, [control(0)])
    records.append(torn(5))
    live.look()
    assert [line.split(" # ")[0] for line in written(stream)] == ["ok 1 mov-imm32.x64_2.whole.none.l3"]
    live.look()
    assert len(written(stream)) == 1


@pytest.mark.parametrize(("events", "directive"), [(9, None), (0, "SKIP")])
def test_what_showed_nothing_waits_for_its_control(
    stream: TextIO, events: int, directive: str | None
) -> None:
    records: list[Record] = [CLEAN]
    live = follow(stream, records, [control(events)])
    live.look()
    assert written(stream) == []
    records.append({**control(9, site="x64+2"), "id": "another place's"})
    live.look()
    assert written(stream) == []
    records.append(control(events))
    live.look()
    (line,) = written(stream)
    assert line.startswith("ok 1 mov-imm32.in8.whole.int3_sync-core.l3")
    assert (directive or "") in line
    assert bool(directive) == ("#" in line)


def test_what_has_no_control_does_not_wait(stream: TextIO) -> None:
    records: list[Record] = [CLEAN, skipped("no SERIALIZE", regime="flag+serialize")]
    follow(stream, records).look()
    assert len(written(stream)) == 2


def test_at_the_end_all_that_was_held_back_and_all_that_never_ended_is_written(stream: TextIO) -> None:
    records: list[Record] = [CLEAN, START]
    live = follow(stream, records, [control(0)])
    live.look()
    live.close()
    text = "\n".join(written(stream))
    assert "ok 1 mov-imm32.in8" in text
    assert "not ok 2 a.in8.whole.none.l3 # ERROR was begun and never ended" in text


def test_in_the_end_it_has_written_what_a_report_writes(stream: TextIO) -> None:
    cells = [CLEAN, torn(5), skipped("no", regime="flag+serialize"), record(regime="alias"), START]
    records: list[Record] = []
    live = follow(stream, records, [control(9)], "lava")
    for each in [*cells, control(9)]:
        records.append(each)
        live.look()
    live.close()
    after = write("lava", read(records)).splitlines()[1:]
    now = Path(stream.name).read_text().splitlines()[1:]
    assert sorted(now) == sorted(after)


def test_a_line_is_one_write(stream: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        written.append(bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    write_lines("one\ntwo\n", stream)
    assert written == [b"one\n", b"two\n"]


def test_a_short_write_goes_on(stream: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    write_lines("twelve chars\n", stream)
    assert Path(stream.name).read_text() == "twelve chars\n"
