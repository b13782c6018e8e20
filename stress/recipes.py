"""Known bugs as cells to run, as rows of a list, and as a page about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

from stress.bugs import PREFIX, Bug, Side, load_bugs
from stress.errors import UsageError
from stress.host import read_host
from stress.model import Case, Cell, Placement, Provocation, Regime, Skip
from stress.plan import cells, select

WIDTH = 100


def choose_bugs(words: Sequence[str], directory: str, isa: str) -> list[Bug]:
    """The known bugs that words such as `bug:NAME` or `bug:*` name, out of `directory` or ("") the package's own.

    Raises:
        UsageError: a word names none.
        CaseError: a file is wrong.
    """
    bugs = load_bugs(Path(directory) if directory else None, isa)
    return select({f"{PREFIX}{name}": bug for name, bug in bugs.items()}, words, "--cases")


def bug_cells(
    bugs: Sequence[Bug],
    provocations: Sequence[tuple[Provocation, ...]],
    lane: Placement,
    features: frozenset[str],
) -> tuple[list[Cell], list[Skip]]:
    """Both sides of `bugs` as cells: those that can be run, and those that cannot, with the reason."""
    run: list[Cell] = []
    skips: list[Skip] = []
    for side in (side for bug in bugs for side in bug.sides):
        more, less = cells([side.case], side.sites, side.stores, side.regimes, provocations, [lane], features)
        run += [replace(cell, bugs=(side.label,)) for cell in more]
        skips += [Skip(replace(skip.cell, bugs=(side.label,)), skip.reason) for skip in less]
    return run, skips


def once(run: Sequence[Cell]) -> list[Cell]:
    """Each cell once, whatever it was asked for as: what several sides have in common is run for all of them."""
    labels: dict[str, tuple[str, ...]] = {}
    for cell in run:
        labels[cell.name] = (*labels.get(cell.name, ()), *cell.bugs)
    return [replace(cell, bugs=labels.pop(cell.name)) for cell in run if cell.name in labels]


def _where(side: Side) -> str:
    """Case, sites, stores and regimes of a side, as a cell's name spells them."""
    regimes = ",".join(regime.name for regime in side.regimes)
    place = f"@{','.join(side.sites)}/{','.join(side.stores)}" if side.sites else ""
    return f"{side.case.name}{place}:{regimes}"


def bugs(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a known bug that `--cases` names, all where it names nothing: what each side runs, and what it is."""
    words = ("bug:*",) if options["cases"] == ("all",) else options["cases"]
    return [
        {
            "bug": bug.name,
            "year": bug.year,
            "wrong": _where(bug.wrong),
            "right": _where(bug.right),
            "title": bug.title,
            "source": "; ".join(bug.source),
        }
        for bug in choose_bugs(words, options["bug_dir"], read_host().isa)
    ]


def _steps(regime: Regime) -> list[str]:
    writer = ", ".join(step.text for step in regime.writer) or "nothing"
    executor = ", ".join(step.text for step in regime.executor)
    return [
        f"    {regime.name} ({regime.code}, via {regime.via})",
        _wrap(f"writer: {writer}", "      "),
        *([_wrap(f"executor: {executor}", "      ")] if executor else []),
    ]


def _wrap(text: str, indent: str = "  ") -> str:
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _side(name: str, side: Side) -> list[str]:
    where = f"at {', '.join(side.sites)}, stored {', '.join(side.stores)}" if side.sites else "published"
    lines = [f"{name}: {side.does}", _wrap(f"{side.case.name}, {where}: {side.case.summary}", "    ")]
    return lines + [line for regime in side.regimes for line in _steps(regime)]


def _pattern(case: Case) -> list[str]:
    lines = [
        f"{case.name} ({case.kind}): {case.patch_len} bytes at offset {case.patch}; entered at {case.entry}"
    ]
    for image in case.images:
        lines += [f"    {image.bytes.hex(' ')}", f"        {image.asm}"]
    return lines + [f"    pad at {pad.offset:+#x}: {pad.asm}" for pad in case.pads]


def show_bug(name: str, directory: str) -> str:
    """Everything about one known bug: what went wrong, both protocols, what was changed, who says so."""
    chosen = choose_bugs((PREFIX + name.removeprefix(PREFIX),), directory, read_host().isa)
    if len(chosen) > 1:
        names = ", ".join(bug.name for bug in chosen)
        raise UsageError(f"'{name}' names {len(chosen)} of them; give one name: {names}")
    bug = chosen[0]
    lines = [f"{bug.name} ({bug.year}): {bug.title}", _wrap(bug.summary)]
    lines += [*_side("wrong", bug.wrong), *_side("right", bug.right)]
    lines += [line for case in bug.patterns for line in _pattern(case)]
    lines += ["changed upstream:", _wrap(bug.fix), "what is promised:", _wrap(bug.promised), "source:"]
    return "\n".join(lines + [_wrap(source) for source in bug.source])
