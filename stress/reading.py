"""A run as its readers see it: records, what they are held against, and one finding a cell. Formats are given this."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from stress.aggregate import ByRegime, RegimeLine, worst
from stress.evidence import Evidence, cells_of, gather, role_of
from stress.grade import Verdict, counts_of, grade, total
from stress.model import Grade, Outcome, Status
from stress.promises import Promises
from stress.severity import FAIL_ON, Result, judge

Record = Mapping[str, Any]

UNFINISHED = "unfinished"
"""In place of a status: the cell was begun and left no end line. It may be what took the machine down."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one cell of a run came to. `verdict` None: it was begun and left no end line.

    `path`: dot-separated parts of `[A-Za-z0-9_-]`, the form of names that KCIDB takes and LAVA does too; different
    cells have different ones. `again`: commands that show it again, one line each. `why`: one line.
    """

    record: Record
    verdict: Verdict | None
    result: Result
    path: str
    why: str
    again: tuple[str, ...]

    @property
    def cell(self) -> str:
        """The cell's name."""
        return str(self.record["cell"])

    @property
    def status(self) -> str:
        """The record's status, or `unfinished`."""
        return str(self.record["status"]) if self.verdict else UNFINISHED

    @property
    def grade(self) -> str:
        """The grade of a cell that ran, else ""."""
        return self.verdict.grade if self.verdict and self.status != Status.SKIPPED else ""


class Records(Protocol):
    """The records of a run, or of several merged. What is iterable can be iterated any number of times.

    A record with a `home` was read from that run folder, where there are several.
    """

    @property
    def cells(self) -> Iterable[Record]:
        """The end records of cells."""

    @property
    def companions(self) -> Iterable[Record]:
        """The end records of what ran beside them."""

    @property
    def begun(self) -> Collection[Record]:
        """The start records of cells that were not finished."""

    @property
    def names(self) -> Mapping[str, int]:
        """How many of `cells` have each name."""

    @property
    def hosts(self) -> Collection[str]:
        """The machines that they are of, where they say."""


class Listed:
    """Records that are in memory."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Take them in this order."""
        records = list(records)
        ends = [record for record in records if record["type"] == "end"]
        ended = {record["id"] for record in ends}
        self.cells = tuple(cells_of(ends))
        self.companions = tuple(record for record in ends if role_of(record) != "cell")
        self.begun = tuple(r for r in records if r["type"] == "start" and r["id"] not in ended)
        self.names = Counter(record["cell"] for record in self.cells)
        self.hosts = {record.get("host", "") for record in records} - {""}


@dataclass(frozen=True)
class Reading:
    """A run's header and records, and how to read them: what every format is written from.

    `vendor`: as in `grade.grade`. `colour`: whether text may hold ANSI colours. `fail_on`: grades that fail. `known`:
    cells of a baseline and their worst grades. `folders`: run folders that the records are from. `width`: columns that
    a table may have.
    """

    run: Mapping[str, Any]
    records: Records
    promises: Promises
    vendor: str = ""
    colour: bool = False
    fail_on: Collection[str] = FAIL_ON
    known: Mapping[str, Grade] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    width: int = 100

    @cached_property
    def evidence(self) -> Evidence:
        """What ran beside the cells."""
        return gather(self.records.companions)

    @cached_property
    def lines(self) -> list[RegimeLine]:
        """What the cells of each regime showed together."""
        found = ByRegime()
        for record in self.records.cells:
            found.add(record, self.verdict(record), self.evidence.tears(record))
        return found.lines

    def verdict(self, record: Record) -> Verdict:
        """The verdict on a cell's end record."""
        return grade(record, self.promises, self.evidence.control(record), self.vendor)

    @property
    def findings(self) -> Iterator[Finding]:
        """One a cell, in the order of the records; cells that were begun and not finished come last."""
        yield from map(self.finding, self.records.cells)
        yield from map(self.finding, self.records.begun)

    def __len__(self) -> int:
        """How many findings there are."""
        return sum(self.records.names.values()) + len(self.records.begun)

    @property
    def failed(self) -> bool:
        """Whether any cell fails."""
        return any(finding.result is Result.FAIL for finding in self.findings)

    def finding(self, record: Record) -> Finding:
        """What the cell of `record` came to, an end record or the start record of a cell without one."""
        verdict = self.verdict(record) if record["type"] == "end" else None
        home = record.get("home", *self.folders[:1])
        if verdict is None:
            again: tuple[str, ...] = (shlex.join(["stress", "run", "--resume", home]),) if home else ()
            why = "was begun and never ended: it may be what took the machine down; --resume goes on"
            return Finding(record, None, Result.ERROR, self._path(record), why, again)
        again_and_again = (
            self.records.names[record["cell"]] > 1 or (self.run.get("request") or {}).get("repeat", 1) > 1
        )
        name = record["id"] if again_and_again else record["cell"]
        where = shlex.join([name, *(("--run", home) if home else ())])
        again = (f"stress explain {where}", f"stress repro {where}")
        known = self._is_known(record["cell"], verdict)
        result = judge(record["status"], verdict.grade, self.fail_on, known, record.get("died", False))
        why = record["reason"] if record["status"] == Status.SKIPPED else verdict.reasons[0]
        why = f"{'known from the baseline: ' if known and result is Result.XFAIL else ''}{why}"
        return Finding(record, verdict, result, self._path(record), " ".join(why.split()), again)

    def settled(self, record: Record) -> bool:
        """Whether the result of an end record is the same whatever its positive control will see."""
        grades = {grade(record, self.promises, saw, self.vendor).grade for saw in (True, False)}
        return len(grades) == 1

    def _is_known(self, cell: str, verdict: Verdict) -> bool:
        return cell in self.known and worst((self.known[cell], verdict.grade)) is self.known[cell]

    def _path(self, record: Record) -> str:
        repeat = (record.get("plan") or {}).get("repeat", 0)
        host = [record.get("host", "")] if len(self.records.hosts) > 1 else []
        return ".".join([*host, path_of(record["cell"]), *([f"R{repeat}"] if repeat else [])])


def path_of(cell: str) -> str:
    """Return a cell's name as dot-separated parts of letters, digits, `-` and `_`; different names stay different.

    Names hold no capitals and no underscore, so `_` can stand for `+` and `P` for a point.
    """
    case, _, rest = cell.partition("@")
    site, _, rest = rest.partition("/")
    store, *more = rest.replace("~", ":").split(":")
    return ".".join(part.replace("+", "_").replace(".", "P") for part in (case, site, store, *more))


def worst_of(findings: Iterable[Finding]) -> dict[str, Grade]:
    """Return the worst grade of each cell that ran, by its name: what a baseline is."""
    found: dict[str, Grade] = {}
    for finding in findings:
        if finding.verdict and finding.grade:
            before = found.get(finding.cell, Grade.CLEAN)
            found[finding.cell] = worst((before, finding.verdict.grade))
    return found


def figures(share: Record) -> dict[str, Any]:
    """Return what a cell, or one provocation's share of it, counted, all phases together."""
    counts = counts_of(share)
    return {
        "executions": total(counts),
        "patches": share["patches"],
        **{outcome.value: total(counts, outcome) for outcome in Outcome},
    }
