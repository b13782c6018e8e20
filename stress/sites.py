"""Where the patched bytes lie: site names, split points, and the offset that puts a case there."""

from __future__ import annotations

import re

from stress.errors import UsageError
from stress.model import Case, Site

BOUNDARIES = (8, 16, 32, 64, 4096)

# Offsets from the page boundary in the middle of the mapping. The base is a multiple of 64 and far from both page
# boundaries; adding the boundary itself makes a point that is aligned to it and to nothing larger, so `x8` never
# means 16 by accident.
_BASE = -4096 + 1024
_IN8 = _BASE + 3 * 64 + 16

_SITE = re.compile(r"x(8|16|32|64|4096)(?:\+(\d+|\*))?")

STORES = ("whole", "qword", "bytes", "split")


def middle(case: Case) -> int:
    """The split point that a bare `x64` means: half of the patched bytes in front of the boundary."""
    return case.patch_len // 2


def sites_of(case: Case, text: str) -> list[Site]:
    """The sites that one word of `--sites` means for `case`.

    `in8`; `x64+2` (2 patched bytes in front of the boundary); `x64` (the middle split); `x64+*` (every split);
    `all` (in8 and every split of every boundary). A patch of one byte cannot straddle: then a bare boundary or `*`
    means no site at all, and an explicit split is kept for `misfit` to refuse by name.

    Raises:
        UsageError: the word names no site.
    """
    if text == "in8":
        return [Site(0)]
    if text == "all":
        return [Site(0)] + [s for b in BOUNDARIES for s in sites_of(case, f"x{b}+*")]
    match = _SITE.fullmatch(text)
    if not match:
        known = "in8, all, or xB, xB+N, xB+* with B one of 8, 16, 32, 64, 4096"
        raise UsageError(f"--sites: '{text}' is no site; give {known}")
    boundary, split = int(match[1]), match[2]
    if split is None:
        return [Site(boundary, middle(case))] if case.patch_len > 1 else []
    if split == "*":
        return [Site(boundary, n) for n in range(1, case.patch_len)]
    return [Site(boundary, int(split))]


def misfit(case: Case, site: Site, store: str) -> str:
    """Why `case` cannot be stored by `store` at `site`, or "" where it can."""
    n = case.patch_len
    if site.boundary == 0 and n > 8:
        return f"a patch of {n} bytes does not fit inside an aligned 8"
    if site.boundary and not 0 < site.front < n:
        if n == 1:
            return "a patch of 1 byte cannot straddle"
        return f"{site.front} of {n} patched bytes cannot lie in front of the boundary; 1 to {n - 1} can"
    if store == "qword" and site.boundary:
        return "an aligned quadword store cannot straddle"
    if store in ("split", "bytes") and n == 1:
        return f"a patch of 1 byte cannot be stored as '{store}' otherwise than whole"
    if store == "whole" and n > 8:
        return f"no single general-purpose store covers {n} bytes"
    return ""


def place(case: Case, site: Site) -> int:
    """Offset of the region's first byte from the page boundary in the middle of the mapping, in bytes.

    `in8` puts the whole patched instruction inside one aligned 8 where it fits, else its patched bytes.
    """
    if site.boundary == 0:
        whole = case.patch + case.patch_len - case.head <= 8
        return _IN8 - (case.head if whole else case.patch)
    point = 0 if site.boundary == 4096 else _BASE + site.boundary
    return point - site.front - case.patch


def kind_at(case: Case, site: Site, store: str) -> str:
    """The modification kind (K1..K23, docs/promises.md) that the case is at this site, stored this way.

    Several stores are K15 wherever they go; a single store that leaves its aligned 8 is K2 (8, 16, 32), K3 (64) or
    K4 (4096), whatever it changes.
    """
    if store in ("bytes", "split") and case.patch_len > 1:
        return "K15"
    return {0: case.kind, 64: "K3", 4096: "K4"}.get(site.boundary, "K2")
