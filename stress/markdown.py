"""A run as a comment for a merge request: what failed, what was seen, a table of regimes. GitHub's dialect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stress.model import Outcome
from stress.reading import Finding, Reading
from stress.severity import Result
from stress.stats import rate_text
from stress.table import LEGEND, pipes, si

SHOWN = 20
"""Cells told about, of those that failed and of those that showed events: a comment holds 65,536 characters."""

_HEADLINES = {
    Result.FAIL: "**{n} cells failed** that must not",
    Result.ERROR: "**{n} cells were not finished**: the harness, not the CPU",
}
_CAME_TO = {Result.FAIL: "failed", Result.ERROR: "no promise was broken, but the harness failed"}


def write(reading: Reading) -> str:
    """Return headline, failures, the table by regime and, folded away, what else showed events."""
    findings = list(reading.findings)
    found = Counter(finding.result for finding in findings)
    heads = [text.format(n=found[result]) for result, text in _HEADLINES.items() if found[result]]
    rest = ", ".join(f"{found[r]} {r}" for r in (Result.PASS, Result.XFAIL, Result.SKIP) if found[r])
    host = reading.run.get("host") or {}
    where = f" on {_plain(str(host['model_name']))}" if host.get("model_name") else ""
    came_to = next((said for result, said in _CAME_TO.items() if found[result]), "nothing failed")
    lines = [f"### stress{where}: {came_to}", ""]
    lines += ["; ".join([*heads, rest or "no cells"]) + ".", ""]
    for result in _HEADLINES:
        lines += _told([f for f in findings if f.result is result])
    seen = [f for f in findings if f.result is Result.XFAIL]
    if seen:
        summary = f"{len(seen)} cells showed events that are allowed, or known"
        lines += ["<details>", f"<summary>{summary}</summary>", "", *_told(seen), "</details>", ""]
    return "\n".join([*lines, *_regimes(reading)]) + "\n"


def _told(findings: Sequence[Finding]) -> list[str]:
    """Return those whose rate is highest, worst first, each with the commands that show it again."""
    most = sorted(findings, key=lambda f: (list(Result).index(f.result), -_rate(f)))
    lines = []
    for finding in most[:SHOWN]:
        v = finding.verdict
        rate = f", {rate_text(v.events, v.trials)} events per execution" if v and v.events else ""
        lines.append(f"* {finding.grade or finding.status} `{finding.cell}`{rate}: {_plain(finding.why)}")
        lines += [f"  `{command}`" for command in finding.again]
    more = len(findings) - SHOWN
    return [*lines, *([f"* and {more} more"] if more > 0 else []), *([""] if lines else [])]


def _rate(finding: Finding) -> float:
    v = finding.verdict
    return v.events / v.trials if v and v.trials else 0.0


def _regimes(reading: Reading) -> list[str]:
    ran = [line for line in reading.lines if line.cells]
    if not ran:
        return ["Nothing ran."]
    head = ("regime", "cells", "executions", "patches", *Outcome, "grade")
    rows = [
        (
            f"`{line.regime}`",
            str(line.cells),
            si(line.executions),
            si(line.patches),
            *(si(getattr(line, outcome)) for outcome in Outcome),
            line.grade,
        )
        for line in ran
    ]
    grades = dict.fromkeys(sorted((line.grade for line in ran), key=list(LEGEND).index))
    return [*pipes(head, rows), "", *(f"{word}: {LEGEND[word]}.  " for word in grades)]


def _plain(text: str) -> str:
    """Text that holds no markup of its own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in text)
