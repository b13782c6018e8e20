"""The black box, decoded: what the native core counted, as the counted half of a record.

Readable whether the run that filled it ended well, died or was killed. Imported by `worker` and `native` only.
"""

from __future__ import annotations

import signal
from typing import Any

from stress._native import ffi, lib

OUTCOMES = ("old", "new", "torn", "stale", "fault", "trap", "hang")
PHASES = ("concurrent", "post", "interior", "resumed")


def result_bytes() -> int:
    """Bytes of a black box: the memory that `run` counts in."""
    return int(ffi.sizeof("struct xmc_result"))


def signal_name(number: int) -> str:
    """`SIGILL` and so on; the watchdog's real-time signal reads `watchdog`; 0 is the empty string."""
    if number == 0:
        return ""
    return signal.Signals(number).name if number < signal.SIGRTMIN else "watchdog"


def _table(slices: Any, n: int) -> dict[str, dict[str, int]]:
    """Outcome counts by phase, summed over the first `n` slices; zeros left out."""
    table: dict[str, dict[str, int]] = {}
    for index, phase in enumerate(PHASES):
        row = {
            name: count
            for column, name in enumerate(OUTCOMES)
            if (count := sum(int(slices[i].outcomes[index][column]) for i in range(n)))
        }
        if row:
            table[phase] = row
    return table


def _add(total: dict[str, dict[str, int]], table: dict[str, dict[str, int]]) -> None:
    for phase, row in table.items():
        into = total.setdefault(phase, {})
        for outcome, count in row.items():
            into[outcome] = into.get(outcome, 0) + count


def _usage(side: Any) -> dict[str, Any]:
    return {
        "cpu": int(side.cpu_last),
        "cpu_first": int(side.cpu_first),
        "cpu_seconds": int(side.cpu_ns) / 1e9,
        "switches_voluntary": int(side.switches_voluntary),
        "switches_forced": int(side.switches_forced),
    }


def _signatures(executor: Any) -> list[dict[str, Any]]:
    return [
        {
            "count": int(s.count),
            "outcome": OUTCOMES[s.outcome],
            "phase": PHASES[s.phase],
            "signal": signal_name(s.signal),
            "code": int(s.code),
            "pc": int(s.pc),
            "value": int(s.value),
        }
        for s in executor.signatures
        if s.count
    ]


