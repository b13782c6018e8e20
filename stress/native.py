"""The one door to the native core: plans as JSON-ready dicts in. What it counts is read by `blackbox`.

Imported by `worker` and `host` only. Names of steps, stores and outcomes are resolved against the enums of
`native/xmc.h`, so Python holds no second copy of any number.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from stress._native import ffi, lib
from stress.blackbox import result_bytes, signal_name
from stress.errors import NativeError, UnsupportedError

_FEATURES = (
    "serialize fred invlpgb mfence_serializes clflushopt cx16 avx hypervisor syscall_dispatch rwx alias reserve "
    "procmem vmwritev ptrace protect_x huge_pages"
).split()

_PARTS = {"membarrier": "MEMBARRIER", "protect": "PROTECT"}
"""Which enum the word behind a step is of; PART, where none is named."""


def _constant(prefix: str, name: str) -> int:
    """The enum value `XMC_<prefix>_<NAME>`; NativeError where xmc.h has none."""
    try:
        return int(getattr(lib, f"XMC_{prefix}_{name.upper().replace('-', '_')}"))
    except AttributeError as none:
        raise NativeError(f"the native core knows no {prefix.lower()} '{name}'") from none


def _text(characters: Any) -> str:
    return bytes(ffi.buffer(characters)).rstrip(b"\0").decode()


def probe() -> dict[str, Any]:
    """What this CPU and kernel allow: `vendor`, `isa`, `features` (names), `membarrier`, `tsc_hz`, and masks."""
    p: Any = ffi.new("struct xmc_probe *")
    lib.xmc_probe(p)
    names = [name.replace("_", "-") for name in _FEATURES if p.features & _constant("FEATURE", name)]
    return {
        "vendor": _text(p.vendor),
        "isa": _text(p.isa),
        "features": names,
        "membarrier": int(p.membarrier),
        "tsc_hz": int(p.tsc_hz),
        "line_bytes": int(p.line_bytes),
        "step_ops": int(p.step_ops),
        "exec_ops": int(p.exec_ops),
    }


def _fill_step(step: Any, op: str, part: str, value: str | int) -> None:
    step.op = _constant("STEP", op)
    if part:
        step.part = _constant(_PARTS.get(op, "PART"), part)
    if isinstance(value, int):
        step.value = value
    elif value:
        step.value = _constant("VALUE", value)


def _fill_exec_step(step: Any, op: str, on_change: bool) -> None:
    step.op = _constant("EXEC", op)
    step.when = lib.XMC_ON_CHANGE if on_change else lib.XMC_ALWAYS


def _fill_region(p: Any, region: dict[str, Any]) -> None:
    for key in ("entry", "head", "patch", "patch_len", "split", "place"):
        setattr(p, key, region[key])
    p.n_images = len(region["images"])
    p.region_len = len(bytes.fromhex(region["images"][0]["bytes"]))
    for slot, image in zip(p.images, region["images"], strict=False):
        ffi.memmove(slot.bytes, bytes.fromhex(image["bytes"]), p.region_len)
        slot.value, slot.traps = image["returns"], image["traps"]
    p.n_pads = len(region["pads"])
    for slot, pad in zip(p.pads, region["pads"], strict=False):
        code = bytes.fromhex(pad["bytes"])
        slot.offset, slot.len = pad["offset"], len(code)
        ffi.memmove(slot.bytes, code, len(code))


def _fill_limits(p: Any, limits: dict[str, Any]) -> None:
    p.limit_ns = int(limits["seconds"] * 1e9)
    p.limit_executions, p.limit_patches = limits["executions"], limits["patches"]
    p.until = lib.XMC_UNTIL_FIRST_EVENT if limits["until_first_event"] else lib.XMC_UNTIL_DEADLINE


def _native_plan(plan: dict[str, Any]) -> Any:
    p: Any = ffi.new("struct xmc_plan *")
    p.abi = lib.XMC_ABI
    _fill_region(p, plan["region"])
    _fill_limits(p, plan["limits"])
    p.via, p.store = _constant("VIA", plan["via"]), _constant("STORE", plan["store"])
    p.window, p.trap_is_ours, p.observe = plan["window"], plan["traps"], plan["observe"]
    p.fault_is_ours, p.guard_is_ours, p.huge_pages = plan["faults"], plan["guards"], plan["pages"] == "2m"
    p.n_steps, p.n_exec_steps = len(plan["writer"]), len(plan["executor"])
    for slot, step in zip(p.steps, plan["writer"], strict=False):
        _fill_step(slot, *step)
    for slot, exec_step in zip(p.exec_steps, plan["executor"], strict=False):
        _fill_exec_step(slot, *exec_step)
    p.n_provocations = len(plan["provocations"])
    for slot, provocation in zip(p.provocations, plan["provocations"], strict=False):
        slot.n_writer, slot.n_executor = len(provocation["writer"]), len(provocation["executor"])
        slot.signal_us, slot.antagonist_cpu = provocation["signal_us"], provocation["antagonist_cpu"]
        slot.antagonist = _constant("ANTAGONIST", provocation["antagonist"] or "none")
        for inner, step in zip(slot.writer, provocation["writer"], strict=False):
            _fill_step(inner, *step)
        for inner, exec_step in zip(slot.executor, provocation["executor"], strict=False):
            _fill_exec_step(inner, *exec_step)
    turns = plan.get("turns", [])
    p.n_turns = len(turns)
    for slot, (provocation, pace_log2, executors) in zip(p.turns, turns, strict=False):
        slot.provocation, slot.pace_log2, slot.executors = provocation, pace_log2, executors
    p.writer_cpu, p.n_executors = plan["cpus"]["writer"], len(plan["cpus"]["executors"])
    for i, cpu in enumerate(plan["cpus"]["executors"]):
        p.executor_cpu[i] = cpu
    for key in ("seed", "pace_log2", "slice_us", "hang_ms"):
        setattr(p, key, plan[key])
    return p


def _bits(plan: dict[str, Any], names: list[str]) -> int:
    """A mask of the places of `names` among the plan's provocations."""
    return sum(1 << i for i, p in enumerate(plan["provocations"]) if p["name"] in names)


