"""The data witness: it runs beside what can tear, and says store tear or fetch tear only of what it settled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress.cases import load_cases
from stress.model import Case, Cell, Limits, Placement, Regime, Site, Step
from stress.plan import PACE_LOG2, as_dict
from stress.regimes import load_provocations, load_regimes
from stress.sites import STORES, middle, misfit
from stress.witness import ENOUGH_CONTROLS, GENERATIONS, Tears, tears_of, witnesses
from tests.support import MOV, QUIET, Record, halves, image, make_case, make_plan, placement, run_plan

CASES = load_cases()
REGIMES = load_regimes()
NEAR, FAR = Placement("l3", 0, (1,)), Placement("package", 0, (8,))
EVERY = make_case(*(image("b8" + f"{n:02x}" * 4 + "c3", n * 0x01010101) for n in (1, 2, 3, 4)), patch=(1, 4))
"""Four images that differ in every patched byte."""


def cell(
    case: str | Case = "mov-imm32",
    regime: str | Regime = "none",
    site: Site | None = None,
    store: str = "whole",
    where: Placement = NEAR,
) -> Cell:
    case = CASES[case] if isinstance(case, str) else case
    regime = REGIMES[regime] if isinstance(regime, str) else regime
    return Cell(case, site or Site(64, middle(case)), store, regime, (QUIET,), where)


# ---- where a witness runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", CASES)
def test_a_store_has_a_witness_where_it_fits_and_changes_more_than_one_byte(name: str, store: str) -> None:
    case = CASES[name]
    for site in (Site(0), Site(8, middle(case)), Site(64, 1), Site(4096, case.patch_len)):
        found = witnesses([cell(case, site=site, store=store)])
        assert bool(found) == (case.patch_len > 1 and not misfit(case, site, store)), site.name


def test_one_witness_watches_for_all_regimes_and_provocations_of_one_place_and_store() -> None:
    cells = [cell(regime=name) for name in ("none", "alias", "sync-core", "int3+sync-core")]
    cells += [replace(c, provocations=tuple(load_provocations().values())) for c in cells]
    assert [w.name for w in witnesses(cells)] == [f"mov-imm32@x64+2/whole:witness:l3~{QUIET.name}"]


@pytest.mark.parametrize(
    "other",
    [
        cell("mov-imm64"),
        cell(site=Site(64, 1)),
        cell(site=Site(0)),
        cell(store="bytes"),
        cell(where=FAR),
    ],
)
def test_another_case_site_store_or_placement_needs_a_witness_of_its_own(other: Cell) -> None:
    assert len(witnesses([cell(), other, cell(), other])) == 2


def test_where_nothing_is_stored_there_is_nothing_to_watch() -> None:
    assert witnesses([cell(regime="idle")]) == []
    assert witnesses([]) == []


def test_a_witness_writes_by_the_way_that_its_cell_does() -> None:
    assert [w.regime.via for w in witnesses([cell(regime="alias")])] == ["alias"]
    assert [w.regime.via for w in witnesses([cell(regime="none"), cell(regime="alias")])] == ["same"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if 1 < case.patch_len <= 16])
def test_the_images_of_a_witness_count_generations_in_every_patched_byte(name: str) -> None:
    case, (found,) = CASES[name], witnesses([cell(name)])
    images = found.case.images
    assert len(images) == GENERATIONS
    assert GENERATIONS % 3 == 0  # the real store and two controls take turns
    for n, img in enumerate(images):
        changed = img.bytes[case.patch : case.patch + case.patch_len]
        assert changed == bytes([n] * case.patch_len)
        assert img.bytes[: case.patch] == case.images[0].bytes[: case.patch]
        assert img.bytes[case.patch + case.patch_len :] == case.images[0].bytes[case.patch + case.patch_len :]
        assert not img.traps
    assert len({img.returns for img in images}) == GENERATIONS


def test_the_plan_of_a_witness_observes_one_store_and_publishes_nothing() -> None:
    (found,) = witnesses([cell(regime="int3+sync-core")])
    plan = as_dict(make_plan(found.case, found.regime, Limits(1.0), found.site, where=NEAR))
    assert plan["observe"]
    assert not plan["window"]
    assert not plan["traps"]
    assert [op for op, *_ in plan["writer"]].count("store") == 1
    assert not as_dict(make_plan(CASES["mov-imm32"], REGIMES["none"], Limits(1.0), where=NEAR))["observe"]


def test_nothing_but_a_pause_stands_between_the_stores_of_a_witness() -> None:
    """No step that could hide a tear from its readers."""
    (found,) = witnesses([cell(regime="sync-core")])
    assert found.regime.writer[0] == Step("store", "all", "new")
    assert {step.op for step in found.regime.writer[1:]} <= {"delay"}


# ---- what it says ----------------------------------------------------------------------------------------------

PLENTY = 50
FRONT, BACK = 0, 1
"""The byte that changed first, hence the one read first to see it."""


def watched(
    *cuts: tuple[int, int], ends: tuple[int, int] | None = None, controls: tuple[int, int] = (PLENTY, PLENTY)
) -> Record:
    """A witness of four bytes that saw 7 real tears at each of `cuts` (cut, order).

    `ends`: real tears seen between the first and the last byte, by order; as `cuts` say, where None.
    `controls`: tears of the front-first and of the back-first control.
    """
    real = [[0, 0] for _ in range(4)]
    for cut, order in cuts:
        real[cut][order] = 7
    real[3] = list(ends) if ends else [sum(pair[order] for pair in real[:3]) for order in (FRONT, BACK)]
    planted = [[0, 0, 0], [0, *controls], [0, 0, 0], [0, *controls]]
    pairs = [
        {"samples": [1000, 1000], "tears": [[front, its[1], 0], [back, 0, its[2]]]}
        for (front, back), its in zip(real, planted, strict=True)
    ]
    return {"pairs": pairs}


def wrong(*labels: str, count: int = 10, outcome: str = "torn") -> dict[str, Any]:
    return {"count": count, "outcome": outcome, "mixes": list(labels)}


def torn(*signatures: dict[str, Any], case: Case = EVERY, regime: Regime | None = None) -> Record:
    discipline = regime or REGIMES["none"]
    plan = as_dict(make_plan(case, discipline, Limits(1.0), Site(64, 2), where=NEAR))
    return {"plan": plan, "signatures": list(signatures)}


def says(label: str, witness: Record, case: Case = EVERY) -> str:
    """`store`, `fetch` or `unattributed`: what all executions of one mix were."""
    tears = tears_of(torn(wrong(label), case=case), witness)
    (verdict,) = [name for name in ("store", "fetch", "unattributed") if getattr(tears, name)]
    assert getattr(tears, verdict) == 10
    return verdict


NEWER_IN_FRONT = ["1100", "2211", "0033"]
NEWER_BEHIND = ["0011", "1122", "3300"]


@pytest.mark.parametrize(
    ("seen", "verdict"), [(0, "fetch"), (1, "unattributed"), (2, "unattributed"), (3, "store")]
)
def test_a_tear_or_two_prove_nothing_either_way(seen: int, verdict: str) -> None:
    """A reader that was stopped between its reads until the generations had gone round sees one."""
    witness = watched((1, FRONT))
    for pair in witness["pairs"]:
        pair["tears"][FRONT][0] = min(pair["tears"][FRONT][0], seen)
    assert says("1100", witness) == verdict


@pytest.mark.parametrize("label", NEWER_IN_FRONT)
def test_a_newer_front_is_a_store_tear_where_readers_saw_the_front_change_first(label: str) -> None:
    assert says(label, watched((1, FRONT))) == "store"
    assert says(label, watched((1, FRONT), (1, BACK))) == "store"
    assert says(label, watched((1, BACK))) == "fetch"
    assert says(label, watched()) == "fetch"


@pytest.mark.parametrize("label", NEWER_BEHIND)
def test_a_newer_back_is_a_store_tear_where_readers_saw_the_back_change_first(label: str) -> None:
    assert says(label, watched((1, BACK))) == "store"
    assert says(label, watched((1, FRONT), (1, BACK))) == "store"
    assert says(label, watched((1, FRONT))) == "fetch"
    assert says(label, watched()) == "fetch"


@pytest.mark.parametrize("label", ["1000", "1110"])
def test_a_tear_elsewhere_in_the_patch_does_not_explain_this_one(label: str) -> None:
    """The ends saw the store arrive in two steps, this place did not: neither is proven."""
    assert says(label, watched((1, FRONT))) == "unattributed"


@pytest.mark.parametrize("label", ["0022", "2200", "1133"])
@pytest.mark.parametrize(
    ("cuts", "verdict"),
    [
        ([(1, FRONT), (1, BACK)], "store"),
        ([(1, FRONT)], "unattributed"),
        ([(1, BACK)], "unattributed"),
        ([], "fetch"),
    ],
)
def test_images_that_do_not_follow_each_other_tell_no_direction(
    label: str, cuts: list[tuple[int, int]], verdict: str
) -> None:
    assert says(label, watched(*cuts)) == verdict


@pytest.mark.parametrize("label", ["0011", "1100"])
@pytest.mark.parametrize(
    ("cuts", "verdict"),
    [
        ([(1, FRONT), (1, BACK)], "store"),
        ([(1, FRONT)], "unattributed"),
        ([(1, BACK)], "unattributed"),
        ([], "fetch"),
    ],
)
def test_two_images_tell_no_direction(label: str, cuts: list[tuple[int, int]], verdict: str) -> None:
    assert len(MOV.images) == 2
    assert says(label, watched(*cuts), MOV) == verdict


@pytest.mark.parametrize(
    ("label", "controls", "verdict"),
    [
        ("1100", (ENOUGH_CONTROLS, 0), "fetch"),
        ("1100", (ENOUGH_CONTROLS - 1, PLENTY), "unattributed"),
        ("0011", (0, ENOUGH_CONTROLS), "fetch"),
        ("0011", (PLENTY, ENOUGH_CONTROLS - 1), "unattributed"),
        ("0022", (ENOUGH_CONTROLS, ENOUGH_CONTROLS), "fetch"),
        ("0022", (ENOUGH_CONTROLS - 1, PLENTY), "unattributed"),
        ("0022", (PLENTY, 0), "unattributed"),
    ],
)
def test_nothing_seen_says_something_only_where_a_control_of_that_order_was_seen(
    label: str, controls: tuple[int, int], verdict: str
) -> None:
    assert says(label, watched(controls=controls)) == verdict


def test_a_store_tear_that_was_seen_needs_no_control() -> None:
    assert says("1100", watched((1, FRONT), controls=(0, 0))) == "store"


def test_a_mix_with_several_changes_was_never_in_memory_where_one_of_them_was_not() -> None:
    """`0100` is newer in byte 1: its first change needs the back first, its second the front first."""
    both = watched((0, BACK), (1, FRONT))
    assert says("0100", both) == "store"
    assert says("0100", watched((1, FRONT))) == "fetch"
    assert says("0100", watched((0, BACK))) == "fetch"
    assert says("0100", watched()) == "fetch"
    assert says("0100", watched((0, BACK), ends=(3, 7))) == "unattributed"


def test_a_change_among_bytes_that_agree_may_be_in_any_place_there() -> None:
    """The middle bytes are the same in all images: a tear on either side of them makes the same mix."""
    codes = ("b811070721c3", "b812070722c3", "b813070723c3")
    case = make_case(*(image(code, n) for n, code in enumerate(codes, 1)), patch=(1, 4))
    for cut in range(3):
        assert says("1000", watched((cut, FRONT)), case) == "store"
        assert says("0001", watched((cut, BACK)), case) == "store"
        assert says("0001", watched((cut, FRONT)), case) == "fetch"
    assert says("1000", watched(), case) == "fetch"
    assert says("1000", watched(ends=(7, 0)), case) == "unattributed"


def test_what_may_have_been_one_of_several_mixes_has_a_verdict_where_they_share_it() -> None:
    witness = watched((1, FRONT))
    assert tears_of(torn(wrong("1100", "2211")), witness) == Tears(store=10)
    assert tears_of(torn(wrong("0011", "1122")), witness) == Tears(fetch=10)
    assert tears_of(torn(wrong("1100", "0011")), witness) == Tears(unattributed=10)


def test_what_is_no_known_mix_is_not_attributed() -> None:
    unknown = {"count": 4, "outcome": "fault"}  # its worker could not execute the mixes
    assert tears_of(torn(wrong(count=3), unknown), watched((1, FRONT))) == Tears(unattributed=7)


def test_torn_faulting_and_hanging_executions_are_sorted_and_stale_ones_are_not() -> None:
    signatures = [
        wrong("1100", count=1),
        wrong("0011", count=20, outcome="fault"),
        wrong("2200", count=300, outcome="hang"),
        wrong("1100", count=4000, outcome="stale"),
    ]
    assert tears_of(torn(*signatures), watched((1, FRONT))) == Tears(1, 20, 300)
    assert Tears(1, 20, 300) + Tears(store=1, unattributed=2) == Tears(2, 20, 302)


several = [name for name, r in REGIMES.items() if sum(step.op == "store" for step in r.writer) > 1]


@pytest.mark.parametrize("regime", [*(REGIMES[name] for name in several), halves("front", "back")])
def test_a_discipline_of_several_stores_is_never_attributed(regime: Regime) -> None:
    record = torn(wrong("1100"), wrong("0011"), regime=regime)
    assert tears_of(record, watched((1, FRONT))) == Tears(unattributed=20)


def test_a_discipline_of_one_store_is_attributed_whatever_its_other_steps() -> None:
    record = torn(wrong("1100"), regime=REGIMES["sync-core"])
    assert tears_of(record, watched((1, FRONT))) == Tears(store=10)


def test_without_a_witness_nothing_is_attributed() -> None:
    record = torn(wrong("1100"), wrong("0011", count=5))
    assert tears_of(record, None) == tears_of(record, {"pairs": []}) == Tears(unattributed=15)
    assert tears_of({"plan": None, "signatures": []}, None) == Tears()


numbers = st.integers(0, 30)
triples = st.tuples(numbers, numbers, numbers).map(list)
some_pairs = st.lists(
    st.fixed_dictionaries({"tears": st.tuples(triples, triples)}), min_size=4, max_size=4
).map(lambda pairs: {"pairs": pairs})
some_labels = st.sets(st.text("0123", min_size=4, max_size=4), max_size=3)


@settings(deadline=None)
@given(st.lists(st.tuples(some_labels, st.integers(1, 9)), max_size=4), some_pairs)
def test_every_wrong_execution_is_counted_once(seen: list[tuple[set[str], int]], witness: Record) -> None:
    tears = tears_of(torn(*(wrong(*labels, count=n) for labels, n in seen)), witness)
    assert tears.store + tears.fetch + tears.unattributed == sum(n for _, n in seen)


@settings(deadline=None)
@given(st.text("0123", min_size=4, max_size=4), some_pairs)
def test_who_saw_no_control_never_says_fetch_and_who_saw_no_tear_never_says_store(
    label: str, witness: Record
) -> None:
    for pair in witness["pairs"]:
        for order in (FRONT, BACK):
            pair["tears"][order][1:] = [0, 0]
    assert tears_of(torn(wrong(label)), witness).fetch == 0
    for pair in witness["pairs"]:
        for order in (FRONT, BACK):
            pair["tears"][order][:] = [0, PLENTY, PLENTY]
    assert tears_of(torn(wrong(label)), witness).store == 0


# ---- on this machine -------------------------------------------------------------------------------------------

ATTEMPTS = 6
"""Runs of a second: where others use the CPUs too, a writer and its reader meet seldom."""

Pairs = list[dict[str, Any]]

CONTROLS = ((FRONT, 1), (BACK, 2))
"""What every witness must see between the ends of a patch: an order, and the store that was in flight."""


def watch_once(of: Cell) -> Pairs:
    """What one run of a witness saw; nothing, where its threads got too little of the CPUs to end in time."""
    plan = make_plan(
        of.case, of.regime, Limits(1.0), of.site, of.store, where=placement(), pace_log2=PACE_LOG2
    )
    record, _ = run_plan(plan)
    assert record["status"] in ("ok", "timeout"), record["reason"]
    pairs: Pairs = record["pairs"]
    assert len(pairs) == of.case.patch_len
    for at, pair in enumerate(pairs):
        # Stores are performed in program order, so what is stored first is never seen second.
        assert pair["tears"][BACK][1] == 0, f"the front-first control was seen back first at {at}"
        assert pair["tears"][FRONT][2] == 0, f"the back-first control was seen front first at {at}"
    return pairs


def watch(name: str, site: Site, store: str, wanted: tuple[tuple[int, int], ...] = CONTROLS) -> Pairs:
    """What the witness of a case saw, in as many runs as it took to see all that is `wanted`."""
    (of,) = witnesses([cell(name, site=site, store=store, where=placement())])
    found: Pairs = [{"tears": [[0, 0, 0], [0, 0, 0]]} for _ in range(of.case.patch_len)]
    for _ in range(ATTEMPTS):
        for into, pair in zip(found, watch_once(of), strict=True):
            for order, by_store in enumerate(pair["tears"]):
                into["tears"][order] = [a + b for a, b in zip(into["tears"][order], by_store, strict=True)]
        if all(found[-1]["tears"][order][which] for order, which in wanted):
            return found
    raise AssertionError(f"in {ATTEMPTS} runs not all of {wanted} was seen: {found[-1]}")


@pytest.mark.hardware
@pytest.mark.parametrize("store", ["whole", "split"])
def test_readers_see_each_control_in_its_own_order_only(store: str) -> None:
    pairs = watch("mov-imm64", Site(64, 4), store)
    if store == "split":  # lower half first, in program order
        assert not any(pair["tears"][BACK][0] for pair in pairs)


@pytest.mark.hardware
def test_a_store_inside_an_aligned_quadword_is_one_event() -> None:
    pairs = watch("mov-imm32", Site(0), "whole")
    assert [pair["tears"][order][0] for pair in pairs for order in (FRONT, BACK)] == [0] * 8


@pytest.mark.hardware
def test_bytes_stored_one_by_one_are_never_seen_back_first() -> None:
    pairs = watch("mov-imm32", Site(0), "bytes", (*CONTROLS, (FRONT, 0)))
    assert not any(pair["tears"][BACK][0] for pair in pairs)
