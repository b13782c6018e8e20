"""What the manuals promise of an outcome: one table by kind, one by regime code, looked up and combined.

The tables are `promises.toml`; docs/promises.md defines their codes. Pure but for reading that file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from stress.errors import CaseError
from stress.model import Outcome, Phase
from stress.patterns import Pattern, Way

FILE = "promises.toml"
GENERIC = "generic"
"""Any x86 vendor without a manual of its own here: held to the weaker of the others' promises."""


class Level(StrEnum):
    """What is promised of an outcome. Strongest first."""

    FORBIDDEN = "forbidden"
    RELIED_ON = "relied-on"
    ALLOWED = "allowed"


UNORDERED = "K16"
"""Stores that need not be visible when a later store is: what a regime claims of its stores is not true of them."""

STRENGTH = {level: rank for rank, level in enumerate(reversed(Level))}
"""Level -> 0 (allowed) .. 2 (forbidden)."""

CONFIDENCE = ("H", "M", "U")
"""Read in the primary text; inferred, or from a secondary source; unconfirmed."""

IN_FLIGHT = (Outcome.TORN, Outcome.FAULT, Outcome.STALE)
"""What every row says something of."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised of one outcome: its level, the citations, why, and how sure that is (CONFIDENCE)."""

    level: Level
    source: str
    why: str
    confidence: str = "H"


Row = Mapping[Outcome, Promise]
"""The promises of one line of a table."""

Mixes = Mapping[str, Promise]
"""Of one kind, the patterns of which something else is promised than of the rest, whatever comes of running them."""


@dataclass(frozen=True, slots=True, eq=False)  # one is itself, so that what was looked up can be kept
class Promises:
    """Both tables. `kinds`, `codes`: what every K and R code means; `vendors`: CPUID vendor -> family.

    `ways`: what else a kind is where its images change another way; `absent`: codes without a form here, and why;
    `patterns`: what each means.
    """

    kinds: Mapping[str, str]
    ways: Mapping[str, Mapping[str, str]]
    codes: Mapping[str, str]
    absent: Mapping[str, str]
    patterns: Mapping[str, str]
    sources: Mapping[str, str]
    vendors: Mapping[str, str]
    rules: Mapping[str, Promise]
    concurrent: Mapping[tuple[str, str], Row]
    mixes: Mapping[tuple[str, str], Mixes]
    protocols: Mapping[tuple[str, str], Row]
    otherwise: Mapping[str, str]
    post: Mapping[tuple[str, str], Row]

    def kind_of(self, kind: str, way: Way) -> str:
        """Return what a modification of `kind` is where the images change that way."""
        return self.ways.get(kind, {}).get(way, kind)

    def cited(self, code: str) -> str:
        """Return the sources of what each vendor promises of a kind or a regime code, joined by `; `."""
        row = (self.concurrent if code in self.kinds else self.post)[code, GENERIC]
        return row[Outcome.TORN].source

    def look_up(
        self,
        kind: str,
        code: str,
        vendor: str,
        phase: Phase,
        outcome: Outcome,
        completes: bool,
        ablation: bool,
        modified: bool = True,
        pattern: str = "",
    ) -> Promise:
        """Return the promise for one outcome of a cell.

        `kind`: the effective one at the cell's site; `vendor`: as CPUID spells it, or a family; `completes`,
        `ablation`: what the regime claims, and whether it is broken on purpose; `modified`: whether anything
        was ever stored; `pattern`: that of the mix that ran, "" where that does not matter.

        Raises:
            CaseError: the kind or the code is not in the tables.
        """
        if kind not in self.kinds:
            raise CaseError(f"unknown kind {kind!r}; give one of K1..K23 (docs/promises.md)")
        if code not in self.codes:
            raise CaseError(f"unknown regime code {code!r}; give one of {', '.join(self.codes)}")
        if outcome in (Outcome.OLD, Outcome.NEW):
            return self.rules["whole"]
        if not modified:
            return self.rules["idle"]
        if phase in (Phase.INTERIOR, Phase.RESUMED):
            return self.rules[phase.value]
        if ablation:
            return self.rules["ablation"]
        if phase is Phase.POST and kind == UNORDERED:
            return self.rules["unordered"]
        family = self.vendors.get(vendor, GENERIC)
        if phase is Phase.POST:
            return self._post(kind, code, family, outcome, completes, pattern)
        return self._concurrent(kind, code, family, outcome, completes, pattern)

    def _concurrent(
        self, kind: str, code: str, family: str, outcome: Outcome, completes: bool, pattern: str
    ) -> Promise:
        if outcome is Outcome.TRAP:
            return self.rules["trap"]
        promise = self._in_flight(kind, code, family, outcome, completes, pattern)
        if outcome is Outcome.STALE:
            # Older than what was complete when the execution began: the kind must exclude a third image,
            # and the regime to exclude that anyone still runs what it has declared replaced.
            return weakest([promise, self._claimed(code, family, outcome, completes)])
        return promise

    def _post(
        self, kind: str, code: str, family: str, outcome: Outcome, completes: bool, pattern: str
    ) -> Promise:
        claimed = self._claimed(code, family, outcome, completes)
        if outcome in (Outcome.STALE, Outcome.TRAP):
            return claimed
        # What no executor may see while the store is in flight it may not see after it either.
        in_flight = self._in_flight(kind, code, family, outcome, completes, pattern)
        return max(claimed, in_flight, key=lambda promise: STRENGTH[promise.level])

    def _in_flight(
        self, kind: str, code: str, family: str, outcome: Outcome, completes: bool, pattern: str
    ) -> Promise:
        if code in self.otherwise and completes:
            return self.protocols[code, family][outcome]
        row = self.otherwise.get(code, kind), family
        named = {} if outcome is Outcome.STALE else self.mixes.get(row, {})
        return named.get(pattern) or self.concurrent[row][outcome]

    def _claimed(self, code: str, family: str, outcome: Outcome, completes: bool) -> Promise:
        return self.post[code, family][outcome] if completes else self.rules["unclaimed"]


