"""A run: which cells, in what order, side by side where CPUs allow, each stored before the next begins."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from multiprocess.connection import wait

from stress.errors import StoreError
from stress.model import Plan, Skip, Status
from stress.plan import as_dict, describe, plan_id
from stress.runner import EMPTY, LONGEST_WAIT_SECONDS, SCHEMA, Running, start_record
from stress.store import RunFolder
from stress.survive import CRASHED_THE_MACHINE, boot_id, fallen, taken_back


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `left_seconds` is an estimate from the limits of the cells still to come."""

    done: int
    total: int
    left_seconds: float
    record: dict[str, Any] | None = None
    running: tuple[str, ...] = ()


@dataclass(slots=True)
class Campaign:
    """The plans of a run, and the folder that keeps what became of them.

    `vendor`, `host`: put into every record, because promises depend on the one and merging on the other.
    `command`: the prefix under test and the agent behind it; () where the core runs in the workers.
    `deadline`: when to end, whatever is left, on the clock of `time.monotonic`. `retry`: run again what was running
    when the machine went down, instead of reporting that it crashed the machine.
    """

    plans: Sequence[Plan]
    skips: Sequence[Skip]
    folder: RunFolder
    vendor: str
    host: str
    seed: int
    command: tuple[str, ...] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    deadline: float = math.inf
    retry: bool = False
    boot: str = field(default_factory=boot_id)
    _begun: list[Plan] = field(default_factory=list)
    """Those whose start line may be stored and whose end is not: before there is a worker, too."""
    _running: dict[int, Running] = field(default_factory=dict)

    def run(self, tell: Callable[[Progress], None]) -> None:
        """Run every plan that the folder does not hold yet, telling `tell` whenever one begins or ends.

        `records` holds what the folder held, then what was run. On KeyboardInterrupt and at the deadline the cells
        that were running are killed and forgotten (their start lines are taken back); the exception goes on.

        Raises:
            StoreError: a record could not be stored; nothing that was stored before is lost.
        """
        self.take_stock()
        known = self._known()
        pending = [plan for plan in self.plans if plan_id(as_dict(plan)) not in known]
        # Order decides what a run that is cut short has seen, and a machine's mood drifts: neither should follow
        # the order of the table.
        random.Random(self.seed).shuffle(pending)
        try:
            self._drive(pending, tell)
        finally:
            self._abandon()

    def run_one(self, plan: Plan) -> dict[str, Any]:
        """Run `plan` and return its record; the record that the folder has of it, if it has one.

        Raises:
            KeyboardInterrupt, StoreError: as `run`.
        """
        name = plan_id(as_dict(plan))
        for record in self.records:
            if record["type"] == "end" and record["id"] == name:
                return record
        try:
            return self._finish(self._start(plan))
        finally:
            self._abandon()

    def take_stock(self) -> None:
        """Store what is known before anything is run: what cannot be, and what took the machine down."""
        self.store_skips()
        if not self.retry:
            self._report_fallen()

    def _start(self, plan: Plan) -> Running:
        self._begun.append(plan)
        self.folder.append_record(self.start_line(plan))
        running = Running(plan, self.command)
        self._running[id(running)] = running
        return running

    def _finish(self, running: Running) -> dict[str, Any]:
        record, events = running.finish()
        del self._running[id(running)]
        self.store(record, events)
        self._begun.remove(running.plan)
        return record

    def _abandon(self) -> None:
        """Kill and forget what is running."""
        for running in self._running.values():
            running.abandon()
        self._running.clear()
        for plan in self._begun:
            with suppress(StoreError):  # on a full disk nothing can be taken back
                self.folder.append_record(taken_back(self.start_line(plan)))
        self._begun.clear()

    def _drive(self, pending: list[Plan], tell: Callable[[Progress], None]) -> None:
        total, done = len(pending), 0
        while self._in_time(pending):
            for plan in list(self._startable(pending)):
                pending.remove(plan)
                self._start(plan)
                tell(Progress(done, total, self._left(pending), None, self._names()))
            for running in self._ended():
                record = self._finish(running)
                done += 1
                tell(Progress(done, total, self._left(pending), record, self._names()))

    def _in_time(self, pending: Sequence[Plan]) -> bool:
        """Whether there is something to do, and time for it: a cell is not begun that would end too late."""
        left = self.deadline - time.monotonic()
        return left > 0 and bool(self._running or any(plan.limits.seconds < left for plan in pending))

    @property
    def running(self) -> list[Running]:
        """The cells that are being run."""
        return list(self._running.values())

    def start_line(self, plan: Plan) -> dict[str, Any]:
        """The record that is stored before `plan` is begun: who reads it without an end knows what did not survive."""
        return start_record(plan) | {"host": self.host, "boot": self.boot}

    def _names(self) -> tuple[str, ...]:
        return tuple(running.plan.cell.name for running in self._running.values())

    def _left(self, pending: Sequence[Plan]) -> float:
        """Seconds still to come, where as many run side by side as do now."""
        now = time.monotonic()
        ahead = sum(plan.limits.seconds for plan in pending)
        rest = max((r.plan.limits.seconds - (now - r.begun) for r in self._running.values()), default=0.0)
        return ahead / max(1, len(self._running)) + max(0.0, rest)

    def _startable(self, pending: Sequence[Plan]) -> Iterator[Plan]:
        """Pending plans that there is time for and whose CPUs no running cell uses, each CPU promised once."""
        left = self.deadline - time.monotonic()
        busy = {cpu for running in self._running.values() for cpu in running.plan.cell.placement.cpus}
        for plan in pending:
            cpus = set(plan.cell.placement.cpus)
            if not cpus & busy and plan.limits.seconds < left:
                busy |= cpus
                yield plan

    def _ended(self) -> list[Running]:
        """Wait until at least one cell has ended or is overdue, and return those."""
        by_waitable = {waitable: r for r in self._running.values() for waitable in r.waitables}
        first = min([self.deadline, *(running.deadline for running in self._running.values())])
        ready = wait(list(by_waitable), timeout=max(0.0, min(first - time.monotonic(), LONGEST_WAIT_SECONDS)))
        ended = {id(by_waitable[waitable]) for waitable in ready}
        return [r for r in self._running.values() if id(r) in ended or r.overdue]

    def store(self, record: dict[str, Any], events: list[dict[str, Any]]) -> None:
        """Store what became of a cell: its events, then its record, after which it counts as run."""
        record |= {"vendor": self.vendor, "host": self.host}
        self.records.append(record)
        self.folder.append_end(record, [{"id": record["id"], **event} for event in events])

    def _known(self) -> set[str]:
        return {record["id"] for record in self.records if record["type"] == "end"}

    def _report_fallen(self) -> None:
        """Store for each cell that was running when the machine went down that it crashed the machine."""
        plans = {plan_id(as_dict(plan)): plan for plan in self.plans}
        for start in fallen(self.records, self.boot):
            if (plan := plans.get(start["id"])) is None:
                continue
            record = {"schema": SCHEMA, "type": "end", "id": start["id"], **describe(plan.cell)}
            record |= {"plan": as_dict(plan), "started": start["started"], **EMPTY}
            self.store(record | {"status": Status.CRASHED, "reason": CRASHED_THE_MACHINE}, [])

    def store_skips(self) -> None:
        """Store of each cell that cannot be run here why, unless the folder has it."""
        known = self._known()
        for skip in self.skips:
            cell = describe(skip.cell)
            name = plan_id({"skipped": cell["cell"]})
            if name not in known:
                record = {"schema": SCHEMA, "type": "end", "id": name, **cell, "plan": None, "started": ""}
                self.store(record | EMPTY | {"status": Status.SKIPPED, "reason": skip.reason}, [])
