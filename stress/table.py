"""Records and their grades as a table that fits a terminal."""

from __future__ import annotations

import re
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from textwrap import wrap
from typing import Protocol

from stress.aggregate import ORDER, ByRegime, RegimeLine
from stress.charges import Record
from stress.evidence import Evidence
from stress.grade import EVENTS, Verdict, counts_of, total
from stress.model import Grade, Outcome, Status
from stress.reading import Reading
from stress.stats import rate_text
from stress.witness import Tears

WIDTH = 100
WORST_CELLS = 10
NAMES_SHOWN = 5

HEADS = ("regime", "cells", "execs", "patch", *Outcome, "rate", "grade")
WIDTHS = (20, 5, 5, 5, *(4 if outcome is Outcome.HANG else 5 for outcome in Outcome), 8, 11)
"""Of the columns, a space apart: together WIDTH."""

SPARE = ("patch", "cells", "old", "new", "trap", "execs", "hang", "fault", "stale", "torn")
"""Columns that a narrow terminal does without, the first one first."""

ANSI = re.compile(r"\033\[[0-9;]*m")

COLOURS = {
    Grade.FORBIDDEN: "1;31",
    Grade.SURPRISING: "35",
    Grade.INTERESTING: "33",
    Grade.UNPROVEN: "2",
    Grade.CLEAN: "32",
}
"""ANSI attributes of the grade words."""

LEGEND = {
    Grade.FORBIDDEN: "the vendor's manual forbids what was seen",
    Grade.SURPRISING: "no manual forbids what was seen, but Linux or a JIT depends on it not happening",
    Grade.INTERESTING: "torn, stale, faulting or hung executions were seen, and are allowed",
    Grade.UNPROVEN: "nothing was seen, but the run could not have seen it",
    Grade.CLEAN: "only old and new code, and expected traps",
}


class Also(Protocol):
    """Something else that adds cells up while the table goes through them."""

    def add(self, record: Record, verdict: Verdict) -> None:
        """Take in one cell."""


def write(reading: Reading, *also: Also) -> str:
    """Return one row a regime in at most 100 columns, or `width`, then the worst cells, what did not run, and a legend.

    Colours are on the grade words only. Of the run's header only a prefix under test is shown, in front of all. The
    records are gone through once, and `also` is shown each cell.
    """
    evidence, colour = reading.evidence, reading.colour
    regimes, worst, scores, rest = _Regimes(), _Worst(), Scores(), NotRun()
    adders: tuple[Also, ...] = (regimes, worst, scores, *also)
    for record in reading.records.cells:
        verdict = reading.verdict(record)
        for each in adders:
            each.add(record, verdict)
        rest.add(record)
    for record in reading.records.companions:
        rest.add(record)
    lines = regimes.lines
    blocks = [
        [f"under test: {text}"] if (text := under_text(reading.run.get("host", {}).get("under", {}))) else [],
        regimes.rows(lines, reading.width, colour),
        worst.rows(evidence, colour),
        scores.rows() + controls_seen(evidence),
        rest.rows(len(reading.records.begun)),
        _legend([line.grade for line in lines], colour),
    ]
    fitting = ([part for line in block for part in _fit(line, reading.width)] for block in blocks)
    return "\n\n".join("\n".join(block) for block in fitting if block) + "\n"


def pipes(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, line by line."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def under_text(under: Mapping[str, str]) -> str:
    """Return the prefix under test and its version, as `Host.under` has them; "" where there is none."""
    version = f" ({under['version']})" if under.get("version") else ""
    return f"`{under['command']}`{version}" if under else ""


def si(n: int) -> str:
    """Return a count >= 0 in at most five characters: 999, 1.23k, 12.3M, 123G."""
    if n < 1000:
        return str(n)
    value, suffixes = float(n), iter("kMGTPE")
    while value >= 999.5:
        value, suffix = value / 1000, next(suffixes)
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}{suffix}"


def _fit(line: str, width: int) -> list[str]:
    """Return the line, wrapped where it is too long; names are never broken, they are there to be copied."""
    if len(ANSI.sub("", line)) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())] + "    "
    return wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _columns(width: int) -> list[int]:
    """Return which columns there is room for."""
    kept = list(range(len(HEADS)))
    for name in SPARE:
        if sum(WIDTHS[i] + 1 for i in kept) - 1 > width:
            kept.remove(HEADS.index(name))
    return kept


class _Regimes(ByRegime):
    """The rows of the regimes; the rate of one is that of the cell in which it is highest."""

    def __init__(self) -> None:
        super().__init__()
        self._most: dict[str, tuple[int, int]] = {}

    def add(self, record: Record, verdict: Verdict, tears: Tears | None = None, name: str = "") -> None:
        super().add(record, verdict, tears, name)
        events, trials = self._most.get(record["regime"], (0, 1))
        if verdict.events * trials > events * verdict.trials:
            self._most[record["regime"]] = verdict.events, verdict.trials

    def rows(self, lines: Iterable[RegimeLine], width: int, colour: bool) -> list[str]:
        """Return the head and a row a regime of which something ran; `lines`: ours."""
        columns = _columns(width)
        rows = [_row(HEADS, columns)]
        for line in (line for line in lines if line.cells):
            rate = rate_text(*self._most.get(line.regime, (0, line.executions)))
            counts = [si(getattr(line, outcome)) for outcome in Outcome]
            name = line.regime
            if len(name) > WIDTHS[0]:  # a name is never cut: it is what the command line takes
                rows.append(name)
                name = ""
            figures = (str(line.cells), si(line.executions), si(line.patches), *counts, rate)
            rows.append(_row((name, *figures, _paint(line.grade, colour)), columns))
        return rows


