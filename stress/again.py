"""What `stress repro` and `stress show event` do with a run: from its folder to printed text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stress.errors import StressError
from stress.event import choose
from stress.explain import find, latest_run
from stress.forensics import list_events, show_event
from stress.host import read_host
from stress.onefile import refuse
from stress.plan import as_dict
from stress.replay import fit, plan_of
from stress.repro import attempt, make_smaller, one_provocation, save, write_c
from stress.runner import compile_plan
from stress.session import FOLDER, VENDORS
from stress.store import read_events, read_records, read_run
from stress.table import under_text
from stress.topology import parse_cpu_list
from stress.under import Under

LONGEST_SEARCH_SECONDS = 2.0
"""Of one search of `repro --shrink`, where nobody says."""


def _command(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What the cells of a run were run by: the prefix under test and the agent; () where by the workers."""
    request = run.get("request") or {}
    return Under.of(request["under"], request["agent"]).command if request.get("under") else ()


def repro(
    cell: str,
    folder: Path | None,
    seconds: float | None,
    tell: Callable[[str], None],
    *,
    times: int,
    outcome: str | None,
    shrink: bool,
    output: str | None,
    cpus: str,
    vendor: str | None,
) -> tuple[str, bool]:
    """Run a cell of a run again, make it smaller, write it as C, as far as asked for: what happened, and whether the
    event was seen.

    Raises:
        UsageError: there is no such cell, it saw nothing, or its plan cannot be put into one C file.
    """
    path = folder or latest_run(Path(FOLDER))
    run, record = read_run(path), find(read_records(path), cell)
    event, host = choose(record, outcome or ""), read_host()
    topology = host.topology.only(parse_cpu_list(cpus, host.allowed)) if cpus else host.topology
    plan = fit(plan_of(record), topology)
    if output:
        refuse(as_dict(plan), host.isa)
    command = _command(run)
    attempts = attempt(record, plan, event, times, seconds, command)
    tested = under_text(run.get("host", {}).get("under", {})) if command else ""
    lines, shrunk, rate = [f"under test: {tested}"] * bool(tested) + attempts.lines(), None, attempts.rate
    # Under a prefix the CPU is what the agent saw there, and its vendor's promises are those that count.
    whose = VENDORS[vendor] or record.get("vendor") or host.vendor
    if shrink and attempts.seen:
        shrunk = make_smaller(plan, event, whose, seconds or LONGEST_SEARCH_SECONDS, tell, command)
        lines += shrunk.lines()
        plan, rate = shrunk.plan, shrunk.rate
    if output:
        single = one_provocation(plan, record, event)
        text = write_c(single, event, record, run.get("host", {}), whose, rate, shrunk)
        save(Path(output), text)
        build = f"cc -O2 -pthread {'-static ' if command else ''}{output}"
        lines.append(f"wrote {output}: {text.count(chr(10))} lines; build: {build}")
    return "\n".join(lines) + "\n", attempts.seen > 0


def event_text(cell: str, folder: Path | None, number: int | None) -> str:
    """The events that were kept of a cell, or the page about one of them (from 1)."""
    path = folder or latest_run(Path(FOLDER))
    run, record = read_run(path), find(read_records(path), cell)
    events = [event for event in read_events(path) if event["id"] == record["id"]]
    if number is None:
        return list_events(record, events)
    try:
        micros = [] if record["plan"].get("publish") else compile_plan(plan_of(record))
    except StressError:  # then it says that the writer's step is not known
        micros = []
    return show_event(record, events, number, run.get("host", {}).get("isa", ""), micros)
