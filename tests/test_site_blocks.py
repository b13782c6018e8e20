"""Sites and stores: where the patched bytes come to lie, what fits there, and what kind it then is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stress.cases import load_cases
from stress.errors import UsageError
from stress.model import Case, Image, Placement, Site
from stress.plan import cells, describe
from stress.regimes import load_provocations, load_regimes
from stress.sites import BOUNDARIES, HUGE, STORES, kind_at, kinds_of, misfit, place, sites_of

XMC = (Path(__file__).resolve().parent.parent / "native" / "xmc.h").read_text()
CASES = load_cases()
PAGE = (
    3 * 4096
)  # as the boundary in the middle of the mapping: aligned to a page and, here, to nothing larger


def a_case(patch_len: int, patch: int = 1, head: int = 0) -> Case:
    images = tuple(Image(bytes(patch) + bytes([i] * patch_len) + b"\xc3", "", i + 1) for i in range(2))
    return Case("a", "K1", "", "", "x86_64", 0, head, patch, patch_len, images)


def span(case: Case, site: Site) -> tuple[int, int]:
    first = PAGE + place(case, site) + case.patch
    return first, first + case.patch_len - 1


def crossed(first: int, last: int) -> list[int]:
    return [b for b in (*BOUNDARIES, 8192) if first // b != last // b]


@pytest.mark.parametrize("n", range(1, 65))
def test_a_site_crosses_its_boundary_and_none_that_is_larger(n: int) -> None:
    case = a_case(n, patch=0)
    for site in sites_of(case, "all"):
        assert misfit(case, site, "split" if case.patch_len > 1 else "whole") == "", site.name
        first, last = span(case, site)
        if site.boundary:
            assert max(crossed(first, last)) == site.boundary
            assert (first + site.front) % site.boundary == 0
        else:
            assert first // site.inside == last // site.inside
            assert case.patch_len > site.inside // 2 or site.inside == 8


def test_the_smallest_block_is_what_in_means() -> None:
    names = {n: sites_of(a_case(n), "in")[0].name for n in (1, 8, 9, 16, 17, 32, 33, 63)}
    assert names == {
        1: "in8",
        8: "in8",
        9: "in16",
        16: "in16",
        17: "in32",
        32: "in32",
        33: "in64",
        63: "in64",
    }
    assert misfit(a_case(4), Site(0, inside=16), "whole") == "a patch of 4 bytes fits in8 already"
    assert misfit(a_case(9), Site(0), "bytes") == "a patch of 9 bytes does not fit inside an aligned 8"


@pytest.mark.parametrize("word", ["in4", "x8+", "x7", "inside", "x64+2+2"])
def test_a_word_that_is_no_site_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is no site"):
        sites_of(a_case(4), word)


@pytest.mark.parametrize(
    ("store", "n", "site", "reason"),
    [
        (
            "whole",
            33,
            Site(0, inside=64),
            "a patch of 33 bytes is longer than the 32 that 'whole' can change",
        ),
        ("qword", 4, Site(64, 2), "'qword' stores an aligned 8, and the patch straddles one"),
        ("cmpxchg16b", 4, Site(8, 2), ""),
        ("cmpxchg16b", 4, Site(16, 2), "'cmpxchg16b' stores an aligned 16, and the patch straddles one"),
        ("nt", 9, Site(0, inside=16), "a patch of 9 bytes is longer than the 8 that 'nt' can change"),
        (
            "avx32",
            33,
            Site(0, inside=64),
            "a patch of 33 bytes is longer than the 32 that 'avx32' can change",
        ),
        ("reversed", 1, Site(0), "a patch of 1 byte cannot be stored as 'reversed' otherwise than whole"),
        ("sse16", 16, Site(8, 4), "a patch of 16 bytes there crosses a larger boundary than 8"),
        ("movsb", 63, Site(4096, 30), ""),
    ],
)
def test_what_does_not_fit_says_why(store: str, n: int, site: Site, reason: str) -> None:
    assert misfit(a_case(n), site, store) == reason


def test_a_store_that_the_machine_lacks_is_skipped_with_the_reason() -> None:
    chosen = ([CASES["mov-imm32"]], ["in8"], list(STORES), [load_regimes()["none"]])
    turn = (load_provocations()["none"],)
    run, skips = cells(*chosen, [turn], [Placement("l3", 0, (1,))], frozenset({"rwx"}))
    assert {s.cell.store: s.reason for s in skips} == {
        "avx32": "this machine lacks avx",
        "cmpxchg16b": "this machine lacks cx16",
    }
    assert {cell.store for cell in run} == set(STORES) - {"avx32", "cmpxchg16b"}


def test_the_store_may_decide_the_kind() -> None:
    case = a_case(4)
    inside = {store: kind_at(case, Site(0), store) for store in STORES}
    assert inside == {
        "whole": "K1",
        "qword": "K1",
        **dict.fromkeys(("bytes", "reversed", "split", "movsb"), "K15"),
        **dict.fromkeys(("sse16", "avx32", "cmpxchg16b"), "K14"),
        "nt": "K16",
    }
    at = {b: kind_at(case, Site(b, 2), "whole") for b in BOUNDARIES}
    assert at == {8: "K2", 16: "K2", 32: "K2", 64: "K3", 4096: "K4"}
    assert kind_at(a_case(16), Site(64, 3), "whole") == "K14"
    assert kind_at(case, Site(0), "whole", aliased=True) == "K17"
    assert kind_at(case, Site(64, 2), "whole", aliased=True) == "K3"
    huge = {b: kind_at(case, Site(b, 2), "whole", pages="2m") for b in (64, 4096, HUGE)}
    assert huge == {64: "K3", 4096: "K3", HUGE: "K4"}


def test_the_cases_cover_every_kind_that_alternating_images_can_be() -> None:
    """A remapped page, a first execution, a reused address and a guard that spins are the regime's doing."""
    found = {kind for case in CASES.values() for kind in kinds_of(case)}
    assert {f"K{n}" for n in range(1, 24)} - found == {"K20", "K21", "K22", "K23"}
    assert len(CASES) >= 30


