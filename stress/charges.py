"""What is held against a promise: the events of a cell, divided by what ran where the promises tell mixes apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from stress.mixes import images_of
from stress.model import Outcome, Phase
from stress.patterns import Reading, Way, distance, read
from stress.promises import STRENGTH, Promise, Promises, weakest
from stress.stats import binomial_interval

Record = Mapping[str, Any]
"""The end record of a cell, as the run folder keeps it."""

Counts = Mapping[Phase, Mapping[Outcome, int]]
"""Executions by phase and outcome."""

MIN_ROTATION = 3
"""Images from which on a mix tells which of its two was the old one."""

SURE = 0.999
"""How sure it must be that executions ran a mix that is forbidden, and were not merely late."""

FAR = 2
"""Times as frequent as what lateness made a mix must be, for certain, before it is called anything else."""

RAN = (Outcome.TORN, Outcome.FAULT, Outcome.HANG)
"""Outcomes that ran a mix of bytes."""


@dataclass(frozen=True, slots=True)
class Charge:
    """`count` executions of one phase and outcome that are held against one promise.

    `what`: the mix that they ran and what is not certain about it; "" where the promise does not ask.
    """

    phase: Phase
    outcome: Outcome
    count: int
    promise: Promise
    what: str = ""


def modified(record: Record) -> bool:
    """Whether anything was stored at all, so that an executor may see anything but the first image."""
    return bool(record["regime"] != "idle" or record["patches"])


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What the executions of a cell are held to: promises, looked up once each for all cells that are alike.

    `kind`, `code`, `vendor`, `completes`, `ablation`, `modified`: as `Promises.look_up` takes them.
    """

    promises: Promises
    kind: str
    code: str
    vendor: str
    completes: bool
    ablation: bool
    modified: bool


@cache
def promised(to: Held, phase: Phase, outcome: Outcome, pattern: str = "", way: Way = Way.FORTH) -> Promise:
    """Return the promise of an outcome in a phase, of a mix of that pattern; "" for none in particular."""
    kind, how = to.promises.kind_of(to.kind, way), (to.completes, to.ablation, to.modified)
    return to.promises.look_up(kind, to.code, to.vendor, phase, outcome, *how, pattern)


@cache
def _by_pattern(to: Held, phase: Phase, outcome: Outcome) -> Mapping[tuple[Way, str], Promise]:
    """Return the promises of an outcome in a phase by what ran; none, where all are the same."""
    names = to.promises.patterns
    found = {(way, name): promised(to, phase, outcome, name, way) for way in Way for name in names}
    return found if set(found.values()) != {promised(to, phase, outcome)} else {}


@cache
def _held(*what: Any) -> Held:
    return Held(*what)


def held(record: Record, promises: Promises, vendor: str) -> Held:
    """Return what a cell is held to: the same for all that are alike."""
    what = record["kind"], record["code"], vendor, record["completes"], bool(record["ablation_of"])
    return _held(promises, *what, modified(record))


def charges(
    record: Record, counts: Counts, outcomes: Iterable[Outcome], promises: Promises, vendor: str
) -> list[Charge]:
    """Return every event of a cell that is one of `outcomes`, held against its promise; the gravest first.

    An execution of which it is not certain what ran is held to the mildest promise of those that it may have broken.
    """
    wanted = list(outcomes)
    found = [
        charge
        for phase, row in counts.items()
        for outcome in wanted
        if row.get(outcome, 0)
        for charge in _divided(record, phase, outcome, row[outcome], held(record, promises, vendor))
    ]
    return sorted(found, key=lambda charge: STRENGTH[charge.promise.level], reverse=True)


def _divided(record: Record, phase: Phase, outcome: Outcome, count: int, to: Held) -> Iterator[Charge]:
    """Yield the executions of one phase and outcome, by what they ran where promises differ by that."""
    every, words = _by_pattern(to, phase, outcome), to.promises.patterns
    if outcome not in RAN or record.get("shape") == "publish" or not every:
        yield Charge(phase, outcome, count, promised(to, phase, outcome))
        return
    ran = _what_ran(record, phase, outcome)
    unknown = count - sum(n for n, _ in ran.values())  # the core ran out of room for signatures
    for reading, (n, late) in ran.items():
        yield Charge(phase, outcome, n, *_judge(reading, late, every, words))
    if unknown > 0:
        yield Charge(phase, outcome, unknown, *_judge(frozenset(), frozenset(), every, words))


def _what_ran(record: Record, phase: Phase, outcome: Outcome) -> dict[Reading, tuple[int, Reading]]:
    """Return how many executions of one phase and outcome may have run what, and what else if they were late."""
    region: Mapping[str, Any] = record["plan"]["region"] if record["plan"] else {"images": ()}
    images = images_of(region)
    found: dict[Reading, tuple[int, Reading]] = {}
    apart: Counter[int] = Counter()
    for s in record["signatures"]:
        if (s["phase"], s["outcome"]) != (phase, outcome):
            continue
        labels = s.get("mixes", ())
        readings = [
            [read(label, images, region["patch"], region["head"], late) for label in labels]
            for late in (False, True)
        ]
        reading, late = (frozenset().union(*each) for each in readings)
        count, before = found.get(reading, (0, frozenset()))
        found[reading] = count + s["count"], before | late
        for steps in {distance(label, images, region["patch"]) for label in labels}:
            apart[steps] += s["count"]
    may_be_late = _may_be_late(apart, len(images))
    return {reading: (count, late if may_be_late else reading) for reading, (count, late) in found.items()}


def _may_be_late(apart: Mapping[int, int], images: int) -> bool:
    """Whether mixes whose back is one image behind their front may be mixes whose back is all but one ahead of it.

    An execution may take so long between two fetches that several patches come in between: an interrupt, or, where the
    writer pauses for nothing, the transfer of a line, in which the rotation goes round more than once. Then others were
    late by other numbers, and this one is not far more frequent than each of those from half the rotation on.
    """
    if images < MIN_ROTATION:
        return True
    others = range(images // 2, images - 1)
    behind, most = apart.get(images - 1, 0), max(apart.get(steps, 0) for steps in others)
    least, _ = binomial_interval(behind, behind + most, SURE)
    return least <= FAR / (FAR + 1)


def _judge(
    reading: Reading, late: Reading, every: Mapping[tuple[Way, str], Promise], words: Mapping[str, str]
) -> tuple[Promise, str]:
    """Return the promise for executions that ran something of `reading`, or of `late`, and what to say of them."""
    if not reading:
        return weakest(
            every.values()
        ), ", and it is not known what ran, so the mildest promise for any mix counts"
    found = weakest(every[each] for each in reading)
    mild = weakest(every[each] for each in late)
    if STRENGTH[mild.level] < STRENGTH[found.level]:
        text = f"{_names(reading)}, or {_names(late - reading)} with several patches in between"
        return mild, f", the mix {text}, as others had them, so the milder promise counts"
    if len({every[each].level for each in reading}) > 1:
        return found, f", the mix {_names(reading)}, and nothing tells which, so the milder promise counts"
    return (
        found,
        f", the mix {', or '.join(f'{name} ({words[name]})' for name in _names(reading).split(' or '))}",
    )


def _names(reading: Reading) -> str:
    return " or ".join(sorted({str(pattern) for _, pattern in reading}))
