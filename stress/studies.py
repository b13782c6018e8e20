"""Which steps of a protocol does this CPU need? A run asked as a whole, answered as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stress.ablations import WITHOUT
from stress.charges import Counts
from stress.grade import EVENTS, counts_of, total
from stress.model import Status
from stress.reading import Reading
from stress.stats import short_rate, upper_bound_95
from stress.table import pipes, si

Record = Mapping[str, Any]


def seen(counts: Counts, seconds: float) -> str:
    """Return events a second, or the one-sided 95 % bound per execution on what was not seen; `-` where nothing ran."""
    events, n = total(counts, *EVENTS), total(counts)
    if not n:
        return "-"
    if not events:
        return f"0 (<{short_rate(upper_bound_95(0, n))})"
    if not seconds:
        return f"{si(events)} in no time"
    return f"{si(round(events / seconds)) if events >= seconds * 10 else f'{events / seconds:.2g}'}/s"


def merge(records: Iterable[Record]) -> tuple[Counts, float]:
    """Return counts and seconds of several records, or provocations' shares of them, together."""
    together: dict[str, dict[str, int]] = {}
    seconds = 0.0
    for record in records:
        seconds += record["seconds"]
        for phase, row in record["outcomes"].items():
            into = together.setdefault(phase, {})
            for outcome, n in row.items():
                into[outcome] = into.get(outcome, 0) + n
    return counts_of({"outcomes": together}), seconds


def duration(seconds: float) -> str:
    """Return a time of at most some minutes with two digits: `0.3 ms`, `120 ms`, `2.5 s`."""
    return (
        f"{seconds * 1000:.2g} ms"
        if seconds < 0.0995
        else f"{seconds * 1000:.0f} ms"
        if seconds < 1
        else f"{seconds:.2g} s"
    )


def _first(record: Record) -> float | None:
    """Seconds to the first event, where a cell had one provocation; several share one clock, so None."""
    times = [x["first_event_seconds"] for x in record["executors"] if x.get("first_event_seconds")]
    return min(times) if times and record["provocation"] != "auto" else None


def mutants(reading: Reading) -> str:
    """Return, protocol by protocol, which broken variants went red, how soon and how often; then all by provocation.

    The complete protocol comes first.
    """
    cells = [r for r in reading.records.cells if r["status"] == Status.OK]
    lines = [
        "Events a second and time to the first, or (<) the one-sided 95 % bound per execution. The time is that of the",
        "quickest cell with one provocation; cells in which provocations take turns have none.",
        "",
    ]
    for protocol in dict.fromkeys(r["ablation_of"] for r in cells if r["ablation_of"]):
        broken = {r["regime"] for r in cells if r["ablation_of"] == protocol}
        names = [protocol, *sorted(broken, key=lambda name: _numbers(name, protocol))]
        these = [r for r in cells if r["regime"] in names]
        turns = sorted({name for r in these for name in r["provocations"]}, key=lambda n: (n != "none", n))
        steps = _steps(these, protocol)
        rows = [[_left_out(name, protocol, steps), *_red(these, name)] for name in names]
        lines += [f"### {protocol}", "", *pipes(("left out", "red under", "soonest", "most"), rows), ""]
        rows = [[name, *(_under(these, name, turn) for turn in turns)] for name in names]
        lines += [f"### {protocol}, by provocation", "", *pipes(["regime", *turns], rows), ""]
    return "\n".join(lines)


def _steps(records: Iterable[Record], protocol: str) -> list[str]:
    """The steps of the complete protocol, the writer's and then the executor's, where it was run."""
    for record in records:
        if record["regime"] == protocol and record["plan"]:
            writer = [" ".join(str(word) for word in step if word != "") for step in record["plan"]["writer"]]
            return writer + [op for op, *_ in record["plan"]["executor"]]
    return []


def _numbers(regime: str, protocol: str) -> tuple[int, list[int]]:
    """How many steps of `protocol` are left out of `regime`, and which; none of a variant with a name of its own."""
    numbers = regime.removeprefix(protocol + WITHOUT)
    gone = [] if numbers == regime else [int(number) for number in numbers.split("-")]
    return len(gone), gone


def _left_out(regime: str, protocol: str, steps: Sequence[str]) -> str:
    """What `regime` lacks of `protocol`, in words."""
    if regime == protocol:
        return "nothing"
    _, gone = _numbers(regime, protocol)
    told = [f"{n} `{steps[n - 1]}`" if n <= len(steps) else str(n) for n in gone]
    return "; ".join(told) or f"`{regime}`"


def _shares(records: Iterable[Record], regime: str) -> list[tuple[Record, str, Record]]:
    """Every cell of a regime, each provocation's share of it apart."""
    return [
        (r, turn, share)
        for r in records
        if r["regime"] == regime
        for turn, share in r["provocations"].items()
    ]


def _red(records: Sequence[Record], regime: str) -> tuple[str, str, str]:
    """Under how many provocations a regime went red, the soonest of them and the one that showed most."""
    shares = _shares(records, regime)
    by_turn = {turn: merge(share for _, name, share in shares if name == turn) for _, turn, _ in shares}
    events = {turn: total(counts, *EVENTS) for turn, (counts, _) in by_turn.items()}
    red = [turn for turn, n in events.items() if n]
    under = f"{len(red)} of {len(by_turn)}"
    if not red:
        return under, "", seen(*merge(share for _, _, share in shares))
    firsts = [(first, turn) for r, turn, _ in shares if turn in red and (first := _first(r)) is not None]
    soonest = f"{duration(min(firsts)[0])} ({min(firsts)[1]})" if firsts else ""
    most = max(red, key=lambda turn: events[turn] / (by_turn[turn][1] or 1))
    return under, soonest, f"{seen(*by_turn[most])} ({most})"


def _under(records: Sequence[Record], regime: str, turn: str) -> str:
    found = [(r, share) for r, name, share in _shares(records, regime) if name == turn]
    if not found:
        return ""
    firsts = [first for r, _ in found if (first := _first(r)) is not None]
    return seen(*merge(share for _, share in found)) + (f", {duration(min(firsts))}" if firsts else "")
