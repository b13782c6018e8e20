"""What `show case` and `show regime` print: one page about one thing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

from stress.errors import HostError, UsageError
from stress.host import read_host
from stress.listing import Rows, as_text
from stress.matrix import choose_cases, choose_regimes
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
from stress.model import Case, Image, Publishing, Regime
from stress.plan import alone

Named = TypeVar("Named", Case, Regime)

FEW_MIXES = 64
"""Byte mixes of a case up to which `show` prints them all unasked."""

LIKE = 3
"""Names of look-alikes that a row of the table has room for."""


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
