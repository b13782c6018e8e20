"""The other side of the process boundary: run one plan in a process that may die of it.

A worker owns nothing that outlives it but the black box, memory that it shares with its starter: the native core
counts there, so what happened before a SIGSEGV or a SIGKILL stays readable.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import mmap
import os
import signal
from contextlib import closing, suppress
from typing import Any

import multiprocess
from multiprocess.connection import Connection

from stress import blackbox, host, mixes, native
from stress.errors import NativeError, UnsupportedError
from stress.model import Status
from stress.under import AgentError, Under


def _quiet() -> None:
    """Leave Ctrl-C to the controller, and die with whoever started us."""
    gc.disable()  # it would look at, and so copy, all that was inherited; what a worker leaves is freed with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    native.die_with_parent()
    controller = multiprocess.parent_process()
    if controller is None:
        return
    # Our parent, the fork server, lives as long as any worker does. The controller holds the other end of this pipe,
    # and the kernel tells us of its death by a signal that needs nobody to listen.
    for command, value in ((fcntl.F_SETOWN, os.getpid()), (fcntl.F_SETSIG, signal.SIGKILL)):
        fcntl.fcntl(controller.sentinel, command, value)
    fcntl.fcntl(controller.sentinel, fcntl.F_SETFL, os.O_ASYNC)
    if not controller.is_alive():  # it died before we asked: nobody will tell us
        raise SystemExit


def _map(box: int) -> mmap.mmap:
    """The black box behind descriptor `box`. Zeroed the first time, as it was left afterwards."""
    os.ftruncate(box, blackbox.result_bytes())
    return mmap.mmap(box, blackbox.result_bytes())


def _noise(cpus: list[int]) -> dict[str, dict[int, int]]:
    """What disturbs `cpus`, counted since boot: interrupts taken, and ticks that the hypervisor stole."""
    return {"interrupts": host.interrupts(cpus), "stolen_ticks": host.stolen_ticks(cpus)}


class _Here:
    """The core in this very process."""

    def run(self, plan: dict[str, Any], box: int, memory: mmap.mmap) -> dict[str, Any]:
        """The counted half of the record of `plan`, with `status` and `reason`; counted in `memory`, which is `box`."""
        status, reason = Status.OK, ""
        try:
            native.run(plan, memory)
        except UnsupportedError as error:
            status, reason = Status.SKIPPED, str(error)
        except NativeError as error:
            status = Status.TIMEOUT if error.errno == errno.ETIMEDOUT else Status.ERROR
            reason = str(error)
        return blackbox.decode(plan, memory) | {"status": status, "reason": reason}

    def run_mixes(self, plan: dict[str, Any], contents: list[bytes]) -> list[mixes.Signature]:
        """How each of `contents` shows itself."""
        return native.run_mixes(plan, contents)


def _leave(*_: object) -> None:
    raise SystemExit


class _There:
    """The core behind a command prefix, which may be unwell."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.under = Under(command)
        # Who wants us gone asks first, so that what we started is ended on the way out.
        signal.signal(signal.SIGTERM, _leave)

    def run(self, plan: dict[str, Any], box: int, memory: mmap.mmap) -> dict[str, Any]:
        """As of `_Here`. What a dead agent had counted is in the box, where it could reach that."""
        try:
            result = self.under.run(plan, box, native.die_with_parent)
        except AgentError as error:
            end = {"status": error.status, "reason": str(error), "died": error.status == Status.CRASHED}
            return blackbox.decode(plan, memory) | end
        counted = blackbox.decode(plan, memory)
        if result.keys() != counted.keys() | {"status", "reason"}:
            reason = f"`{self.under.prefix}` printed another version's record"
            return counted | {"status": Status.ERROR, "reason": reason}
        return result

    def run_mixes(self, plan: dict[str, Any], contents: list[bytes]) -> list[mixes.Signature]:
        """As of `_Here`."""
        return self.under.run_mixes(plan, contents, native.die_with_parent)


def _attribute(core: _Here | _There, plan: dict[str, Any], result: dict[str, Any]) -> None:
    """Say which byte mixes the wrong executions were: those that, executed alone, show themselves the same way."""
    # Beside a patch in flight a mix may pass for a third image: then `stale` may be it.
    wrong = any(
        s["outcome"] in ("torn", "fault", "hang") or (s["outcome"], s["phase"]) == ("stale", "concurrent")
        for s in result["signatures"]
    )
    if not wrong or plan.get("publish"):  # what is published is never the same twice
        return
    every = mixes.of_plan(plan)
    try:
        signatures = core.run_mixes(plan, [mix.bytes for mix in every])
    except (NativeError, AgentError) as error:  # what was counted stands without it
        result["notes"] = [f"byte mixes are not attributed: {error}"]
        return
    mixes.attribute(result["signatures"], mixes.table(every, signatures))


def _send(channel: Connection, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the controller has gone: there is no one to tell
        channel.send_bytes(json.dumps(message).encode())


def main(plan: dict[str, Any], box: int, channel: Connection, command: tuple[str, ...] = ()) -> None:
    """Run `plan`, counting in the black box, then send one message: the result with its `status` and `reason`.

    `command`: what the agent is started by, where it is to run under a prefix; (): the core runs in this process.
    """
    _quiet()
    core = _There(command) if command else _Here()
    cpus = plan["cpus"]["executors"]
    with closing(_map(box)) as memory:
        before = _noise(cpus)
        result = core.run(plan, box, memory)
        after = _noise(cpus)
        _attribute(core, plan, result)
        for executor, cpu in zip(result["executors"], cpus, strict=True):
            executor |= {
                name: counts.get(cpu, 0) - before[name].get(cpu, 0) for name, counts in after.items()
            }
        _send(channel, result)


def execute_mixes(plan: dict[str, Any], channel: Connection) -> None:
    """Send how the images of `plan` and then its byte mixes show themselves when each is executed once."""
    _quiet()
    images = list(mixes.images_of(plan["region"]))
    try:
        signatures = native.run_mixes(plan, images + [mix.bytes for mix in mixes.of_plan(plan)])
    except NativeError as error:
        _send(channel, {"reason": str(error)})
    else:
        _send(channel, {"signatures": signatures})


def compile_plan(plan: dict[str, Any], channel: Connection) -> None:
    """Send the compiled writer steps of `plan`."""
    _quiet()
    try:
        _send(channel, {"micros": native.compile_plan(plan)})
    except NativeError as error:
        _send(channel, {"reason": str(error)})


def post_mortem(plan: dict[str, Any], box: int, channel: Connection) -> None:
    """Send what the black box of a dead worker says."""
    _quiet()
    with closing(_map(box)) as memory:
        _send(channel, blackbox.decode(plan, memory))
