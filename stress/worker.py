"""The other side of the process boundary: run one plan in a process that may die of it.

A worker owns nothing that outlives it but the black box, memory that it shares with its starter: the native core
counts there, so what happened before a SIGSEGV or a SIGKILL stays readable.
"""

from __future__ import annotations

import errno
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


def _quiet() -> None:
    """Leave Ctrl-C to the controller, and die with whoever started us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    native.die_with_parent()
    controller = multiprocess.parent_process()
    if controller is not None and not controller.is_alive():  # it died before we asked: nobody will tell us
        raise SystemExit


def _map(box: int) -> mmap.mmap:
    """The black box behind descriptor `box`, which is closed. Zeroed the first time, as it was left afterwards."""
    try:
        os.ftruncate(box, blackbox.result_bytes())
        return mmap.mmap(box, blackbox.result_bytes())
    finally:
        os.close(box)


def _noise(cpus: list[int]) -> dict[str, dict[int, int]]:
    """What disturbs `cpus`, counted since boot: interrupts taken, and ticks that the hypervisor stole."""
    return {"interrupts": host.interrupts(cpus), "stolen_ticks": host.stolen_ticks(cpus)}


def _attempt(plan: dict[str, Any], box: mmap.mmap) -> tuple[str, str]:
    """Status and reason of running `plan` here."""
    try:
        native.run(plan, box)
    except UnsupportedError as error:
        return "skipped", str(error)
    except NativeError as error:
        return ("timeout" if error.errno == errno.ETIMEDOUT else "error"), str(error)
    return "ok", ""


def _attribute(plan: dict[str, Any], result: dict[str, Any]) -> None:
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
        signatures = native.run_mixes(plan, [mix.bytes for mix in every])
    except NativeError as error:  # what was counted stands without it
        result["notes"] = [f"byte mixes are not attributed: {error}"]
        return
    mixes.attribute(result["signatures"], mixes.table(every, signatures))


def _send(channel: Connection, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the controller has gone: there is no one to tell
        channel.send_bytes(json.dumps(message).encode())


def main(plan: dict[str, Any], box: int, channel: Connection) -> None:
    """Run `plan`, counting in the black box, then send one message: the result with its `status` and `reason`."""
    _quiet()
    cpus = plan["cpus"]["executors"]
    with closing(_map(box)) as memory:
        before = _noise(cpus)
        status, reason = _attempt(plan, memory)
        after = _noise(cpus)
        result = blackbox.decode(plan, memory)
        _attribute(plan, result)
        for executor, cpu in zip(result["executors"], cpus, strict=True):
            executor |= {
                name: counts.get(cpu, 0) - before[name].get(cpu, 0) for name, counts in after.items()
            }
        _send(channel, result | {"status": status, "reason": reason})


def execute_mixes(plan: dict[str, Any], channel: Connection) -> None:
    """Send how the images of `plan` and then its byte mixes show themselves when each is executed once."""
    _quiet()
    images = [bytes.fromhex(image["bytes"]) for image in plan["region"]["images"]]
    try:
        signatures = native.run_mixes(plan, images + [mix.bytes for mix in mixes.of_plan(plan)])
    except NativeError as error:
        _send(channel, {"reason": str(error)})
    else:
        _send(channel, {"signatures": signatures})


def post_mortem(plan: dict[str, Any], box: int, channel: Connection) -> None:
    """Send what the black box of a dead worker says."""
    _quiet()
    with closing(_map(box)) as memory:
        _send(channel, blackbox.decode(plan, memory))
