"""The opening comment of a reproducer: what is patched, by which steps, what was seen where, what is promised of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from stress.event import Event, count
from stress.mixes import decode_text
from stress.model import Plan
from stress.promises import Promise
from stress.replay import summary_of
from stress.shrink import Shrunk

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
            "Build: cc -O2 -pthread FILE.c",
        ],
        list(_patched(plan, host.get("isa", ""))),
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


def _steps(plan: Plan) -> Iterator[str]:
    regime, provocation = plan.cell.regime, plan.cell.provocations[0]
    steps = ", ".join(f"`{step.text}`" for step in regime.writer)
    yield f"The writer, for each patch: {steps} ({plan.cell.store} store, via {regime.via})."
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
