"""Where the patched bytes come to lie, computed anew from the addresses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stress.cases import load_cases
from stress.errors import UsageError
from stress.model import Case, Site
from stress.sites import BOUNDARIES, STORES, kind_at, middle, misfit, place, sites_of
from tests.support import image, make_case

CASES = {
    name: case for name, case in load_cases().items() if case.patch_len <= 8
}  # longer: test_site_blocks.py
MIDDLE = 65536 * 12345
"""The page boundary in the middle of the mapping; the core maps it at a multiple of 64 KiB."""


def a_case(patch: int, patch_len: int, head: int = 0) -> Case:
    """A case that patches so many bytes at that offset, whatever they mean."""
    length = patch + patch_len
    return make_case(image("90" * length), image("91" * length), patch=(patch, patch_len), head=head)


def span(case: Case, site: Site) -> tuple[int, int]:
    """Addresses of the first and the last patched byte."""
    first = MIDDLE + place(case, site) + case.patch
    return first, first + case.patch_len - 1


def crossed(first: int, last: int) -> set[int]:
    return {boundary for boundary in BOUNDARIES if first // boundary != last // boundary}


def straddling(case: Case) -> list[Site]:
    return [site for b in BOUNDARIES for site in sites_of(case, f"x{b}+*")]


@st.composite
def shapes(draw: st.DrawFn) -> Case:
    patch_len = draw(st.integers(1, 64))
    patch = draw(st.integers(0, 64 - patch_len))
    return a_case(patch, patch_len, draw(st.integers(0, patch)))


@pytest.mark.parametrize("name", CASES)
def test_every_split_of_every_case_crosses_its_boundary_and_no_larger_one(name: str) -> None:
    case = CASES[name]
    for site in straddling(case):
        first, last = span(case, site)
        assert crossed(first, last) == {b for b in BOUNDARIES if b <= site.boundary}, site.name
        assert (first + site.front) % site.boundary == 0, site.name


@given(shapes())
def test_every_split_of_any_patch_crosses_no_larger_boundary_or_is_refused(case: Case) -> None:
    for site in straddling(case):
        first, last = span(case, site)
        assert site.boundary in crossed(first, last)
        larger = {b for b in crossed(first, last) if b > site.boundary}
        assert not larger or misfit(case, site, "bytes"), f"{site.name} crosses {larger} too"


@given(shapes())
def test_the_front_bytes_lie_in_front_of_the_boundary(case: Case) -> None:
    for site in straddling(case):
        point = span(case, site)[0] + site.front
        assert point % site.boundary == 0
        assert site.boundary == 4096 or point % (2 * site.boundary) != 0, "aligned to more than it says"


@pytest.mark.parametrize("name", CASES)
def test_in8_of_every_case_lies_inside_an_aligned_8_with_the_whole_instruction_if_it_fits(name: str) -> None:
    case = CASES[name]
    first, last = span(case, Site(0, inside=8))
    assert first // 8 == last // 8
    head = MIDDLE + place(case, Site(0, inside=8)) + case.head
    if last - head < 8:
        assert head // 8 == last // 8


@given(shapes())
def test_in8_holds_any_patch_that_fits_and_refuses_the_others(case: Case) -> None:
    first, last = span(case, Site(0, inside=8))
    assert bool(misfit(case, Site(0, inside=8), "bytes" if case.patch_len > 1 else "whole")) == (
        case.patch_len > 8
    )
    if case.patch_len <= 8:
        assert not crossed(first, last)


@given(shapes())
def test_only_x4096_comes_near_a_page_boundary(case: Case) -> None:
    for site in [Site(0, inside=8), *straddling(case)]:
        first, last = (address - case.patch for address in span(case, site))
        region = range(first, last + case.length)
        crosses = region.start // 4096 != (region.stop - 1) // 4096
        assert crosses <= (site.boundary == 4096), site.name


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("in8", ["in8"]),
        ("x64", ["x64+2"]),
        ("x64+3", ["x64+3"]),
        ("x8+*", ["x8+1", "x8+2", "x8+3"]),
        ("all", ["in8", *(f"x{b}+{n}" for b in BOUNDARIES for n in (1, 2, 3))]),
    ],
)
def test_words_name_sites(word: str, names: list[str]) -> None:
    assert [site.name for site in sites_of(a_case(1, 4), word)] == names


@pytest.mark.parametrize("word", ["in", "x64", "x4096", "x64+*", "all"])
@pytest.mark.parametrize("name", CASES)
def test_every_word_means_only_sites_that_fit_some_store(name: str, word: str) -> None:
    case = CASES[name]
    for site in sites_of(case, word):
        assert not all(misfit(case, site, store) for store in STORES), site.name


@pytest.mark.parametrize("word", ["x64", "x64+*", "x4096"])
def test_one_byte_has_no_straddling_site(word: str) -> None:
    assert sites_of(a_case(0, 1), word) == []
    assert [site.name for site in sites_of(a_case(0, 1), "all")] == ["in8"]


@pytest.mark.parametrize("patch_len", range(2, 12))
def test_the_middle_leaves_bytes_on_both_sides(patch_len: int) -> None:
    assert 0 < middle(a_case(0, patch_len)) < patch_len


@pytest.mark.parametrize(
    "word",
    [
        "",
        "x",
        "x7",
        "x128",
        "x64+",
        "x64+-1",
        "x64+1.5",
        "x64+**",
        "x64+2+2",
        "X64",
        " in8",
        "in7",
        "x 64",
        "*",
    ],
)
def test_malformed_words_are_refused_with_what_there_is(word: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--sites: '{word}' is no site; give in, in8, in16")):
        sites_of(a_case(1, 4), word)


@pytest.mark.parametrize(
    ("case", "site", "store", "reason"),
    [
        (a_case(0, 9), Site(0, inside=8), "bytes", "a patch of 9 bytes does not fit inside an aligned 8"),
        (a_case(0, 1), Site(64, 0), "whole", "a patch of 1 byte cannot straddle"),
        (a_case(0, 1), Site(64, 1), "whole", "a patch of 1 byte cannot straddle"),
        (
            a_case(0, 4),
            Site(64, 0),
            "whole",
            "0 of 4 patched bytes cannot lie in front of the boundary; 1 to 3 can",
        ),
        (
            a_case(0, 4),
            Site(8, 4),
            "whole",
            "4 of 4 patched bytes cannot lie in front of the boundary; 1 to 3 can",
        ),
        (a_case(0, 4), Site(8, 2), "qword", "'qword' stores an aligned 8, and the patch straddles one"),
        (
            a_case(0, 1),
            Site(0, inside=8),
            "bytes",
            "a patch of 1 byte cannot be stored as 'bytes' otherwise than whole",
        ),
        (
            a_case(0, 1),
            Site(0, inside=8),
            "split",
            "a patch of 1 byte cannot be stored as 'split' otherwise than whole",
        ),
        (
            a_case(0, 10),
            Site(64, 2),
            "nt",
            "a patch of 10 bytes is longer than the 8 that 'nt' can change",
        ),
    ],
)
def test_misfits_say_why(case: Case, site: Site, store: str, reason: str) -> None:
    assert misfit(case, site, store) == reason


@pytest.mark.parametrize("store", STORES)
def test_what_fits_is_no_misfit(store: str) -> None:
    assert misfit(a_case(1, 4), Site(0, inside=8), store) == ""
    assert store in ("qword", "cmpxchg16b") or misfit(a_case(1, 4), Site(64, 2), store) == ""


@pytest.mark.parametrize(
    ("site", "store", "kind"),
    [
        (Site(0, inside=8), "whole", "K1"),
        (Site(0, inside=8), "qword", "K1"),
        (Site(0, inside=8), "bytes", "K15"),
        (Site(0, inside=8), "split", "K15"),
        (Site(8, 2), "whole", "K2"),
        (Site(16, 2), "whole", "K2"),
        (Site(32, 2), "whole", "K2"),
        (Site(64, 2), "whole", "K3"),
        (Site(4096, 2), "whole", "K4"),
        (Site(4096, 2), "bytes", "K15"),
    ],
)
def test_the_kind_follows_the_boundary_and_the_number_of_stores(site: Site, store: str, kind: str) -> None:
    assert kind_at(a_case(1, 4), site, store) == kind
