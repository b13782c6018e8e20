"""See an event of a run again, make its plan smaller, and write the C file that shows it (`stress repro`)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stress.cases import load_cases
from stress.errors import HostError, StressError, UsageError
from stress.event import Event, count, counts, low_rate, missed, seconds_for
from stress.model import Case, Cell, Limits, Outcome, Phase, Plan, Status
from stress.onefile import one_file, refuse
from stress.plan import as_dict, describe
from stress.planned import Subject
from stress.promises import STRENGTH, Promise, load_promises
from stress.runner import Running, compile_plan, execute_mixes
from stress.shrink import Rules, Shrunk, Trial, shrink
from stress.simpler import NOTHING
from stress.story import tell_story

Record = Mapping[str, Any]

SHORTEST_SECONDS, LONGEST_SECONDS = 0.2, 30.0
"""Of one attempt where nobody says: as long as the rate seen asks for, between these."""

FREQUENT = 20.0
"""Events a second that are seen within a second or two for certain."""

SLICE_SECONDS = 0.05
"""Of the first look that another event does not end; each further one takes twice as long."""


def run(plan: Plan, command: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record of one run of `plan`; `command`: the prefix under test and the agent behind it, as in `Running`."""
    running = Running(plan, command)
    try:
        return running.finish()[0]
    except BaseException:
        running.abandon()
        raise


def look(plan: Plan, event: Event, seconds: float, command: tuple[str, ...] = ()) -> Trial:
    """Run `plan` until `event` is seen, for at most `seconds`; other events in between do not end that."""
    spent, executions, first, length = 0.0, 0, True, SLICE_SECONDS
    while spent < seconds:
        left = seconds - spent if first else min(seconds - spent, length)
        record = run(replace(plan, limits=Limits(max(left, 0.001), until_first_event=first)), command)
        if record["status"] != Status.OK:
            return Trial(0, spent, executions, record["reason"] or record["status"])
        spent += max(_until(record) if first else record["seconds"], 1e-6)
        executions += sum(n for row in record["outcomes"].values() for n in row.values())
        if found := count(record, event):
            return Trial(found, spent, executions)
        if first and not counts(record):  # it went on to its end
            break
        length, first = length * (1 if first else 2), False
    return Trial(0, spent, executions)


def _until(record: Record) -> float:
    """Seconds until the first event of a record that ends with it: the watchdog ends it up to a tick later."""
    firsts = [x["first_event_seconds"] for x in record.get("executors", ()) if x["first_event_seconds"]]
    return float(min(firsts, default=record["seconds"]))


@dataclass(frozen=True, slots=True)
class Attempts:
    """What running a record's plan again showed. `rate`: events a second that the record leaves no doubt of."""

    record: Record
    plan: Plan
    event: Event
    rate: float
    trials: Sequence[Trial]

    @property
    def seen(self) -> int:
        """In how many attempts."""
        return sum(trial.events > 0 for trial in self.trials)

    def lines(self) -> list[str]:
        """What happened, as text."""
        n, cpus = len(self.trials), self.plan.cell.placement.cpus
        where = f"on CPUs {', '.join(map(str, cpus))}"
        if cpus != (self.record["plan"]["cpus"]["writer"], *self.record["plan"]["cpus"]["executors"]):
            where += f" (its own are not here; {self.plan.cell.placement.relation} is the nearest)"
        seconds, executions = sum(t.seconds for t in self.trials), sum(t.executions for t in self.trials)
        head = f"{self.record['cell']}: {self.event.text}, {where}"
        seen_in = seconds_of(self.record)
        told = f"in the record: {count(self.record, self.event)} times in {seen_in:.2f} s"
        failed = next((t.failed for t in self.trials if t.failed), "")
        if failed:
            return [head, told, f"cannot be run again here: {failed}"]
        if self.seen:
            times = sorted(t.seconds for t in self.trials if t.events)
            span = f"{times[0] * 1e3:.3g} to {times[-1] * 1e3:.3g} ms, median {statistics.median(times) * 1e3:.3g}"
            return [head, told, f"reproduced in {self.seen} of {n} attempts, after {span}"]
        lines = [head, told, f"not reproduced in {n} attempts, {seconds:.2f} s, {executions:.3g} executions"]
        lines.append(f"so at most one in {1 / max(1e-300, 3 / max(executions, 1)):.3g} executions (95 %)")
        chance = missed(self.rate, seconds)
        return [*lines, f"at the rate of the record that is missed with a probability of {chance:.2g}"]


def seconds_of(record: Record) -> float:
    """The time in which the record's counts were made."""
    return max(float(record["seconds"]), 1e-6)


def attempt(
    record: Record,
    plan: Plan,
    event: Event,
    times: int,
    seconds: float | None,
    command: tuple[str, ...] = (),
) -> Attempts:
    """Run the very plan again `times` times, each until the event or for `seconds` (None: as its rate asks for)."""
    rate = low_rate(count(record, event), seconds_of(record))
    each = seconds or min(max(seconds_for(rate), SHORTEST_SECONDS), LONGEST_SECONDS)
    trials: list[Trial] = []
    for _ in range(times):
        trials.append(look(plan, event, each, command))
        if trials[-1].failed:
            break
    return Attempts(record, plan, event, rate, trials)


