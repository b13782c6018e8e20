"""Stores on real CPUs: each leaves exactly the image behind, wherever the patch lies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stress.cases import load_cases
from stress.host import read_host
from stress.model import Case, Cell, ExecStep, Limits, Placement, Plan, Provocation, Regime, Site, Step
from stress.runner import Running
from stress.sites import BOUNDARIES, STORES, misfit, sites_of
from stress.topology import placements

PATCHES = 8
CASES = load_cases()
CHOSEN = ("mov-imm32", "bundle16", "bundle32", "modrm-reg")  # patches of 4, 16, 32 bytes and of 1

# Stored, visible, every CPU serialized, and only then published: whoever runs in the post phase must run the image.
SETTLED = Regime(
    name="settled",
    code="R3",
    summary="store, wait until everyone sees it, publish, wait until everyone has run it",
    source="none",
    writer=(
        Step("store", "all", "new"),
        Step("mfence"),
        Step("membarrier", "sync-core"),
        Step("publish"),
        Step("await", "", 2),
    ),
    executor=(ExecStep("cpuid", on_change=True),),
    completes=True,
)
HALVES = (
    Step("store", "back", "new"),
    Step("mfence"),  # else a non-temporal store may not be seen for as long as the writer waits
    Step("await", "", 2),
    Step("store", "front", "new"),
    *SETTLED.writer[1:],
)


def run(case: Case, site: Site, store: str, regime: Regime = SETTLED) -> dict[str, Any]:
    placement: Placement = placements(read_host().topology, ["auto"], 1)[0]
    cell = Cell(case, site, store, regime, (Provocation("none", ""),), placement)
    running = Running(Plan(cell, Limits(20.0, patches=PATCHES), 1, 0, 0))
    try:
        return running.finish()[0]
    finally:
        running.close()


def fitting(case: Case) -> list[tuple[Site, str]]:
    """Every store at `in` and at the middle split of every boundary, where it fits."""
    features = read_host().features
    words = ("in", *(f"x{boundary}" for boundary in BOUNDARIES))
    return [
        (site, name)
        for site in (site for word in words for site in sites_of(case, word))
        for name, store in STORES.items()
        if not misfit(case, site, name) and features.issuperset(store.needs)
    ]


@pytest.mark.hardware
@pytest.mark.parametrize("name", CHOSEN)
def test_every_store_at_every_site_stores_exactly_the_image(name: str) -> None:
    wrong = []
    for site, store in fitting(CASES[name]):
        record = run(CASES[name], site, store)
        post = record["outcomes"].get("post", {})
        if record["status"] != "ok" or record["patches"] != PATCHES or set(post) != {"new"}:
            wrong.append((site.name, store, record["status"], record["reason"], post))
    assert not wrong


@pytest.mark.hardware
@pytest.mark.parametrize("store", ["sse16", "avx32", "cmpxchg16b", "nt", "movsb", "reversed"])
def test_a_store_of_one_part_leaves_the_other_as_it_is(store: str) -> None:
    regime = replace(SETTLED, name="halves", writer=HALVES)
    if not read_host().features.issuperset(STORES[store].needs):
        return  # nothing to see here: what the machine lacks is skipped by the plan, in test_sites.py
    record = run(CASES["mov-imm32"], Site(0), store, regime)
    assert record["status"] == "ok"
    seen = {mix for s in record["signatures"] if s["outcome"] == "torn" for mix in s["mixes"]}
    assert seen >= {"0011", "1122", "2233", "3300"}
