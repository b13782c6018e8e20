"""Known bugs as recipes: what was patched, the wrong protocol and the right one, and who found it.

One TOML file a bug, in `bugs/` (docs/gallery.md says how to write one). A file names no outcome: what a side shows, and
its grade, come from running it and from the promises, as with every other cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from stress.cases import find_cases, load_case, read_case
from stress.errors import UsageError
from stress.model import Case, Regime
from stress.regimes import load_regimes
from stress.sites import STORES, misfit, sites_of
from stress.tables import LINE, NAME, Field, read_table, read_toml, refuse, within

PREFIX = "bug:"
"""What a word of `--cases` begins with that names known bugs, not cases."""

SIDES = ("wrong", "right")


@dataclass(frozen=True, slots=True)
class Side:
    """A protocol: every combination of its sites, stores and regimes is a cell. `does`: one line that says what it is.

    Where its regimes publish code they say where it lies and how it is stored, and there are neither sites nor stores.
    """

    label: str
    does: str
    case: Case
    sites: tuple[str, ...]
    stores: tuple[str, ...]
    regimes: tuple[Regime, ...]


@dataclass(frozen=True, slots=True)
class Bug:
    """A known bug. `summary`, `fix`, `promised`: what went wrong, what was changed, what the manuals say of it."""

    name: str
    title: str
    year: int
    source: tuple[str, ...]
    summary: str
    fix: str
    promised: str
    wrong: Side
    right: Side
    patterns: tuple[Case, ...] = ()
    """The cases that its own file brings."""

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both protocols, the wrong one first."""
        return self.wrong, self.right


