"""Where are this CPU's atomicity boundaries, for stores and for fetch? A run asked as a whole, as Markdown tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stress.evidence import Evidence
from stress.grade import EVENTS, counts_of, total
from stress.mixes import boundaries, images_of, newer
from stress.model import Status
from stress.patterns import Pattern, read
from stress.reading import Reading
from stress.sites import STORES
from stress.studies import merge, seen
from stress.table import pipes
from stress.witness import ENOUGH_CONTROLS, ENOUGH_TEARS, Tears

Record = Mapping[str, Any]

REGIMES = ("none", "alias")
"""Regimes that add nothing to the store."""

MIXES_SHOWN = 2

BETWEEN = " / "
"""Stands in a mix where it is cut between two instructions."""


def atomicity(reading: Reading) -> str:
    """Return, case by case, a table of stores and boundaries, then one of every site and store.

    Only cells without any synchronization count.
    """
    evidence = reading.evidence
    plain = [r for r in reading.records.cells if r["regime"] in REGIMES and r["status"] == Status.OK]
    lines = [
        "Events a second, or (<) the one-sided 95 % bound per execution; in percent S store tears, F fetch tears, ?",
        "not attributed; then what data readers saw of the store. Mixes are runs of bytes: n new, o old; x and y",
        "where nothing tells which is new; a stroke where two instructions meet, which may be fetched one by one.",
        "",
    ]
    for case in dict.fromkeys(r["case"] for r in plain):
        these = [r for r in plain if r["case"] == case]
        width = these[0]["plan"]["region"]["patch_len"]
        lines += [f"### {case}: {width} bytes", "", *_summary(evidence, these), ""]
        lines += [f"### {case}, every site and store", "", *_every(evidence, these), ""]
    return "\n".join(lines)


def _place(site: str) -> tuple[int, int]:
    """Boundary and bytes in front of it; (0, 0) inside an aligned block."""
    boundary, _, front = site.removeprefix("x").partition("+")
    return (0, 0) if site.startswith("in") else (int(boundary), int(front or 0))


def _summary(evidence: Evidence, records: Sequence[Record]) -> list[str]:
    """A row a store, a column a boundary: all splits together."""
    columns = sorted({_place(r["site"])[0] for r in records})
    rows = []
    for store in (name for name in STORES if any(r["store"] == name for r in records)):
        found = [
            [r for r in records if r["store"] == store and _place(r["site"])[0] == boundary]
            for boundary in columns
        ]
        rows.append([store, *(_together(evidence, each) if each else "" for each in found)])
    return pipes(["store", *(f"across {b}" if b else "inside" for b in columns)], rows)


def _together(evidence: Evidence, records: Sequence[Record]) -> str:
    """How many of several sites showed something, and how much the worst of them did."""
    torn = [r for r in records if total(counts_of(r), *EVENTS)]
    if not torn:
        told = seen(*merge(records))
    else:
        worst = max(torn, key=lambda r: total(counts_of(r), *EVENTS) / (r["seconds"] or 1))
        told = f"{len(torn)} of {len(records)}, up to {seen(counts_of(worst), worst['seconds'])}"
        told += _shares(_tears(evidence, torn))
        between = _between(torn)
        told += f", {between:.3g} % between instructions" if between else ""
    readers = dict.fromkeys(_readers(evidence, r) for r in records)
    return f"{told}; {' or '.join(readers)}"


def _every(evidence: Evidence, records: Sequence[Record]) -> list[str]:
    """A row a site and store."""
    order = list(STORES)
    places = sorted({(_place(r["site"]), order.index(r["store"]), r["site"], r["store"]) for r in records})
    rows = []
    for _, _, site, store in places:
        these = [r for r in records if (r["site"], r["store"]) == (site, store)]
        tears = _shares(_tears(evidence, these)).strip(" ()")
        rows.append([site, store, seen(*merge(these)), _mixes(these), tears, _readers(evidence, these[0])])
    return pipes(("site", "store", "torn", "mixes", "tears", "data readers"), rows)


def _tears(evidence: Evidence, records: Iterable[Record]) -> Tears:
    known = [tears for record in records if (tears := evidence.tears(record)) is not None]
    return sum(known, Tears())


def _shares(tears: Tears) -> str:
    """` (S 97, F 3)`: the shares, in percent, of store tears, fetch tears and those not attributed."""
    parts = {"S": tears.store, "F": tears.fetch, "?": tears.unattributed}
    whole = sum(parts.values())
    shares = [f"{name} {100 * n / whole:.3g}" for name, n in parts.items() if n]
    return f" ({', '.join(shares)})" if shares else ""


def _between(records: Iterable[Record]) -> float:
    """The share, in percent, of what ran that is cut between two instructions: those may be fetched one by one."""
    found = _spelled(records)
    return 100 * sum(n for text, n in found.items() if BETWEEN in text) / (sum(found.values()) or 1)


def _mixes(records: Iterable[Record]) -> str:
    """Which mixes ran, most frequent first: `2n 2o 71 %`, the first two bytes new and the others old."""
    found = _spelled(records)
    whole = sum(found.values())
    told = [f"{text} {100 * n / whole:.3g} %" for text, n in found.most_common(MIXES_SHOWN)]
    more = len(found) - MIXES_SHOWN
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _spelled(records: Iterable[Record]) -> Counter[str]:
    """How many executions ran each mix, by its spelling."""
    found: Counter[str] = Counter()
    for record in records:
        region = record["plan"]["region"]
        images = images_of(region)
        for s in record["signatures"]:
            if s["outcome"] in ("torn", "fault", "hang"):
                texts = {
                    _spell(label, images, region["patch"], region["head"]) for label in s.get("mixes", ())
                }
                found[texts.pop() if len(texts) == 1 else "several" if texts else "none known"] += s["count"]
    return found


def _spell(label: str, images: tuple[bytes, ...], patch: int, head: int) -> str:
    """A mix as runs of bytes, with a stroke where instructions meet.

    Bytes in which the two images agree go with those in front of them.
    """
    changes = boundaries(label, images, patch)
    if not changes:
        return "none known"
    ends = label[changes[0][0]], label[changes[0][-1] + 1]
    names = {1: "on", -1: "no", 0: "xy"}[newer(*ends, len(images))]
    cuts = [0, *(places[-1] + 1 for places in changes), len(label)]
    runs = zip(cuts[1:], cuts[:-1], strict=True)
    whole = {pattern for _, pattern in read(label, images, patch, head)} <= {Pattern.OLD_NEW, Pattern.NEW_OLD}
    joint = BETWEEN if whole else " "
    return joint.join(f"{end - begin}{names[i % 2]}" for i, (end, begin) in enumerate(runs))


def _readers(evidence: Evidence, record: Record) -> str:
    """Whether data readers saw the store as one event, in words: `one event`, `front first`, `not settled`..."""
    if record["plan"]["region"]["patch_len"] == 1:
        return "one byte"
    witness = evidence.witness(record)
    if witness is None:
        return "no witness"
    ends = witness["pairs"][-1]["tears"]
    seen_first = zip(("front first", "back first"), ends, strict=True)
    names = [name for name, tears in seen_first if tears[0] >= ENOUGH_TEARS]
    if names:
        return " and ".join(names)
    settled = all(tears[1 + order] >= ENOUGH_CONTROLS and not tears[0] for order, tears in enumerate(ends))
    return "one event" if settled else "not settled"