def test_a_reversed_store_is_the_order_of_a_block_and_its_branch() -> None:
    case = CASES["block-branch"]
    assert [kind_at(case, Site(0), store) for store in ("whole", "reversed", "bytes")] == [
        "K18",
        "K18",
        "K15",
    ]


def test_every_store_of_the_core_has_a_name_here() -> None:
    body = XMC[XMC.index("enum xmc_store {") :]
    named = re.findall(r"\bXMC_STORE_(\w+),", body[: body.index("}")])
    assert {name.lower() for name in named} == set(STORES)


def test_pages_of_2_mib_meet_in_the_middle_and_hold_every_other_site() -> None:
    for case in CASES.values():
        edge = next(iter(sites_of(case, "x2m")), None)
        for site in (s for word in ("all", "x2m+*") for s in sites_of(case, word)):
            first = place(case, site, "2m") + case.patch
            last = first + case.patch_len - 1
            assert (first < 0 <= last) == (site.boundary == HUGE), site.name
            if site.boundary:
                assert (first + site.front) % min(site.boundary, 4096) == 0
                assert max(b for b in BOUNDARIES if first // b != last // b) == min(site.boundary, 4096)
        assert edge is None or edge.name == f"x2m+{edge.front}"
        assert not any(site.boundary == HUGE for site in sites_of(case, "all"))


@pytest.mark.parametrize(
    ("name", "site", "store", "regime", "reason"),
    [
        (
            "mov-imm32",
            "x2m",
            "whole",
            "none",
            "x2m+2 lies where pages of 2 MiB meet; the regime's are of 4 KiB",
        ),
        ("mov-imm32", "x2m", "whole", "huge", ""),
        (
            "mov-imm32",
            "x64",
            "bytes",
            "guard+sync-core",
            "'bytes' stores the guard, which is two bytes long, a byte",
        ),
        ("mov-imm32", "x64", "split", "guard+sync-core", ""),
        (
            "nop5-jmp5",
            "x64+1",
            "whole",
            "guard+sync-core",
            "the guard, which is two bytes long, would straddle",
        ),
        ("nop5-jmp5", "x64+2", "whole", "guard+sync-core", ""),
        ("mov-imm16", "x64", "whole", "guard+sync-core", "the regime needs 3 patched bytes, the case has 2"),
        ("two-opcodes", "in8", "whole", "guard+sync-core", "the regime's guard guards one instruction"),
        ("hotpatch-body", "in8", "whole", "int3+sync-core", "the head lies behind other patched bytes"),
        ("hotpatch-body", "in8", "whole", "sync-core", ""),
    ],
)
def test_what_does_not_go_together_is_a_skip(
    name: str, site: str, store: str, regime: str, reason: str
) -> None:
    turn, every = (load_provocations()["none"],), load_regimes()
    chosen = ([CASES[name]], [site], [store], [every[regime]], [turn], [Placement("l3", 0, (1,))])
    run, skips = cells(*chosen, frozenset(every[regime].needs))
    assert len(run) + len(skips) == 1
    assert [skip.reason[: len(reason)] for skip in skips] == ([reason] if reason else [])


def test_a_guard_is_a_kind_of_its_own() -> None:
    turn, every = (load_provocations()["none"],), load_regimes()
    for regime in (every["guard+sync-core"], every["guard+sync-core-without-2-4-6"]):
        chosen = (
            [CASES["mov-imm32"]],
            ["in8", "x64"],
            ["whole"],
            [regime],
            [turn],
            [Placement("l3", 0, (1,))],
        )
        assert {describe(cell)["kind"] for cell in cells(*chosen, frozenset(regime.needs))[0]} == {"K23"}
