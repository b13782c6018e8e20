"""The report page's view model: what is shown of each machine, worked out from records. Pure: no file, no HTML.

A full account of every cell would be a book: the noteworthy cells get one (`CellView.section`), the others a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stress.aggregate import ORDER, ByRegime, RegimeLine, worst
from stress.cellview import CellView, Section, section_of
from stress.charges import Record
from stress.charts import Histogram, Place, paces, places, staleness
from stress.evidence import cells_of, gather
from stress.grade import counts_of, grade, total
from stress.model import Grade, Status
from stress.promises import Promises
from stress.stats import rate_text
from stress.table import NotRun, Scores, controls_seen, si, under_text

SECTIONS, SECTIONS_AT_LEAST = 60, 10
"""Cells with a full account: on the whole page, and of each machine however many there are."""

VERDICTS = {
    Grade.FORBIDDEN: "{who} executed what the vendor's manual forbids.",
    Grade.SURPRISING: "{who} executed what no manual forbids, but what Linux or a JIT depends on never seeing.",
    Grade.INTERESTING: "No promise was broken. Code went wrong only where the manuals allow it.",
    Grade.UNPROVEN: "Nothing went wrong, but what was run could not have proved that nothing can.",
    Grade.CLEAN: "Nothing went wrong: only old and new code was executed.",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder: its header, its records, and the events of each record's id."""

    header: Mapping[str, Any]
    records: Sequence[Record]
    events: Mapping[str, Sequence[Record]]


@dataclass(frozen=True, slots=True)
class Regime:
    """A regime's line of the table, its cells, and the rate of the worst of them. `claim`: that it completes."""

    anchor: str
    line: RegimeLine
    code: str
    claim: bool
    ablation_of: str
    cells: tuple[CellView, ...]
    rate: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Regimes by cases. `groups`: code, what it means, and rows of a regime and one cell (or None) a case."""

    title: str
    cases: tuple[str, ...]
    groups: tuple[tuple[str, str, tuple[tuple[Regime, tuple[CellView | None, ...]], ...]], ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that the page says of one machine."""

    anchor: str
    name: str
    grade: Grade
    tally: Mapping[Grade, int]
    ran: str
    checks: tuple[str, ...]
    held: tuple[Regime, ...]
    wrong: tuple[Regime, ...]
    unsettled: tuple[Regime, ...]
    regimes: tuple[Regime, ...]
    matrices: tuple[Matrix, ...]
    places: tuple[Place, ...]
    stale: tuple[Histogram, ...]
    paces: tuple[Histogram, ...]
    sections: tuple[Section, ...]
    not_run: tuple[str, ...]
    host: tuple[tuple[str, str], ...]
    runs: tuple[Mapping[str, Any], ...]

    @property
    def verdict(self) -> str:
        """The grade in a sentence, about what was under test where that was not the machine."""
        under = self.runs[0].get("host", {}).get("under", {})
        return VERDICTS[self.grade].format(
            who=Path(under["command"].split()[0]).name if under else "This machine"
        )


@dataclass(frozen=True, slots=True)
class Page:
    """The machines, and regime by regime what each of them showed. `None`: the regime was not run there."""

    machines: tuple[Machine, ...]
    side_by_side: tuple[tuple[str, tuple[Regime | None, ...]], ...]

    @property
    def grade(self) -> Grade:
        """The worst of all machines."""
        return worst(machine.grade for machine in self.machines)

    @property
    def verdict(self) -> str:
        """The grade in a sentence that says how many machines earned it."""
        many = sum(machine.grade is self.grade for machine in self.machines)
        return VERDICTS[self.grade].format(who=f"{many} of {len(self.machines)} machines")


