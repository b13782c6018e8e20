"""Byte mixes: which there are, which look alike, and that executing one names it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from stress import showing
from stress.cases import load_cases
from stress.errors import HostError
from stress.host import read_host
from stress.mixes import (
    Mix,
    Signature,
    attribute,
    is_split,
    look_alikes,
    mixes_of,
    signature_text,
    strangers,
    table,
    thirds,
)
from stress.model import Case, Cell, Image, Limits, Placement, Plan, Provocation, Regime, Step
from stress.plan import alone
from stress.runner import Running, execute_mixes
from stress.sites import sites_of
from stress.topology import placements

CASES = load_cases()
A, B = b"\xb8\x11\x21\x31\x41\xc3", b"\xb8\x12\x22\x32\x42\xc3"


def returned(value: int) -> Signature:
    return ("", 0, 0, value)


def contents(case: Case) -> list[bytes]:
    return [image.bytes for image in case.images]


def mixes(case: Case) -> list[Mix]:
    return mixes_of(contents(case), case.patch, case.patch_len)


def test_a_split_changes_image_once() -> None:
    found = {mix.label: is_split(mix, [A, B], 1) for mix in mixes_of([A, B], 1, 4)}
    assert {label for label, split in found.items() if split} == {
        *("1000", "1100", "1110"),
        *("0111", "0011", "0001"),
    }
    same_in_the_middle = [b"\x01\x05\x01", b"\x02\x05\x02"]
    assert all(is_split(mix, same_in_the_middle, 0) for mix in mixes_of(same_in_the_middle, 0, 3))


def test_what_looks_alike_is_named_both_ways() -> None:
    some = [Mix("01", b"\x00\x01"), Mix("10", b"\x01\x00"), Mix("12", b"\x01\x02")]
    alike = look_alikes(some, [returned(7), returned(7), returned(2)], [returned(1), returned(2)])
    assert alike == [["10"], ["01"], ["image 1"]]


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (returned(42), "returns 0x2a"),
        (("SIGTRAP", 128, 1, 0), "SIGTRAP at +0x1"),
        (("SIGSEGV", 1, -0x20, 0x1000), "SIGSEGV at -0x20 on 0x1000"),
        (("watchdog", -6, 2, 0), "hangs at +0x2"),
    ],
)
def test_a_signature_reads_as_what_happened(signature: Signature, text: str) -> None:
    assert signature_text(signature) == text


def run_alone(case: Case) -> tuple[list[Signature], list[Signature]]:
    return execute_mixes(alone(case, min(os.sched_getaffinity(0)), read_host().features))


@pytest.mark.hardware
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_images_executed_alone_do_what_the_file_says(case: Case) -> None:
    images, _ = run_alone(case)
    for image, (signal, _, pc, value) in zip(case.images, images, strict=True):
        assert (
            (signal, pc) == ("SIGTRAP", case.head + 1)
            if image.traps
            else (signal, value) == ("", image.returns)
        )


@pytest.mark.hardware
def test_every_mix_of_every_case_is_attributed_to_itself_or_to_what_looks_like_it() -> None:
    """The table is made by one execution of each mix, the attribution by another one: all of them, counted."""
    planted = named = 0
    seen: list[dict[str, Any]]
    for case in CASES.values():
        images, first = run_alone(case)
        again = run_alone(case)[1]
        # A mix that returns what a third image returns is one that nobody can name: the case must own up to it.
        third = strangers(mixes(case), first, images) | thirds(contents(case), case.patch, case.patch_len)
        assert bool(third) == bool(case.ambiguous), (case.name, third)
        known, alike = table(mixes(case), first), look_alikes(mixes(case), first, images)
        seen = [dict(zip(("signal", "code", "pc", "value"), signature, strict=True)) for signature in again]
        attribute(seen, known)
        for mix, others, record in zip(mixes(case), alike, seen, strict=True):
            planted += 1
            ambiguous = {other for other in others if not other.startswith("image")}
            named += mix.label in record["mixes"] and set(record["mixes"]) == {mix.label} | ambiguous
    assert planted > 2500
    assert named == planted


PLANTED = Regime(
    name="planted",
    code="R0",
    summary="store a mix, wait until it is seen, wait until it was executed",
    source="none",
    writer=(Step("store", "all", "new"), Step("mfence"), Step("await", "", 2)),
)


def plant(case: Case, some: Sequence[Mix], placement: Placement) -> list[Signature]:
    """Return what executors in the loop of every run showed while each of `some` (15 at most) stood there in turn."""
    strange = (Image(mix.bytes, "", (0xDEAD << 48) + n) for n, mix in enumerate(some))
    store = "whole" if case.patch_len <= 16 else "split"
    turns = replace(case, images=(case.images[0], *strange))
    cell = Cell(turns, sites_of(case, "in")[0], store, PLANTED, (Provocation("none", ""),), placement)
    running = Running(Plan(cell, Limits(20.0, patches=len(some) + 1), 1, 0, 0, hang_ms=20))
    try:
        record, _ = running.finish()
    finally:
        running.close()
    assert record["status"] == "ok", record["reason"]
    return [(s["signal"], s["code"], s["pc"], s["value"]) for s in record["signatures"]]


@pytest.mark.hardware
def test_a_mix_in_a_run_shows_what_it_showed_alone() -> None:
    """All mixes of a case that has few, those that change image once of one that has many."""
    placement = placements(read_host().topology, ["auto"], 1)[0]
    missed, planted = [], 0
    for case in CASES.values():
        images, did = run_alone(case)
        few = len(mixes(case)) <= showing.FEW_MIXES
        todo = [
            (mix, signature)
            for mix, signature in zip(mixes(case), did, strict=True)
            if signature != images[0] and (few or is_split(mix, contents(case), case.patch))
        ]
        for start in range(0, len(todo), 15):
            some = todo[start : start + 15]
            seen = plant(case, [mix for mix, _ in some], placement)
            planted += len(some)
            missed += [(case.name, mix.label) for mix, signature in some if signature not in seen]
    assert planted > 800
    assert not missed


@pytest.mark.hardware
def test_show_case_prints_the_table_and_what_it_leaves_out() -> None:
    short = showing.show_case("mov-imm64", "")
    assert "1440 mixes that change image more than once: see --all" in short
    assert short.endswith("1524 mixes, 0 of which look like another one")
    every = showing.show_case("mov-imm64", "", every=True)
    assert len(every.splitlines()) == len(short.splitlines()) + 1440 - 1
    passing = showing.show_case("jcc-flip", "")
    assert "image 1" in passing
    assert passing.endswith("2 mixes, 1 of which look like another one, 1 like an image")


@pytest.mark.hardware
def test_a_case_whose_mixes_cannot_be_executed_says_why() -> None:
    plan = alone(CASES["mov-imm32"], 4095, read_host().features)
    with pytest.raises(HostError, match="the byte mixes of mov-imm32 cannot be executed here"):
        execute_mixes(plan)