def _prose(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; say it in a sentence")
    return " ".join(text.split())


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("is empty or names something twice; give each name once")
    return values


_WORD = Field(str, "a name", convert=LINE)
_NAMES = Field(list, "a list of names", each=_WORD, convert=_some)
_SIDE = {
    "does": Field(str, "one line that says what this protocol does", convert=LINE),
    "case": Field(str, "the name of a case, or of one of the file's [patterns.NAME]", convert=LINE),
    "sites": Field(list, "a list of sites", (), each=_WORD, convert=_some),
    "stores": Field(list, "a list of stores", (), each=_WORD, convert=_some),
    "regimes": _NAMES,
}
_BUG = {
    "title": Field(str, "one line that names the bug", convert=LINE),
    "year": Field(int, "the year in which it was reported", convert=within(1970, 2100)),
    "source": Field(list, "a list of threads, commits or files", each=_WORD, convert=_some),
    "summary": Field(str, "what went wrong, in plain words", convert=_prose),
    "fix": Field(str, "what was changed upstream", convert=_prose),
    "promised": Field(str, "what the manuals say of it", convert=_prose),
    "wrong": Field(dict, "a table [wrong]", fields=_SIDE),
    "right": Field(dict, "a table [right]", fields=_SIDE),
    "patterns": Field(dict, "tables [patterns.NAME], each a case", {}),
}


def _patterns(path: Path, bug: str, tables: Mapping[str, Any], isa: str) -> dict[str, Case | None]:
    """Return the cases of a bug's own file, each named BUG.NAME, so that no two bugs' records can be confused."""
    found = {}
    for name, table in tables.items():
        key = f"patterns.{name}"
        try:
            NAME(name)
        except ValueError as error:
            raise refuse(path, "patterns", f"the name {error}") from None
        if not isinstance(table, dict):
            raise refuse(path, key, "is no table; give a case: kind, summary, source and a table an ISA")
        found[name] = read_case(path, key, f"{bug}.{name}", table, isa)
    return found


def _case(path: Path, key: str, name: str, own: Mapping[str, Case | None], isa: str) -> Case | None:
    if name in own:
        return own[name]
    file = find_cases() / f"{name}.toml"
    if not file.is_file():
        mine = f"{', '.join(own)} of this file, or " if own else ""
        raise refuse(path, key, f"'{name}' is no case; give {mine}one that `stress list cases` names")
    return load_case(file, isa)


def _check_places(path: Path, side: Side, key: str) -> None:
    """Refuse a side that is not, at every site with every store, a cell."""
    published = [regime.name for regime in side.regimes if regime.publish]
    if published and (side.sites or side.stores or len(published) < len(side.regimes)):
        text = f"{published[0]} publishes code, at addresses of its own; leave out sites, stores and regimes that patch"
        raise refuse(path, f"{key}.regimes", text)
    if bool(published) != bool(side.case.fields):
        wanted = "published" if published else "patched"
        text = f"{side.case.name} does not go with these regimes; give a case that is {wanted}"
        raise refuse(path, f"{key}.case", text)
    if published:
        return
    if not side.sites:
        raise refuse(path, f"{key}.sites", 'missing; give a list of sites, as in ["in8"] or ["x64+2"]')
    for store in side.stores:
        if store not in STORES:
            raise refuse(path, f"{key}.stores", f"'{store}' is no store; give some of {', '.join(STORES)}")
    for word in side.sites:
        try:
            sites = sites_of(side.case, word)
        except UsageError as error:
            raise refuse(path, f"{key}.sites", str(error).partition(": ")[2]) from None
        for site in sites:
            for store in side.stores:
                if reason := misfit(side.case, site, store):
                    raise refuse(
                        path, f"{key}.sites", f"{word} with {store}: {reason}; give another site or store"
                    )


@cache
def _known(asked: tuple[str, ...] = ()) -> Mapping[str, Regime]:
    return load_regimes(asked=asked)


def _regime(path: Path, key: str, name: str) -> Regime:
    """Return the package's regime `name`; those of templates are made only where a name is not found otherwise."""
    regime = _known().get(name) or _known((name,)).get(name)
    if regime is None:
        raise refuse(path, key, f"'{name}' is no regime; give one that `stress list regimes` names")
    return regime


def _side(
    path: Path, bug: str, key: str, values: Mapping[str, Any], own: Mapping[str, Case | None], isa: str
) -> Side | None:
    """Return the protocol that the table `key` describes; None where its case has no table for `isa`."""
    regimes = tuple(_regime(path, f"{key}.regimes", name) for name in values["regimes"])
    case = _case(path, f"{key}.case", values["case"], own, isa)
    if case is None:
        return None
    stores = values["stores"] or (() if regimes[0].publish else ("whole",))
    side = Side(f"{bug}:{key}", values["does"], case, values["sites"], stores, regimes)
    _check_places(path, side, key)
    return side


def load_bug(path: Path, isa: str) -> Bug | None:
    """Return the bug in the file `path`, or None where one of its cases has no table for `isa`.

    The bug is named as the file. Raises CaseError where the file is not a well-made recipe.
    """
    try:
        name = NAME(path.stem)
    except ValueError as error:
        raise refuse(path, "file", f"its name, {error}") from None
    values = read_table(path, "", read_toml(path), _BUG)
    own = _patterns(path, name, values["patterns"], isa)
    wrong, right = (_side(path, name, key, values.pop(key), own, isa) for key in SIDES)
    if wrong is None or right is None:
        return None
    if (wrong.case, wrong.sites, wrong.stores, wrong.regimes) == (
        right.case,
        right.sites,
        right.stores,
        right.regimes,
    ):
        raise refuse(path, "right", "runs what wrong runs; give another case, site, store or regime")
    for pattern in own:
        if f"{name}.{pattern}" not in (wrong.case.name, right.case.name):
            raise refuse(
                path, f"patterns.{pattern}", "neither side uses it; name it as a case, or leave it out"
            )
    patterns = tuple(case for case in own.values() if case)
    return Bug(name=name, wrong=wrong, right=right, **{**values, "patterns": patterns})


def find_bugs() -> Path:
    """Return the directory of the package's own bugs: inside it where it is installed, else beside it."""
    packaged = Path(str(resources.files("stress").joinpath("bugs")))
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "bugs"


def load_bugs(directory: Path | None, isa: str) -> dict[str, Bug]:
    """Return the bugs of `directory` (the package's own where it is None) that `isa` has, sorted by name.

    Raises CaseError at the first file that is not a well-made recipe, and where there is none at all.
    """
    directory = directory or find_bugs()
    paths = sorted(directory.glob("*.toml"))
    if not paths:
        raise refuse(directory, "bugs", "there is no *.toml file; give a directory of bug files")
    loaded = (load_bug(path, isa) for path in paths)
    return {bug.name: bug for bug in loaded if bug}


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of `--cases` that name cases, and those that name bugs, the latter with their prefix."""
    parts = [part.strip() for chunk in words for part in chunk.split(",")]
    return [p for p in parts if not p.startswith(PREFIX)], [p for p in parts if p.startswith(PREFIX)]
