"""Byte mixes: which there are, which look alike, and that executing one names it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from stress import listing
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
    table,
)
from stress.model import Case
from stress.plan import alone
from stress.runner import execute_mixes

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
        known, alike = table(mixes(case), first), look_alikes(mixes(case), first, images)
        seen = [dict(zip(("signal", "code", "pc", "value"), signature, strict=True)) for signature in again]
        attribute(seen, known)
        for mix, others, record in zip(mixes(case), alike, seen, strict=True):
            planted += 1
            ambiguous = {other for other in others if not other.startswith("image")}
            named += mix.label in record["mixes"] and set(record["mixes"]) == {mix.label} | ambiguous
    assert planted > 2500
    assert named == planted


@pytest.mark.hardware
def test_show_case_prints_the_table_and_what_it_leaves_out() -> None:
    short = listing.show_case("mov-imm64", "")
    assert "1440 mixes that change image more than once: see --all" in short
    assert short.endswith("1524 mixes, 0 of which look like another one")
    every = listing.show_case("mov-imm64", "", every=True)
    assert len(every.splitlines()) == len(short.splitlines()) + 1440 - 1
    passing = listing.show_case("jcc-flip", "")
    assert "image 1" in passing
    assert passing.endswith("2 mixes, 1 of which look like another one, 1 like an image")


@pytest.mark.hardware
def test_a_case_whose_mixes_cannot_be_executed_says_why() -> None:
    plan = alone(CASES["mov-imm32"], 4095, read_host().features)
    with pytest.raises(HostError, match="the byte mixes of mov-imm32 cannot be executed here"):
        execute_mixes(plan)
