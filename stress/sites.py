"""Where the patched bytes lie: site names, split points, and the offset that puts a case there."""

from __future__ import annotations

import re

from stress.errors import UsageError
from stress.model import Case, Site, Store

BOUNDARIES = (8, 16, 32, 64, 4096)
"""Of every region, whatever its pages."""

HUGE = 1 << 21
"""Where two pages of 2 MiB meet: of a region that lies in such pages."""

BLOCKS = (8, 16, 32, 64)

# Offsets from the page boundary in the middle of the mapping. The base is a multiple of 64 and far from both page
# boundaries; adding the boundary itself makes a point that is aligned to it and to nothing larger, so `x8` never
# means 16 by accident; an aligned block begins at such a point too.
_BASE = -4096 + 1024

_NAMES = {**{str(n): n for n in BOUNDARIES}, "2m": HUGE}
_SITE = re.compile(rf"x({'|'.join(_NAMES)})(?:\+(\d+|\*))?")
_BLOCK = re.compile(r"in(8|16|32|64)")

STORES = {
    store.name: store
    for store in (
        Store("whole", "one store of the patch's width", longest=32),
        Store("qword", "the whole aligned 8 around it", longest=8, block=8),
        Store("bytes", "a byte at a time, ascending", several=True, kind="K15"),
        Store("reversed", "a byte at a time, descending", several=True, kind="K15", keeps=("K18",)),
        Store("split", "two runs, at the straddle point", several=True, kind="K15"),
        Store("movsb", "one REP MOVSB", several=True, kind="K15"),
        Store("sse16", "one 16-byte SSE store", longest=16, kind="K14"),
        Store("avx32", "one 32-byte AVX store", longest=32, kind="K14", needs=("avx",)),
        Store("cmpxchg16b", "one CMPXCHG16B", longest=16, block=16, kind="K14", needs=("cx16",)),
        Store("nt", "one MOVNTI, without a fence", longest=8, kind="K16"),
    )
}
"""Store styles by name, in canonical order."""

FIELDS = frozenset({"K1", "K8", "K9", "K10"})
"""Kinds that are one store of one instruction."""


def middle(case: Case) -> int:
    """The split point that a bare `x64` means: half of the patched bytes in front of the boundary."""
    return case.patch_len // 2


def block_of(case: Case) -> int:
    """The smallest aligned block that holds the patched bytes."""
    return next(block for block in BLOCKS if case.patch_len <= block)


def sites_of(case: Case, text: str) -> list[Site]:
    """The sites that one word of `--sites` means for `case`.

    `in8`, `in16`, `in32`, `in64`; `in` (the smallest of them that holds the patch); `x64+2` (2 patched bytes in front
    of the boundary); `x64` (the middle split); `x64+*` (every split); `all` (`in` and every split of every boundary).
    A patch of one byte cannot straddle: then a bare boundary or `*` means no site at all, and an explicit split is
    kept for `misfit` to refuse by name. `x2m` is meant for regions in pages of 2 MiB, and not in `all`.

    Raises:
        UsageError: the word names no site.
    """
    if text == "in":
        return [Site(0, inside=block_of(case))]
    if block := _BLOCK.fullmatch(text):
        return [Site(0, inside=int(block[1]))]
    if text == "all":
        return sites_of(case, "in") + [s for b in BOUNDARIES for s in sites_of(case, f"x{b}+*")]
    match = _SITE.fullmatch(text)
    if not match:
        known = "in, in8, in16, in32, in64, all, or xB, xB+N, xB+* with B one of 8, 16, 32, 64, 4096, 2m"
        raise UsageError(f"--sites: '{text}' is no site; give {known}")
    boundary, split = _NAMES[match[1]], match[2]
    if split is None:
        return [Site(boundary, middle(case))] if case.patch_len > 1 else []
    if split == "*":
        splits = range(1, case.patch_len)
        return [site for n in splits if not _misplaced(case, site := Site(boundary, n))]
    return [Site(boundary, int(split))]