def page_of(runs: Iterable[Run], promises: Promises, rank: Callable[[str], int], vendor: str = "") -> Page:
    """Return what the page says of `runs`; those with one fingerprint are one machine's.

    `rank`: the place of a regime's name in the order of the page; `vendor`: as in `grade.grade`.
    """
    by_host: dict[str, list[Run]] = {}
    for run in runs:
        by_host.setdefault(run.header.get("fingerprint", ""), []).append(run)
    room = max(SECTIONS_AT_LEAST, SECTIONS // len(by_host))
    machines = tuple(
        _machine(f"m{n}", theirs, promises, rank, vendor, room) for n, theirs in enumerate(by_host.values())
    )
    names = dict.fromkeys(regime.line.regime for machine in machines for regime in machine.regimes)
    known = [{regime.line.regime: regime for regime in machine.regimes} for machine in machines]
    table = tuple((name, tuple(of.get(name) for of in known)) for name in sorted(names, key=rank))
    return Page(machines, table)


def _machine(
    anchor: str, runs: Sequence[Run], promises: Promises, rank: Callable[[str], int], vendor: str, room: int
) -> Machine:
    records = sorted(_union(runs), key=lambda r: (rank(r.get("regime", "")), r["cell"]))
    evidence, header = gather(records), runs[0].header
    ends = list(cells_of(records))
    verdicts = [grade(r, promises, evidence.control(r), vendor) for r in ends]
    ran = [
        CellView(r, v, f"{anchor}c{i}")
        for i, (r, v) in enumerate(zip(ends, verdicts, strict=True))
        if r["status"] != Status.SKIPPED
    ]
    sums, scores, rest = ByRegime(), Scores(), NotRun()
    for record, verdict in zip(ends, verdicts, strict=True):
        sums.add(record, verdict, evidence.tears(record))
        scores.add(record, verdict)
    for record in records:
        if record["type"] == "end":
            rest.add(record)
    chosen = [replace(cell, section=f"{cell.row}s") for cell in noteworthy(ran)[:room]]
    by_row = {cell.row: cell for cell in chosen}
    cells = [by_row.get(cell.row, cell) for cell in ran]
    regimes = _regimes(anchor, cells, sums.lines)
    claims = [regime for regime in regimes if regime.claim and not regime.ablation_of]
    claims.sort(key=lambda regime: ORDER.index(regime.line.grade))
    events = {name: lines for run in runs for name, lines in run.events.items()}
    isa, request = header.get("host", {}).get("isa", ""), header.get("request", {})
    return Machine(
        anchor=anchor,
        name=_name(header),
        grade=worst(cell.verdict.grade for cell in cells),
        tally={word: sum(cell.verdict.grade is word for cell in cells) for word in Grade},
        ran=_ran(cells),
        checks=(*controls_seen(evidence), *scores.rows()),
        held=tuple(r for r in claims if r.line.grade is Grade.CLEAN),
        wrong=tuple(r for r in claims if r.line.grade not in (Grade.CLEAN, Grade.UNPROVEN)),
        unsettled=tuple(r for r in claims if r.line.grade is Grade.UNPROVEN),
        regimes=regimes,
        matrices=_matrices(regimes, promises),
        places=places((c.record, c.verdict) for c in cells),
        stale=staleness([c.record for c in cells]),
        paces=paces(c.record for c in cells),
        sections=tuple(section_of(c, evidence, events.get(c.record["id"], ()), isa, request) for c in chosen),
        not_run=tuple(rest.rows(len(records) - sum(r["type"] == "end" for r in records))),
        host=tuple(_host(header.get("host", {}))),
        runs=tuple(run.header for run in runs),
    )


def _union(runs: Sequence[Run]) -> list[Record]:
    """The records of one machine, each plan once, as an `Archive` has them."""
    ends: dict[str, Record] = {}
    for run in runs:
        for record in run.records:
            if record["type"] == "end":
                ends.setdefault(record["id"], record)
    starts = {r["id"]: r for run in runs for r in run.records if r["type"] == "start" and r["id"] not in ends}
    return [*ends.values(), *starts.values()]


def noteworthy(cells: Iterable[CellView]) -> list[CellView]:
    """Return the cells worth a full account, the most so first.

    Broken promises; what failed in the harness; then of each regime the cell that showed most; then the rest of those
    that showed events.
    """
    cells = sorted((c for c in cells if c.record["plan"] and (c.verdict.events or c.failed)), key=_alarm)
    first: dict[str, str] = {}
    for cell in cells:
        first.setdefault(cell.record["regime"], cell.row)
    return sorted(cells, key=lambda c: (_broken(c), not c.failed, first[c.record["regime"]] != c.row))


def _broken(cell: CellView) -> int:
    return min(ORDER.index(cell.verdict.grade), ORDER.index(Grade.INTERESTING))


def _alarm(cell: CellView) -> tuple[int, float]:
    return ORDER.index(cell.verdict.grade), -cell.share


def _regimes(anchor: str, cells: Sequence[CellView], lines: Iterable[RegimeLine]) -> tuple[Regime, ...]:
    by_name: dict[str, list[CellView]] = {}
    for cell in cells:
        by_name.setdefault(cell.record["regime"], []).append(cell)
    found = []
    for i, line in enumerate(lines):
        if theirs := by_name.get(line.regime):
            most = max(theirs, key=lambda c: c.share)
            rate = most.rate if most.verdict.events else rate_text(0, line.executions)
            r = theirs[0].record
            found.append(
                Regime(
                    f"{anchor}r{i}", line, r["code"], r["completes"], r["ablation_of"], tuple(theirs), rate
                )
            )
    return tuple(found)


def _matrices(regimes: Sequence[Regime], promises: Promises) -> tuple[Matrix, ...]:
    titles = {
        "toggle": "Code patched while it is executed",
        "publish": "Code published before it is executed",
    }
    made = []
    for shape, title in titles.items():
        these = [r for r in regimes if r.cells[0].record.get("shape", "toggle") == shape]
        if not these:
            continue
        cases = tuple(sorted({c.record["case"] for r in these for c in r.cells}))
        groups = []
        for code in dict.fromkeys(r.code for r in these):
            rows = tuple((r, _row(r, cases)) for r in these if r.code == code)
            groups.append((code, promises.codes.get(code, ""), rows))
        made.append(Matrix(title, cases, tuple(groups)))
    return tuple(made)


def _row(regime: Regime, cases: Sequence[str]) -> tuple[CellView | None, ...]:
    """The worst cell of each case, or None where there is none."""
    by_case: dict[str, list[CellView]] = {}
    for cell in regime.cells:
        by_case.setdefault(cell.record["case"], []).append(cell)
    return tuple(min(by_case[case], key=_alarm) if case in by_case else None for case in cases)


def _name(header: Mapping[str, Any]) -> str:
    host = header.get("host", {})
    guest = ", a virtual machine" if host.get("hypervisor") else ""
    under = f"{text.replace('`', '')} on " if (text := under_text(host.get("under", {}))) else ""
    return f"{under}{host.get('model_name') or host.get('vendor') or 'a machine'}{guest}"


def _ran(cells: Sequence[CellView]) -> str:
    executions = sum(total(counts_of(c.record)) for c in cells)
    patches = sum(c.record["patches"] for c in cells)
    regimes, cases = ({c.record[key] for c in cells} for key in ("regime", "case"))
    seconds = sum(c.record["seconds"] for c in cells)
    return (
        f"{len(cells)} cells ran, {len(cases)} cases under {len(regimes)} regimes: {si(executions)} executions and "
        f"{si(patches)} patches in {seconds:.0f} seconds of racing"
    )


def _host(host: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What the run knows of its machine, a line a fact; what is empty is left out."""
    for key, value in host.items():
        if value in ("", None, [], {}):
            continue
        if key == "machine":
            yield "cpus", str(len(value))
        elif isinstance(value, Mapping):
            yield key, "; ".join(f"{name}: {text}" for name, text in value.items())
        elif isinstance(value, list):
            yield key, ", ".join(map(str, value))
        else:
            yield key, str(value)
