"""Executor, step table, writer and fault capture, each against the least that a C programmer could do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_uint64
from typing import Any

from benchmarks import bare, cells
from benchmarks.figure import Figure, Pair, compare, within
from stress.model import Placement, Site

LOOP_CASES = ("mov-imm32", "jmp-rel32", "call-rel32")
STEPS, EXEC_STEPS = 30, 6

FAULTS = {
    "SIGILL": "0f0b",  # ud2
    "SIGTRAP": "cc",
    "SIGSEGV": "31c0 8b00 c3",  # xor %eax, %eax; mov (%rax), %eax
    "SIGFPE": "31c9 f7f1 c3",  # xor %ecx, %ecx; div %ecx
    "SIGBUS": "48b8 0000000000000080 8a0404 c3",  # a non-canonical address by way of the stack segment
    "SIGSYS": "b827000000 0f05 c3",  # getpid, stopped by the kernel's dispatch
}


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Have the calling thread on `cpu` meanwhile: where a baseline runs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _alone() -> Placement:
    place = cells.where()
    return Placement(place.relation, -1, place.executor_cpus)


def _expected(plan: dict[str, Any]) -> c_uint64:
    return c_uint64(plan["region"]["images"][0]["returns"])


def executing(name: str, window: bool) -> Pair:
    """Executions a second while nobody patches, against a C loop that calls the same region, compares and counts."""

    def pair(seconds: float) -> tuple[float, float]:
        plan = cells.plan(cells.case(name), cells.IDLE, seconds, placement=_alone()) | {"window": window}
        result = cells.run(plan)
        with bare.region(plan) as first, on_cpu(plan["cpus"]["executors"][0]):
            function = "count_windows" if window else "count_calls"
            entry = c_uint64(first + plan["region"]["entry"])
            base = bare.rate(function, entry, _expected(plan), seconds=seconds)
        return cells.count(result) / result["seconds"], base

    return pair


def _patch_ns(steps: int, seconds: float) -> float:
    """CPU nanoseconds of a patch of one store and `steps` loads, its executor kept from the line by CPUIDs."""
    plan = cells.plan(cells.case("mov-imm32"), cells.regime("none"), seconds)
    plan |= {
        "executor": [["cpuid", False]] * EXEC_STEPS,
        "writer": plan["writer"] + [["share", "first", ""]] * steps,
    }
    result = cells.run(plan)
    return float(result["writer"]["cpu_seconds"]) * 1e9 / max(1.0, float(result["patches"]))


def writer_step(seconds: float) -> float:
    """Nanoseconds that the step table adds to a step."""
    # Of one store alone the writer makes bursts, without the table: so one step against thirty-one.
    each = (_patch_ns(STEPS + 1, seconds) - _patch_ns(1, seconds)) / STEPS
    plan = cells.plan(cells.case("mov-imm32"), cells.IDLE, seconds)
    with bare.region(plan) as first, on_cpu(plan["cpus"]["writer"]):
        return each - 1e9 / bare.rate("load_in_turn", c_uint64(first), seconds=seconds)


def executor_step(seconds: float) -> float:
    """Nanoseconds that a list of executor steps adds to a step: six LFENCEs against one, ours against in line."""

    def ours(steps: int) -> float:
        plan = cells.plan(cells.case("mov-imm32"), cells.IDLE, seconds, placement=_alone())
        result = cells.run(plan | {"executor": [["lfence", False]] * steps})
        return float(result["executors"][0]["cpu_seconds"]) * 1e9 / max(1, cells.count(result))

    def inline(steps: int) -> float:
        plan = cells.plan(cells.case("mov-imm32"), cells.IDLE, seconds)
        with bare.region(plan) as first, on_cpu(plan["cpus"]["executors"][0]):
            return 1e9 / bare.rate("count_fenced_calls", c_uint64(first), steps, seconds=seconds)

    return ((ours(EXEC_STEPS) - ours(1)) - (inline(EXEC_STEPS) - inline(1))) / (EXEC_STEPS - 1)


def writing(site: Site) -> Pair:
    """Patches a second without a pause, against a bare store loop at the same site; both are being executed."""

    def pair(seconds: float) -> tuple[float, float]:
        plan = cells.plan(cells.case("mov-imm32"), cells.regime("none"), seconds, site)
        result = cells.run(plan)
        region, cpus = plan["region"], plan["cpus"]
        stored = bare.patches_of(plan)
        with bare.region(plan) as first, on_cpu(cpus["writer"]):
            base = bare.rate(
                "store_in_turn",
                c_uint64(first + region["entry"]),
                cpus["executors"][0],
                c_uint64(first + region["patch"]),
                region["patch_len"],
                len(stored),
                (c_uint64 * len(stored))(*stored),
                seconds=seconds,
            )
        return result["patches"] / result["seconds"], base

    return pair


def faulting(name: str) -> Pair:
    """Faults recovered from a second, against a handler that returns to the caller of the code that faulted."""
    code = FAULTS[name].replace(" ", "")

    def pair(seconds: float) -> tuple[float, float]:
        plan = cells.plan(cells.case("mov-imm32"), cells.IDLE, seconds, placement=_alone())
        images = [{"bytes": code, "returns": n, "traps": False} for n in (1, 2)]
        region = {"images": images, "entry": 0, "head": 0, "patch": 0, "patch_len": 1, "split": 0}
        plan["region"] = plan["region"] | region
        result = cells.run(plan)
        number = getattr(signal, name)
        with bare.region(plan) as first, on_cpu(plan["cpus"]["executors"][0]):
            base = bare.rate("raise_and_resume", c_uint64(first), int(number), seconds=seconds)
        return cells.count(result, "fault") / result["seconds"], base

    return pair


def figures(rounds: int, seconds: float) -> Iterator[Figure]:
    """Every figure of this file."""
    for name in LOOP_CASES:
        what = "C loop: call, compare, count"
        yield compare(f"value loop, {name}", what, executing(name, False), rounds, seconds, 0.98)
    for name in LOOP_CASES:
        what = "the same between two loads"
        yield compare(f"window loop, {name}", what, executing(name, True), rounds, seconds, 0.85)
    for name, step in (("writer", writer_step), ("executor", executor_step)):
        seen = [step(seconds / 2) for _ in range(rounds)]
        yield within(f"step table, {name}: added to a step", seen, 2.0, "ns")
    for site in (Site(0), Site(64, 2), Site(4096, 2)):
        what = "store loop, the same site being executed"
        yield compare(f"writer, unthrottled, {site.name}", what, writing(site), rounds, seconds, 0.98)
    for name in FAULTS:
        yield compare(f"faults recovered, {name}", "raise and resume", faulting(name), rounds, seconds, 0.9)
