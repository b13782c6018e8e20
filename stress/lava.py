r"""A run as signals that LAVA's dispatcher reads from the console.

It looks for `<LAVA_SIGNAL_(\S+) ([^>]+)>`, splits what it finds at white space and each part at its one `=`. A kernel
message in the middle of a line spoils it: each line goes out with one write of its own.

**Source**: LAVA, lava_dispatcher/actions/test/shell.py; "Recording simple test results" in its user guide.
"""

from __future__ import annotations

from stress.grade import counts_of, total
from stress.reading import Finding
from stress.severity import WORDS, Result


class Lines:
    """LAVA signals line by line (`formats.Lines`); the measurement is events per execution."""

    def head(self, cells: int) -> str:
        """Return a line for people; LAVA counts for itself."""
        return f"stress: {cells} cells\n"

    def line(self, finding: Finding) -> str:
        """Return the cell's signal; before it, where something is to be looked at, how to see it again."""
        parts = {"TEST_CASE_ID": finding.path, "RESULT": WORDS[finding.result].lava}
        if finding.verdict and finding.verdict.trials:
            rate = finding.verdict.events / total(counts_of(finding.record))
            parts |= {"UNITS": "events/execution", "MEASUREMENT": str(rate)}
        told = (finding.why, *finding.again) if finding.result in (Result.FAIL, Result.ERROR) else ()
        # Nothing that we say about a cell may look like a signal.
        notes = "".join(f"{text.replace('<', '(')}\n" for text in told)
        return f"{notes}<LAVA_SIGNAL_TESTCASE {' '.join(f'{key}={value}' for key, value in parts.items())}>\n"

    def end(self) -> str:
        """Return nothing."""
        return ""
