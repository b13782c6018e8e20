"""A run as JUnit XML, which Jenkins, GitLab, GitHub's actions and most other collectors read.

A test suite a regime (and host, where there are several), a test case a cell. What was counted stands in the case's
`system-out`, a line a figure, because the schema has no properties there.

**Source**: Jenkins xUnit plugin, junit-10.xsd.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree as Xml

from stress.reading import Finding, Reading, figures
from stress.severity import WORDS, Result

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document may hold, however they are escaped."""

COUNTED = {"failures": Result.FAIL, "errors": Result.ERROR, "skipped": Result.SKIP}


def write(reading: Reading) -> str:
    """Return the document."""
    suites: dict[tuple[str, str], list[Finding]] = {}
    found = list(reading.findings)
    for finding in found:
        record = finding.record
        suites.setdefault((record.get("host", ""), record.get("regime", "unfinished")), []).append(finding)
    several = len({host for host, _ in suites}) > 1
    counts = _counts(found)
    root = Xml.Element(
        "testsuites", {"name": "stress", **{k: v for k, v in counts.items() if k != "skipped"}}
    )
    for (host, regime), findings in suites.items():
        name = f"{host}.{regime}" if several else regime
        _suite(root, name, host, findings, reading.run)
    Xml.indent(root, " ")
    return f"<?xml version='1.0' encoding='UTF-8'?>\n{Xml.tostring(root, 'unicode')}\n"


def _counts(findings: Iterable[Finding]) -> dict[str, str]:
    """Attributes that a suite and the whole have."""
    findings = list(findings)
    counts = {key: str(sum(f.result is result for f in findings)) for key, result in COUNTED.items()}
    seconds = sum(f.record.get("seconds", 0.0) for f in findings)
    return {"tests": str(len(findings)), **counts, "time": f"{seconds:.3f}"}


def _suite(root: Xml.Element, name: str, host: str, findings: list[Finding], run: Mapping[str, Any]) -> None:
    started = min((f.record["started"] for f in findings if f.record.get("started")), default="")
    facts = {"hostname": host, "timestamp": started.partition("+")[0].partition(".")[0].rstrip("Z")}
    shown = {key: value for key, value in facts.items() if value}
    suite = Xml.SubElement(root, "testsuite", {"name": _text(name), **_counts(findings), **shown})
    properties = Xml.SubElement(suite, "properties")
    for key in ("run", "version", "command", "seed", "started"):
        if key in run:
            Xml.SubElement(properties, "property", {"name": key, "value": _text(str(run[key]))})
    for finding in findings:
        _case(suite, name, finding)


def _case(suite: Xml.Element, suite_name: str, finding: Finding) -> None:
    record = finding.record
    seconds = f"{record.get('seconds', 0.0):.3f}"
    names = {"name": _text(finding.cell), "classname": _text(suite_name), "time": seconds}
    case = Xml.SubElement(suite, "testcase", names)
    if element := WORDS[finding.result].junit:
        kind = finding.grade or finding.status
        said = Xml.SubElement(case, element, {"type": kind, "message": _text(finding.why)})
        if finding.result in (Result.FAIL, Result.ERROR):
            reasons = finding.verdict.reasons if finding.verdict else ()
            said.text = _text("\n".join((*reasons, *finding.again)))
    Xml.SubElement(case, "system-out").text = _text(
        "\n".join(f"{key}: {value}" for key, value in _facts(finding).items())
    )


def _facts(finding: Finding) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": finding.path, "id": finding.record["id"], "status": finding.status}
    if finding.verdict and finding.grade:
        v = finding.verdict
        facts |= {"grade": v.grade, "promise": v.promise_level, "events": v.events}
        facts |= {"upper_bound_95": v.upper_bound, **figures(finding.record)}
    return facts


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
