"""What `list` and `show` print: rows of plain values, and one page about one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from stress.host import read_host
from stress.matrix import Request, build, choose_cases, choose_regimes
from stress.model import Case, ExecStep, Image, Regime, Step
from stress.regimes import load_provocations
from stress.topology import relation

Rows = list[dict[str, Any]]


def cases(options: Mapping[str, Any]) -> Rows:
    """One row a case that `--cases` names."""
    chosen = choose_cases(options["cases"], options["case_dir"], read_host().isa)
    return [
        {
            "case": case.name,
            "kind": case.kind,
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
            "claims": "complete" if regime.completes else "nothing",
            "lacks": ",".join(need for need in regime.needs if need not in features),
            "summary": regime.summary,
            "source": regime.source,
        }
        for regime in choose_regimes(options["regimes"], options["regime_files"])
    ]


def provocations(_options: Mapping[str, Any]) -> Rows:
    """One row a provocation."""
    return [
        {"provocation": p.name, "steps": _steps(p.writer, p.executor), "summary": p.summary}
        for p in load_provocations().values()
    ]


def _steps(writer: Sequence[Step], executor: Sequence[ExecStep]) -> str:
    sides = {"writer": [step.text for step in writer], "executor": [step.text for step in executor]}
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
    "cases": cases,
    "regimes": regimes,
    "provocations": provocations,
    "cells": cells,
    "cpus": cpus,
}


def as_text(rows: Rows) -> str:
    """`rows` as aligned columns; empty columns and the sources, which `show` prints, are left out."""
    names = [name for name in rows[0] if name != "source" and any(row[name] not in ("", -1) for row in rows)]
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    lines = [[name.ljust(widths[name]) for name in names]]
    lines += [[str(row[name]).ljust(widths[name]) for name in names] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _listing(code: bytes, asm: str, isa: str) -> list[str]:
    """`code` an instruction a line, as the case file spells it; in one line where no decoder tells the lengths."""
    texts = [text.strip() for text in asm.split(";")]
    lengths: list[int] = []
    if isa == "x86_64":
        from iced_x86 import Decoder

        lengths = [instruction.len for instruction in Decoder(64, code)]
    if len(lengths) != len(texts):
        return [f"    {code.hex(' ')}   {asm}"]
    starts = accumulate(lengths, initial=0)
    return [
        f"    {at:>4x}  {code[at : at + n].hex(' '):24} {text}"
        for at, n, text in zip(starts, lengths, texts, strict=False)
    ]


def _image(index: int, image: Image, case: Case) -> list[str]:
    does = "traps at its head" if image.traps else f"returns {image.returns:#x}"
    return [f"image {index}: {does}", *_listing(image.bytes, image.asm, case.isa)]


def show_case(name: str, directory: str) -> str:
    """Everything about one case: what it is, where it is patched, its images and pads."""
    case = choose_cases((name,), directory, read_host().isa)[0]
    lines = [
        f"{case.name} ({case.kind}): {case.summary}",
        f"source: {case.source}",
        f"patched: {case.patch_len} bytes at offset {case.patch}; a trap would go to offset {case.head}; "
        f"executors enter at {case.entry}",
    ]
    for index, image in enumerate(case.images):
        lines += _image(index, image, case)
    for pad in case.pads:
        lines += [f"pad at {pad.offset:+#x}", f"    {pad.bytes.hex(' '):24}   {pad.asm}"]
    return "\n".join(lines)


def _numbered(texts: Sequence[str]) -> list[str]:
    return [f"    {i}. {text}" for i, text in enumerate(texts, 1)] or ["    nothing"]


def show_regime(name: str, files: Sequence[str]) -> str:
    """Everything about one regime: its steps, what it claims, what it needs."""
    regime: Regime = choose_regimes((name,), files)[0]
    writer = _numbered([step.text for step in regime.writer])
    executor = _numbered([step.text for step in regime.executor])
    claim = (
        "after the last step no executor may run old code" if regime.completes else "nothing about completion"
    )
    lines = [f"{regime.name} ({regime.code}): {regime.summary}", f"source: {regime.source}"]
    lines += ["the writer, for each patch:", *writer]
    lines += ["the executor, before each execution:", *executor]
    lines += [
        f"via: {regime.via}",
        f"claims: {claim}",
        f"needs: {', '.join(regime.needs) or 'nothing special'}",
    ]
    if regime.ablation_of:
        lines.append(f"breaks on purpose: {regime.ablation_of}")
    return "\n".join(lines)