def _native_publish(plan: dict[str, Any]) -> Any:
    """What `xmc_publish` wants beside the plan."""
    publish = plan["publish"]
    q: Any = ffi.new("struct xmc_publish *")
    q.reach, q.address = _constant("REACH", publish["reach"]), _constant("ADDRESS", publish["address"])
    q.fill_via, q.n_slots, q.front = _constant("FILL", publish["via"]), publish["slots"], publish["front"]
    q.fields = publish["fields"]
    q.guesses, q.guesses_flushed = (_bits(plan, publish[key]) for key in ("guesses", "guesses_flushed"))
    q.n_steps = len(plan["writer"])
    for slot, (op, part, value) in zip(q.steps, plan["writer"], strict=False):
        slot.op, slot.value = _constant("PUB", op), value or 0
        if op in ("map", "protect"):
            slot.value = _constant("RIGHTS", part)
        elif part:
            slot.part = _constant(_PARTS.get(op, "PART"), part)
    return q


def _start(plan: dict[str, Any], result: Any) -> int:
    """Run `plan` in its shape; 0 or -errno."""
    if not plan.get("publish"):
        return int(lib.xmc_run(_native_plan(plan), result))
    # The steps are of the other shape, and the region holds only the branch that executors may go by.
    p = _native_plan(plan | {"writer": [], "store": "whole", "via": "alias"})
    return int(lib.xmc_publish(p, _native_publish(plan), result))


def run(plan: dict[str, Any], box: Any) -> None:
    """Run `plan` (as `plan.as_dict` makes it), counting in `box`.

    `box` is a writable buffer of `blackbox.result_bytes()` zeros. Blocks until the plan ends, without the
    interpreter lock. May kill the process: workers are for that.

    Raises:
        UnsupportedError: this machine lacks a step or mapping that the plan needs.
        NativeError: anything else, with the errno.
    """
    result: Any = ffi.cast("struct xmc_result *", ffi.from_buffer(box, require_writable=True))
    code = -_start(plan, result)
    if code == 0:
        return
    failed = int(result.writer.failed_step)
    where = f" at writer step {failed} ({' '.join(map(str, plan['writer'][failed - 1]))})" if failed else ""
    what = f"{os.strerror(code)}{where}"
    if code in (errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP) and not result.writer.patches:
        # What ran until the refusal ran under no discipline at all: a cell that is skipped has counted nothing.
        ffi.buffer(result)[:] = bytes(result_bytes())
        pages = " (pages of 2 MiB are not to be had)" if plan["pages"] == "2m" and not failed else ""
        raise UnsupportedError(f"refused by this machine: {what}{pages}")
    if code == errno.ECHILD:
        what = f"the writer's process ended by itself{where}"
    raise NativeError(f"the native core ended with {errno.errorcode.get(code, code)}: {what}", code)


