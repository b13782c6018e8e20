"""The lines on stderr: a table and a line, on a terminal only, gone when the run is over."""

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
    "regime": "none",
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
    assert len(screen(stream.getvalue(), columns)[-1]) < columns


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


def screen(text: str, columns: int = 80) -> list[str]:
    """What a terminal shows after `text`, as far as we use one."""
    rows, at = [""], 0
    for token in re.findall(r"\033\[(?:[0-9;]*)[A-Za-z]|[\r\n]|[^\033\r\n]+", text):
        if token == "\n":
            at += 1
            rows += [""] * (at + 1 - len(rows))
        elif token.endswith("A") and token[0] == "\033":
            at -= int(token[2:-1])
        elif token == "\033[J":
            rows[at:] = [""]
        elif token == "\033[K":
            rows[at] = ""
        elif token[0] not in "\r\033":
            assert len(rows[at] + token) < columns
            rows[at] += token
        assert at >= 0
    return rows


def told(stream: Terminal, *regimes: tuple[str, int]) -> Line:
    line = Line(False, stream)
    for i, (name, torn) in enumerate(regimes):
        outcomes = {"concurrent": {"old": 10**6, "torn": torn}}
        record = RECORD | {"regime": name, "outcomes": outcomes, "seconds": 0.5}
        line.tell(Progress(i + 1, 40, 9.0, record, ("mov@in8",)))
    return line


def test_the_table_shows_the_regimes_with_most_events_worst_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    told(stream, ("idle", 0), ("none", 500), ("flag", 70), ("none", 100))
    head, *rows, last = screen(stream.getvalue())
    assert head.split() == ["regime", "cells", "execs", "events", "a", "second"]
    assert [row.split() for row in rows] == [
        ["none", "2", "2.00M", "600", "600"],
        ["flag", "1", "1.00M", "70", "140"],
        ["idle", "1", "1.00M", "0", "0"],
    ]
    assert last.startswith("4/40  mov@in8")


def test_the_table_is_wiped_off_too() -> None:
    stream = Terminal()
    told(stream, ("idle", 0), ("none", 500)).clear()
    assert screen(stream.getvalue()) == [""]


@pytest.mark.parametrize(
    ("columns", "lines", "height"), [(80, 24, 12), (80, 6, 5), (80, 3, 1), (40, 24, 1), (10, 24, 1)]
)
def test_it_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, lines: int, height: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    stream = Terminal()
    told(stream, *((f"regime-number-{n}-with-a-long-name", n) for n in range(20)))
    assert len(screen(stream.getvalue(), columns)) == height <= lines


def test_it_is_plain_where_colour_is_not_wanted_and_silent_on_a_dumb_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coloured, plain, dumb = Terminal(), Terminal(), Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    told(coloured, ("none", 5))
    monkeypatch.setenv("NO_COLOR", "1")
    told(plain, ("none", 5))
    monkeypatch.setenv("TERM", "dumb")
    told(dumb, ("none", 5))
    assert "\033[33m" in coloured.getvalue()
    assert re.search(r"\033\[[0-9;]*m", plain.getvalue()) is None
    assert dumb.getvalue() == ""


def test_it_needs_no_more_than_ascii() -> None:
    stream = Terminal()
    told(stream, ("none", 5)).clear()
    assert stream.getvalue().isascii()
