"""What all cells of a regime showed together: sums that take one cell after the other, and keep none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from stress.charges import Record, modified
from stress.grade import NEEDED, Verdict
from stress.model import Grade, Outcome, Status
from stress.stats import upper_bound_95
from stress.witness import Tears


@dataclass(frozen=True, slots=True)
class RegimeLine:
    """What all cells of one regime showed together. Skipped ones count nowhere. `None`: not measured."""

    regime: str
    cells: int
    executions: int
    patches: int
    old: int
    new: int
    torn: int
    stale: int
    fault: int
    trap: int
    hang: int
    store_tears: int | None
    fetch_tears: int | None
    seconds: float
    upper_bound_95: float
    grade: Grade


ORDER = tuple(Grade)
"""Worst first."""


def worst(grades: Iterable[Grade]) -> Grade:
    """Return the worst of `grades`, FORBIDDEN first; of none, UNPROVEN."""
    return min(grades, key=ORDER.index, default=Grade.UNPROVEN)


@dataclass(slots=True)
class _Sum:
    """The cells of one regime so far. `proving`, `proving_patches`: of those that proved something, together."""

    outcomes: Counter[str] = field(default_factory=Counter)
    cells: int = 0
    executions: int = 0
    patches: int = 0
    events: int = 0
    seconds: float = 0.0
    tears: Tears | None = field(default_factory=Tears)
    grades: set[Grade] = field(default_factory=set)
    short_at_worst: bool = True
    modified: bool = False
    proving: int = 0
    proving_patches: int = 0
    needed: tuple[int, int] = (1, 1)

    def add(self, record: Record, verdict: Verdict, tears: Tears | None) -> None:
        for row in record["outcomes"].values():
            for outcome, n in row.items():
                self.outcomes[outcome] += n
        self.cells += 1
        self.executions += verdict.trials
        self.patches += record["patches"]
        self.events += verdict.events
        self.seconds += record["seconds"]
        self.tears = None if self.tears is None or tears is None else self.tears + tears
        self.grades.add(verdict.grade)
        self.short_at_worst &= verdict.only_short or verdict.grade is Grade.CLEAN
        self.modified |= modified(record)
        self.proving += verdict.proving
        self.proving_patches += record["patches"] if verdict.proving else 0
        needed = NEEDED[verdict.promise_level]
        self.needed = max(self.needed[0], needed.executions), max(self.needed[1], needed.patches)

    @property
    def grade(self) -> Grade:
        """The worst of the cells' grades; but cells that are only too short prove together what none does alone.

        What a promise needs is a number of executions and patches; which of a regime's cells made them does not matter.
        """
        found = worst(self.grades)
        if found is not Grade.UNPROVEN or not (self.cells and self.short_at_worst):
            return found
        executions, patches = self.needed
        enough = self.proving >= executions and (self.proving_patches >= patches or not self.modified)
        return Grade.CLEAN if enough else Grade.UNPROVEN


class ByRegime:
    """A line a regime, in the order in which cells first name them, of cells that are added one by one."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, record: Record, verdict: Verdict, tears: Tears | None = None, name: str = "") -> None:
        """Count one cell. `tears`: `Evidence.tears` of it, None where nobody asks; `name`: in place of its regime's."""
        total = self._sums.setdefault(name or record["regime"], _Sum())
        if record["status"] != Status.SKIPPED:
            total.add(record, verdict, tears)

    @property
    def lines(self) -> list[RegimeLine]:
        """What was counted so far. A regime of which every cell was skipped is UNPROVEN."""
        return [
            RegimeLine(
                regime=regime,
                cells=its.cells,
                executions=its.executions,
                patches=its.patches,
                **{outcome.value: its.outcomes[outcome] for outcome in Outcome},
                store_tears=its.tears.store if its.tears else None,
                fetch_tears=its.tears.fetch if its.tears else None,
                seconds=its.seconds,
                upper_bound_95=upper_bound_95(its.events, its.executions),
                grade=its.grade,
            )
            for regime, its in self._sums.items()
        ]
