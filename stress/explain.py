"""Why a cell has its grade, as a colleague would tell it: what was run, seen and promised, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from stress.errors import StoreError, UsageError
from stress.evidence import Evidence, cells_of, gather
from stress.grade import EVENTS, counts_of, grade, total
from stress.mixes import decode_text, images_of
from stress.model import Status
from stress.patterns import read
from stress.promises import Promises
from stress.stats import poisson_interval
from stress.table import LEGEND, si

WIDTH = 100
MIXES_SHOWN = 6

Record = Mapping[str, Any]


def latest_run(below: Path) -> Path:
    """The youngest run folder below `below`; StoreError where there is none."""
    runs = sorted(path.parent for path in below.glob("*/run.json"))
    if not runs:
        raise StoreError(f"{below}: holds no run; make one with `stress run`, or name one with --run DIR")
    return runs[-1]


def find(records: Iterable[Record], cell: str) -> Record:
    """The finished record of the cell that `cell` names: its name, or its id; UsageError where there is none."""
    ends = [r for r in cells_of(records) if cell in (r["cell"], r["id"])]
    if not ends:
        raise UsageError(
            f"{cell}: no finished cell of this run has that name; see `stress report DIR --format json`"
        )
    return ends[-1]


def _wrap(text: str, indent: str = "  ") -> str:
    hang = " " * (len(indent) if indent.strip() else len(indent) + 2)
    # A path or a regime's name is never broken at its hyphens: it is there to be copied.
    return fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bugs(record: Record) -> list[list[str]]:
    return [label.split(":") for label in record.get("bugs", ())]


def _how(record: Record) -> list[str]:
    """What the writer and the executors did."""
    plan = record["plan"]
    writer = [" ".join(str(word) for word in step if word != "") for step in plan["writer"]]
    executor = [op + (" on-change" if on_change else "") for op, on_change in plan["executor"]]
    region = plan["region"]
    straddle = f"{region['split']} bytes before a boundary" if region["split"] else "inside an aligned block"
    did = f"patched {region['patch_len']} bytes, {straddle}"
    if publish := plan.get("publish"):
        did = f"published code by {publish['reach']}, each time at an address that was {publish['address']}"
    return [
        "How it was run:",
        _wrap(f"CPU {plan['cpus']['writer']} {did}: {', '.join(writer) or 'nothing'}."),
        _wrap(
            f"CPU {', '.join(map(str, plan['cpus']['executors']))} executed"
            f"{' after ' + ', '.join(executor) if executor else ''}, for {record['seconds']:.2f} s."
        ),
    ]


def _published(s: Record) -> str:
    """One way in which published code went wrong."""
    at = f"{s['signal']} (si_code {s['code']}) at byte {s['pc']}" if s["signal"] else f"value {s['value']:#x}"
    return f"  {si(s['count']):>5}  {s['outcome']} ({s['phase']}): {at}"


def _executor_noise(x: Record) -> str:
    """What disturbed an executor: every interrupt and switch may serialize, and so mask a missing step."""
    moved = "" if x.get("cpu_first", x["cpu"]) == x["cpu"] else f", moved there from CPU {x['cpu_first']}"
    switches = x.get("switches_forced", 0) + x.get("switches_voluntary", 0)
    stolen = x.get("stolen_ticks", 0)
    return (
        f"{x['cpu']}: {x.get('interrupts', 0)} interrupts, {switches} switches, {stolen} stolen ticks{moved}"
    )


def _what_was_seen(record: Record) -> list[str]:
    counts = counts_of(record)
    n = total(counts)
    lines = ["What was seen:", f"  {si(n)} executions, {si(record['patches'])} patches:"]
    for phase, row in counts.items():
        lines.append(f"    {phase:11}" + ", ".join(f"{si(count)} {name}" for name, count in row.items()))
    events = total(counts, *EVENTS)
    lines += [f"  executor on CPU {_executor_noise(x)}" for x in record["executors"]]
    if events and record["seconds"]:
        low, high = poisson_interval(events, record["seconds"])
        rate = f"between {_per_second(low)} and {_per_second(high)} a second"
        lines.append(f"  {events:,} events: {rate} (95 %, as if independent)")
    return lines


def _per_second(rate: float) -> str:
    return si(round(rate)) if rate >= 10 else f"{rate:.2g}"


def _restarts(records: Iterable[Record], record: Record) -> list[str]:
    """How many independent starts of the cell showed events: trials within one start are correlated."""
    starts = [
        r for r in records if r["type"] == "end" and r["cell"] == record["cell"] and r["status"] == Status.OK
    ]
    if len(starts) < 2:
        return []
    seen = sum(total(counts_of(r), *EVENTS) > 0 for r in starts)
    return [f"  This is one of {len(starts)} starts of the cell; {seen} of them showed events."]


def mixes_that_ran(record: Record, isa: str) -> list[tuple[int, tuple[str, ...], str]]:
    """How often which byte mixes ran, most often first: the labels that look the same, and the first one decoded."""
    region = record["plan"]["region"]
    by_label: dict[tuple[str, ...], int] = {}
    for s in record["signatures"]:
        if s["outcome"] in ("torn", "fault", "hang"):
            key = tuple(s.get("mixes", ()))
            by_label[key] = by_label.get(key, 0) + s["count"]
    return [
        (
            count,
            labels,
            decode_text(_content(region, labels[0]), region["entry"], isa)
            if labels
            else "no mix of two images",
        )
        for labels, count in sorted(by_label.items(), key=lambda item: -item[1])
    ]


def _which_bytes(record: Record, evidence: Evidence, isa: str, patterns: bool) -> list[str]:
    """The mixes that ran; `patterns`: with what each is in whole instructions."""
    if (record["plan"] or {}).get("publish"):
        most = sorted(record["signatures"], key=lambda s: -s["count"])[:MIXES_SHOWN]
        title = ["What ran (docs/publish.md says what the values mean):"] if most else []
        return title + [_published(s) for s in most]
    wrong = [s for s in record["signatures"] if s["outcome"] in ("torn", "fault", "hang")]
    if not wrong:
        return []
    lines = ["What ran (each patched byte by the image it came from):"]
    for count, labels, text in mixes_that_ran(record, isa)[:MIXES_SHOWN]:
        more = f" or {len(labels) - 1} more that look the same" if len(labels) > 1 else ""
        name = f"  ({_pattern(record['plan']['region'], labels)})" if patterns and labels else ""
        label = labels[0] if labels else "?"
        lines.append(_wrap(f"{label}{more}  {text}{name}".rstrip(), f"  {si(count):>5}  "))
    tears = evidence.tears(record)
    if sum(op == "store" for op, *_ in record["plan"]["writer"]) > 1:
        text = (
            "The patch is several stores: which of them, or whether the fetch, was taken apart is not told."
        )
        lines.append(_wrap(text))
    elif tears is None:
        lines.append("  No data witness ran beside it, so store tears and fetch tears are not told apart.")
    else:
        lines.append(
            _wrap(
                f"{si(tears.store)} store tears (data readers saw memory hold such bytes), "
                f"{si(tears.fetch)} fetch tears "
                f"(they never did, and saw a control that does), {si(tears.unattributed)} not attributed."
            )
        )
    return lines


def _pattern(region: dict[str, Any], labels: Iterable[str]) -> str:
    """What mixes are in whole instructions: `AB'`, or `A'B or AB'` where nothing tells which."""
    images = images_of(region)
    readings = (read(label, images, region["patch"], region["head"]) for label in labels)
    return " or ".join(sorted({str(pattern) for reading in readings for _, pattern in reading}))


def _content(region: dict[str, Any], label: str) -> bytes:
    """The region's bytes that a mix's label names."""
    images = images_of(region)
    content = bytearray(images[0])
    for i, source in enumerate(label):
        content[region["patch"] + i] = images[int(source, 16)][region["patch"] + i]
    return bytes(content)


def explain(records: Sequence[Record], cell: str, promises: Promises, isa: str, vendor: str = "") -> str:
    """Return the page about one cell of a run."""
    record, evidence = find(records, cell), gather(records)
    if record["status"] == Status.SKIPPED:
        return f"{record['cell']} was skipped: {record['reason']}"
    verdict = grade(record, promises, evidence.control(record), vendor)
    code = f"{record['code']}: {promises.codes[record['code']]}"
    told = {kind for kind, _ in promises.mixes}
    lines = [
        record["cell"],
        _wrap(f"kind {record['kind']}: {promises.kinds[record['kind']]}"),
        _wrap(
            f"regime {code}"
            + (f"; breaks {record['ablation_of']} on purpose" if record["ablation_of"] else "")
        ),
        *(f"  the {side} side of a known bug: stress show bug {bug}" for bug, side in _bugs(record)),
        f"  held to the promises of {vendor or record['vendor']}",
        f"{verdict.grade}: {LEGEND[verdict.grade]}.",
        *(_wrap(reason, "  - ") for reason in verdict.reasons),
        *_how(record),
        *_what_was_seen(record),
        *_restarts(records, record),
        *_which_bytes(record, evidence, isa, record["kind"] in told),
    ]
    return "\n".join(lines)
