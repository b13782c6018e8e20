"""Which event a record is about, and how long to look for one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stress.errors import UsageError
from stress.event import Event, choose, count, low_rate, missed, seconds_for


def signature(
    outcome: str, n: int, phase: str = "concurrent", signal: str = "", code: int = 0
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "phase": phase,
        "signal": signal,
        "code": code,
        "count": n,
        "pc": 0,
        "value": 1,
    }


def record(*signatures: dict[str, Any]) -> dict[str, Any]:
    return {"cell": "made", "signatures": signatures}


def test_what_shows_itself_alike_is_one_class() -> None:
    saw = record(signature("torn", 3), signature("torn", 4), signature("fault", 9, signal="SIGSEGV", code=2))
    assert count(saw, Event("torn")) == 7
    assert count(saw, Event("fault", signal="SIGSEGV", code=1)) == 0


def test_after_completion_goes_before_in_flight_and_then_the_most_frequent() -> None:
    torn, stale = signature("torn", 1000), signature("stale", 2, "post")
    assert choose(record(torn, stale)) == Event("stale", post=True)
    assert choose(record(torn, signature("fault", 5, signal="SIGILL", code=2))) == Event("torn")
    assert choose(record(torn, stale), "torn") == Event("torn")


def test_what_proves_nothing_is_no_event() -> None:
    with pytest.raises(UsageError, match="nothing torn"):
        choose(record(signature("torn", 9, "interior")))
    with pytest.raises(UsageError, match="no hang was seen"):
        choose(record(signature("torn", 9)), "hang")


def test_how_a_hang_was_ended_does_not_matter() -> None:
    assert choose(record(signature("hang", 1, signal="watchdog", code=-6))) == Event("hang")


def test_an_event_says_what_it_is() -> None:
    assert Event("torn").text == "torn"
    assert Event("fault", True, "SIGSEGV", 2).text == "fault (SIGSEGV, si_code 2) after completion"
    assert Event("torn", code=-1).text == "torn (a loop register changed)"


def test_a_search_is_made_for_a_tenth_of_the_rate() -> None:
    seconds = seconds_for(50.0)
    assert missed(5.0, seconds) == pytest.approx(1e-3)
    assert low_rate(100, 1.0) == pytest.approx(81.36, rel=1e-3)
    assert seconds_for(0) == math.inf
