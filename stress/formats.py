"""Records and their grades for people and programs: one function a format, all of them pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any, Protocol

from stress.grade import EVENTS, Counts, Record, RegimeLine, Verdict, aggregate, counts_of, grade, total
from stress.model import Grade, Outcome, Status
from stress.promises import Promises
from stress.stats import rate_text

SCHEMA = 1
WIDTH = 100
WORST_CELLS = 10

HEADS = ("regime", "cells", "execs", "patch", *Outcome, "rate", "grade")
WIDTHS = (20, 5, 5, 5, *(4 if outcome is Outcome.HANG else 5 for outcome in Outcome), 8, 11)
"""Of the columns, a space apart: together WIDTH."""

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


class Format(Protocol):
    """Makes text that ends in a newline of a run's header and records."""

    def __call__(
        self,
        run: Mapping[str, Any],
        records: Iterable[Record],
        promises: Promises,
        colour: bool = False,
        vendor: str = "",
    ) -> str:
        """Return the text; `colour`: whether it may hold ANSI colours."""


def to_json(
    run: Mapping[str, Any], records: Iterable[Record], promises: Promises, vendor: str = ""
) -> dict[str, Any]:
    """Return `schema`, `run`, `regimes` (one entry a regime) and `cells` (one a cell), of plain JSON types.

    `vendor`: as in `grade.grade`. Start records are left out.
    """
    ends = finished(records)
    verdicts = [grade(record, promises, vendor=vendor) for record in ends]
    return {
        "schema": SCHEMA,
        "run": dict(run),
        "regimes": [asdict(line) for line in aggregate(ends, promises, vendor)],
        "cells": [_cell(record, verdict) for record, verdict in zip(ends, verdicts, strict=True)],
    }


def to_json_text(
    run: Mapping[str, Any],
    records: Iterable[Record],
    promises: Promises,
    colour: bool = False,
    vendor: str = "",
) -> str:
    """Return `to_json` as text, never coloured."""
    return json.dumps(to_json(run, records, promises, vendor), indent=1) + "\n"


def to_table(
    run: Mapping[str, Any],
    records: Iterable[Record],
    promises: Promises,
    colour: bool = False,
    vendor: str = "",
) -> str:
    """Return one row a regime in at most 100 columns, then the worst cells, what did not run, and a legend.

    Colours are on the grade words only; `run` is not shown.
    """
    records = list(records)
    ends = finished(records)
    verdicts = [grade(record, promises, vendor=vendor) for record in ends]
    lines = aggregate(ends, promises, vendor)
    blocks = [
        _regimes(lines, ends, verdicts, colour),
        _worst_cells(ends, verdicts, colour),
        _not_run(records, ends),
        _legend([line.grade for line in lines], colour),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


FORMATS: dict[str, Format] = {"table": to_table, "json": to_json_text}
"""What `--format` names."""


def finished(records: Iterable[Record]) -> list[Record]:
    """Return the end records among `records`, in their order."""
    return [record for record in records if record["type"] == "end"]


def si(n: int) -> str:
    """Return a count >= 0 in at most five characters: 999, 1.23k, 12.3M, 123G."""
    if n < 1000:
        return str(n)
    value, suffixes = float(n), iter("kMGTPE")
    while value >= 999.5:
        value, suffix = value / 1000, next(suffixes)
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}{suffix}"


def _cell(record: Record, verdict: Verdict) -> dict[str, Any]:
    names = (
        "cell",
        "case",
        "site",
        "store",
        "regime",
        "provocation",
        "placement",
        "cpus",
        "status",
        "reason",
    )
    shares = {name: _figures(share) for name, share in record["provocations"].items()}
    return {
        **{name: record[name] for name in names},
        "grade": verdict.grade,
        "promise": verdict.promise_level,
        **_figures(record),
        "upper_bound_95": verdict.upper_bound,
        "provocations": shares,
    }


