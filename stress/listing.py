"""What `list` and `show` print: rows of plain values, and one page about one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from stress.errors import HostError, UsageError
from stress.host import read_host
from stress.matrix import Request, build, choose_cases, choose_regimes
from stress.mixes import (
    Signature,
    decode_text,
    is_split,
    look_alikes,
    mixes_of,
    signature_text,
    strangers,
    thirds,
)
from stress.model import Case, Image, Provocation, Publishing, Regime
from stress.plan import alone
from stress.promises import load_promises
from stress.regimes import load_provocations
from stress.sites import STORES, kinds_of
from stress.topology import relation

Rows = list[dict[str, Any]]

Named = TypeVar("Named", Case, Regime)

FEW_MIXES = 64
"""Byte mixes of a case up to which `show` prints them all unasked."""

LIKE = 3
"""Names of look-alikes that a row of the table has room for."""


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
    "cases": cases,
    "regimes": regimes,
    "codes": codes,
    "provocations": provocations,
    "stores": stores,
    "cells": cells,
    "cpus": cpus,
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


def _mix_rows(case: Case, did: Sequence[Signature], images: Sequence[Signature], every: bool) -> list[str]:
    """The table of byte mixes, and below it what is left out and what cannot be told apart."""
    contents = [image.bytes for image in case.images]
    mixes = mixes_of(contents, case.patch, case.patch_len)
    alike = look_alikes(mixes, did, images)
    rows: Rows = [
        {
            "mix": mix.label,
            "bytes": mix.bytes[case.patch : case.patch + case.patch_len].hex(" "),
            "did": signature_text(signature),
            "like": ", ".join(others[:LIKE]) + (f" and {len(others) - LIKE} more" if others[LIKE:] else ""),
            "decoded": decode_text(mix.bytes, case.entry, case.isa),
        }
        for mix, signature, others in zip(mixes, did, alike, strict=True)
        if every or len(mixes) <= FEW_MIXES or is_split(mix, contents, case.patch)
    ]
    passing = sum(any(other.startswith("image") for other in others) for others in alike)
    ambiguous = sum(bool(others) for others in alike)
    lines = as_text(rows).splitlines() if rows else []
    if len(rows) < len(mixes):
        lines.append(f"{len(mixes) - len(rows)} mixes that change image more than once: see --all")
    told = f"{len(mixes)} mixes, {ambiguous} of which look like another one"
    lines.append(f"{told}, {passing} like an image" if passing else told)
    if third := strangers(mixes, did, images) | thirds(contents, case.patch, case.patch_len):
        why = case.ambiguous or "the case does not say why"
        lines.append(f"{len(third)} are, or pass for, a third image, so stale may be torn: {why}")
    return lines


def _mixes(case: Case, every: bool) -> list[str]:
    """The byte mixes of `case`, executed here one by one; or in one line why not."""
    host = read_host()
    try:
        from stress.runner import execute_mixes  # here: lists need no processes, and have to be quick

        images, did = execute_mixes(alone(case, host.topology.cpus[0].number, host.features))
    except HostError as error:
        return [str(error)]
    return ["byte mixes, each executed once with nobody patching:", *_mix_rows(case, did, images, every)]


def _only(chosen: Sequence[Named], name: str) -> Named:
    """The one thing that `name` names; UsageError where it names several."""
    if len(chosen) > 1:
        raise UsageError(
            f"'{name}' names {len(chosen)} of them; give one name: {', '.join(c.name for c in chosen)}"
        )
    return chosen[0]


def show_case(name: str, directory: str, every: bool = False) -> str:
    """Everything about one case: what it is, where it is patched, its images, pads and byte mixes.

    `every`: of many mixes all, not only those that change image once.
    """
    case = _only(choose_cases((name,), directory, read_host().isa), name)
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
    return "\n".join(lines + _mixes(case, every))


def _numbered(texts: Sequence[str], first: int = 1) -> list[str]:
    return [f"    {i}. {text}" for i, text in enumerate(texts, first)] or ["    nothing"]


def _publishing(publish: Publishing) -> list[str]:
    return [
        f"published at an address that is {publish.address}, reached by {publish.reach}; counts as {publish.kind}",
        f"what serializes by accident today: {publish.today}",
        f"what FRED changes: {publish.fred}",
    ]


def show_regime(name: str, files: Sequence[str]) -> str:
    """Everything about one regime: its steps, what it claims, what it needs."""
    regime = _only(choose_regimes((name,), files), name)
    writer = _numbered([step.text for step in regime.writer])
    executor = _numbered([step.text for step in regime.executor], len(regime.writer) + 1)
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
    if regime.publish:
        lines += _publishing(regime.publish)
    if regime.ablation_of:
        lines.append(f"breaks on purpose: {regime.ablation_of}")
    return "\n".join(lines)
