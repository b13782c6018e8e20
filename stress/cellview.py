"""What the report page says of one cell: plain values for the template, with the figures that `explain` has."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stress.charges import Record
from stress.charts import Histogram, staleness
from stress.evidence import Evidence
from stress.explain import mixes_that_ran
from stress.grade import EVENTS, Verdict, counts_of, total
from stress.mixes import decode_text
from stress.model import ExecStep, Outcome, Status, Step
from stress.stats import rate_text
from stress.table import peak, per_second, si

EVENTS_SHOWN = 5
"""Of the events that the run kept of a cell, the youngest ones that the page has room for."""

MIXES_SHOWN = 6
BYTES_SHOWN = 16
IMAGES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell that ran, and where on the page it stands. `row`, `section`: anchors; no `section`: only a row."""

    record: Record
    verdict: Verdict
    row: str
    section: str = ""

    @property
    def link(self) -> str:
        """The anchor of the fullest account of it."""
        return self.section or self.row

    @property
    def counts(self) -> list[int]:
        """Executions, patches, then how often each sort of event was seen."""
        counts = counts_of(self.record)
        return [total(counts), self.record["patches"], *(total(counts, event) for event in EVENTS)]

    @property
    def rate(self) -> str:
        """Events per execution, or the bound on what was not seen."""
        return rate_text(self.verdict.events, self.verdict.trials)

    @property
    def share(self) -> float:
        """Events per execution, 0 to 1."""
        return self.verdict.events / self.verdict.trials if self.verdict.trials else 0.0

    @property
    def name(self) -> str:
        """What tells it from the other cells of its regime."""
        r = self.record
        shown = f"{r['case']}@{r['site']}/{r['store']}"
        return shown if r["provocation"] == "auto" else f"{shown}~{r['provocation']}"

    @property
    def failed(self) -> bool:
        """Whether something else than its limit ended it: the harness, or the death of what is under test."""
        return self.record["status"] not in (Status.OK, Status.SKIPPED)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text or numbers below their heads."""

    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about one cell. `images`: number, bytes before, in and behind the patch, and what a decoder reads."""

    cell: CellView
    writer: tuple[str, ...]
    executor: tuple[str, ...]
    where: str
    phases: Table
    provocations: Table
    images: tuple[tuple[str, str, str, str, str], ...]
    more_images: int
    mixes: Table | None
    tears: str
    events: Table | None
    histograms: tuple[Histogram, ...]
    command: str


def _phases(record: Record) -> Table:
    rows = tuple(
        (phase.value, *(row.get(outcome, 0) for outcome in Outcome))
        for phase, row in counts_of(record).items()
    )
    return Table(("phase", *Outcome), rows)


def _provocations(record: Record) -> Table:
    shares = record["provocations"] or {record["provocation"]: record}
    rows = []
    for name, share in shares.items():
        counts = counts_of(share)
        _, rate = peak({**share, "provocations": {}, "provocation": name})
        events = total(counts, *EVENTS)
        rows.append((name, total(counts), share["patches"], events, per_second(rate) if events else ""))
    return Table(("provocation", "executions", "patches", "events", "a second"), tuple(rows))


def _images(region: Mapping[str, Any], isa: str) -> tuple[tuple[str, str, str, str, str], ...]:
    rows = []
    begin, end = region["patch"], region["patch"] + region["patch_len"]
    for i, image in enumerate(region["images"][:IMAGES_SHOWN]):
        code = bytes.fromhex(image["bytes"])
        parts = (code[:begin].hex(" "), code[begin:end].hex(" "), code[end:].hex(" "))
        rows.append((str(i), *parts, decode_text(code, region["entry"], isa)))
    return tuple(rows)


def _mixes(record: Record, isa: str) -> Table | None:
    found = mixes_that_ran(record, isa)[:MIXES_SHOWN]
    rows = tuple(
        (
            count,
            (labels[0] if labels else "?") + (f" or {len(labels) - 1} more" if len(labels) > 1 else ""),
            text,
        )
        for count, labels, text in found
    )
    return Table(("times", "image of each byte", "as a decoder reads it"), rows) if rows else None


def _tears(record: Record, evidence: Evidence) -> str:
    tears = evidence.tears(record)
    if tears is None:
        return "No data witness ran beside it, so store tears and fetch tears are not told apart."
    if not tears.store + tears.fetch + tears.unattributed:
        return ""
    return (
        f"{si(tears.store)} store tears: data readers saw memory hold such bytes. {si(tears.fetch)} fetch tears: "
        f"they never did, and saw a control that does. {si(tears.unattributed)} not attributed."
    )


def _events(events: Sequence[Record]) -> Table | None:
    rows = tuple(
        (
            e["outcome"],
            e["phase"],
            e["provocation"],
            f"{e['done']} to {e['begun']}",
            f"{e['signal']} at byte {e['pc']}" if e["signal"] else f"value {e['value']:#x}",
            e["bytes"][: 2 * BYTES_SHOWN],
        )
        for e in events[-EVENTS_SHOWN:]
    )
    heads = ("outcome", "phase", "provocation", "generations", "showed", "bytes in memory")
    return Table(heads, rows) if rows else None


def command_of(record: Record, request: Mapping[str, Any]) -> str:
    """Return the command line that runs this one cell for as long as it ran here."""
    words = ["stress", "run"]
    chosen = {
        "cases": record["case"],
        "sites": record["site"],
        "stores": record["store"],
        "regimes": record["regime"],
        "placements": record["placement"],
        "provoke": record["provocation"],
    }
    if record.get("shape") == "publish":  # site and store follow from the regime
        chosen = {k: v for k, v in chosen.items() if k not in ("sites", "stores")}
    for option, value in chosen.items():
        if value != "auto":
            words += [f"--{option}", value]
    limits = record["plan"]["limits"]
    for option in ("seconds", "executions", "patches"):
        if limits[option]:
            words += [f"--{option}", f"{limits[option]:g}" if option == "seconds" else str(limits[option])]
    if request.get("case_dir"):
        words += ["--case-dir", request["case_dir"]]
    for file in request.get("regime_files", ()):
        words += ["--regime-file", file]
    return shlex.join(words)


def section_of(
    cell: CellView, evidence: Evidence, events: Sequence[Record], isa: str, request: Mapping[str, Any]
) -> Section:
    """Return everything about `cell`, which ran; `events`: those that the run kept of it, oldest first."""
    record, plan = cell.record, cell.record["plan"]
    region = plan["region"]
    split = region["split"]
    publish = plan.get("publish")
    where = f"{split} of the {region['patch_len']} bytes lie before a boundary" if split else ""
    if publish:
        where = f"reached by {publish['reach']}, each time at an address that was {publish['address']}"
    return Section(
        cell=cell,
        writer=tuple(Step(*step).text for step in plan["writer"]),
        executor=tuple(ExecStep(*step).text for step in plan["executor"]),
        where=where,
        phases=_phases(record),
        provocations=_provocations(record),
        images=_images(region, isa),
        more_images=max(0, len(region["images"]) - IMAGES_SHOWN),
        mixes=None if publish else _mixes(record, isa),
        tears="" if publish else _tears(record, evidence),
        events=_events(events),
        histograms=staleness([record]),
        command=command_of(record, request),
    )