def _figures(share: Record) -> dict[str, Any]:
    """Return what a cell, or one provocation's share of it, counted. `None`: not measured."""
    counts = counts_of(share)
    return {
        "executions": total(counts),
        "patches": share["patches"],
        **{outcome.value: total(counts, outcome) for outcome in Outcome},
        "store_tears": None,
        "fetch_tears": None,
        "seconds": share["seconds"],
    }


def _regimes(
    lines: Sequence[RegimeLine], ends: Sequence[Record], verdicts: Sequence[Verdict], colour: bool
) -> list[str]:
    rows = [_row(HEADS)]
    for line in lines:
        of_regime = [
            v for r, v in zip(ends, verdicts, strict=True) if r["regime"] == line.regime and v.events
        ]
        most = max(of_regime, key=lambda v: v.events / v.trials, default=None)
        rate = rate_text(most.events, most.trials) if most else rate_text(0, line.executions)
        counts = [si(getattr(line, outcome)) for outcome in Outcome]
        name = line.regime
        if len(name) > WIDTHS[0]:  # a name is never cut: it is what the command line takes
            rows.append(name)
            name = ""
        figures = (str(line.cells), si(line.executions), si(line.patches), *counts, rate)
        rows.append(_row((name, *figures, _paint(line.grade, colour))))
    return rows


def _row(cells: Sequence[str]) -> str:
    first, *figures, last = cells
    aligned = [figure.rjust(width) for figure, width in zip(figures, WIDTHS[1:-1], strict=True)]
    return " ".join((first.ljust(WIDTHS[0]), *aligned, last))


def _worst_cells(ends: Sequence[Record], verdicts: Sequence[Verdict], colour: bool) -> list[str]:
    """Return the cells that showed most: worst grade first, then by rate under what provoked them best."""
    order = list(Grade)
    found = [(r, v, *_peak(r)) for r, v in zip(ends, verdicts, strict=True) if v.events]
    found.sort(key=lambda item: (order.index(item[1].grade), -item[3]))
    rows = ["What to look at:"] if found else []
    for record, verdict, name, rate in found[:WORST_CELLS]:
        rows.append(f"  {_paint(verdict.grade.ljust(11), colour)} {record['cell']}")
        counts = counts_of(record)
        what = ", ".join(f"{si(n)} {event}" for event in EVENTS if (n := total(counts, event)))
        rows.append(f"{'':14}{what or 'traps that nobody planted'}; {_per_second(rate)} under {name}")
    if len(found) > WORST_CELLS:
        rows.append(f"  and {len(found) - WORST_CELLS} more")
    return rows


def _peak(record: Record) -> tuple[str, float]:
    """Return the provocation under which the cell showed most events a second, and how many."""
    shares = record["provocations"] or {record["provocation"]: record}
    rates = {name: _rate(counts_of(share), share["seconds"]) for name, share in shares.items()}
    name = max(rates, key=rates.__getitem__)
    return name, rates[name]


def _rate(counts: Counts, seconds: float) -> float:
    return total(counts, *EVENTS) / seconds if seconds > 0 else 0.0


def _per_second(rate: float) -> str:
    return f"{si(round(rate))}/s" if rate >= 10 else f"{rate:.2g}/s"


def _not_run(records: Sequence[Record], ends: Sequence[Record]) -> list[str]:
    """Return cells that did not run, or not to their end, counted by reason."""
    why = Counter((record["status"], record["reason"]) for record in ends if record["status"] != Status.OK)
    rows = [f"{status} {n}: {reason}" for (status, reason), n in why.most_common()]
    begun = {record["id"] for record in records} - {record["id"] for record in ends}
    if begun:
        rows.append(f"begun and not finished {len(begun)}: --resume goes on with them")
    return [line for row in rows for line in wrap(row, WIDTH, subsequent_indent="    ")]


def _legend(grades: Sequence[Grade], colour: bool) -> list[str]:
    rows = [f"{_paint(word.ljust(11), colour)} {LEGEND[word]}" for word in Grade if word in grades]
    rows.append("rate: events per execution in the worst cell, or (<) the 95 % bound where there were none")
    return rows


def _paint(word: str, colour: bool) -> str:
    return f"\033[{COLOURS[Grade(word.strip())]}m{word}\033[0m" if colour else word
