"""From what was asked for to what is run: select, combine, skip with a reason, resolve into plans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from stress.errors import UsageError
from stress.fits import antagonist_cpu, reason
from stress.model import (
    KERNEL_VIAS,
    Case,
    Cell,
    ExecStep,
    Limits,
    Placement,
    Plan,
    Provocation,
    Regime,
    Site,
    Skip,
    Step,
)
from stress.publish import front_of, publishing
from stress.sites import STORES, kind_at, place, sites_of

T = TypeVar("T")

Words = Iterable[str] | Callable[[Case, Regime], Iterable[str]]
"""Words of the command line, or what stands for them, case by case, where nobody gave any."""

SLICE_US = 50_000
"""Longest time that one provocation stays on before the next has its turn."""

PACE_LOG2 = 12
"""Pauses after a patch reach 2^12 ticks: about a microsecond and a half, where on the machines measured both the
concurrent and the post phase see many executions (docs/design.md)."""


PACES_LOG2 = (0, 18)
"""The paces that have turns beside the plan's own: no pause at all, and pauses that reach 100 microseconds."""


def select(known: Mapping[str, T], words: Iterable[str], option: str) -> list[T]:
    """The values of `known` that `words` name: names, globs, comma lists, or `all`; in the order of `known`.

    Raises:
        UsageError: a word matches nothing; the text lists what there is.
    """
    chosen: set[str] = set()
    for word in (part.strip() for chunk in words for part in chunk.split(",")):
        pattern = "*" if word == "all" else word
        # A name may hold glob characters only by accident, so an exact name wins.
        matches = {word} if word in known else {name for name in known if fnmatchcase(name, pattern)}
        if not matches:
            raise UsageError(f"{option}: '{word}' matches nothing; there are: {', '.join(known)}")
        chosen |= matches
    return [value for name, value in known.items() if name in chosen]


def _words(chunks: Iterable[str]) -> list[str]:
    return [word.strip() for chunk in chunks for word in chunk.split(",") if word.strip()]


def check_stores(chunks: Iterable[str]) -> list[str]:
    """The stores that `--stores` names, in canonical order; UsageError on an unknown one."""
    return select({name: name for name in STORES}, chunks, "--stores")


def _fitting(turn: tuple[Provocation, ...], regime: Regime) -> tuple[Provocation, ...]:
    """Those of `turn` that make sense under `regime`: only a publication can be guessed, only a patch has its lines."""
    return tuple(p for p in turn if not (p.antagonist == "lines" if regime.publish else p.guess))


def _sites(case: Case, regime: Regime, words: Words) -> list[Site]:
    """The sites that `words` mean; of published code, the one whose address is as the regime wants it."""
    if regime.publish:
        return [Site(64, front_of(case), address=regime.publish.address)]
    named = _words(words(case, regime) if callable(words) else words)
    return list(dict.fromkeys(site for word in named for site in sites_of(case, word)))


def cells(
    cases: Sequence[Case],
    sites: Words,
    stores: Sequence[str],
    regimes: Sequence[Regime],
    provocations: Sequence[tuple[Provocation, ...]],
    placements: Sequence[Placement],
    features: frozenset[str],
) -> tuple[list[Cell], list[Skip]]:
    """Every combination that was asked for: those that can be run, and those that cannot, with the reason.

    `sites`: words, or what gives those for a case under a regime; `provocations` holds one tuple a cell: of one (on all
    the time), or of several (they take turns).

    Raises:
        UsageError: a site word is malformed.
    """
    run: list[Cell] = []
    skips: list[Skip] = []
    words = sites if callable(sites) else _words(sites)
    for case in cases:
        for regime in regimes:
            # Code that alternates in place is not published, nor the other way round: there is nothing to combine.
            if bool(case.fields) != bool(regime.publish):
                continue
            turns = [fitting for turn in provocations if (fitting := _fitting(turn, regime))]
            for site in _sites(case, regime, words):
                # A writer that stores nothing does not store nothing in several ways.
                for store in stores if regime.patches else ("copy",) if regime.publish else stores[:1]:
                    for turn in turns:
                        for placement in placements:
                            cell = Cell(case, site, store, regime, turn, placement)
                            wrong = reason(cell, features)
                            if wrong:
                                skips.append(Skip(cell, wrong))
                            else:
                                run.append(cell)
    return run, skips


def plans(
    cells: Sequence[Cell], limits: Limits, seed: int, repeat: int = 1, pace_log2: int = PACE_LOG2
) -> list[Plan]:
    """One plan for each cell and repetition; each draws its own seed from `seed` and its name, so order is free."""
    slots = max((len(cell.provocations) for cell in cells), default=1)
    slice_us = max(2_000, min(SLICE_US, int(limits.seconds * 1e6 / (2 * slots)) or SLICE_US))
    return [
        Plan(cell, limits, _mix(seed, cell.name, turn), pace_log2, slice_us, turn)
        for turn in range(repeat)
        for cell in cells
    ]