def _misplaced(case: Case, site: Site) -> str:
    """Why the patched bytes of `case` cannot lie at `site`, or "" where they can."""
    n = case.patch_len
    if site.boundary == 0:
        if n > site.inside:
            return f"a patch of {n} bytes does not fit inside an aligned {site.inside}"
        return (
            "" if site.inside == block_of(case) else f"a patch of {n} bytes fits in{block_of(case)} already"
        )
    if not 0 < site.front < n:
        if n == 1:
            return "a patch of 1 byte cannot straddle"
        return f"{site.front} of {n} patched bytes cannot lie in front of the boundary; 1 to {n - 1} can"
    if max(site.front, n - site.front) > site.boundary:
        return f"a patch of {n} bytes there crosses a larger boundary than {site.boundary}"
    return ""


def misfit(case: Case, site: Site, store: str) -> str:
    """Why `case` cannot be stored by `store` at `site`, or "" where it can."""
    n, style = case.patch_len, STORES[store]
    if reason := _misplaced(case, site):
        return reason
    if style.several and n == 1:
        return f"a patch of 1 byte cannot be stored as '{store}' otherwise than whole"
    if style.longest and n > style.longest:
        return f"a patch of {n} bytes is longer than the {style.longest} that '{store}' can change"
    if style.block and _start(case, site) % style.block + n > style.block:
        return f"'{store}' stores an aligned {style.block}, and the patch straddles one"
    return ""


def _start(case: Case, site: Site) -> int:
    """Offset of the first patched byte from the page boundary in the middle of the mapping."""
    return place(case, site) + case.patch


def place(case: Case, site: Site, pages: str = "4k") -> int:
    """Offset of the region's first byte from the page boundary in the middle of the mapping, in bytes.

    `in8` and its like put the whole patched instruction inside the aligned block where it fits, else its patched
    bytes. `pages`: of the region, `4k` or `2m`. Of 2 MiB pages the middle is where two meet, so `x4096` lies in one.
    """
    if site.boundary == 0:
        whole = case.head <= case.patch and case.patch + case.patch_len - case.head <= site.inside
        return _BASE + site.inside - (case.head if whole else case.patch)
    middle_is_larger = pages == "2m" and site.boundary == 4096
    point = 0 if site.boundary >= 4096 else _BASE + site.boundary
    point -= 4096 if middle_is_larger else 0
    return point - site.front - case.patch


def needs_of(case: Case, store: str) -> tuple[str, ...]:
    """Features of the host that storing `case` by `store` needs; a whole store beyond 16 bytes is the AVX one."""
    wide = store == "whole" and case.patch_len > 16
    return STORES["avx32" if wide else store].needs


def kind_at(case: Case, site: Site, store: str, aliased: bool = False, pages: str = "4k") -> str:
    """The modification kind (K1..K23, docs/promises.md) that the case is at this site, stored this way.

    A store that is several, wider than 8 or non-temporal decides (K15, K14, K16) wherever it goes; any other that
    leaves its aligned 8 is K2 (8, 16, 32), K3 (64) or K4 (a page: of 2 MiB, where `pages` says so), whatever it
    changes. A field that is stored inside an aligned 8, but through another mapping than the executed one
    (`aliased`), is K17.
    """
    style = STORES[store]
    if style.kind:
        return case.kind if case.kind in style.keeps else style.kind
    if case.patch_len > 8:
        return "K14"
    inside = "K17" if aliased and case.kind in FIELDS else case.kind
    page = "K4" if pages == "4k" else "K3"
    return {0: inside, 64: "K3", 4096: page, HUGE: "K4"}.get(site.boundary, "K2")


def kinds_of(case: Case) -> list[str]:
    """Every kind that `case` can be, by its own number, then by what sites, stores and mappings make of it."""
    found = {
        kind_at(case, site, store, aliased)
        for site in sites_of(case, "all")
        for store in STORES
        for aliased in (False, True)
        if not misfit(case, site, store)
    }
    return sorted(found, key=lambda kind: (kind != case.kind, int(kind[1:])))
