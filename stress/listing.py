"""What `list` prints: rows of plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stress.host import read_host
from stress.matrix import Request, build, choose_cases, choose_regimes
from stress.model import Provocation
from stress.promises import load_promises
from stress.recipes import bugs
from stress.regimes import load_provocations
from stress.sites import STORES, kinds_of
from stress.topology import relation

Rows = list[dict[str, Any]]


def cases(options: Mapping[str, Any]) -> Rows:
    """One row a case that `--cases` names."""
    chosen = choose_cases(options["cases"], options["case_dir"], read_host().isa)
    return [
        {
            "case": case.name,
            "kind": case.kind,
            "also": ",".join(kind for kind in kinds_of(case) if kind != case.kind),
            "patch": f"{case.patch}+{case.patch_len}",
            "images": len(case.images),
            "summary": case.summary,
            "source": case.source,
        }
        for case in chosen
    ]


def regimes(options: Mapping[str, Any]) -> Rows:
    """One row a regime that `--regimes` names, with what this machine lacks for it."""
    features = read_host().features
    return [
        {
            "regime": regime.name,
            "code": regime.code,
            "kind": regime.kind,
            "claims": "complete" if regime.completes else "nothing",
            "lacks": ",".join(need for need in regime.needs if need not in features),
            "summary": regime.summary,
            "source": regime.source,
        }
        for regime in choose_regimes(options["regimes"], options["regime_files"])
    ]


def codes(options: Mapping[str, Any]) -> Rows:
    """One row a code, K1 to K23 and R0 to R9: what it means, who has it here, or why nobody does, and its sources."""
    promises = load_promises()
    regimes_of = choose_regimes(options["regimes"], options["regime_files"])
    of_kind: dict[str, list[str]] = {kind: [] for kind in promises.kinds}
    of_code: dict[str, list[str]] = {code: [] for code in promises.codes}
    for case in choose_cases(options["cases"], options["case_dir"], read_host().isa):
        for kind in [] if case.fields else kinds_of(case):
            of_kind[kind].append(case.name)
    for regime in regimes_of:
        of_code[regime.code].append(regime.name)
        if regime.kind:
            of_kind[regime.kind].append(regime.name)
    return [
        {
            "code": code,
            "used by": len(names),
            "meaning": meaning,
            "names": names,
            "absent": promises.absent.get(code, ""),
            "source": promises.cited(code),
        }
        for found, meanings in ((of_kind, promises.kinds), (of_code, promises.codes))
        for (code, names), meaning in zip(found.items(), meanings.values(), strict=True)
    ]


def provocations(_options: Mapping[str, Any]) -> Rows:
    """One row a provocation."""
    return [
        {"provocation": p.name, "steps": _steps(p), "summary": p.summary, "cost": p.cost}
        for p in load_provocations().values()
    ]


def stores(_options: Mapping[str, Any]) -> Rows:
    """One row a store style, with what this machine lacks for it."""
    features = read_host().features
    return [
        {
            "store": store.name,
            "kind": store.kind,
            "longest": store.longest or "any",
            "lacks": ",".join(need for need in store.needs if need not in features),
            "summary": store.summary,
        }
        for store in STORES.values()
    ]


def _steps(p: Provocation) -> str:
    sides = {"writer": [step.text for step in p.writer], "executor": [step.text for step in p.executor]}
    sides["antagonist"] = [p.antagonist] if p.antagonist else []
    return "; ".join(f"{side}: {', '.join(texts)}" for side, texts in sides.items() if texts)


def cells(options: Mapping[str, Any]) -> Rows:
    """One row a cell that would run here, and one a combination that would not, with the reason."""
    matrix = build(Request(**options), read_host())
    run = [{"cell": plan.cell.name, "status": "", "reason": ""} for plan in matrix.plans]
    return run + [{"cell": s.cell.name, "status": "skipped", "reason": s.reason} for s in matrix.skips]


def cpus(_options: Mapping[str, Any]) -> Rows:
    """One row an allowed CPU: where it is, and what it shares with the first one."""
    host = read_host()
    first = host.topology.cpus[0]
    return [
        {
            "cpu": cpu.number,
            "package": cpu.package,
            "core": cpu.core,
            "kind": cpu.kind,
            "l3": ",".join(map(str, sorted(cpu.l3))),
            f"to cpu {first.number}": "" if cpu is first else relation(first, cpu),
        }
        for cpu in host.topology.cpus
    ]


ROWS: dict[str, Callable[[Mapping[str, Any]], Rows]] = {
    rows.__name__: rows for rows in (cases, bugs, regimes, codes, provocations, stores, cells, cpus)
}


def as_text(rows: Rows) -> str:
    """`rows` as aligned columns; empty columns, and the sources and names that JSON and `show` print, are left out."""
    names = [
        name
        for name in rows[0]
        if name not in ("source", "names") and any(row[name] not in ("", -1) for row in rows)
    ]
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = [[name.ljust(widths[name]) for name in names]]
    lines += [[str(row[name]).ljust(widths[name]) for name in names] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)
