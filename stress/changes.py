"""A comparison of runs as text: a table for terminals, JSON, or a comment for a merge request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from textwrap import wrap

from stress.compare import ALPHA, MEANING, WORSE, Change, Compared, Comparison, Side
from stress.stats import rate_text, short_rate
from stress.table import WIDTH, pipes, si

SHOWN = 20
"""Cells of each change that are told in a table or a comment; JSON has all."""


def to_json(found: Comparison) -> str:
    """Return everything, as text."""
    return json.dumps(found.as_dict(), indent=1) + "\n"


def to_table(found: Comparison) -> str:
    """Return what changed, in at most 100 columns but for names."""
    lines = list(_heads(found))
    for change in _told(found):
        cells = found.of(change)
        lines += [
            "",
            *wrap(f"{change} {len(cells)}: {_meaning(change, found)}", WIDTH, subsequent_indent="    "),
        ]
        for cell in cells[:SHOWN]:
            lines += [f"  {cell.cell}{_run(cell, found)}", f"      {_sides(cell)}"]
        lines += [f"  and {len(cells) - SHOWN} more"] if len(cells) > SHOWN else []
    return "\n".join([*lines, "", *wrap(_tail(found), WIDTH)]) + "\n"


def to_markdown(found: Comparison) -> str:
    """Return what changed as headings and tables."""
    lines = [f"### stress compare: {'worse' if found.worse else 'nothing got worse'}", ""]
    lines += [f"* {line}" for line in _heads(found)]
    for change in _told(found):
        cells = found.of(change)
        rows = [
            (f"`{c.cell}`{_run(c, found)}", _side(c.before), _side(c.after), _p(c.p)) for c in cells[:SHOWN]
        ]
        lines += ["", f"**{change}** {len(cells)}: {_meaning(change, found)}", ""]
        lines += pipes(("cell", "before", "after", "p"), rows)
        lines += ["", f"and {len(cells) - SHOWN} more"] if len(cells) > SHOWN else []
    return "\n".join([*lines, "", _tail(found)]) + "\n"


WRITERS: Mapping[str, Callable[[Comparison], str]] = {
    "table": to_table,
    "json": to_json,
    "markdown": to_markdown,
}
"""What `compare --format` names."""


def _told(found: Comparison) -> Iterator[Change]:
    return (change for change in Change if change is not Change.SAME and found.of(change))


def _meaning(change: Change, found: Comparison) -> str:
    return MEANING[change].format(factor=found.factor)


def _heads(found: Comparison) -> Iterator[str]:
    """A line a run: how many of its cells are compared, and in what its machine differs."""
    yield f"before: {found.runs[0]}"
    for i, name in enumerate(found.runs[1:]):
        both = sum(c.run == i + 1 and c.before is not None for c in found.cells)
        apart = f"; {len(found.new[i])} ran here only, {len(found.gone[i])} before only"
        yield f"after:  {name}: {both} cells in both{apart if found.new[i] or found.gone[i] else ''}"
        for key, one, other in found.differences[i]:
            yield f"        {key}: {one or '-'} -> {other or '-'}"


def _run(cell: Compared, found: Comparison) -> str:
    return f" ({found.runs[cell.run]})" if len(found.runs) > 2 else ""


def _sides(cell: Compared) -> str:
    p = f"; p {_p(cell.p)}" if cell.p is not None else ""
    return f"{_side(cell.before)} -> {_side(cell.after)}{p}"


def _side(side: Side | None) -> str:
    if side is None:
        return "not run"
    rate = f"{si(side.events)} of {si(side.executions)} ({rate_text(side.events, side.executions)})"
    starts = f", {side.starts_with_events} of {side.starts} starts" if side.starts > 1 else ""
    ended = f", {side.status}" if side.status != "ok" else ""
    return f"{side.grade} {rate}{starts}{ended}".strip()


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return short_rate(p) if p >= 1e-99 else "<1e-99"


def _tail(found: Comparison) -> str:
    same = len(found.of(Change.SAME))
    worse = sum(c.change in WORSE for c in found.cells)
    return (
        f"{worse} worse, {same} of {len(found.cells)} the same. p: exact conditional test on events per execution, "
        f"two-sided, corrected for {found.tests} tests (Holm); called a change below {ALPHA:g}. It takes executions "
        f"for independent; starts of one cell differ more than that."
    )
