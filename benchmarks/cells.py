"""What the benchmarks run: plans of the shipped cases and regimes, changed a little, executed in this process."""

from __future__ import annotations

from functools import cache
from typing import Any

from stress import blackbox, native
from stress.cases import load_cases
from stress.host import read_host
from stress.model import Case, Cell, Limits, Placement, Plan, Provocation, Publishing, Regime, Site
from stress.plan import SLICE_US, as_dict
from stress.publish import front_of
from stress.regimes import load_provocations, load_regimes
from stress.topology import placements

EVENTS = ("torn", "stale", "fault", "hang")
NONE = (Provocation("none", "nothing"),)
INSIDE = Site(0)
IDLE = Regime("idle", "R0", "nothing is stored", "none", ())


@cache
def where() -> Placement:
    """The placement that a run would choose here: the writer's CPU, and one executor's."""
    return placements(read_host().topology, ["auto"], 1)[0]


@cache
def case(name: str) -> Case:
    """A shipped case."""
    return load_cases()[name]


@cache
def regime(name: str) -> Regime:
    """A shipped regime, or one that a template makes."""
    return load_regimes(asked=[name])[name]


def published(name: str) -> Publishing:
    """What is special about a shipped regime that publishes."""
    publish = regime(name).publish
    assert publish
    return publish


@cache
def auto() -> tuple[Provocation, ...]:
    """The provocations that take turns in a cell of `--provoke auto`."""
    return tuple(p for p in load_provocations().values() if p.turns and not p.guess)


def plan(
    of: Case,
    discipline: Regime,
    seconds: float,
    site: Site = INSIDE,
    provocations: tuple[Provocation, ...] = NONE,
    pace_log2: int = 0,
    seed: int = 1,
    placement: Placement | None = None,
    until_first: bool = False,
) -> dict[str, Any]:
    """A plan as the core takes it: at full speed, unprovoked, inside an aligned 8, unless something else is said."""
    if discipline.publish:
        site = Site(64, front_of(of), address=discipline.publish.address)
    store = "copy" if discipline.publish else "whole"
    cell = Cell(of, site, store, discipline, provocations, placement or where())
    limits = Limits(seconds, until_first_event=until_first)
    return as_dict(Plan(cell, limits, seed, pace_log2, SLICE_US))


def run(of: dict[str, Any]) -> dict[str, Any]:
    """What the core counted of a plan: the counted half of a record."""
    box = bytearray(blackbox.result_bytes())
    native.run(of, box)
    return blackbox.decode(of, box)


def count(result: dict[str, Any], *outcomes: str) -> int:
    """Executions with one of the outcomes; all, where none is named."""
    rows = result["outcomes"].values()
    return sum(n for row in rows for name, n in row.items() if not outcomes or name in outcomes)
