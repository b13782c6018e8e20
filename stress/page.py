"""The report page: run folders in, one self-contained HTML file out."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from stress import __version__
from stress.model import Grade
from stress.reading import Reading
from stress.regimes import load_regimes
from stress.store import read_events, read_records, read_run
from stress.table import LEGEND, si
from stress.view import SECTIONS, Page, Run, page_of

LETTERS = {grade: grade[0] for grade in Grade}
"""What stands for a grade where there is no room for the word: the colour never stands alone."""


def _template(name: str) -> str:
    return resources.files("stress").joinpath("templates", name).read_text(encoding="utf-8")


def _tint(share: float) -> str:
    """How strongly an INTERESTING cell is coloured, by its rate of events."""
    return "i1" if share < 1e-5 else "i2" if share < 1e-3 else "i3"


def render(page: Page) -> str:
    """Return `page` as HTML: everything is escaped, nothing is fetched, no script is needed."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"si": si, "letter": LETTERS.__getitem__, "tint": _tint}
    context: dict[str, Any] = {
        "page": page,
        "legend": LEGEND,
        "letters": LETTERS,
        "version": __version__,
        "room": SECTIONS,
    }
    return environment.get_template("page.html.j2").render(context) + "\n"


def write(reading: Reading) -> str:
    """Return the page about a run, or about several, each machine by itself.

    The run folders are read once more: a reading has merged them, and has neither their headers nor their events.

    Raises:
        StoreError: a folder holds no run any more, or is damaged.
    """
    held = reading.records
    here = [*held.cells, *held.companions, *held.begun]
    runs = [_run(Path(folder)) for folder in reading.folders] or [Run(reading.run, here, {})]
    order = {name: i for i, name in enumerate(load_regimes())}
    return render(page_of(runs, reading.promises, lambda name: order.get(name, len(order)), reading.vendor))


def _run(folder: Path) -> Run:
    events: dict[str, list[Any]] = {}
    for event in read_events(folder):
        events.setdefault(event["id"], []).append(event)
    return Run(read_run(folder), list(read_records(folder)), events)