def _row(cells: Sequence[str], columns: Sequence[int]) -> str:
    first, *figures, last = columns
    aligned = [cells[i].rjust(WIDTHS[i]) for i in figures]
    return " ".join((cells[first].ljust(WIDTHS[first]), *aligned, cells[last]))


class _Worst:
    """The cells that showed most, worst grade first, then by their rate under what provoked them best."""

    def __init__(self) -> None:
        self._found = 0
        self._kept: list[tuple[tuple[int, float, int], Record, Verdict, str]] = []

    def add(self, record: Record, verdict: Verdict) -> None:
        """Keep the cell if it is among the worst so far."""
        if not verdict.events:
            return
        self._found += 1
        name, rate = peak(record)
        key = (ORDER.index(verdict.grade), -rate, self._found)
        if len(self._kept) < WORST_CELLS or key < self._kept[-1][0]:
            insort(self._kept, (key, record, verdict, name), key=itemgetter(0))
            del self._kept[WORST_CELLS:]

    def rows(self, evidence: Evidence, colour: bool) -> list[str]:
        """Return two lines a cell, and how many more there are."""
        rows = ["What to look at (stress explain CELL):"] if self._found else []
        for (_, rate, _), record, verdict, name in self._kept:
            rows.append(f"  {_paint(verdict.grade.ljust(11), colour)} {record['cell']}")
            counts = counts_of(record)
            what = ", ".join(f"{si(n)} {event}" for event in EVENTS if (n := total(counts, event)))
            what = (what or "traps that nobody planted") + _tears(evidence.tears(record))
            rows.append(f"{'':14}{what}; {per_second(-rate)} under {name}")
        if self._found > WORST_CELLS:
            rows.append(f"  and {self._found - WORST_CELLS} more")
        return rows


def _tears(tears: Tears | None) -> str:
    if tears is None or not tears.store + tears.fetch:
        return ""
    return f" ({si(tears.store)} store tears, {si(tears.fetch)} fetch tears)"


class Scores:
    """How many of the protocols that were broken on purpose went red, a line a protocol."""

    def __init__(self) -> None:
        self._red: dict[str, dict[str, bool]] = {}

    def add(self, record: Record, verdict: Verdict) -> None:
        """Take in one cell."""
        if record["ablation_of"] and record["status"] != Status.SKIPPED:
            of = self._red.setdefault(record["ablation_of"], {})
            of[record["regime"]] = of.get(record["regime"], False) or verdict.events > 0

    def rows(self) -> list[str]:
        """Return the lines."""
        rows = []
        for protocol, mutants in self._red.items():
            survivors = ", ".join(name for name, is_red in mutants.items() if not is_red)
            rows.append(
                f"mutation score of {protocol}: {sum(mutants.values())} of {len(mutants)} broken variants went red"
                + (f"; nothing was seen of {survivors}" if survivors else "")
            )
        return rows


def controls_seen(evidence: Evidence) -> list[str]:
    """Return how many positive controls saw events, in one line; none where the run had no control."""
    if not evidence.controls:
        return []
    saw = sum(evidence.controls.values())
    return [
        f"positive controls: {saw} of {len(evidence.controls)} saw events (a store known to tear, same site)"
    ]


def peak(record: Record) -> tuple[str, float]:
    """Return the provocation under which the cell showed most events a second, and how many."""
    shares = record["provocations"] or {record["provocation"]: record}
    rates = {name: _rate(share) for name, share in shares.items()}
    name = max(rates, key=rates.__getitem__)
    return name, rates[name]


def _rate(share: Record) -> float:
    # Not by way of counts_of: this is done for each provocation of each record.
    events = sum([n for row in share["outcomes"].values() for outcome, n in row.items() if outcome in EVENTS])
    return events / share["seconds"] if share["seconds"] > 0 else 0.0


def per_second(rate: float) -> str:
    """Return a number of events a second in a few characters."""
    return f"{si(round(rate))}/s" if rate >= 10 else f"{rate:.2g}/s"


class NotRun:
    """Cells, controls and witnesses that did not run, or not to their end, counted by reason."""

    def __init__(self) -> None:
        self._why: dict[tuple[str, str], Counter[str]] = {}

    def add(self, record: Record) -> None:
        """Take in one end record."""
        if record["status"] != Status.OK:
            self._why.setdefault((record["status"], record["reason"]), Counter())[record["regime"]] += 1

    def rows(self, begun: int) -> list[str]:
        """Return a line a reason; `begun`: how many cells were not finished."""
        rows = [
            f"{status} {regimes.total()}: {reason} ({_few(regimes)})"
            for (status, reason), regimes in sorted(self._why.items(), key=lambda item: -item[1].total())
        ]
        return rows + ([f"begun and not finished {begun}: --resume goes on with them"] if begun else [])


def _few(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    names = list(names)
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more regimes" if more > 0 else "")


def _legend(grades: Sequence[Grade], colour: bool) -> list[str]:
    rows = [f"{_paint(word.ljust(11), colour)} {LEGEND[word]}" for word in Grade if word in grades]
    rows.append("rate: events per execution in the worst cell, or (<) the 95 % bound where there were none")
    return rows


def _paint(word: str, colour: bool) -> str:
    return f"\033[{COLOURS[Grade(word.strip())]}m{word}\033[0m" if colour else word