def alone(case: Case, cpu: int, features: frozenset[str]) -> Plan:
    """A plan to execute the byte mixes of `case` by: on one CPU, inside one aligned block, nobody patching."""
    via = "same" if "rwx" in features else "alias"
    regime = Regime("alone", "R0", "nobody patches", "none", (), via=via)
    placement = Placement("alone", cpu, (cpu,))
    cell = Cell(case, sites_of(case, "in")[0], "bytes", regime, (Provocation("none", ""),), placement)
    return Plan(cell, Limits(), 0, 0, 0)


def _mix(seed: int, name: str, repeat: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _steps(steps: Iterable[Step]) -> list[list[Any]]:
    return [[step.op, step.part, step.value] for step in steps]


def _exec_steps(steps: Iterable[ExecStep]) -> list[list[Any]]:
    return [[step.op, step.on_change] for step in steps]


def _region(cell: Cell) -> dict[str, Any]:
    case = cell.case
    return {
        "images": [
            {"bytes": image.bytes.hex(), "returns": image.returns, "traps": image.traps}
            for image in case.images
        ],
        "pads": [{"offset": pad.offset, "bytes": pad.bytes.hex()} for pad in case.pads],
        "entry": case.entry,
        "head": case.head,
        "trap_pc": case.head + 1,
        "patch": case.patch,
        "patch_len": case.patch_len,
        "split": 0 if case.fields else cell.site.front,
        "place": place(case, Site(0)) + case.patch
        if case.fields
        else place(case, cell.site, cell.regime.pages),
    }


def _turns(plan: Plan) -> list[list[int]]:
    """What takes turns, in the order of the first turns: provocation (its index), pace, number of executors.

    None where there is one provocation: then nothing is chosen. Published code is waited for by all executors.
    """
    cell, paces = plan.cell, dict.fromkeys((plan.pace_log2, *PACES_LOG2))
    every = len(cell.placement.executor_cpus)
    crews = dict.fromkeys((every,) if cell.regime.publish else (every, 1))
    some = range(len(cell.provocations)) if len(cell.provocations) > 1 else ()
    return [[i, pace, crew] for crew in crews for pace in paces for i in some]


def as_dict(plan: Plan) -> dict[str, Any]:
    """`plan` with every name resolved, ready for JSON: what the native core needs, and all of it."""
    cell, limits = plan.cell, plan.limits
    return {
        "cell": cell.name,
        "region": _region(cell),
        "via": cell.regime.via,
        "store": cell.store,
        "window": any(step.op == "publish" for step in cell.regime.writer),
        "traps": cell.regime.traps,
        "faults": cell.regime.faults,
        "guards": cell.regime.guards,
        "pages": cell.regime.pages,
        "observe": cell.regime.role == "witness",
        "publish": publishing(cell),
        "writer": _steps(cell.regime.writer),
        "executor": _exec_steps(cell.regime.executor),
        "provocations": [
            {
                "name": p.name,
                "writer": _steps(p.writer),
                "executor": _exec_steps(p.executor),
                "signal_us": p.signal_us,
                "antagonist": p.antagonist,
                "antagonist_cpu": antagonist_cpu(p, cell.placement),
            }
            for p in cell.provocations
        ],
        "cpus": {"writer": cell.placement.writer_cpu, "executors": list(cell.placement.executor_cpus)},
        "limits": {
            "seconds": limits.seconds,
            "executions": limits.executions,
            "patches": limits.patches,
            "until_first_event": limits.until_first_event,
        },
        "seed": plan.seed,
        "pace_log2": plan.pace_log2,
        "slice_us": plan.slice_us,
        "turns": _turns(plan),
        "hang_ms": plan.hang_ms,
        "repeat": plan.repeat,
    }


def plan_id(resolved: Mapping[str, Any]) -> str:
    """16 hex digits that name a plan: a hash of everything in it."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kind(cell: Cell) -> str:
    """The kind that the modification is; where the kernel copies nobody promises that it is not several stores."""
    regime, case = cell.regime, cell.case
    if regime.via in KERNEL_VIAS and case.patch_len > 1:
        return "K15"
    return regime.kind or kind_at(case, cell.site, cell.store, regime.via != "same", regime.pages)


def describe(cell: Cell) -> dict[str, Any]:
    """The fields of a record that name its cell, for JSON."""
    regime = cell.regime
    return {
        "cell": cell.name,
        "case": cell.case.name,
        "kind": _kind(cell),
        "site": cell.site.name,
        "store": cell.store,
        "role": regime.role,
        "shape": regime.shape,
        "regime": regime.name,
        "code": regime.code,
        "completes": regime.completes,
        "ablation_of": regime.ablation_of,
        "provocation": cell.provocation,
        "placement": cell.placement.relation,
        "cpus": list(cell.placement.cpus),
        "bugs": list(cell.bugs),
    }
