"""Planted defects: every way of going wrong that the tool claims to see, made to happen by schedule, not by luck.

A planted regime stores half a patch, waits until the executor has run it, then stores the other half; or publishes
before it stores. Its steps are the ordinary ones, so what is tested is the detector that every run uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from stress.model import (
    Case,
    Cell,
    Image,
    Limits,
    Pad,
    Placement,
    Plan,
    Provocation,
    Publishing,
    Regime,
    Site,
    Step,
)
from stress.publish import front_of
from stress.runner import Running

AWAIT = 2
"""Reports of progress to wait for: the second one is certain to lie wholly inside the planted moment."""

SECONDS = 5.0
"""Limit of a plant. Each ends by its number of patches, long before."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plant:
    """One planted defect: what is run, so many patches long, and whether a record names it rightly."""

    name: str
    summary: str
    case: Case
    writer: tuple[Step, ...]
    caught: Callable[[Record], bool]
    publish: Publishing | None = None
    patches: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one plant."""

    plant: Plant
    caught: bool
    record: Record


def _case(name: str, old: Image, new: Image, patch: int, patch_len: int, pads: tuple[Pad, ...] = ()) -> Case:
    return Case(name, "K15", "planted", "none", "", 0, 0, patch, patch_len, (old, new), pads)


def _image(code: str, asm: str, returns: int) -> Image:
    return Image(bytes.fromhex(code), asm, returns)


# Two halves of an immediate. Front new with back old is 0x22111111 read little-endian: 0x11112222.
_VALUE = _case(
    "planted-value",
    _image("b8 11 11 11 11 c3", "mov $0x11111111, %eax; ret", 0x11111111),
    _image("b8 22 22 22 22 c3", "mov $0x22222222, %eax; ret", 0x22222222),
    1,
    4,
)
# Front new with back old is jmp .+5-0xff80, past the mapping and into the desert: a fault at a known PC.
WILD_PC = 5 - 0xFF80
_BRANCH = _case(
    "planted-branch",
    _image("e9 00 f0 ff ff c3", "jmp .-0xffb; ret", 1),
    _image("e9 80 00 00 00 c3", "jmp .+0x85; ret", 2),
    1,
    4,
    (
        Pad(5 - 0x1000, bytes.fromhex("b8 01 00 00 00 c3"), "mov $1, %eax; ret"),
        Pad(5 + 0x80, bytes.fromhex("b8 02 00 00 00 c3"), "mov $2, %eax; ret"),
    ),
)
# Front new with back old is 0f 0b: ud2.
_ILLEGAL = _case(
    "planted-illegal",
    _image("b0 0b 04 05 c3", "mov $0x0b, %al; add $5, %al; ret", 0x10),
    _image("0f c8 04 05 c3", "bswap %eax; add $5, %al; ret", 0x05),
    0,
    2,
)
# Front new with back old is eb fe: a branch to itself.
_HANG = _case(
    "planted-hang",
    _image("b0 fe 04 05 04 06 c3", "mov $0xfe, %al; add $5, %al; add $6, %al; ret", 0x09),
    _image("eb 02 04 05 04 06 c3", "jmp .+4; add $5, %al; add $6, %al; ret", 0x06),
    0,
    2,
)


# Published code: two 64-bit fields that say which publication it is (docs/publish.md).
_BODY = replace(
    _case(
        "planted-body",
        _image("48 b8 63 f3 6e 3c 22 97 18 ae 48 ba 62 f3 6e 3c dc 68 e7 51 48 31 d0 c3", "publication 1", 1),
        _image("48 b8 11 6d a6 da e0 37 55 1c 48 ba 13 6d a6 da 1d c8 aa e3 48 31 d0 c3", "publication 2", 2),
        2,
        18,
    ),
    fields=(2, 12),
)


def _torn(*more: Step) -> tuple[Step, ...]:
    """Front half, wait, back half, wait."""
    wait = Step("await", "", AWAIT)
    return (Step("store", "front", "new"), wait, Step("store", "back", "new"), *more, wait)


def _die(signal_number: int) -> tuple[Step, ...]:
    return (Step("store", "all", "new"), Step("await", "", AWAIT), Step("die", "", signal_number))


def _signed(record: Record, **wanted: Any) -> bool:
    """Whether the record holds a signature with every one of `wanted`."""
    return any(all(s.get(key) == value for key, value in wanted.items()) for s in record["signatures"])


def _only(record: Record, *outcomes: str) -> bool:
    """Whether the run ended well and saw nothing wrong but `outcomes`."""
    wrong = {"torn", "stale", "fault", "hang"} - set(outcomes)
    rows = record["outcomes"].values()
    return record["status"] == "ok" and not any(row.get(name, 0) for row in rows for name in wrong)


def _is_torn(record: Record) -> bool:
    return _only(record, "torn") and _signed(record, outcome="torn", signal="", value=0x11112222)


def _is_wild(record: Record) -> bool:
    return _only(record, "fault") and _signed(record, outcome="fault", signal="SIGSEGV", pc=WILD_PC)


def _is_illegal(record: Record) -> bool:
    return _only(record, "fault") and _signed(record, outcome="fault", signal="SIGILL", pc=0)


def _is_stale(record: Record) -> bool:
    return _only(record, "stale") and _signed(
        record, outcome="stale", phase="post", signal="", value=0x11111111
    )


def _is_hang(record: Record) -> bool:
    return _only(record, "hang") and _signed(record, outcome="hang", signal="watchdog", pc=0)


def _is_killed(record: Record) -> bool:
    return bool(record["status"] == "crashed" and record["reason"] == "the worker died of SIGKILL")


def _is_broken(record: Record) -> bool:
    reason = record["reason"]
    named = reason.startswith("the worker died of SIGSEGV outside any region") and "address 0x8)" in reason
    return bool(record["status"] == "crashed" and named)


def _is_half_published(record: Record) -> bool:
    # The breakpoint behind the 20 bytes that the filled head and its second field make.
    return _only(record, "torn") and _signed(record, outcome="torn", phase="post", signal="SIGTRAP", pc=21)


def _is_filler(record: Record) -> bool:
    return _only(record) and _signed(record, outcome="trap", phase="post", signal="SIGTRAP", pc=1)


def _is_unmapped(record: Record) -> bool:
    return _only(record, "fault") and _signed(record, outcome="fault", phase="post", signal="SIGSEGV", pc=0)


def _is_other_frame(record: Record) -> bool:
    """A shootdown may stop the executor between two instructions: then each is of another frame (bit 4), rightly."""
    torn = sum(row.get("torn", 0) for row in record["outcomes"].values())
    between = {"outcome": "torn", "phase": "concurrent", "signal": "", "value": 16}
    stopped = sum(s["count"] for s in record["signatures"] if between.items() <= s.items())
    stale = _signed(record, outcome="stale", phase="post", signal="", value=1)
    return _only(record, "stale", "torn") and torn == stopped and stale


def _early(step: Step, *before: Step) -> tuple[Step, ...]:
    """Published before the last step."""
    return (*before, Step("publish"), Step("await", "", AWAIT), step)


_FILL, _FRONT, _BACK = (Step("fill", part) for part in ("all", "front", "back"))
_MAP = Step("map", "rx")

PLANTS = (
    Plant("torn-value", "half an immediate", _VALUE, _torn(), _is_torn),
    Plant("torn-branch", "half a displacement: a wild jump", _BRANCH, _torn(), _is_wild),
    Plant("illegal-mix", "two halves that make ud2", _ILLEGAL, _torn(), _is_illegal),
    Plant(
        "stale",
        "published before it was stored",
        _VALUE,
        (Step("publish"), Step("await", "", AWAIT), Step("store", "all", "new")),
        _is_stale,
    ),
    Plant("branch-to-self", "two halves that make a jump to itself", _HANG, _torn(), _is_hang),
    Plant(
        "half-published",
        "half a body, and filler behind it",
        _BODY,
        _early(_BACK, _FRONT),
        _is_half_published,
        Publishing("K15", "int3"),
    ),
    Plant("filler", "published unfilled", _BODY, _early(_FILL), _is_filler, Publishing("K15", "int3")),
    Plant(
        "unmapped", "published unmapped", _BODY, _early(_MAP, _FILL), _is_unmapped, Publishing("K21", "fresh")
    ),
    Plant(
        "other-frame",
        "published before the new page was mapped over the old",
        _BODY,
        _early(_MAP, _FILL),
        _is_other_frame,
        Publishing("K20", "reused", slots=1),
        3,
    ),
    Plant("killed-worker", "a worker that is killed by SIGKILL", _VALUE, _die(9), _is_killed),
    Plant("broken-harness", "a worker whose writer faults outside any region", _VALUE, _die(11), _is_broken),
)


def selftest(placement: Placement, provocation: Provocation, seed: int = 1) -> Iterator[Finding]:
    """One finding for each of `PLANTS`, as it is made. Takes about three seconds for all."""
    for plant in PLANTS:
        yield _run(plant, placement, provocation, seed)


def _run(plant: Plant, placement: Placement, provocation: Provocation, seed: int) -> Finding:
    via = "alias" if plant.publish else "same"
    name = f"planted-{plant.name}"
    regime = Regime(name, "R0", plant.summary, "none", plant.writer, via=via, publish=plant.publish)
    site = Site(64, plant.case.patch_len // 2)
    if plant.publish:
        site = Site(64, front_of(plant.case), address=plant.publish.address)
    cell = Cell(plant.case, site, "whole", regime, (provocation,), placement)
    running = Running(Plan(cell, Limits(SECONDS, patches=plant.patches), seed, 0, 0))
    try:
        record, _ = running.finish()
    finally:
        running.close()
    return Finding(plant, plant.caught(record), record)
