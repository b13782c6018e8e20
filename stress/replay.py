"""A record's plan, ready to be run again: the very one, or the nearest that this machine has CPUs for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stress.errors import HostError, UsageError
from stress.model import (
    Case,
    Cell,
    ExecStep,
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
from stress.plan import as_dict
from stress.regimes import load_provocations
from stress.sites import sites_of
from stress.topology import RELATIONS, Topology, placements

Record = Mapping[str, Any]


def plan_of(record: Record) -> Plan:
    """The plan that a record says it ran: from the record alone, whatever case and regime files say by now.

    Raises:
        UsageError: it ran none, or another version of stress made it.
    """
    if not record.get("plan"):
        raise UsageError(f"{record['cell']}: was skipped ({record['reason']}); there is nothing to run again")
    resolved = record["plan"]
    try:
        plan = _plan(record, resolved)
        same = as_dict(plan) == resolved
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{record['cell']}: another version of stress made its record: {error!r}") from error
    if not same:
        wrong = [key for key, value in as_dict(plan).items() if resolved.get(key) != value]
        wrong += [key for key in resolved if key not in as_dict(plan)]
        raise UsageError(f"{record['cell']}: another version of stress made its record; {wrong[0]} differs")
    return plan


def _plan(record: Record, resolved: Record) -> Plan:
    limits = resolved["limits"]
    return Plan(
        _cell(record, resolved),
        Limits(limits["seconds"], limits["executions"], limits["patches"], limits["until_first_event"]),
        resolved["seed"],
        resolved["pace_log2"],
        resolved["slice_us"],
        resolved["repeat"],
        resolved["hang_ms"],
    )


def _cell(record: Record, resolved: Record) -> Cell:
    cpus = resolved["cpus"]
    case = _case(record, resolved)
    return Cell(
        case,
        _site(record, resolved, case),
        record["store"],
        _regime(record, resolved),
        _provocations(resolved),
        Placement(record["placement"], cpus["writer"], tuple(cpus["executors"]), *_antagonists(resolved)),
    )


def _antagonists(resolved: Record) -> tuple[int, int]:
    """The CPUs of the antagonists: the one that is nobody's, and the sibling of the first executor."""
    where = {p["antagonist"]: p["antagonist_cpu"] for p in resolved["provocations"]}
    return where.get("lines", -1), where.get("smt", -1)


def _case(record: Record, resolved: Record) -> Case:
    region, publish = resolved["region"], resolved["publish"]
    return Case(
        name=record["case"],
        kind=record["kind"],
        summary="",
        source="",
        isa="",
        entry=region["entry"],
        head=region["head"],
        patch=region["patch"],
        patch_len=region["patch_len"],
        images=tuple(
            Image(bytes.fromhex(i["bytes"]), "", i["returns"], i["traps"]) for i in region["images"]
        ),
        pads=tuple(Pad(p["offset"], bytes.fromhex(p["bytes"]), "") for p in region["pads"]),
        fields=tuple(publish["fields"]) if publish else (),
    )


def _site(record: Record, resolved: Record, case: Case) -> Site:
    publish = resolved["publish"]
    return (
        Site(64, publish["front"], address=publish["address"])
        if publish
        else sites_of(case, record["site"])[0]
    )


def _steps(steps: Sequence[Sequence[Any]]) -> tuple[Step, ...]:
    return tuple(Step(*step) for step in steps)


def _exec_steps(steps: Sequence[Sequence[Any]]) -> tuple[ExecStep, ...]:
    return tuple(ExecStep(*step) for step in steps)


def _regime(record: Record, resolved: Record) -> Regime:
    publish = resolved["publish"]
    return Regime(
        name=record["regime"],
        code=record["code"],
        summary="",
        source="",
        writer=_steps(resolved["writer"]),
        executor=_exec_steps(resolved["executor"]),
        via=resolved["via"],
        pages=resolved["pages"],
        completes=record["completes"],
        ablation_of=record["ablation_of"],
        role=record["role"],
        publish=Publishing(record["kind"], publish["address"], publish["reach"], publish["slots"])
        if publish
        else None,
    )


def _provocations(resolved: Record) -> tuple[Provocation, ...]:
    publish = resolved["publish"] or {"guesses": (), "guesses_flushed": ()}
    return tuple(
        Provocation(
            p["name"],
            "",
            _steps(p["writer"]),
            _exec_steps(p["executor"]),
            signal_us=p["signal_us"],
            antagonist=p["antagonist"],
            guess=p["name"] in publish["guesses"],
            flush_pointer=p["name"] in publish["guesses_flushed"],
        )
        for p in resolved["provocations"]
    )


def summary_of(provocation: str) -> str:
    """What a provocation of the package does, in one line; "" where it has none of that name."""
    known = load_provocations().get(provocation)
    return known.summary if known else ""


def fit(plan: Plan, topology: Topology) -> Plan:
    """`plan` on CPUs of this machine: its own where they are here and as near to each other, else the nearest.

    Raises:
        HostError: there is one CPU.
    """
    cell, wanted = plan.cell, plan.cell.placement
    if set(wanted.cpus) <= set(topology.numbers):
        return plan
    executors = min(len(wanted.executor_cpus), len(topology.cpus) - 1)
    at = RELATIONS.index(wanted.relation) if wanted.relation in RELATIONS else 0
    for name in sorted(RELATIONS, key=lambda r: abs(RELATIONS.index(r) - at)):
        if name in topology.relations:
            placement = placements(topology, [name], executors)[0]
            return replace(plan, cell=replace(cell, placement=placement))
    raise HostError("one CPU is allowed; an executor and a writer need two")