def _events(executor: Any, provocations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = min(int(executor.recorded), lib.XMC_EVENTS_MAX)
    first = int(executor.recorded) - kept
    ring = (executor.ring[(first + i) % lib.XMC_EVENTS_MAX] for i in range(kept))
    return [
        {
            "tsc": int(e.tsc),
            "done": int(e.done),
            "begun": int(e.begun),
            "outcome": OUTCOMES[e.outcome],
            "phase": PHASES[e.phase],
            "provocation": provocations[e.provocation]["name"],
            "signal": signal_name(e.signal),
            "code": int(e.code),
            "pc": int(e.pc),
            "value": int(e.value),
            "bytes": bytes(e.bytes).hex(),
            "stale_by": int(e.stale_by),
            "stale_ticks": int(e.stale_ticks),
            "registers": _registers(e),
        }
        for e in ring
    ]


def _text(characters: Any) -> str:
    text: bytes = ffi.string(characters)  # type: ignore[assignment]  # str where the characters are wide
    return text.decode()


def _registers(event: Any) -> dict[str, Any]:
    """What the registers held at a fault, by name; else nothing."""
    names = _text(lib.xmc_register_names()).split() if event.signal else []
    return {name: int(value) for name, value in zip(names, event.registers, strict=False)}


def _executor(x: Any) -> dict[str, Any]:
    first = int(x.first_event_ns)
    return _usage(x) | {
        "events": int(x.events),
        "clobbers": int(x.clobbers),
        "signatures_lost": int(x.signatures_lost),
        "first_event_seconds": first / 1e9 if first else None,
    }


def _sparse(rows: list[Any]) -> dict[str, int]:
    return {str(i): total for i in range(lib.XMC_BUCKETS) if (total := sum(int(row[i]) for row in rows))}


def _pairs(plan: dict[str, Any], executors: list[Any]) -> list[dict[str, Any]]:
    """What the witness saw of bytes i and i + 1 of the patch, and, last, of its first and last byte.

    `samples`: lower byte read first, higher first. `tears`: the same two, each by the store in flight (real, front
    first, back first).
    """
    both, stores = (0, 1), range(lib.XMC_WITNESS_STORES)
    return [
        {
            "samples": [sum(int(x.pairs[i].samples[order]) for x in executors) for order in both],
            "tears": [
                [sum(int(x.pairs[i].tears[order][store]) for x in executors) for store in stores]
                for order in both
            ],
        }
        for i in range(plan["region"]["patch_len"])
    ]


def _antagonist(plan: dict[str, Any], provocation: int, rounds: int) -> dict[str, Any]:
    """What a provocation's antagonist did: `rounds`, on `cpu`; `shares`: with whom, "" where that CPU is its own."""
    cpu = plan["provocations"][provocation]["antagonist_cpu"]
    if cpu < 0:
        return {}
    shares = "writer" if cpu == plan["cpus"]["writer"] else ""
    return {"antagonist": {"cpu": cpu, "shares": shares, "rounds": rounds}}


def _choices(result: Any) -> str:
    """Which of the plan's turns was on, for how many nanoseconds, and its reward: `3,250113,0`, a space between slices.

    One string: as lists they would be most of what a record takes in memory.
    """
    kept = min(int(result.n_choices), lib.XMC_CHOICES_MAX)
    return " ".join(f"{c.turn},{c.ns},{c.reward}" for c in result.choices[0:kept])


def decode(plan: dict[str, Any], box: Any) -> dict[str, Any]:
    """What `box` says about the run of `plan`, also when that run did not end: the counted half of a record."""
    r: Any = ffi.cast("struct xmc_result *", ffi.from_buffer(box))
    executors = [r.executors[i] for i in range(len(plan["cpus"]["executors"]))]
    provocations: dict[str, Any] = {}
    outcomes: dict[str, dict[str, int]] = {}
    for i, provocation in enumerate(plan["provocations"]):
        table: dict[str, dict[str, int]] = {}
        for x in executors:
            _add(table, _table([x.slices[i]], 1))
        _add(outcomes, table)
        provocations[provocation["name"]] = {
            "seconds": int(r.slice_ns[i]) / 1e9,
            "patches": int(r.writer.slice_patches[i]),
            "outcomes": table,
            **_antagonist(plan, i, int(r.antagonist_rounds[i])),
        }
    crash = None
    if r.crash.signal:
        crash = {
            "signal": signal_name(r.crash.signal),
            "pc": int(r.crash.pc),
            "address": int(r.crash.address),
        }
    return {
        "seconds": int(r.elapsed_ns) / 1e9,
        "patches": int(r.writer.patches),
        "outcomes": outcomes,
        "provocations": provocations,
        "signatures": [s for x in executors for s in _signatures(x)],
        "stale_generations": _sparse([x.stale_generations for x in executors]),
        "stale_ticks": _sparse([x.stale_ticks for x in executors]),
        "writer": _usage(r.writer) | {"hops": int(r.writer.hops)},
        "executors": [_executor(x) for x in executors],
        "tsc_hz": int(r.tsc_hz),
        "slices": int(r.n_choices),
        "choices": _choices(r),
        "signals_sent": int(r.signals_sent),
        "hangs_signalled": int(r.hangs_signalled),
        "guard_waits": int(r.guard_waits),
        "huge_pages": int(r.huge_pages),
        "syscalls_contained": bool(r.syscalls_contained),
        "crash": crash,
        "pairs": _pairs(plan, executors) if plan["observe"] else [],
        "events": [e for x in executors for e in _events(x, plan["provocations"])],
    }
