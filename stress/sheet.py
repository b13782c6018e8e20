"""A run as comma-separated values (RFC 4180, lines end in a newline): a head, then a line a cell."""

from __future__ import annotations

import csv
import io

from stress.reading import Finding, Reading, figures

NAMES = "host id cell case kind site store regime code completes ablation_of provocation placement cpus started".split()
"""Columns that stand in the record as they are."""

COLUMNS = (
    *NAMES,
    *"status reason result grade promise events upper_bound_95 store_tears fetch_tears seconds".split(),
    *figures({"outcomes": {}, "patches": 0}),
)
"""In their order. Empty: not measured, or the cell never ran. `cpus`: separated by spaces, the writer's first."""


def write(reading: Reading) -> str:
    """Return the head and a line a cell."""
    text = io.StringIO()
    sheet = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    sheet.writeheader()
    sheet.writerows(_row(reading, finding) for finding in reading.findings)
    return text.getvalue()


def _row(reading: Reading, finding: Finding) -> dict[str, object]:
    record, verdict = finding.record, finding.verdict
    row: dict[str, object] = {name: record[name] for name in NAMES if name in record}
    row |= {"status": finding.status, "result": finding.result, "reason": finding.why}
    if verdict is None:
        return row
    tears = reading.evidence.tears(record)
    row |= {"cpus": " ".join(map(str, record["cpus"])), "reason": record["reason"], "grade": finding.grade}
    if tears:
        row |= {"store_tears": tears.store, "fetch_tears": tears.fetch}
    row |= {"promise": verdict.promise_level, "events": verdict.events, "upper_bound_95": verdict.upper_bound}
    return row | {"seconds": record["seconds"], **figures(record)}
