"""Two questions that a run can be asked as a whole, answered as Markdown tables.

Where are this CPU's atomicity boundaries, for stores and for fetch? And which steps of a protocol does it need?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stress.evidence import Evidence, gather
from stress.grade import EVENTS, Counts, counts_of, total
from stress.model import Status
from stress.promises import Promises
from stress.sites import STORES
from stress.stats import short_rate, upper_bound_95
from stress.table import si
from stress.witness import ENOUGH_CONTROLS

Record = Mapping[str, Any]


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _rank(site: str) -> tuple[int, int]:
    boundary, _, front = site.removeprefix("x").partition("+")
    return (0, 0) if site == "in8" else (int(boundary), int(front or 0))


def _seen(counts: Counts, seconds: float) -> str:
    """Events a second, or the one-sided 95 % bound per execution on what was not seen."""
    events, n = total(counts, *EVENTS), total(counts)
    if not n or not seconds:
        return "-"
    if not events:
        return f"0 (<{short_rate(upper_bound_95(0, n))})"
    return f"{si(round(events / seconds)) if events >= seconds * 10 else f'{events / seconds:.2g}'}/s"


def _merge(records: Sequence[Record]) -> tuple[Counts, float]:
    """Counts and seconds of several records together."""
    together: dict[str, dict[str, int]] = {}
    for record in records:
        for phase, row in record["outcomes"].items():
            for outcome, n in row.items():
                into = together.setdefault(phase, {})
                into[outcome] = into.get(outcome, 0) + n
    return counts_of({"outcomes": together}), sum(r["seconds"] for r in records)


def _source(evidence: Evidence, records: Sequence[Record]) -> str:
    """` S 97 F 3 ? 0`: the shares, in percent, of store tears, fetch tears and those not attributed."""
    tears = [evidence.tears(record) for record in records]
    known = [t for t in tears if t is not None]
    parts = {"S": sum(t.store for t in known), "F": sum(t.fetch for t in known)}
    parts["?"] = sum(t.unattributed for t in known)
    whole = sum(parts.values())
    shares = [f"{name} {100 * n / whole:.3g}" for name, n in parts.items() if n]
    return f" ({', '.join(shares)})" if shares else ""


def _witness(evidence: Evidence, record: Record) -> str:
    """Whether data readers saw the store as one event, in words: `one event`, `front first`, `not settled`..."""
    witness = evidence.witness(record)
    if witness is None:
        return "no witness"
    ends = witness["pairs"][-1]["tears"]
    names = [name for name, tears in zip(("front first", "back first"), ends, strict=True) if tears[0]]
    if names:
        return " and ".join(names)
    controlled = all(tears[1 + order] >= ENOUGH_CONTROLS for order, tears in enumerate(ends))
    return "one event" if controlled else "not settled"


def atomicity(
    run: Mapping[str, Any],
    records: Iterable[Record],
    promises: Promises,
    colour: bool = False,
    vendor: str | None = "",
) -> str:
    """Return, case by case, a table of sites and stores: torn or not, how often, and which half was not atomic.

    Only cells without any synchronization count (regimes `none` and `alias`).
    """
    evidence = gather(records)
    plain = [r for r in evidence.cells if r["regime"] in ("none", "alias") and r["status"] == Status.OK]
    lines = [
        "Events a second, or (<) the one-sided 95 % bound per execution; S store tears, F fetch tears, ? not",
        "attributed, in percent; then what data readers saw of the store.",
        "",
    ]
    for case in dict.fromkeys(r["case"] for r in plain):
        stores = [store for store in STORES if any(r["case"] == case and r["store"] == store for r in plain)]
        rows = []
        for site in sorted({r["site"] for r in plain if r["case"] == case}, key=_rank):
            row = [site]
            for store in stores:
                these = [r for r in plain if (r["case"], r["site"], r["store"]) == (case, site, store)]
                seen = _seen(*_merge(these)) + _source(evidence, these) if these else ""
                row.append(f"{seen}; {_witness(evidence, these[0])}" if these else "")
            rows.append(row)
        lines += [f"### {case}", "", *_markdown(["site", *stores], rows), ""]
    return "\n".join(lines)


def _first(record: Record) -> str:
    """Seconds to the first event, where a cell had one provocation; else "" (turns share one clock)."""
    times = [x["first_event_seconds"] for x in record["executors"] if x.get("first_event_seconds")]
    return f", first after {min(times):.2g} s" if times and record["provocation"] != "auto" else ""


def mutants(
    run: Mapping[str, Any],
    records: Iterable[Record],
    promises: Promises,
    colour: bool = False,
    vendor: str | None = "",
) -> str:
    """Return, protocol by protocol, what each broken variant showed under each provocation; the complete one first."""
    cells = [r for r in gather(records).cells if r["status"] == Status.OK]
    lines = ["Events a second and seconds to the first, or (<) the one-sided 95 % bound per execution.", ""]
    for protocol in dict.fromkeys(r["ablation_of"] for r in cells if r["ablation_of"]):
        names = [protocol, *dict.fromkeys(r["regime"] for r in cells if r["ablation_of"] == protocol)]
        these = [r for r in cells if r["regime"] in names]
        turns = list(dict.fromkeys(name for r in these for name in r["provocations"]))
        rows = [[name, *(_under(these, name, turn) for turn in turns)] for name in names]
        lines += [f"### {protocol}", "", *_markdown(["regime", *turns], rows), ""]
    return "\n".join(lines)


def _under(records: Sequence[Record], regime: str, turn: str) -> str:
    found = [
        (r, r["provocations"][turn]) for r in records if r["regime"] == regime and turn in r["provocations"]
    ]
    if not found:
        return ""
    firsts = [text for r, _ in found if (text := _first(r))]
    return _seen(*_merge([share for _, share in found])) + (min(firsts) if len(found) == 1 and firsts else "")
