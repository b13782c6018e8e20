"""Runs for the report page, made by hand: real plans, counts that were planted."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from stress.matrix import Request, build
from stress.model import Plan
from stress.plan import as_dict, describe, plan_id
from stress.promises import load_promises
from stress.regimes import load_regimes
from stress.runner import EMPTY, SCHEMA
from stress.view import Page, Run, page_of
from tests.support import Record, here

AMD, INTEL = "AuthenticAMD", "GenuineIntel"
HOSTILE = "</style></title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


def plans(**words: Any) -> list[Plan]:
    """The plans that a request means here, a hundredth of a second each."""
    chosen: dict[str, Any] = {
        name: value if isinstance(value, tuple) else (value,) for name, value in words.items()
    }
    return list(build(Request(seconds=0.01, seed=1, **chosen), here()).plans)


def counted(plan: Plan, outcomes: dict[str, dict[str, int]], **changes: Any) -> Record:
    """The record of `plan` if it had counted `outcomes`, all of them under its first provocation."""
    share = {"seconds": 0.01, "patches": 5_000, "outcomes": outcomes}
    record = {"schema": SCHEMA, "type": "end", "id": plan_id(as_dict(plan)), **describe(plan.cell)}
    record |= {"plan": as_dict(plan), "started": "2026-11-22T12:00:00.000+00:00", **EMPTY, **share}
    record |= {"provocations": {plan.cell.provocations[0].name: share}, "status": "ok", "reason": ""}
    return record | {"vendor": AMD, "host": "amd", "tsc_hz": 2_500_000_000, "pairs": [], **changes}


def clean(plan: Plan, **changes: Any) -> Record:
    return counted(plan, {"concurrent": {"old": 600_000, "new": 400_000}, "post": {"new": 10**6}}, **changes)


def as_expected(plan: Plan) -> Record:
    """What a good machine shows: only the positive controls tear."""
    return torn(plan, 500) if plan.cell.regime.role == "control" else clean(plan)


def torn(plan: Plan, n: int, **changes: Any) -> Record:
    """`n` tears of the mix that took its first byte from image 0 and the rest from image 1."""
    label = "0" + "1" * (plan.cell.case.patch_len - 1)
    signature = {
        "count": n,
        "outcome": "torn",
        "phase": "concurrent",
        "signal": "",
        "code": 0,
        "pc": 0,
        "value": 7,
        "mixes": [label],
    }
    outcomes = {"concurrent": {"old": 600_000, "new": 400_000, "torn": n}}
    return counted(plan, outcomes, signatures=[signature], **changes)


def stale(plan: Plan, **changes: Any) -> Record:
    return counted(
        plan,
        {"post": {"new": 10**6, "stale": 17}},
        stale_generations={"1": 15, "2": 2},
        stale_ticks={"9": 5, "11": 10, "14": 2},
        **changes,
    )


def event(record: Record, **changes: Any) -> Record:
    return {
        "id": record["id"],
        "tsc": 1,
        "done": 3,
        "begun": 4,
        "outcome": "torn",
        "phase": "concurrent",
        "provocation": "none",
        "signal": "",
        "code": 0,
        "pc": 0,
        "value": 0x2211,
        "bytes": "b811222222c3",
        **changes,
    }


def run(records: Iterable[Record], vendor: str = AMD, name: str = "A CPU", **header: Any) -> Run:
    """A run on a machine of `vendor` whose model is `name`; every record becomes that machine's."""
    host = here().as_dict() | {"vendor": vendor, "model_name": name}
    head = {
        "schema": 1,
        "version": "0.1.0",
        "started": "2026-11-22T12:00:00+00:00",
        "command": "stress run --cases all",
        "seed": 7,
        "request": {},
        "fingerprint": name,
        "host": host,
        **header,
    }
    records = [record | {"vendor": vendor, "host": name} for record in records]
    events = {r["id"]: [event(r)] * 9 for r in records if r.get("signatures")}
    return Run(head, records, events)


def made(*runs: Run) -> Page:
    order = {name: i for i, name in enumerate(load_regimes())}
    return page_of(runs, load_promises(), lambda name: order.get(name, len(order)))


def varied() -> list[Record]:
    """A little of everything: torn, stale, clean, skipped, hung, crashed, timed out, begun and not finished."""
    some = plans(
        cases="mov-imm32,nop5-jmp5,ret-nop",
        regimes="idle,none,sync-core,int3+sync-core,int3+sync-core-without-2,flag+cpuid,alias,hop",
        sites="in,x64",
    )
    by_regime: dict[str, list[Plan]] = {}
    for plan in some:
        by_regime.setdefault(plan.cell.regime.name, []).append(plan)
    records = [torn(p, 900) if p.cell.site.boundary else clean(p) for p in by_regime.pop("none")]
    records += [torn(p, 3) for p in by_regime.pop("alias")]
    records += [stale(p) for p in by_regime.pop("flag+cpuid")]
    records += [counted(p, {"concurrent": {"old": 9, "hang": 1}}) for p in by_regime.pop("hop")]
    first, second, *rest = by_regime.pop("int3+sync-core-without-2")
    records += [clean(first, status="crashed", reason="the worker died of SIGSEGV"), torn(second, 1)]
    records += [{**clean(p), **EMPTY, "status": "timeout", "reason": "no result"} for p in rest]
    records += [as_expected(plan) for plans in by_regime.values() for plan in plans]
    skip = {**clean(some[0]), **EMPTY, "id": "skipped", "status": "skipped", "plan": None}
    records.append(skip | {"regime": "flag+serialize", "reason": "this machine lacks SERIALIZE"})
    start = {"schema": 1, "type": "start", "id": "begun", "cell": "a@in8/whole:none:l3", "started": ""}
    return [*records, start]


def hostile() -> list[Record]:
    """Records of a folder that somebody else wrote, with markup wherever there is text."""
    names = ("cell", "case", "site", "store", "regime", "code", "kind", "placement")
    (plan,) = plans(cases="mov-imm32", regimes="none", sites="x64")[:1]
    record = torn(plan, 9, reason=HOSTILE, status="crashed", provocation=HOSTILE)
    record["plan"] |= {"writer": [[HOSTILE, "", ""]], "executor": [[HOSTILE, False]]}
    record["provocations"] = {HOSTILE: record["provocations"].popitem()[1]}
    return [record | {name: HOSTILE for name in names if name not in ("kind", "code")}]


def full_matrix(seed: int = 0) -> list[Record]:
    """Every case under every regime that fits this machine, a third of the cells torn."""
    moods = random.Random(seed)
    every = plans()
    return [torn(p, moods.randrange(1, 10**5)) if moods.random() < 0.34 else clean(p) for p in every]
