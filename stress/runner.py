"""One worker process a cell: start it, wait for it, and make a record of however it ended."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import multiprocess
from multiprocess import resource_tracker
from multiprocess.connection import Connection, wait
from multiprocess.reduction import DupFd

from stress.errors import HostError
from stress.mixes import Signature
from stress.model import Plan, Status
from stress.plan import as_dict, describe, plan_id
from stress.under import MIXES_SECONDS, RUN_GRACE_SECONDS

SCHEMA = 1

LONGEST_WAIT_SECONDS = 86400.0
"""poll(2) counts milliseconds in 31 bits: no single wait may be longer than 24 days."""

GRACE_SECONDS = 15.0
"""What a worker may take beyond its plan's own limit, for starting, hanging threads and reporting."""

ON_THE_WAY = ("stress.runner", "stress.__main__", "runpy", "multiprocess.popen_forkserver")
"""What a worker imports before it is one."""

EMPTY: dict[str, Any] = {
    "seconds": 0.0,
    "patches": 0,
    "outcomes": {},
    "provocations": {},
    "signatures": [],
    "stale_generations": {},
    "stale_ticks": {},
    "executors": [],
}
"""The counted half of a record of a cell that counted nothing."""


class _Box:
    """The black box: anonymous shared memory whose descriptor travels with a worker's arguments."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("stress-black-box", os.MFD_CLOEXEC)

    def __reduce__(self) -> tuple[Any, ...]:
        # Made while the arguments are pickled for a child, DupFd rides along with them; made any earlier it would
        # need a thread and a socket of ours to be fetched from.
        return _unbox, (DupFd(self.fd),)

    def close(self) -> None:
        os.close(self.fd)


def _unbox(handle: Any) -> int:
    return int(handle.detach())


def _in_worker(entry: str, *args: Any) -> None:
    """Be the worker process. Imported here, so that the controller never holds the native core's threads and traps."""
    from stress import worker

    getattr(worker, entry)(*args)


def _context() -> Any:
    """Where workers come from: a server that has imported all they need and never started a thread.

    A fork from it costs 10 ms where a fresh interpreter costs 150, and a cell may last 400. It ends when we do, and
    its children, which asked for it, with it.
    """
    context = multiprocess.get_context("forkserver")
    # And what a child imports on its way there: this module, and the script, which it first runs once more.
    context.set_forkserver_preload(["stress.worker", *ON_THE_WAY])
    return context