@cache
def load_promises() -> Promises:
    """Return the tables that the package ships, the same each time.

    Raises:
        CaseError: the file is wrong: FILE: KEY: what, and the remedy.
    """
    return parse_promises(resources.files("stress").joinpath(FILE).read_text(encoding="utf-8"))


def parse_promises(text: str) -> Promises:
    """Return the tables that `text` (TOML) holds; every code has exactly one row per vendor family.

    Raises:
        CaseError: they do not.
    """
    try:
        data = tomllib.loads(text)
        kinds, codes, sources = data["kinds"], data["codes"], data["sources"]
        vendors = data["vendors"]
        families = sorted(set(vendors.values()))
        rules = {name: _promise(rule, rule["level"], sources) for name, rule in data["rules"].items()}
        concurrent = _table(data["concurrent"], "kinds", kinds, families, sources, IN_FLIGHT)
        mixes = _mixes(data["concurrent"], concurrent, families, sources)
        post = _table(data["post"], "codes", codes, families, sources, (*IN_FLIGHT, Outcome.TRAP))
        otherwise = {code: row["otherwise"] for row in data["protocols"] for code in row["codes"]}
        protocols = _table(data["protocols"], "codes", otherwise, families, sources, IN_FLIGHT)
    except KeyError as error:
        raise CaseError(f"{FILE}: {error.args[0]}: missing; reinstall the package") from error
    except (TypeError, ValueError) as error:  # a TOMLDecodeError is a ValueError
        raise CaseError(f"{FILE}: {error}; reinstall the package") from error
    return Promises(
        kinds, data["ways"], codes, data["absent"], data["patterns"], sources, vendors, rules, concurrent, mixes,
        protocols, otherwise, post,
    )  # fmt: skip


