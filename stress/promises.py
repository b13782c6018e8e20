"""What the manuals promise of an outcome: one table by kind, one by regime code, looked up and combined.

The tables are `promises.toml`; docs/promises.md defines their codes. Pure but for reading that file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import resources
from typing import Any

from stress.errors import CaseError
from stress.model import Outcome, Phase

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


@dataclass(frozen=True, slots=True)
class Promises:
    """Both tables. `kinds`, `codes`: what every K and R code means; `vendors`: CPUID vendor -> family."""

    kinds: Mapping[str, str]
    codes: Mapping[str, str]
    sources: Mapping[str, str]
    vendors: Mapping[str, str]
    rules: Mapping[str, Promise]
    concurrent: Mapping[tuple[str, str], Row]
    protocols: Mapping[tuple[str, str], Row]
    otherwise: Mapping[str, str]
    post: Mapping[tuple[str, str], Row]

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
    ) -> Promise:
        """Return the promise for one outcome of a cell.

        `kind`: the effective one at the cell's site; `vendor`: as CPUID spells it, or a family; `completes`,
        `ablation`: what the regime claims, and whether it is broken on purpose; `modified`: whether anything
        was ever stored.

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
            return self._post(kind, code, family, outcome, completes)
        return self._concurrent(kind, code, family, outcome, completes)

    def _concurrent(self, kind: str, code: str, family: str, outcome: Outcome, completes: bool) -> Promise:
        if outcome is Outcome.TRAP:
            return self.rules["trap"]
        promise = self._in_flight(kind, code, family, completes)[outcome]
        if outcome is Outcome.STALE:
            # Older than what was complete when the execution began: the kind must exclude a third image,
            # and the regime to exclude that anyone still runs what it has declared replaced.
            return _weakest([promise, self._claimed(code, family, outcome, completes)])
        return promise

    def _post(self, kind: str, code: str, family: str, outcome: Outcome, completes: bool) -> Promise:
        claimed = self._claimed(code, family, outcome, completes)
        if outcome in (Outcome.STALE, Outcome.TRAP):
            return claimed
        # What no executor may see while the store is in flight it may not see after it either.
        in_flight = self._in_flight(kind, code, family, completes)[outcome]
        return max(claimed, in_flight, key=lambda promise: STRENGTH[promise.level])

    def _in_flight(self, kind: str, code: str, family: str, completes: bool) -> Row:
        if code in self.otherwise and completes:
            return self.protocols[code, family]
        return self.concurrent[self.otherwise.get(code, kind), family]

    def _claimed(self, code: str, family: str, outcome: Outcome, completes: bool) -> Promise:
        return self.post[code, family][outcome] if completes else self.rules["unclaimed"]


def load_promises() -> Promises:
    """Return the tables that the package ships.

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
        post = _table(data["post"], "codes", codes, families, sources, (*IN_FLIGHT, Outcome.TRAP))
        otherwise = {code: row["otherwise"] for row in data["protocols"] for code in row["codes"]}
        protocols = _table(data["protocols"], "codes", otherwise, families, sources, IN_FLIGHT)
    except KeyError as error:
        raise CaseError(f"{FILE}: {error.args[0]}: missing; reinstall the package") from error
    except (TypeError, ValueError) as error:  # a TOMLDecodeError is a ValueError
        raise CaseError(f"{FILE}: {error}; reinstall the package") from error
    return Promises(kinds, codes, sources, vendors, rules, concurrent, protocols, otherwise, post)


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
    return {
        outcome: _weakest(
            [
                replace(row[outcome], why=f"As on {family}: {row[outcome].why}")
                for family, row in rows.items()
            ],
            everyone=True,
        )
        for outcome in next(iter(rows.values()))
    }


def _weakest(promises: Iterable[Promise], everyone: bool = False) -> Promise:
    """Return the weakest level, with the reasons of those that are as weak, or of `everyone`."""
    promises = list(promises)
    level = min((promise.level for promise in promises), key=STRENGTH.__getitem__)
    heard = [promise for promise in promises if everyone or promise.level is level]
    sources = [source for promise in heard for source in promise.source.split("; ") if source]
    return Promise(
        level,
        "; ".join(dict.fromkeys(sources)),
        " ".join(promise.why for promise in heard),
        max((promise.confidence for promise in heard), key=CONFIDENCE.index),
    )