def run_mixes(plan: dict[str, Any], mixes: list[bytes]) -> list[tuple[str, int, int, int]]:
    """How each of `mixes` (contents of the whole region) shows itself when executed once at the plan's place.

    One `(signal, code, pc, value)` each, as in a record's signatures.

    Raises:
        NativeError, UnsupportedError: as `run`.
    """
    if not mixes:
        return []
    if len(mixes) > lib.XMC_MIXES_MAX:
        return run_mixes(plan, mixes[: lib.XMC_MIXES_MAX]) + run_mixes(plan, mixes[lib.XMC_MIXES_MAX :])
    native: Any = ffi.new("struct xmc_mix[]", len(mixes))
    out: Any = ffi.new("struct xmc_signature[]", len(mixes))
    for slot, mix in zip(native, mixes, strict=True):
        ffi.memmove(slot.bytes, mix, len(mix))
    code = -int(lib.xmc_run_mixes(_native_plan(plan), len(mixes), native, out))
    if code:
        raise NativeError(f"the byte mixes could not be executed: {os.strerror(code)}", code)
    return [(signal_name(s.signal), int(s.code), int(s.pc), int(s.value)) for s in out]


def replay(turns: int, told: Sequence[tuple[int, int]]) -> list[int]:
    """The turns, of `turns` that there are, that a run chooses one after the other when it is `told` this of each.

    `told`: nanoseconds that it was on, and its reward, as in a record's `choices`.
    """
    choices: Any = ffi.new("struct xmc_choice[]", len(told))
    for slot, (ns, reward) in zip(choices, told, strict=True):
        slot.ns, slot.reward = ns, reward
    if code := -int(lib.xmc_replay(turns, len(told), choices)):
        raise NativeError(f"no turn can be chosen: {os.strerror(code)}", code)
    return [int(choice.turn) for choice in choices]


def compile_plan(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The compiled writer steps of `plan`, in the order of `struct xmc_micro`'s programs.

    Each has `program` (the image to come, or behind them the provocation), `op`, `form` and `rights` by name (`form` ""
    for a plain store, `rights` of PROTECT alone), `width`, `step`, `offset` from the region's first byte, `value`, and
    `operand` in hex.

    Raises:
        NativeError: the plan contradicts itself, or this machine cannot place it.
    """
    most = lib.XMC_IMAGES_MAX * 160 + lib.XMC_PROVOCATIONS_MAX * 4
    out: Any = ffi.new("struct xmc_micro[]", most)
    n = int(lib.xmc_compile(_native_plan(plan), most, out))
    if n < 0:
        raise NativeError(f"the plan cannot be compiled: {os.strerror(-n)}", -n)
    return [
        {
            "program": int(m.program),
            "op": _name("STEP", m.op),
            "form": _name("STORE", m.form) if m.form else "",
            "width": int(m.width),
            "rights": _name("PROTECT", m.width) if m.op == lib.XMC_STEP_PROTECT else "",
            "step": int(m.step),
            "offset": int(m.offset),
            "value": int(m.value),
            "operand": bytes(m.operand)[: m.operand_bytes].hex(),
        }
        for m in out[0:n]
    ]


def _name(prefix: str, value: int) -> str:
    """The enum constant `XMC_<prefix>_...` of this value, as it stands in xmc.h."""
    names = (name for name in dir(lib) if name.startswith(f"XMC_{prefix}_"))
    return next(name for name in names if int(getattr(lib, name)) == value)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies."""
    if lib.xmc_die_with_parent() < 0:
        raise NativeError("prctl(PR_SET_PDEATHSIG) failed")
