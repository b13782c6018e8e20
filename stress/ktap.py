"""A run in KTAP, the kernel's test protocol.

**Source**: Linux, Documentation/dev-tools/ktap.rst, version 1. Its reader, tools/testing/kunit/kunit_parser.py,
takes no `#` in a name.
"""

from __future__ import annotations

from stress.reading import Finding
from stress.severity import WORDS, Result


class Lines:
    """KTAP line by line (`formats.Lines`): diagnostics of a cell stand before its result."""

    def __init__(self) -> None:
        self._count = 0

    def head(self, cells: int) -> str:
        """Return the version and the plan."""
        return f"KTAP version 1\n1..{cells}\n"

    def line(self, finding: Finding) -> str:
        """Return the cell's result; before it, where something is to be looked at, how to see it again."""
        self._count += 1
        words = WORDS[finding.result]
        tail = "" if finding.result is Result.PASS else f" # {words.directive} {_plain(finding.why)}"
        if finding.result is Result.FAIL:
            tail = f" # {finding.grade} {_plain(finding.why)}"
        told = finding.again if finding.result in (Result.FAIL, Result.ERROR) else ()
        notes = "".join(f"# {_plain(text)}\n" for text in told)
        return f"{notes}{words.ktap} {self._count} {finding.path}{tail}\n"

    def end(self) -> str:
        """Return nothing: the plan says when it is over."""
        return ""


def _plain(text: str) -> str:
    """One line that no reader takes for more directives."""
    return " ".join(text.replace("#", "").split())
