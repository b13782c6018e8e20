"""Which event a record is about, how often it was seen, and how long to look for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stress.errors import UsageError
from stress.model import Outcome, Phase
from stress.stats import poisson_interval

Record = Mapping[str, Any]

WRONG = (Outcome.TORN, Outcome.STALE, Outcome.FAULT, Outcome.HANG)

MISSED = 1e-3
"""A search may miss an event of the rate that it was made for with this probability."""

SLOWER = 10.0
"""A search is made for a rate this much lower than the one seen."""


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """A class of wrong executions: what is the same in two of them if they are to count as the same bug.

    `post`: seen after the patch was complete, not while one was in flight. `signal`, `code`: of a fault, its name and
    si_code; "" where the execution returned, and then `code` is -1 where it left a loop register changed, else 0.
    """

    outcome: str
    post: bool = False
    signal: str = ""
    code: int = 0

    @property
    def text(self) -> str:
        """As in `torn`, `stale after completion`, `fault (SIGSEGV, si_code 2)`."""
        how = f" ({self.signal}, si_code {self.code})" if self.signal and self.signal != "watchdog" else ""
        how = " (a loop register changed)" if self.code == -1 and not self.signal else how
        return f"{self.outcome}{how}" + (" after completion" if self.post else "")


def event_of(signature: Record) -> Event:
    """The class of one signature, or one event, of a record."""
    outcome, own = signature["outcome"], signature["signal"]
    # A hang is ended by the watchdog's signal: whatever that says is no part of it.
    return Event(
        outcome,
        signature["phase"] == Phase.POST,
        "" if outcome == Outcome.HANG else own,
        0 if outcome == Outcome.HANG else signature["code"],
    )


def counts(record: Record) -> dict[Event, int]:
    """How often each class was seen; most first. What was interrupted inside the patched bytes is no evidence."""
    found: dict[Event, int] = {}
    for s in record["signatures"]:
        if s["outcome"] in WRONG and s["phase"] != Phase.INTERIOR:
            found[event_of(s)] = found.get(event_of(s), 0) + s["count"]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def count(record: Record, event: Event) -> int:
    """How often `event` was seen in `record`."""
    return counts(record).get(event, 0)


def choose(record: Record, outcome: str = "") -> Event:
    """The event that a record is about: after completion before in flight, then the most frequent.

    `outcome`: only those with this outcome.

    Raises:
        UsageError: the record saw none.
    """
    seen = [event for event in counts(record) if not outcome or event.outcome == outcome]
    if not seen:
        what = f"no {outcome}" if outcome else "nothing torn, stale, faulting or hanging"
        raise UsageError(f"{record['cell']}: {what} was seen; there is nothing to reproduce")
    return min(seen, key=lambda event: (not event.post, seen.index(event)))


def low_rate(events: int, seconds: float) -> float:
    """Events a second that the counts do not put in doubt: the lower end of the 95 % interval."""
    return poisson_interval(events, seconds)[0] if seconds > 0 else 0.0


def seconds_for(rate: float) -> float:
    """How long to look for an event of at least `rate` a second: at a tenth of it, a miss is rarer than MISSED."""
    return -math.log(MISSED) * SLOWER / rate if rate > 0 else math.inf


def missed(rate: float, seconds: float) -> float:
    """The probability that an event of `rate` a second is not seen in `seconds`."""
    return math.exp(-rate * seconds)
