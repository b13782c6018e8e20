"""A run as one JSON object (stress/schema/report.json)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from stress.reading import Finding, Reading, Record, figures
from stress.witness import Tears

SCHEMA = 1

_NAMES = "id host cell case site store regime provocation placement cpus status reason".split()


def write(reading: Reading) -> str:
    """Return `to_json` as text, never coloured."""
    return json.dumps(to_json(reading), indent=1) + "\n"


def to_json(reading: Reading) -> dict[str, Any]:
    """Return `schema`, `run`, `regimes` (one entry a regime) and `cells` (one a cell), of plain JSON types.

    Cells that were begun and not finished are left out: nothing was counted of them.
    """
    evidence = reading.evidence
    return {
        "schema": SCHEMA,
        "run": dict(reading.run),
        "regimes": [asdict(line) for line in reading.lines],
        "cells": [_cell(f, evidence.tears(f.record)) for f in reading.findings if f.verdict],
    }


def _cell(finding: Finding, tears: Tears | None) -> dict[str, Any]:
    record, verdict = finding.record, finding.verdict
    assert verdict
    return {
        **{name: record.get(name, "") for name in _NAMES},
        "bugs": list(record.get("bugs", ())),
        "result": finding.result,
        "grade": verdict.grade,
        "promise": verdict.promise_level,
        **_figures(record),
        "store_tears": tears.store if tears else None,
        "fetch_tears": tears.fetch if tears else None,
        "upper_bound_95": verdict.upper_bound,
        "provocations": {name: _figures(share) for name, share in record["provocations"].items()},
    }


def _figures(share: Record) -> dict[str, Any]:
    """`None`: not measured."""
    return {**figures(share), "store_tears": None, "fetch_tears": None, "seconds": share["seconds"]}
