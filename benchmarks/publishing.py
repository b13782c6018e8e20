"""The publish shape against the system calls that it needs, and what rings of slots save."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64
from dataclasses import replace

from benchmarks import bare, cells
from benchmarks.figure import Figure, Pair, compare
from benchmarks.loops import on_cpu
from stress.model import Publishing, Regime, Site, Step
from stress.publish import slots_of

REGIMES = (
    "jit-text",
    "jit-text-keep",
    "mmap-exec",
    "mmap-protect",
    "bpf-pack+sync",
    "reuse+sync-core",
    "frame-swap",
    "frame-swap-two",
    "code-branch+sync-core",
)

_RIGHTS = {
    "rx": mmap.PROT_READ | mmap.PROT_EXEC,
    "rw": mmap.PROT_READ | mmap.PROT_WRITE,
    "rwx": mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
}
_OPS = {"alias": 0, "drop-alias": 1, "map": 2, "protect": 3, "membarrier": 4}
_RENEW = 5
_SYNC_CORE = 32


class Call(ctypes.Structure):
    """`struct call` of calls.c."""

    _fields_ = (("op", c_uint32), ("arg", c_uint32))


def calls_of(regime: Regime) -> list[Call]:
    """The system calls of one publication; fresh addresses are made so again, a block at a time."""
    assert regime.publish
    made = [
        Call(_OPS[s.op], _SYNC_CORE if s.op == "membarrier" else _RIGHTS.get(s.part, 0))
        for s in regime.writer
        if s.op in _OPS
    ]
    return made + ([Call(_RENEW, 0)] if regime.publish.address == "fresh" else [])


def publishing(name: str) -> Pair:
    """Publications a second without a pause, against their system calls beside a thread that only spins.

    Where one address is all there is, that thread executes it, and each round waits until it has come through.
    """
    regime = cells.regime(name)
    calls = calls_of(regime)
    addresses = c_uint64(slots_of(cells.published(name)))

    def pair(seconds: float) -> tuple[float, float]:
        plan = cells.plan(cells.case("publish-mov"), regime, seconds)
        result = cells.run(plan)
        with on_cpu(plan["cpus"]["writer"]):
            array = (Call * len(calls))(*calls)
            cpu = plan["cpus"]["executors"][0]
            base = bare.rate("make_calls", array, len(calls), cpu, addresses, seconds=seconds)
        return result["patches"] / result["seconds"], base

    return pair


def ring(seconds: float) -> tuple[float, float]:
    """Publications a second where all must have left a slot before it is filled: a ring of 4096 slots, and one of 2."""

    def rate(slots: int) -> float:
        steps = (Step("drain"), Step("fill", "all"), Step("publish"))
        regime = Regime(
            "ring", "R0", "", "none", steps, via="alias", publish=Publishing("K15", "reused", slots=slots)
        )
        result = cells.run(cells.plan(cells.case("publish-mov"), regime, seconds))
        return float(result["patches"] / result["seconds"])

    return rate(4096), rate(2)


def no_barrier(seconds: float) -> tuple[float, float]:
    """Torn executions a second of a store across a cache line: free-running, and met after every patch."""

    def rate(*after: Step) -> float:
        none = cells.regime("none")
        regime = replace(none, writer=(*none.writer, *after))
        result = cells.run(cells.plan(cells.case("mov-imm32"), regime, seconds, Site(64, 2)))
        return float(cells.count(result, "torn") / result["seconds"])

    return rate(), rate(Step("await", "", 1))


def figures(rounds: int, seconds: float) -> Iterator[Figure]:
    """Every figure of this file."""
    for name in REGIMES:
        alone = slots_of(cells.published(name)) > 1
        what = "its system calls alone" if alone else "its system calls, and the page fault that each causes"
        # A machine's interrupts are quick for a while and then slow: short rounds, so that both sides meet the same.
        yield compare(f"publications, {name}", what, publishing(name), 3 * rounds, seconds / 3, 0.8)
    yield compare("publications: a ring of 4096 slots", "a ring of 2", ring, rounds, seconds)
    yield compare("torn executions: nobody waits", "await after each patch", no_barrier, rounds, seconds)