def promise_of(cell: Cell, event: Event, vendor: str) -> Promise:
    """What is promised of `event` in `cell`."""
    names, known = describe(cell), load_promises()
    phase = Phase.POST if event.post else Phase.CONCURRENT
    ablation = bool(names["ablation_of"])
    return known.look_up(
        names["kind"],
        names["code"],
        vendor,
        phase,
        Outcome(event.outcome),
        names["completes"],
        ablation,
    )


def own_kind(plan: Plan) -> Plan:
    """`plan` with the kind that its case has by itself: a record knows only what site and store made of it."""
    try:
        known = load_cases().get(plan.cell.case.name)
    except StressError:
        known = None
    case = replace(plan.cell.case, kind=known.kind) if known else plan.cell.case
    return replace(plan, cell=replace(plan.cell, case=case))


def _executed(plan: Plan) -> Case | None:
    """The case of `plan` with what its images return found out by executing them."""
    case = plan.cell.case
    try:
        signatures, _ = execute_mixes(plan)
    except HostError:
        return None
    images = []
    for image, (signal, code, _, value) in zip(case.images, signatures, strict=True):
        if (signal and not image.traps) or (code and not signal):
            return None
        images.append(image if image.traps else replace(image, returns=value))
    returned = [i.returns for i in images if not i.traps]
    return replace(case, images=tuple(images)) if len(set(returned)) == len(returned) else None


def make_smaller(
    plan: Plan,
    event: Event,
    vendor: str,
    longest: float,
    tell: Callable[[str], None],
    command: tuple[str, ...] = (),
) -> Shrunk:
    """The smallest plan that shows `event` as often as can be found out in searches of `longest` seconds."""
    rules = Rules(
        look=lambda candidate, seconds: look(candidate, event, seconds, command),
        strength=lambda cell: STRENGTH[promise_of(cell, event, vendor).level],
        returns=_executed,
        longest=longest,
    )
    return shrink(own_kind(plan), rules, tell)


def one_provocation(plan: Plan, record: Record, event: Event) -> Plan:
    """`plan` under the one of its provocations under which the record saw most of the event's outcome.

    None at all is preferred where the event is frequent enough without: the plan is simpler then.
    """
    these = plan.cell.provocations
    shares = record["provocations"]

    def rate(name: str) -> float:
        share = shares.get(name, {"outcomes": {}, "seconds": 0.0})
        seen = sum(row.get(event.outcome, 0) for row in share["outcomes"].values())
        return float(seen / max(share["seconds"], 1e-9))

    best = max(these, key=lambda p: (p.name == NOTHING.name and rate(p.name) >= FREQUENT, rate(p.name)))
    return replace(plan, cell=replace(plan.cell, provocations=(best,)))


def _containment(plan: Plan, signatures: Sequence[Record]) -> dict[str, bool]:
    """What a byte mix of `plan`, or anything seen of it, does: raise a signal, never end, change a register."""
    seen = [s["signal"] for s in signatures]
    if (
        plan.cell.regime.publish
    ):  # of what is published no two are the same: a slot holds filler, or nothing at all
        return {"catches": True, "hangs": "watchdog" in seen, "clobbers": True}
    codes = [s["code"] for s in signatures if not s["signal"]]
    expected = (
        plan.cell.regime.traps or plan.cell.regime.faults or any(i.traps for i in plan.cell.case.images)
    )
    try:
        images, did = execute_mixes(plan)
        told = (*images, *did)
        seen += [signal for signal, *_ in told]
        codes += [code for signal, code, *_ in told if not signal]
    except HostError:  # not known: be prepared
        return {"catches": True, "hangs": True, "clobbers": True}
    catches = bool(expected or any(seen))
    return {"catches": catches, "hangs": "watchdog" in seen, "clobbers": catches or any(codes)}


def write_c(
    plan: Plan,
    event: Event,
    record: Record,
    host: Mapping[str, Any],
    vendor: str,
    rate: float,
    shrunk: Shrunk | None,
) -> str:
    """The text of the one C file; UsageError where this sort of plan cannot be put into one."""
    resolved = as_dict(plan)
    isa = host.get("isa", "")
    refuse(resolved, isa)
    prepared = _containment(plan, record["signatures"])
    seconds = min(max(2 * seconds_for(rate), 5.0), 600.0)
    story = tell_story(plan, event, record, host, promise_of(plan.cell, event, vendor), rate, shrunk)
    subject = Subject(
        plan=resolved,
        micros=[] if plan.cell.regime.publish else compile_plan(plan),
        outcome=event.outcome,
        post=event.post,
        signal=event.signal,
        code=event.code,
        **prepared,
        story=tuple(story),
        what=f"{plan.cell.name}: looking for {event.text}",
        seconds=seconds,
    )
    return one_file(subject, isa)


def save(path: Path, text: str) -> None:
    """Write the C file; UsageError where it cannot be."""
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; give -o another name") from error
