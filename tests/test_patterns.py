"""Patterns: what each mix is in whole instructions, and which way the images were changing."""

from __future__ import annotations

import pytest

from stress.cases import load_cases
from stress.mixes import mixes_of
from stress.patterns import Pattern, Way, distance, read
from stress.promises import load_promises
from tests.support import image, make_case

CASES = load_cases()
FORTH, BACK, LEVEL = Way

# mov $1, %al; mov $2, %ah: two instructions of two bytes; and, in three images, the rotation tells the way.
TWO = make_case(*(image(f"b0{n:02x}b4{n:02x}c3", n * 0x101) for n in (0x11, 0x22, 0x33)), patch=(0, 4))


def of(case: str, label: str, late: bool = False) -> set[tuple[Way, str]]:
    made = CASES[case]
    return set(read(label, tuple(i.bytes for i in made.images), made.patch, made.head, late))


@pytest.mark.parametrize(
    ("case", "label", "expected"),
    [
        ("two-imm8", "0001", {(FORTH, "AB'")}),
        ("two-imm8", "0100", {(FORTH, "A'B")}),
        ("two-imm8", "0f00", {(FORTH, "AB'")}),  # the rotation closes: 0 follows f
        ("two-imm8", "0003", {(FORTH, "AB'"), (FORTH, "A'B")}),  # three apart: either may be the old one
        ("two-opcodes", "0000011", {(FORTH, "AB'")}),
        ("two-opcodes", "1111100", {(FORTH, "A'B")}),
        ("two-opcodes", "0100000", {(FORTH, "part")}),
        (
            "add-adds",
            "1100",
            {(FORTH, "A'X")},
        ),  # from one to many: behind the first of the many, inside the one
        ("add-adds", "1122", {(BACK, "AX")}),  # from many to one
        ("add-adds", "2211", {(BACK, "part")}),
        ("add-adds", "0333", {(BACK, "part")}),
        ("add-adds", "1133", {(LEVEL, "AB'"), (LEVEL, "A'B")}),  # from many to many
        ("nops-mov5", "01111", {(FORTH, "AX"), (BACK, "A'X")}),  # two images: either way
        ("nops-mov5", "10000", {(FORTH, "part"), (BACK, "part")}),
        ("nop5-adds", "11000", {(FORTH, "A'X"), (BACK, "AX")}),
    ],
)
def test_a_mix_is_read_as_whole_instructions(case: str, label: str, expected: set[tuple[Way, str]]) -> None:
    assert of(case, label) == expected


def test_an_old_instruction_behind_a_new_one_is_found_wherever_it_is() -> None:
    three = make_case(*(image(f"b0{n:02x}b4{n:02x}b1{n:02x}c3", n) for n in (0x11, 0x22, 0x33)), patch=(0, 6))
    codes = tuple(i.bytes for i in three.images)
    assert read("000100", codes, 0, 0) == {(FORTH, Pattern.NEW_OLD)}
    assert read("000101", codes, 0, 0) == {(FORTH, Pattern.OLD_NEW)}
    assert read("010001", codes, 0, 0) == {(FORTH, Pattern.NEW_OLD)}
    made = make_case(image("05112131415cc3", 1), image("2d122232425cc3", 2), patch=(0, 5))
    # An instruction of which two bytes in the middle are new is not whole, however often the image changes.
    assert {p for _, p in read("01100", tuple(i.bytes for i in made.images), 0, 0)} == {Pattern.PART}


def test_who_was_late_may_have_run_what_the_rotation_excludes() -> None:
    assert of("two-imm8", "0100", late=True) == {(FORTH, "AB'"), (FORTH, "A'B")}
    assert of("two-opcodes", "0100000", late=True) == {(FORTH, "part")}


def test_bytes_in_which_two_images_agree_may_have_come_from_either() -> None:
    """The second instruction begins with a byte that does not change: a change in front of it or behind it is one."""
    assert read("0001", tuple(i.bytes for i in TWO.images), 0, 0) == {(FORTH, Pattern.OLD_NEW)}
    assert read("0011", tuple(i.bytes for i in TWO.images), 0, 0) == {(FORTH, Pattern.OLD_NEW)}


@pytest.mark.parametrize("label", ["0000", "0012", "0120"])
def test_an_image_or_a_mix_of_three_is_nothing(label: str) -> None:
    codes = tuple(i.bytes for i in TWO.images)
    assert read(label, codes, 0, 0) == frozenset()
    assert distance(label, codes, 0) == 0


@pytest.mark.parametrize(
    ("label", "steps"), [("0001", 1), ("0002", 2), ("0100", 2), ("0200", 1), ("2220", 1)]
)
def test_the_distance_counts_images_from_front_to_back(label: str, steps: int) -> None:
    assert distance(label, tuple(i.bytes for i in TWO.images), 0) == steps


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if 1 < case.patch_len <= 8])
def test_every_mix_of_every_case_is_read_as_something(name: str) -> None:
    case = CASES[name]
    codes = tuple(i.bytes for i in case.images)
    for mix in mixes_of(codes, case.patch, case.patch_len)[::7]:
        assert read(mix.label, codes, case.patch, case.head), mix.label


def test_every_pattern_has_its_words() -> None:
    assert set(load_promises().patterns) == set(Pattern)
