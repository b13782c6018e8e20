"""The line on stderr: one line, on a terminal only, gone when the run is over."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import pytest

from stress.campaign import Progress
from stress.progress import Line, span, wants_colour

RECORD: dict[str, Any] = {
    "status": "ok",
    "seconds": 2.0,
    "outcomes": {"concurrent": {"old": 3 * 10**7, "torn": 10**7}},
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4321, "0.43 s"),
        (0.05, "0.05 s"),
        (1, "1 s"),
        (12.4, "12 s"),
        (89, "89 s"),
        (90, "2 min"),
        (200, "3 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (28800, "8.0 h"),
    ],
)
def test_a_span_is_short(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize("seconds", [0.001, 0.0996, 0.999, 0.9999, 1.4, 89.6, 5399.9, 86400.0, 604800.0])
def test_no_span_is_long(seconds: float) -> None:
    assert len(span(seconds)) <= 8


def test_the_line_says_how_far_it_is_what_runs_how_fast_and_how_long_it_will_take() -> None:
    stream = Terminal()
    line = Line(False, stream)
    line.tell(Progress(0, 3, 6.0, None, ("mov@in8",)))
    assert stream.getvalue() == "\r\033[K0/3  mov@in8  6 s left"
    line.tell(Progress(1, 3, 4.0, RECORD, ()))
    assert stream.getvalue().endswith("\r\033[K1/3  20.0M executions/s  4 s left")
    line.tell(Progress(1, 3, 4.0, None, ("mov@x64+2", "other")))
    assert stream.getvalue().endswith("\r\033[K1/3  mov@x64+2  20.0M executions/s  4 s left")


def test_the_line_is_wiped_off() -> None:
    stream = Terminal()
    line = Line(False, stream)
    line.tell(Progress(0, 3, 6.0, None, ("mov@in8",)))
    line.clear()
    assert stream.getvalue().endswith("\r\033[K")
    assert "\n" not in stream.getvalue()


@pytest.mark.parametrize("columns", [10, 40, 80])
def test_the_line_never_wraps(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    Line(False, stream).tell(Progress(0, 3, 6.0, RECORD, ("x" * 200,)))
    assert len(stream.getvalue().removeprefix("\r\033[K")) < columns


@pytest.mark.parametrize(("quiet", "stream"), [(True, Terminal()), (False, io.StringIO())])
def test_nothing_is_said_where_it_is_not_wanted(quiet: bool, stream: io.StringIO) -> None:
    line = Line(quiet, stream)
    line.tell(Progress(1, 3, 6.0, RECORD, ("mov@in8",)))
    line.clear()
    assert stream.getvalue() == ""


def test_a_cell_that_took_no_time_has_its_status_for_a_rate() -> None:
    stream = Terminal()
    record = {"status": "crashed", "seconds": 0.0, "outcomes": {}}
    Line(False, stream).tell(Progress(1, 1, 0.0, record, ()))
    assert re.search(r"1/1  crashed  0 s left$", stream.getvalue())


def test_colour_is_for_terminals_whose_user_has_nothing_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    with open(os.devnull, "w") as null:
        assert not wants_colour(null)
    monkeypatch.setenv("NO_COLOR", "")
    assert wants_colour(Terminal()), "only a value counts, says no-color.org"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
