"""One wrong execution from close by: what memory held, what ran, registers, how old it was, where the writer stood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stress.errors import UsageError
from stress.mixes import decode_text, images_of, signature_text

Record = Mapping[str, Any]
Micros = Sequence[Record]

ALIKE = 4
"""Registers with one value from which it is the one that the loop puts into all of them."""

STATES_SHOWN = 4


def _signature(event: Record) -> str:
    return signature_text((event["signal"], event["code"], event["pc"], event["value"]))


def list_events(record: Record, events: Sequence[Record]) -> str:
    """One line an event that was kept."""
    if not events:
        raise UsageError(f"{record['cell']}: no event was kept; see `stress explain {record['cell']}`")
    lines = [f"{record['cell']}: the last {len(events)} events; see `stress show event CELL NUMBER`"]
    for n, e in enumerate(events, 1):
        lines.append(f"{n:>4}  {e['outcome']:5}  {e['phase']:10}  {_signature(e):44}  {e['provocation']}")
    return "\n".join(lines)


def show_event(record: Record, events: Sequence[Record], number: int, isa: str, micros: Micros) -> str:
    """The page about the `number`-th kept event, from 1. `micros`: the compiled steps, or none where not known.

    Raises:
        UsageError: there is no such event.
    """
    if not 1 <= number <= len(events):
        raise UsageError(f"{record['cell']}: has {len(events)} events; there is no {number}")
    event = events[number - 1]
    plan = record["plan"]
    lines = [
        f"{record['cell']}, event {number} of {len(events)}",
        f"  {event['outcome']} ({event['phase']}), {_signature(event)}, under {event['provocation']}",
        *_window(event, plan),
        *(_bytes(event, plan, isa) if not plan.get("publish") else ()),
        *(_ran(event, record, isa) if not plan.get("publish") else ()),
        *(_writer(event, plan, micros) if micros else ("  the writer's step: not known",)),
        *_registers(event),
    ]
    return "\n".join(lines)


def _window(event: Record, plan: Record) -> Iterator[str]:
    if not plan["window"]:
        yield "  no window: the regime does not say when a patch is complete"
        return
    done, begun = event["done"], event["begun"]
    yield f"  window: patch {done} was complete before it, {begun} begun when it had ended ({begun - done} in flight)"
    if event.get("stale_by"):
        ticks = event.get("stale_ticks")
        age = (
            f"{ticks} ticks after it was superseded"
            if ticks
            else "ticks not known: its stamp was overwritten"
        )
        yield f"  age: {event['stale_by']} generations; {age}"


def _row(name: str, content: bytes, entry: int, isa: str) -> str:
    return f"  {name:10} {content.hex(' '):32} {decode_text(content, entry, isa)}".rstrip()


def _bytes(event: Record, plan: Record, isa: str) -> Iterator[str]:
    region = plan["region"]
    images = images_of(region)
    head, entry = region["head"], region["entry"]
    if plan["window"]:
        yield _row("old", images[event["done"] % len(images)], entry, isa)
        if event["begun"] != event["done"]:
            yield _row("new", images[event["begun"] % len(images)], entry, isa)
    else:
        for n, image in enumerate(images):
            yield _row(f"image {n}", image, entry, isa)
    memory = images[0][:head] + bytes.fromhex(event["bytes"])[: len(images[0]) - head]
    yield _row("memory", memory, entry, isa) + "   (read just after)"


def _ran(event: Record, record: Record, isa: str) -> Iterator[str]:
    """The mixes that show themselves as the event did, as the record's attribution says."""
    keys = ("outcome", "signal", "code", "pc", "value")
    none: Record = {}
    found = next((s for s in record["signatures"] if all(s[k] == event[k] for k in keys)), none)
    region = record["plan"]["region"]
    images = images_of(region)
    labels = found.get("mixes", ())
    if not labels:
        yield (
            "  ran        no mix of two images shows itself so"
            if "mixes" in found
            else "  ran        not attributed"
        )
    for label in labels[:STATES_SHOWN]:
        content = bytearray(images[0])
        for i, source in enumerate(label):
            content[region["patch"] + i] = images[int(source, 16)][region["patch"] + i]
        yield _row(f"ran {label}", bytes(content), region["entry"], isa)
    if len(labels) > STATES_SHOWN:
        yield f"             or {len(labels) - STATES_SHOWN} more that look the same"


def states(plan: Record, micros: Micros, image: int) -> Iterator[tuple[int, bytes]]:
    """What the region holds while it is taken to `image`: after each store its step's index, and the content.

    First, with index -1, what it held before.
    """
    images = images_of(plan["region"])
    content = bytearray(images[(image - 1) % len(images)])
    yield -1, bytes(content)
    for m in micros:
        if m["program"] != image or m["op"] != "XMC_STEP_STORE":
            continue
        stored = bytes.fromhex(m["operand"]) if m["form"] else m["value"].to_bytes(8, "little")
        for i, byte in enumerate(stored[: m["width"]]):
            if 0 <= m["offset"] + i < len(content):
                content[m["offset"] + i] = byte
        yield m["step"], bytes(content)


def _writer(event: Record, plan: Record, micros: Micros) -> Iterator[str]:
    """Where the writer was when memory was read: the steps behind which memory looks as it did."""
    if plan.get("publish"):
        return
    images, head = images_of(plan["region"]), plan["region"]["head"]
    seen = bytes.fromhex(event["bytes"])[: len(images[0]) - head]
    if plan["window"] and event["begun"]:
        # It was read a moment after the execution: the writer may have begun one more.
        patches = [(g, g % len(images)) for g in range(max(1, event["done"]), event["begun"] + 2)][:16]
    else:
        patches = [(0, i) for i in range(len(images))]
    steps = [" ".join(str(word) for word in step if word != "") for step in plan["writer"]]
    found = []
    for generation, image in patches:
        for step, content in states(plan, micros, image):
            if content[head : head + len(seen)] == seen and step >= 0:
                which = f"patch {generation}" if generation else f"a patch to image {image}"
                found.append(f"{which} behind step {step + 1} of {len(steps)}, `{steps[step]}`")
    if not found:
        yield "  the writer: memory held no state between two of its steps: a store was seen half way"
        return
    yield f"  the writer, by what memory held: {'; or '.join(found[:STATES_SHOWN])}"


def _registers(event: Record) -> Iterator[str]:
    registers = event.get("registers")
    if not registers:
        yield "  registers: recorded at faults only"
        return
    value, n = Counter(registers.values()).most_common(1)[0]
    entry = value if n >= ALIKE else None
    same = [name for name, held in registers.items() if held == entry]
    if entry is not None:
        yield f"  registers as on entry ({entry:#x}): {' '.join(same)}"
    rest = [f"{name} {held:#x}" for name, held in registers.items() if held != entry]
    yield f"  registers: {', '.join(rest)}"
