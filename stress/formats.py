"""The formats that a run is printed in: one table. The module of a format is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stress.errors import UsageError

if TYPE_CHECKING:
    from stress.reading import Finding, Reading

Writer = Callable[["Reading"], str]
"""Makes text that ends in a newline of a run. Pure."""


class Lines(Protocol):
    """A format of lines, which can be written while the run goes on: its head, then each cell in turn, then its end.

    `cells`: how many there will be. A text may be "" or several whole lines.
    """

    def head(self, cells: int) -> str:
        """Return what stands before the first cell."""

    def line(self, finding: Finding) -> str:
        """Return what stands for one cell."""

    def end(self) -> str:
        """Return what stands after the last cell."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format. `module`: holds its `writer`, or, where `live`, the class `Lines`; `suffix` of files, "" for none."""

    module: str
    suffix: str = ""
    writer: str = "write"
    live: bool = False


FORMATS: Mapping[str, Format] = {
    "table": Format("gallery", writer="table_and_bugs"),
    "json": Format("summary", ".json"),
    "junit": Format("junit", ".xml"),
    "ktap": Format("ktap", ".tap", live=True),
    "lava": Format("lava", live=True),
    "markdown": Format("markdown", ".md"),
    "csv": Format("sheet", ".csv"),
    "html": Format("page", ".html"),
    "atomicity": Format("atomicity", writer="atomicity"),
    "mutants": Format("studies", writer="mutants"),
    "gallery": Format("gallery"),
}
"""What `--format` names, and `-o FILE` by its suffix."""


def write(name: str, reading: Reading) -> str:
    """Return the run as text in the format `name`; it ends in a newline."""
    if FORMATS[name].live:
        lines = lines_of(name)
        body = (lines.line(finding) for finding in reading.findings)
        return "".join([lines.head(len(reading)), *body, lines.end()])
    its = FORMATS[name]
    writer: Writer = getattr(import_module(f"stress.{its.module}"), its.writer)
    return writer(reading)


def lines_of(name: str) -> Lines:
    """Return a new writer of the format `name`, which is one of lines."""
    lines: Lines = import_module(f"stress.{FORMATS[name].module}").Lines()
    return lines


def format_of(file: str) -> str:
    """Return the format that the suffix of `file` names; UsageError where none has it."""
    by_suffix = {its.suffix: name for name, its in FORMATS.items() if its.suffix}
    suffix = Path(file).suffix
    if suffix not in by_suffix:
        raise UsageError(f"-o {file}: no format has the suffix '{suffix}'; give {', '.join(by_suffix)}")
    return by_suffix[suffix]
