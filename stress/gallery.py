"""What a run showed of the known bugs that it was asked for: the wrong protocol and the right one, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from stress.charges import Record
from stress.grade import EVENTS, aggregate, counts_of, total
from stress.model import Grade, Status
from stress.reading import Reading
from stress.stats import short_rate
from stress.table import peak, per_second, pipes, si
from stress.table import write as table


@dataclass(frozen=True, slots=True)
class SideLine:
    """One side of a known bug, all its cells that ran together.

    `rate`, `under`: most events a second that a cell showed, and under which provocation. `upper_bound`: one-sided 95 %
    bound of the chance of an event per execution. `skipped`: why cells did not run.
    """

    bug: str
    side: str
    cells: int
    executions: int
    patches: int
    events: int
    rate: float
    under: str
    upper_bound: float
    grade: Grade
    skipped: tuple[str, ...]


def bug_lines(reading: Reading) -> list[SideLine]:
    """Return one line a side of every known bug in a run, in the order of their names, the wrong side first."""
    labels = {label for record in reading.evidence.cells for label in record.get("bugs", ())}
    order = sorted(labels, key=lambda label: (label.partition(":")[0], label.endswith(":right")))
    return [_line(label, reading) for label in order]


def _line(label: str, reading: Reading) -> SideLine:
    bug, _, side = label.partition(":")
    own = [r for r in reading.evidence.cells if label in r.get("bugs", ())]
    ran = [r for r in own if r["status"] != Status.SKIPPED]
    # Graded as a regime's cells are, together: several that are too short may prove what none does alone.
    as_one: list[Record] = [{**r, "regime": label} for r in own]
    others = [r for r in reading.records if r.get("role", "cell") != "cell"]
    (whole,) = aggregate([*as_one, *others], reading.promises, reading.vendor)
    peaks = [peak(r) for r in ran if total(counts_of(r), *EVENTS)]
    under, rate = max(peaks, key=lambda item: item[1], default=("", 0.0))
    return SideLine(
        bug=bug,
        side=side,
        cells=whole.cells,
        executions=whole.executions,
        patches=whole.patches,
        events=sum(reading.verdict(r).events for r in ran),
        rate=rate,
        under=under,
        upper_bound=whole.upper_bound_95,
        grade=whole.grade,
        skipped=tuple(dict.fromkeys(r["reason"] for r in own if r["status"] == Status.SKIPPED)),
    )


def seen(line: SideLine) -> str:
    """Return in a few words what a side showed, or, where that was nothing, how little that can be."""
    if not line.cells:
        return f"skipped: {'; '.join(line.skipped)}"
    if line.events:
        return f"{si(line.events)} of {si(line.executions)}; {per_second(line.rate)} under {line.under}"
    return f"0 of {si(line.executions)}, <{short_rate(line.upper_bound)}"


def table_and_bugs(reading: Reading) -> str:
    """Return the table of a run, and below it the known bugs that it was asked for."""
    rows = [f"  {line.bug:26} {line.side:5} {line.grade:11} {seen(line)}" for line in bug_lines(reading)]
    below = ["", "Known bugs (stress show bug NAME):", *rows, ""] if rows else []
    return table(reading) + "\n".join(below)


def write(reading: Reading) -> str:
    """Return the known bugs of a run as a Markdown table, a bug a row."""
    sides: dict[str, dict[str, SideLine]] = {}
    for line in bug_lines(reading):
        sides.setdefault(line.bug, {})[line.side] = line
    rows = [[f"`{bug}`", *(_cell(of.get(side)) for side in ("wrong", "right"))] for bug, of in sides.items()]
    return "\n".join(pipes(("bug", "wrong", "right"), rows)) + "\n"


def _cell(line: SideLine | None) -> str:
    return f"{line.grade}: {seen(line)}" if line else "-"