def _start_quietly(process: Any) -> None:
    """Start a worker, and with the first one the server, whose interpreter Ctrl-C must not reach while it starts.

    It would show a traceback; the server inherits the mask, and its children ignore the signal anyway. The resource
    tracker that it starts first lifts the mask when it is up, so that one goes before.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start_record(plan: Plan) -> dict[str, Any]:
    """The line that goes into the store before the cell is known to have survived: it names what it did not."""
    name = plan_id(as_dict(plan))
    return {"schema": SCHEMA, "type": "start", "id": name, "cell": plan.cell.name, "started": _now()}


def _message(channel: Connection, timeout: float) -> dict[str, Any] | None:
    with suppress(EOFError, OSError):
        if channel.poll(timeout):
            message: dict[str, Any] = json.loads(channel.recv_bytes())
            return message
    return None


def _end(process: Any, channel: Connection) -> None:
    process.join(1)
    if process.is_alive():
        process.kill()
        process.join(1)
    channel.close()


class Running:
    """A cell that is being run."""

    def __init__(self, plan: Plan, command: tuple[str, ...] = ()) -> None:
        """Start a worker for `plan`; `command`: the prefix and the agent that it is to be run by."""
        self.plan = plan
        self.command = command
        self.resolved = as_dict(plan)
        self.id = plan_id(self.resolved)
        self.begun = time.monotonic()
        self.started = _now()
        self._box: _Box | None = _Box()
        # A prefix has time limits of its own, which the worker watches over.
        self.grace = GRACE_SECONDS + (RUN_GRACE_SECONDS + MIXES_SECONDS if command else 0.0)
        self.deadline = self.begun + plan.limits.seconds + self.grace
        self._process, self._channel = self._start("main", command)

    def _start(self, entry: str, *more: Any) -> tuple[Any, Connection]:
        """Start a worker; once more, where the server that should have forked it died meanwhile."""
        try:
            return self._start_once(entry, *more)
        except (EOFError, OSError):
            return self._start_once(entry, *more)

    def _start_once(self, entry: str, *more: Any) -> tuple[Any, Connection]:
        context = _context()
        ours, theirs = context.Pipe(duplex=False)
        args = (entry, self.resolved, self._box, theirs, *more)
        process = context.Process(target=_in_worker, args=args, daemon=True)
        _start_quietly(process)
        theirs.close()
        return process, ours

    @property
    def waitables(self) -> list[Any]:
        """What `multiprocess.connection.wait` can wait on until there is news of this cell."""
        return [self._channel, self._process.sentinel]

    @property
    def worker_pid(self) -> int:
        """The worker's process number."""
        return int(self._process.pid)

    @property
    def overdue(self) -> bool:
        """Whether it should have ended by now."""
        return time.monotonic() > self.deadline

    def _post_mortem(self) -> dict[str, Any]:
        """What the dead worker had counted, read by another worker: only workers decode its layout."""
        process, channel = self._start("post_mortem")
        counted = _message(channel, GRACE_SECONDS)
        _end(process, channel)
        return counted if counted is not None else dict(EMPTY)

    def _death(self) -> tuple[Status, str]:
        code = self._process.exitcode
        if code is None or code >= 0:
            return Status.ERROR, f"the worker ended without a result, with exit status {code}"
        return Status.CRASHED, f"the worker died of {signal.Signals(-code).name}"

    def finish(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Wait until the cell has ended, or its time is up; return its record and its events.

        Never raises for what a worker did: that is the record's `status` and `reason`.
        """
        ready: list[Any] = []
        while not ready:
            left = max(0.0, self.deadline - time.monotonic())
            ready = wait(self.waitables, timeout=min(left, LONGEST_WAIT_SECONDS))
            if not left:
                break
        result = _message(self._channel, 0) if ready else None
        if result is None and ready:
            self._process.join(1)
            status, reason = self._death()
            result = self._post_mortem() | {"status": status, "reason": reason}
        elif result is None:
            self._stop()
            limit = self.plan.limits.seconds + self.grace
            result = self._post_mortem()
            result |= {
                "status": Status.TIMEOUT,
                "reason": f"no result within {limit:g} s; the worker was killed",
            }
        self.close()
        crash = result.get("crash") if result["status"] == Status.CRASHED else None
        if crash:
            result["reason"] += f" outside any region (pc {crash['pc']:#x}, address {crash['address']:#x})"
        events = result.pop("events", [])
        return self._record(result), events

    def _record(self, result: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "type": "end",
            "id": self.id,
            **describe(self.plan.cell),
            "plan": self.resolved,
            "started": self.started,
            **result,
        }

    def close(self) -> None:
        """End the worker now, whatever it is doing, and free what we hold of it."""
        if self._box is None:
            return
        _end(self._process, self._channel)
        self._box.close()
        self._box = None

    def _stop(self) -> None:
        """Kill the worker; one that has a prefix running ends that first, if it can."""
        if self.command:
            self._process.terminate()
            self._process.join(1)
        self._process.kill()

    def abandon(self) -> None:
        """Kill the worker without waiting for what it has to say."""
        if self._process.is_alive():
            self._stop()
        self.close()


def _ask(entry: str, plan: Plan) -> dict[str, Any]:
    """The one message that a worker's `entry` sends about `plan`; `reason` where there is none."""
    context = _context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_in_worker, args=(entry, as_dict(plan), theirs), daemon=True)
    _start_quietly(process)
    theirs.close()
    answer = _message(ours, MIXES_SECONDS) or {"reason": "the worker died of it"}
    _end(process, ours)
    return answer


def execute_mixes(plan: Plan) -> tuple[list[Signature], list[Signature]]:
    """How each image of `plan` and each of its byte mixes (`mixes.of_plan`) shows itself when executed once.

    Raises:
        HostError: they could not be executed here; the text says why.
    """
    answer = _ask("execute_mixes", plan)
    if "signatures" not in answer:
        raise HostError(
            f"the byte mixes of {plan.cell.case.name} cannot be executed here: {answer['reason']}"
        )
    signatures: list[Signature] = [(s, code, pc, value) for s, code, pc, value in answer["signatures"]]
    images = len(plan.cell.case.images)
    return signatures[:images], signatures[images:]


def compile_plan(plan: Plan) -> list[dict[str, Any]]:
    """The writer steps of `plan` as the core compiles them here (`native.compile_plan`).

    Raises:
        HostError: they cannot be compiled here; the text says why.
    """
    answer = _ask("compile_plan", plan)
    if "micros" not in answer:
        raise HostError(f"{plan.cell.name}: {answer['reason']}")
    micros: list[dict[str, Any]] = answer["micros"]
    return micros
