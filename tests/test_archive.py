"""Finished runs, read lazily: each plan on each machine once, in order, as often as asked for; and in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stress.archive import Archive
from stress.errors import StoreError
from stress.reading import Listed
from stress.store import RECORDS, RunFolder

REGIMES = ("none", "int3", "flag")


def record(plan: str = "a", kind: str = "end", **more: Any) -> dict[str, Any]:
    return {"schema": 1, "type": kind, "id": plan, "cell": f"cell-{plan}", "regime": "none"} | more


def folder(path: Path, *records: dict[str, Any]) -> Path:
    with closing(RunFolder.create(path, {})) as made:
        for each in records:
            made.append_record(each)
    return path


def read(*folders: Path) -> Archive:
    return Archive(folders, REGIMES.index)


def cells(*folders: Path) -> list[dict[str, Any]]:
    """The cells of an archive, without the folder that they are from."""
    return [{k: v for k, v in each.items() if k != "home"} for each in read(*folders).cells]


def test_an_end_record_takes_the_place_of_its_start(tmp_path: Path) -> None:
    path = folder(tmp_path, record("a", "start"), record("a"), record("b", "start"))
    assert cells(path) == [record("a")]
    assert read(path).begun == (record("b", "start"),)


def test_merging_is_a_union_by_id_in_any_order(tmp_path: Path) -> None:
    one = folder(tmp_path / "1", record("a", "start"), record("b"))
    two = folder(tmp_path / "2", record("b", "start"), record("a"))
    for folders in ([one, two], [two, one], [one, two, one]):
        assert cells(*folders) == [record("a"), record("b")]
        assert read(*folders).begun == ()


def test_the_same_plan_on_two_machines_is_two_records_and_each_says_where_it_is(tmp_path: Path) -> None:
    folders = [folder(tmp_path / host, record("a", host=host)) for host in ("zen", "golden")]
    archive = read(*folders)
    assert [(each["host"], each["home"]) for each in archive.cells] == [
        (path.name, str(path)) for path in folders
    ]
    assert archive.hosts == {"zen", "golden"}
    assert archive.names == {"cell-a": 2}


def test_one_machine_not_having_finished_is_told_though_another_has(tmp_path: Path) -> None:
    one = folder(tmp_path / "1", record("a", "start", host="zen"))
    two = folder(tmp_path / "2", record("a", host="golden"))
    assert [each["host"] for each in read(one, two).begun] == ["zen"]


def test_of_two_ends_the_first_stays(tmp_path: Path) -> None:
    path = folder(tmp_path, record("a", seconds=1), record("a", seconds=2))
    assert [each["seconds"] for each in cells(path)] == [1]
    assert read(path).names == {"cell-a": 1}


def test_records_come_by_regime_then_cell_then_as_they_were_stored(tmp_path: Path) -> None:
    stored = [
        record("a", regime="flag"),
        record("b", cell="y", regime="int3"),
        record("c", cell="x", regime="int3"),
        record("d", cell="y", regime="int3"),
        record("e", cell="x", regime="none"),
    ]
    assert [each["id"] for each in cells(folder(tmp_path, *stored))] == ["e", "c", "b", "d", "a"]


def test_what_ran_beside_cells_is_apart(tmp_path: Path) -> None:
    archive = read(folder(tmp_path, record("a"), record("b", role="control"), record("c", role="witness")))
    assert [each["id"] for each in archive.cells] == ["a"]
    assert [each["id"] for each in archive.companions] == ["b", "c"]


def test_what_was_read_once_can_be_read_again(tmp_path: Path) -> None:
    found = read(folder(tmp_path, record("a"), record("b"))).cells
    assert list(found) == list(found) == [record("a"), record("b")]


def test_a_record_that_is_damaged_below_its_heading_is_one_line(tmp_path: Path) -> None:
    path = folder(tmp_path, record("a"))
    line = (path / RECORDS).read_bytes()
    (path / RECORDS).write_bytes(line.replace(b'"none"', b'"none","reason":"\xff"'))
    with pytest.raises(StoreError, match=r"records\.jsonl.*is damaged.*restore the file"):
        list(read(path).cells)


LINES = st.lists(
    st.builds(
        lambda plan, kind, host, regime, role: record(
            plan, kind, **({"host": host} if host else {}), regime=regime, role=role
        ),
        st.sampled_from("abcd"),
        st.sampled_from(["start", "end"]),
        st.sampled_from(["", "zen", "golden"]),
        st.just("none"),
        st.just("cell"),
    )
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, min_size=1, max_size=3))
def test_it_holds_what_the_folders_hold(
    tmp_path_factory: pytest.TempPathFactory, lines: Sequence[Any]
) -> None:
    root = tmp_path_factory.mktemp("runs")
    folders = [folder(root / str(n), *records) for n, records in enumerate(lines)]
    ends: dict[tuple[str, str], dict[str, Any]] = {}
    starts: dict[tuple[str, str], dict[str, Any]] = {}
    for each in (each for records in lines for each in records):
        into = ends if each["type"] == "end" else starts
        into.setdefault((each["id"], each.get("host", "")), each)
    wanted = sorted(ends.values(), key=lambda each: each["cell"])
    assert cells(*folders) == wanted
    begun = read(*folders).begun
    assert list(begun) == [each for key, each in starts.items() if key not in ends]
    assert Listed(wanted).names == read(*folders).names


def test_memory_grows_by_little_more_than_a_place_a_record(tmp_path: Path) -> None:
    filler = "x" * 5000
    few, many = (
        folder(tmp_path / str(n), *(record(str(i), cell="a", filler=filler) for i in range(n)))
        for n in (50, 1050)
    )
    peaks = []
    for path in (few, many):
        tracemalloc.start()
        assert sum(1 for _ in read(path).cells) == int(path.name)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1000 * 300  # of 5 MB; most of it a set that is made once and given up
