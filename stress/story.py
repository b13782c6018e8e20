"""The opening comment of a reproducer: what is patched, by which steps, what was seen where, what is promised of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from stress.event import Event, count
from stress.mixes import decode_text
from stress.model import Plan
from stress.promises import Promise
from stress.publish import slots_of
from stress.replay import summary_of
from stress.shrink import Shrunk
from stress.table import under_text

WIDTH = 110


def machine_text(host: Mapping[str, Any]) -> str:
    """A host of a run in one line: CPU, microcode, kernel, and whether it is a guest."""
    name = host.get("model_name") or host.get("vendor") or "an unknown CPU"
    numbers = f"family {host.get('family')} model {host.get('model')} stepping {host.get('stepping')}"
    guest = f", a guest of {host['hypervisor']}" if host.get("hypervisor") else ""
    return f"{name} ({numbers}, microcode {host.get('microcode') or 'unknown'}), Linux {host.get('kernel')}{guest}"


def tell_story(
    plan: Plan,
    event: Event,
    record: Mapping[str, Any],
    host: Mapping[str, Any],
    promise: Promise,
    rate: float,
    shrunk: Shrunk | None,
) -> list[str]:
    """The lines of the comment, wrapped."""
    paragraphs = [
        [f"{plan.cell.name}: {event.text}"],
        [
            "Exit status: 1 the event was seen, 0 it was not in the time given, 2 this machine cannot run it.",
            *_build(host.get("under") or {}),
        ],
        list((_published if plan.cell.regime.publish else _patched)(plan, host.get("isa", ""))),
        list(_steps(plan)),
        list(_seen(event, record, host, rate, shrunk)),
        [f"Promised: {promise.level}. {promise.why}" + (f" [{promise.source}]" if promise.source else "")],
        ["Made by stress out of its own core, without what this plan does not need."],
    ]
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += [""] if lines else []
        for text in paragraph:
            hang = " " * (len(text) - len(text.lstrip())) + ("  " if text.startswith(" ") else "")
            lines += wrap(text, WIDTH, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)
    return [line.replace("*/", "* /").encode("ascii", "replace").decode() for line in lines]


def _build(under: Mapping[str, str]) -> list[str]:
    """How to build the file; where it was something else than a CPU that was tested, how to run it."""
    if not under:
        return ["Build: cc -O2 -pthread FILE.c"]
    return [
        "Build: cc -O2 -pthread -static FILE.c -o FILE",
        f"Run: {under['command']} ./FILE. It was under {under_text(under)} that this was seen; the "
        "CPU beneath need not show it.",
    ]


def _patched(plan: Plan, isa: str) -> Iterator[str]:
    case, site = plan.cell.case, plan.cell.site
    where = (
        f"{site.front} of them in front of a multiple of {site.boundary}"
        if site.boundary
        else (f"inside an aligned {site.inside}")
    )
    yield f"Patched: {case.patch_len} bytes at offset {case.patch} of {case.length}, {where}. The region holds in turn:"
    for image in case.images:
        does = "traps" if image.traps else f"returns {image.returns:#x}"
        yield f"  {image.bytes.hex(' ')}   {decode_text(image.bytes, case.entry, isa)}   {does}"


_ADDRESSES = {
    "fresh": "a page of its own that was never executable before",
    "int3": "in a pack of slots that is executable and full of breakpoints, since which everybody has serialized",
    "reused": "where code was published and executed before",
}
_REACHES = {
    "pointer": "executors load its number, which says where it lies, and call it",
    "branch": "executors call a branch, which the writer retargets",
    "mapping": "executors call the next address until it is there",
}


def _published(plan: Plan, isa: str) -> Iterator[str]:
    case, publish = plan.cell.case, plan.cell.regime.publish
    assert publish
    body = case.images[0].bytes
    first, second = case.fields
    yield (
        f"Published: {case.length} bytes of code, {plan.cell.site.front} of them in front of a multiple of 64, "
        f"{_ADDRESSES[publish.address]}; {slots_of(publish)} addresses take turns. To get there, "
        f"{_REACHES[publish.reach]}."
    )
    yield f"  {body.hex(' ')}   {decode_text(body, case.entry, isa)}"
    yield (
        f"The number of the publication is coded into 8 bytes at offset {first} and 8 at {second}, so the code "
        "returns it, its complement in the upper half; anything else was no whole publication."
    )


def _steps(plan: Plan) -> Iterator[str]:
    regime, provocation = plan.cell.regime, plan.cell.provocations[0]
    steps = ", ".join(f"`{step.text}`" for step in regime.writer)
    how = f"via {regime.via}" if regime.publish else f"{plan.cell.store} store, via {regime.via}"
    pages = ", in pages of 2 MiB" if regime.pages == "2m" else ""
    yield f"The writer, for each {'publication' if regime.publish else 'patch'}: {steps} ({how}{pages})."
    if regime.executor:
        yield f"Executors, before each execution: {', '.join(f'`{step.text}`' for step in regime.executor)}."
    if provocation.name != "none":
        yield f"To widen the race, and change nothing of what is promised: {provocation.name}" + (
            f": {summary}." if (summary := summary_of(provocation.name)) else "."
        )


def _seen(
    event: Event, record: Mapping[str, Any], host: Mapping[str, Any], rate: float, shrunk: Shrunk | None
) -> Iterator[str]:
    n = count(record, event)
    started = str(record.get("started", ""))[:10]
    day = f" on {started}" if started else ""
    yield (
        f"Seen: {n} times in {record['seconds']:.2f} s{day}, at least {rate:.3g} a second (95 %), on "
        f"{machine_text(host)}."
    )
    if record["cell"] and shrunk and shrunk.dropped:
        yield f"Found under {record['cell']}; still seen without: {'; '.join(shrunk.dropped)}."