def _mixes(
    entries: Iterable[Mapping[str, Any]],
    concurrent: Mapping[tuple[str, str], Row],
    families: Iterable[str],
    sources: Mapping[str, str],
) -> dict[tuple[str, str], Mixes]:
    """Return (kind, family) -> what is promised of the patterns that a row names."""
    table: dict[tuple[str, str], Mixes] = {}
    for entry in entries:
        named = {
            Pattern(name): _promise({**entry, **mix}, mix["level"], sources)
            for name, mix in entry.get("mixes", {}).items()
        }
        table |= {(kind, entry["vendor"]): named for kind in entry["kinds"] if named}
    for kind, _ in list(table):
        rows = {family: (table.get((kind, family), {}), concurrent[kind, family]) for family in families}
        patterns = {pattern for named, _ in rows.values() for pattern in named}
        table[kind, GENERIC] = {
            pattern: _weakest_of(
                {family: named.get(pattern, row[Outcome.TORN]) for family, (named, row) in rows.items()}
            )
            for pattern in patterns
        }
    return table


def _table(
    entries: Iterable[Mapping[str, Any]],
    key: str,
    codes: Iterable[str],
    families: Iterable[str],
    sources: Mapping[str, str],
    outcomes: Iterable[Outcome],
) -> dict[tuple[str, str], Row]:
    """Return (code, family) -> row, with the generic family made from the others."""
    table: dict[tuple[str, str], Row] = {}
    for entry in entries:
        row = _row(entry, sources, outcomes)
        for code in entry[key]:
            if (code, entry["vendor"]) in table:
                raise ValueError(f"{code}: two rows for {entry['vendor']}")
            table[code, entry["vendor"]] = row
    wanted = {(code, family) for code in codes for family in families}
    if wanted != set(table):
        raise ValueError(f"rows missing, or of unknown codes: {sorted(wanted ^ set(table))}")
    for code in codes:
        table[code, GENERIC] = _common({family: table[code, family] for family in families})
    return table


def _row(entry: Mapping[str, Any], sources: Mapping[str, str], outcomes: Iterable[Outcome]) -> Row:
    row = {outcome: _promise(entry, entry[outcome], sources) for outcome in outcomes}
    row[Outcome.HANG] = _promise(entry, entry.get(Outcome.HANG, entry[Outcome.TORN]), sources)
    return row


def _promise(entry: Mapping[str, Any], level: str, sources: Mapping[str, str]) -> Promise:
    if entry["confidence"] not in CONFIDENCE:
        raise ValueError(f"confidence: one of {', '.join(CONFIDENCE)}, not {entry['confidence']!r}")
    source = "; ".join(sources[name] for name in entry["source"])
    return Promise(Level(level), source, " ".join(entry["why"].split()), entry["confidence"])


def _common(rows: Mapping[str, Row]) -> Row:
    """Return what all of the families promise: of each outcome the weakest level, with everyone's reasons."""
    outcomes = next(iter(rows.values()))
    return {
        outcome: _weakest_of({family: row[outcome] for family, row in rows.items()}) for outcome in outcomes
    }


def _weakest_of(families: Mapping[str, Promise]) -> Promise:
    each = [replace(promise, why=f"As on {family}: {promise.why}") for family, promise in families.items()]
    return weakest(each, everyone=True)


def weakest(promises: Iterable[Promise], everyone: bool = False) -> Promise:
    """Return the weakest level, with the reasons of those that are as weak, or of `everyone`."""
    promises = list(promises)
    level = min((promise.level for promise in promises), key=STRENGTH.__getitem__)
    heard = [promise for promise in promises if everyone or promise.level is level]
    sources = [source for promise in heard for source in promise.source.split("; ") if source]
    return Promise(
        level,
        "; ".join(dict.fromkeys(sources)),
        " ".join(dict.fromkeys(promise.why for promise in heard)),
        max((promise.confidence for promise in heard), key=CONFIDENCE.index),
    )
