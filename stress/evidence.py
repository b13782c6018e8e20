"""What the records of a run say about each other: the cells, and the controls and witnesses that ran beside them.

A *positive control* patches the same case at the same site on the same CPUs a byte at a time with nobody
synchronizing: a store known to tear. A run that saw nothing there could have seen nothing anywhere. Its *witness*
reads the same store as data (stress/witness.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stress.model import Cell, Regime, Status, Step
from stress.publish import control_of
from stress.sites import misfit
from stress.witness import Tears, path_of, tears_of, witnesses

Record = Mapping[str, Any]

CONTROL = Regime(
    name="control",
    code="R0",
    summary="patch a byte at a time, and nobody synchronizes: the positive control",
    source="AMD APM volume 2 (24593), 7.6.1: only a store inside one aligned quadword is covered",
    writer=(Step("store", "all", "new"),),
    role="control",
)
CONTROL_STORE = "bytes"


def controls(cells: Iterable[Cell]) -> list[Cell]:
    """One positive control for each case, site and placement among `cells` where one can be: more than one byte."""
    found: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        key = (cell.case.name, cell.site, cell.placement)
        if cell.regime.publish:
            found.setdefault(key, replace(cell, regime=control_of(cell.regime.publish.address)))
        elif not misfit(cell.case, cell.site, CONTROL_STORE):
            regime = replace(CONTROL, via=cell.regime.via, pages=cell.regime.pages)
            found.setdefault(key, replace(cell, store=CONTROL_STORE, regime=regime))
    return list(found.values())


def companions(cells: Iterable[Cell]) -> list[Cell]:
    """The controls and witnesses that make the results of `cells` mean something."""
    cells = list(cells)
    return controls(cells) + witnesses(cells)


def role_of(record: Record) -> str:
    """`cell`, `control` or `witness`."""
    return str(record.get("role", "cell"))


def place_of(record: Record) -> tuple[Any, ...]:
    """What a cell has in common with its positive control: machine, case, site and CPUs."""
    return (*(record.get(key, "") for key in ("host", "case", "site")), *record["cpus"])


def _watched(record: Record) -> tuple[Any, ...]:
    """What a record and its witness have in common: the place, the store, and who does the storing."""
    plan = record.get("plan") or {}
    return (*place_of(record), record["store"], path_of(plan.get("via", "same"), plan.get("pages", "4k")))


def saw_events(record: Record) -> bool:
    """Whether a record counted anything torn, faulting or hanging."""
    rows = record["outcomes"].values()
    return any(row.get(outcome, 0) for row in rows for outcome in ("torn", "fault", "hang"))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What ran beside the cells of a run: whether the controls of a place saw events, and who watched what."""

    controls: Mapping[tuple[Any, ...], bool]
    witnesses: Mapping[tuple[Any, ...], Record]

    def control(self, record: Record) -> bool | None:
        """Whether the positive control of this record saw events; None where the run had none for it."""
        return self.controls.get(place_of(record))

    def witness(self, record: Record) -> Record | None:
        """The witness that watched the same store at the same site on the same CPUs, or None."""
        return self.witnesses.get(_watched(record))

    def tears(self, record: Record) -> Tears | None:
        """How many of its wrong executions were store tears and fetch tears; None where no witness ran."""
        witness = self.witness(record)
        if witness is None and saw_events(record):
            return None
        return tears_of(record, witness)


def cells_of(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the end records of cells, no start records and no companions."""
    return (record for record in records if record["type"] == "end" and role_of(record) == "cell")


def gather(records: Iterable[Record]) -> Evidence:
    """The evidence in `records`. Of several controls in one place one that saw counts."""
    seen: dict[tuple[Any, ...], bool] = {}
    watched: dict[tuple[Any, ...], Record] = {}
    for record in records:
        if record["type"] != "end" or record["status"] != Status.OK:
            continue
        role = role_of(record)
        if role == "control":
            seen[place_of(record)] = seen.get(place_of(record), False) or saw_events(record)
        elif role == "witness":
            watched[_watched(record)] = record
    return Evidence(seen, watched)
