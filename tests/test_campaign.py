"""A run's order, its durability, and what it leaves behind, with workers that only pretend to run."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stress import campaign
from stress.campaign import Campaign, Progress
from stress.errors import StoreError
from stress.model import Limits, Placement, Plan, Skip, Step
from stress.plan import as_dict, describe, plan_id
from stress.runner import EMPTY
from stress.store import EVENTS, RunFolder, read_records
from tests.support import MOV, make_plan, regime

NONE = regime(Step("store", "all", "new"))


def a_plan(n: int, *cpus: int) -> Plan:
    where = Placement("l3", cpus[0], cpus[1:]) if cpus else Placement("l3", 0, (1,))
    plan = make_plan(replace(MOV, name=f"case-{n}"), NONE, Limits(1.0), where=where)
    return replace(plan, seed=n)


PLANS = [a_plan(n) for n in range(20)]


def ids(plans: list[Plan]) -> list[str]:
    return [plan_id(as_dict(plan)) for plan in plans]


class Pretend:
    """A worker that ends when it is asked for news, or `never`."""

    status = "ok"
    never: ClassVar[set[str]] = set()
    alive: ClassVar[list[str]] = []
    begun_with: ClassVar[list[str]] = []
    abandoned: ClassVar[list[str]] = []

    def __init__(self, plan: Plan, _command: Sequence[str] = ()) -> None:
        self.plan, self.begun = plan, time.monotonic()
        self.name = plan.cell.case.name
        self.deadline = self.begun + (0 if self.name in self.never else 1000)
        self.news, self.other_end = os.pipe()
        if self.name not in self.never:
            os.write(self.other_end, b".")
        self.begun_with.append(self.name)
        self.alive.append(self.name)

    @property
    def waitables(self) -> list[Any]:
        return [self.news]

    @property
    def overdue(self) -> bool:
        return time.monotonic() > self.deadline

    def _end(self) -> None:
        os.close(self.news)
        os.close(self.other_end)
        self.alive.remove(self.name)

    def finish(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        self._end()
        cell, plan = self.plan.cell, as_dict(self.plan)
        record = {"schema": 1, "type": "end", "id": plan_id(plan), **describe(cell), **EMPTY, "plan": plan}
        return record | {"status": self.status, "reason": ""}, [{"outcome": "torn"}, {"outcome": "torn"}]

    def abandon(self) -> None:
        self._end()
        self.abandoned.append(self.name)


@pytest.fixture(autouse=True)
def pretend(monkeypatch: pytest.MonkeyPatch) -> type[Pretend]:
    class Fresh(Pretend):
        never: ClassVar[set[str]] = set()
        alive: ClassVar[list[str]] = []
        begun_with: ClassVar[list[str]] = []
        abandoned: ClassVar[list[str]] = []

    monkeypatch.setattr(campaign, "Running", Fresh)
    return Fresh


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with closing(RunFolder.create(tmp_path / "run", {"seed": 1})) as made:
        yield made


def make(folder: RunFolder, plans: list[Plan] = PLANS, seed: int = 1, **more: Any) -> Campaign:
    return Campaign(plans, more.pop("skips", []), folder, "AuthenticAMD", "abcdef", seed, **more)


def stored(folder: RunFolder, kind: str = "end") -> list[dict[str, Any]]:
    return [record for record in read_records(folder.path) if record["type"] == kind]


def quiet(progress: Progress) -> None:
    """Hear and do nothing."""


def test_every_cell_is_stored_once_with_its_start_before_its_end(folder: RunFolder) -> None:
    make(folder).run(quiet)
    lines = [(record["type"], record["id"]) for record in read_records(folder.path)]
    assert Counter(lines) == Counter((kind, name) for kind in ("start", "end") for name in ids(PLANS))
    for name in ids(PLANS):
        assert lines.index(("start", name)) < lines.index(("end", name))


def test_on_one_pair_of_cpus_no_cell_starts_before_the_last_is_stored(folder: RunFolder) -> None:
    make(folder).run(quiet)
    assert [record["type"] for record in read_records(folder.path)] == ["start", "end"] * len(PLANS)


def test_every_record_names_its_machine_and_every_event_its_record(folder: RunFolder) -> None:
    make(folder).run(quiet)
    assert {(record["vendor"], record["host"]) for record in stored(folder)} == {("AuthenticAMD", "abcdef")}
    assert {record["host"] for record in stored(folder, "start")} == {"abcdef"}
    events = [json.loads(line) for line in (folder.path / EVENTS).read_text().splitlines()]
    assert Counter(event["id"] for event in events) == dict.fromkeys(ids(PLANS), 2)


def test_what_was_run_is_told_as_it_was_stored(folder: RunFolder) -> None:
    run = make(folder)
    run.run(quiet)
    assert run.records == stored(folder)


def test_a_run_goes_on_with_what_is_missing_and_runs_nothing_twice(
    folder: RunFolder, pretend: type[Pretend]
) -> None:
    make(folder, PLANS[:7]).run(quiet)
    pretend.begun_with.clear()
    make(folder, records=list(read_records(folder.path))).run(quiet)
    assert sorted(pretend.begun_with) == sorted(plan.cell.case.name for plan in PLANS[7:])
    assert Counter(record["id"] for record in stored(folder)) == dict.fromkeys(ids(PLANS), 1)


def test_a_finished_run_has_nothing_left(folder: RunFolder, pretend: type[Pretend]) -> None:
    make(folder).run(quiet)
    pretend.begun_with.clear()
    told: list[Progress] = []
    make(folder, records=list(read_records(folder.path))).run(told.append)
    assert (pretend.begun_with, told) == ([], [])


def test_a_cell_that_was_begun_and_not_finished_is_run_again(
    folder: RunFolder, pretend: type[Pretend]
) -> None:
    folder.append_record({"schema": 1, "type": "start", "id": ids(PLANS)[0], "cell": "x"})
    make(folder, PLANS[:1], records=list(read_records(folder.path))).run(quiet)
    assert pretend.begun_with == ["case-0"]
    assert len(stored(folder)) == 1


def order(tmp_path: Path, seed: int, pretend: type[Pretend], name: str) -> list[str]:
    pretend.begun_with.clear()
    with closing(RunFolder.create(tmp_path / name, {})) as made:
        make(made, seed=seed).run(quiet)
    return list(pretend.begun_with)


def test_the_order_follows_from_the_seed_and_is_not_that_of_the_table(
    tmp_path: Path, pretend: type[Pretend]
) -> None:
    orders = [order(tmp_path, seed, pretend, f"{seed}-{turn}") for turn in range(2) for seed in (1, 2, 3)]
    assert orders[:3] == orders[3:]
    table = [plan.cell.case.name for plan in PLANS]
    assert len({tuple(names) for names in (*orders[:3], table)}) == 4
    assert all(sorted(names) == sorted(table) for names in orders)


def test_a_store_that_fails_ends_the_run_and_every_worker(
    folder: RunFolder, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = [a_plan(n, 2 * (n % 3), 2 * (n % 3) + 1) for n in range(9)]
    append, calls = RunFolder.append_end, []

    def failing(self: RunFolder, record: dict[str, Any], events: Any) -> None:
        calls.append(record["type"])
        if calls.count("end") == 2:
            raise StoreError("disk full; free some space")
        append(self, record, events)

    monkeypatch.setattr(RunFolder, "append_end", failing)
    with pytest.raises(StoreError, match="disk full"):
        make(folder, lanes).run(quiet)
    assert pretend.alive == []
    assert pretend.abandoned
    assert len(stored(folder)) == 1


def test_a_start_that_cannot_be_stored_starts_nothing(
    folder: RunFolder, pretend: type[Pretend], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: RunFolder, record: dict[str, Any]) -> None:
        raise StoreError("disk full; free some space")

    monkeypatch.setattr(RunFolder, "append_record", failing)
    with pytest.raises(StoreError):
        make(folder).run(quiet)
    assert pretend.begun_with == []


@pytest.mark.parametrize("finished", [0, 1, 5])
def test_an_interrupt_kills_what_runs_and_keeps_what_is_finished(
    folder: RunFolder, pretend: type[Pretend], finished: int
) -> None:
    lanes = [a_plan(n, 2 * (n % 2), 2 * (n % 2) + 1) for n in range(10)]

    def interrupt(progress: Progress) -> None:
        if progress.done == finished and progress.record is None and len(progress.running) == 2:
            raise KeyboardInterrupt

    def interrupt_after_record(progress: Progress) -> None:
        if progress.record and progress.done == finished:
            raise KeyboardInterrupt

    run = make(folder, lanes)
    with pytest.raises(KeyboardInterrupt):
        run.run(interrupt if finished == 0 else interrupt_after_record)
    assert pretend.alive == []
    assert pretend.abandoned
    assert len(stored(folder)) == len(run.records) == finished
    make(folder, lanes, records=list(read_records(folder.path))).run(quiet)
    assert Counter(record["id"] for record in stored(folder)) == dict.fromkeys(ids(lanes), 1)


def test_cells_on_other_cpus_run_side_by_side_and_no_cpu_is_shared(folder: RunFolder) -> None:
    lanes = [a_plan(n, 2 * (n % 3), 2 * (n % 3) + 1) for n in range(12)]
    cpus = {plan.cell.name: set(plan.cell.placement.cpus) for plan in lanes}
    most = 0

    def look(progress: Progress) -> None:
        nonlocal most
        used = [cpu for name in progress.running for cpu in cpus[name]]
        assert len(used) == len(set(used))
        most = max(most, len(progress.running))

    make(folder, lanes).run(look)
    assert most == 3


def test_progress_is_told_at_every_start_and_end(folder: RunFolder) -> None:
    told: list[Progress] = []
    make(folder, PLANS[:3]).run(told.append)
    assert [(p.done, p.total, bool(p.record), len(p.running)) for p in told] == [
        (0, 3, False, 1),
        (1, 3, True, 0),
        (1, 3, False, 1),
        (2, 3, True, 0),
        (2, 3, False, 1),
        (3, 3, True, 0),
    ]
    left = [p.left_seconds for p in told]
    assert left == sorted(left, reverse=True)
    assert 2.9 < left[0] <= 3.0
    assert left[-1] == 0.0


def test_a_cell_without_news_is_ended_when_it_is_overdue(folder: RunFolder, pretend: type[Pretend]) -> None:
    pretend.never.add("case-1")
    make(folder, PLANS[:3]).run(quiet)
    assert sorted(record["case"] for record in stored(folder)) == ["case-0", "case-1", "case-2"]


def test_a_cell_whose_harness_failed_does_not_stop_the_others(
    folder: RunFolder, pretend: type[Pretend]
) -> None:
    pretend.status = "crashed"
    make(folder).run(quiet)
    assert len(stored(folder)) == len(PLANS)


def test_what_cannot_be_run_is_stored_once_with_the_reason(folder: RunFolder, pretend: type[Pretend]) -> None:
    skips = [Skip(plan.cell, f"reason {n}") for n, plan in enumerate(PLANS[:3])]
    make(folder, [], skips=skips).run(quiet)
    make(folder, [], skips=skips, records=list(read_records(folder.path))).run(quiet)
    assert [(r["status"], r["reason"], r["plan"]) for r in stored(folder)] == [
        ("skipped", f"reason {n}", None) for n in range(3)
    ]
    assert len({record["id"] for record in stored(folder)}) == 3
    assert pretend.begun_with == []
