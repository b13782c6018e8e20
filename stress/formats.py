"""Records and their grades for programs and people: one function a format, all of them pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from stress.atomicity import atomicity
from stress.charges import Record
from stress.evidence import gather
from stress.grade import Verdict, aggregate, counts_of, grade, total
from stress.model import Outcome
from stress.promises import Promises
from stress.studies import mutants
from stress.table import to_table
from stress.witness import Tears

SCHEMA = 1


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
    records = list(records)
    evidence = gather(records)
    return {
        "schema": SCHEMA,
        "run": dict(run),
        "regimes": [asdict(line) for line in aggregate(records, promises, vendor)],
        "cells": [
            _cell(r, grade(r, promises, evidence.control(r), vendor), evidence.tears(r))
            for r in evidence.cells
        ],
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


FORMATS: dict[str, Format] = {
    "table": to_table,
    "json": to_json_text,
    "atomicity": atomicity,
    "mutants": mutants,
}
"""What `--format` names."""


def _cell(record: Record, verdict: Verdict, tears: Tears | None) -> dict[str, Any]:
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
        "store_tears": tears.store if tears else None,
        "fetch_tears": tears.fetch if tears else None,
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
