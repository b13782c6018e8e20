"""What grades and statuses mean to who collects results: one table, and the words of each format (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from stress.errors import UsageError
from stress.model import Grade, Status


class Result(StrEnum):
    """One of five, which every collector of results knows in some form. Worst first."""

    FAIL = "fail"
    ERROR = "error"
    XFAIL = "xfail"
    SKIP = "skip"
    PASS = "pass"


@dataclass(frozen=True, slots=True)
class Words:
    """How a result is spelled: the element inside a JUnit testcase ("": none), KTAP's word and directive, LAVA's."""

    junit: str
    ktap: str
    directive: str
    lava: str


WORDS: Mapping[Result, Words] = {
    Result.FAIL: Words("failure", "not ok", "", "fail"),
    Result.ERROR: Words("error", "not ok", "ERROR", "unknown"),
    Result.XFAIL: Words("", "ok", "XFAIL", "pass"),
    Result.SKIP: Words("skipped", "ok", "SKIP", "skip"),
    Result.PASS: Words("", "ok", "", "pass"),
}

BY_GRADE: Mapping[Grade, Result] = {
    Grade.FORBIDDEN: Result.FAIL,
    Grade.SURPRISING: Result.FAIL,
    Grade.INTERESTING: Result.XFAIL,
    Grade.UNPROVEN: Result.SKIP,
    Grade.CLEAN: Result.PASS,
}
"""Of a cell that ran to its end, where `--fail-on` is not given."""

BY_STATUS: Mapping[str, Result] = {
    Status.SKIPPED: Result.SKIP,
    Status.TIMEOUT: Result.ERROR,
    Status.CRASHED: Result.ERROR,
    Status.ERROR: Result.ERROR,
}
"""Of a cell that did not run to its end; one that was begun and left no end line is an error too.

But where what is under test died (the record's `died`) that is a finding, and fails.
"""

FAIL_ON = frozenset(grade for grade, result in BY_GRADE.items() if result is Result.FAIL)
"""Grades that fail a job where nobody says which."""


def parse_grades(text: str, option: str) -> set[str]:
    """The grades that `text`, a comma list or `never`, names; UsageError on an unknown one."""
    words = {word.strip().upper() for word in text.split(",") if word.strip()} - {"NEVER"}
    if unknown := words - set(Grade):
        known = ", ".join(grade.lower() for grade in Grade)
        raise UsageError(f"{option}: '{min(unknown).lower()}' is no grade; give {known} or never")
    return words


def judge(
    status: str,
    grade: Grade | None,
    fail_on: Collection[str] = FAIL_ON,
    known: bool = False,
    died: bool = False,
) -> Result:
    """Return the result of a cell; `grade` None: it never ran.

    `known`: a baseline holds the same finding. `died`: it was what is under test that crashed.

    What was seen counts however the cell ended: a cell that crashed after it had seen what is forbidden fails.
    """
    if grade is not None and grade in fail_on and status != Status.SKIPPED:
        return Result.XFAIL if known else Result.FAIL
    if died:
        return Result.FAIL if fail_on else Result.XFAIL
    if grade is None or status != Status.OK:
        return BY_STATUS.get(status, Result.ERROR)
    usual = BY_GRADE[grade]
    return Result.XFAIL if usual is Result.FAIL else usual
