"""Studies: every figure of their tables is one of the records', and no word says more than a witness saw."""

from __future__ import annotations

from typing import Any

import pytest

from stress.formats import FORMATS
from stress.model import Placement, Site
from stress.stats import short_rate, upper_bound_95
from stress.witness import ENOUGH_CONTROLS
from tests.support import QUIET, Record
from tests.test_evidence import (
    FAR,
    GOOD,
    PROMISES,
    RUN,
    cell,
    control,
    ended,
    torn,
    witness,
    wrong,
)

INSIDE = Site(0)
NOTHING = f"0 (<{short_rate(upper_bound_95(0, 20_000_000))})"

Tables = dict[str, dict[str, dict[str, str]]]
"""By heading, row and column."""


def tables(text: str) -> Tables:
    """The Markdown tables below each heading; a table that is not rectangular is an error."""
    found: Tables = {}
    for block in text.split("### ")[1:]:
        name, _, rest = block.partition("\n")
        lines = [[part.strip() for part in line.split("|")[1:-1]] for line in rest.strip().splitlines()]
        head, rule, *rows = lines
        assert rule == ["---"] * len(head)
        assert len({row[0] for row in rows}) == len(rows)
        found[name] = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    return found


def atomicity(*records: Record) -> Tables:
    return tables(FORMATS["atomicity"](RUN, records, PROMISES))


def mutants(*records: Record) -> Tables:
    return tables(FORMATS["mutants"](RUN, records, PROMISES))


def seen(*records: Record, site: str = "x64+2", store: str = "whole") -> str:
    """What the table says of one site and store of the only case, in front of what readers saw."""
    return atomicity(*records)["mov-imm32"][site][store].partition(";")[0]


def readers(*records: Record) -> str:
    """What the table says that data readers saw."""
    return atomicity(*records)["mov-imm32"]["x64+2"]["whole"].partition("; ")[2]


# ---- where the boundaries are ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "seconds", "text"),
    [(95, 0.5, "190/s"), (5, 0.5, "10/s"), (4, 0.5, "8/s"), (1, 8.0, "0.12/s"), (600_000, 0.5, "1.20M/s")],
)
def test_events_are_told_by_the_second(events: int, seconds: float, text: str) -> None:
    assert seen(ended(cell(), {"torn": events}, seconds=seconds)) == text


def test_torn_faulting_hanging_and_stale_executions_count_in_every_phase() -> None:
    outcomes = {"concurrent": {"old": 10, "torn": 10, "fault": 20}, "post": {"stale": 30, "hang": 40}}
    assert seen(ended(cell(), outcomes=outcomes, seconds=1.0)) == "100/s"


def test_where_nothing_was_seen_the_bound_is_told_and_where_nothing_ran_nothing_is() -> None:
    assert seen(ended(cell())) == NOTHING
    assert seen(ended(cell(), outcomes={})) == "-"


def test_cells_of_one_site_and_store_are_summed() -> None:
    one, other = torn(cell(), 10, seconds=1.0), torn(cell(where=FAR), 30, seconds=3.0)
    assert seen(one, other) == "10/s"
    assert seen(ended(cell()), ended(cell(regime="alias"))) == (
        f"0 (<{short_rate(upper_bound_95(0, 40_000_000))})"
    )


def test_only_cells_without_synchronization_that_ended_well_count() -> None:
    others = [
        ended(cell(regime="sync-core"), {"torn": 7}),
        ended(cell(), {"torn": 7}, status="crashed"),
        ended(cell(), status="skipped", outcomes={}),
        control(cell(), 7),
        witness(cell(), front=7),
        {"type": "start", "id": "x", "cell": cell().name},
    ]
    assert atomicity(*others) == {}
    assert seen(ended(cell()), *others) == NOTHING


def test_sites_and_stores_stand_in_their_order_and_what_was_not_run_is_left_empty() -> None:
    sites = [Site(4096, 1), Site(64, 2), INSIDE, Site(64, 1), Site(8, 3)]
    cells = [torn(cell(site=site, store="bytes")) for site in sites]
    found = atomicity(*cells, ended(cell(store="whole")), ended(cell("mov-imm64")))
    assert list(found) == ["mov-imm32", "mov-imm64"]
    assert list(found["mov-imm32"]) == ["in8", "x8+3", "x64+1", "x64+2", "x4096+1"]
    assert list(found["mov-imm32"]["in8"]) == ["whole", "bytes"]
    assert found["mov-imm32"]["in8"]["whole"] == ""
    assert found["mov-imm32"]["x64+2"]["whole"] == f"{NOTHING}; no witness"
    assert list(found["mov-imm64"]) == ["x64+2"]


def test_shares_of_store_tears_and_fetch_tears_are_those_of_the_witness() -> None:
    both = ended(
        cell(),
        {"torn": 90, "fault": 10},
        signatures=[wrong("1100", 80), wrong("0011", 15), wrong("0000", 5, "fault")],
    )
    assert seen(both) == "200/s"
    assert seen(both, witness(cell(), front=7)) == "200/s (S 80, F 15, ? 5)"
    assert seen(both, witness(cell())) == "200/s (F 95, ? 5)"
    assert seen(torn(cell()), witness(cell(), front=7)) == "190/s (S 100)"
    assert seen(ended(cell()), witness(cell(), front=7)) == NOTHING


# ---- what data readers saw -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("front", "back", "text"),
    [
        (0, 0, "one event"),
        (1, 0, "front first"),
        (0, 1, "back first"),
        (3, 4, "front first and back first"),
    ],
)
def test_what_readers_saw_is_put_in_words(front: int, back: int, text: str) -> None:
    assert readers(torn(cell()), witness(cell(), front, back)) == text


def test_a_tear_that_was_seen_needs_no_control() -> None:
    assert readers(torn(cell()), witness(cell(), front=1, planted=0)) == "front first"


@pytest.mark.parametrize(
    ("planted", "text"),
    [(0, "not settled"), (ENOUGH_CONTROLS - 1, "not settled"), (ENOUGH_CONTROLS, "one event")],
)
def test_a_store_is_one_event_only_where_enough_controls_were_seen(planted: int, text: str) -> None:
    """As many as a fetch tear needs: else the same cell would say both."""
    assert readers(torn(cell()), witness(cell(), planted=planted)) == text


@pytest.mark.parametrize("order", [0, 1])
def test_a_control_of_one_order_does_not_settle_the_other(order: int) -> None:
    blind = witness(cell())
    for pair in blind["pairs"]:
        pair["tears"][order][1 + order] = 0
    assert readers(torn(cell()), blind) == "not settled"


@pytest.mark.parametrize(
    "other",
    [
        witness(cell("mov-imm64"), front=7),
        witness(cell(site=Site(64, 1)), front=7),
        witness(cell(store="split"), front=7),
        witness(cell(where=Placement("package", 0, (8,))), front=7),
        witness(cell(), front=7, host="another"),
        witness(cell(), front=7, status="crashed"),
    ],
    ids=["case", "site", "store", "placement", "host", "crashed"],
)
def test_the_witness_of_something_else_says_nothing(other: Record) -> None:
    assert readers(torn(cell()), other) == "no witness"


# ---- which steps are needed ------------------------------------------------------------------------------------

PROTOCOL = "int3+sync-core"
BROKEN = "int3-nofirst"


def turns(of: str, events: dict[str, int], seconds: float = 0.25, **changes: Any) -> Record:
    """A cell of a regime that saw so many torn executions under each of several provocations."""
    shares = {
        name: {"seconds": seconds, "patches": 10, "outcomes": {"concurrent": GOOD | {"torn": n}}}
        for name, n in events.items()
    }
    return ended(cell(regime=of), {"torn": sum(events.values())}, provocations=shares, **changes)


def test_each_broken_variant_stands_below_the_complete_protocol() -> None:
    complete = turns(PROTOCOL, {"none": 0, "executor-flush-tail": 0})
    broken = turns(BROKEN, {"none": 0, "executor-flush-tail": 50})
    (name, rows) = next(iter(mutants(broken, ended(cell(regime="none")), complete).items()))
    assert (name, list(rows)) == (PROTOCOL, [PROTOCOL, BROKEN])
    bound = f"0 (<{short_rate(upper_bound_95(0, 10_000_000))})"
    assert rows[PROTOCOL] == {"none": bound, "executor-flush-tail": bound}
    assert rows[BROKEN] == {"none": bound, "executor-flush-tail": "200/s"}


def test_cells_of_one_regime_are_summed_by_provocation() -> None:
    one, other = turns(BROKEN, {"none": 10}, seconds=1.0), turns(BROKEN, {"none": 30}, seconds=3.0)
    assert mutants(one, other)[PROTOCOL][BROKEN] == {"none": "10/s"}


def test_the_first_event_is_told_where_one_cell_had_one_provocation() -> None:
    executors = [{"first_event_seconds": 0.5}, {"first_event_seconds": 0.0125}, {"first_event_seconds": None}]
    alone = turns(BROKEN, {QUIET.name: 50}, executors=executors)
    assert mutants(alone)[PROTOCOL][BROKEN] == {QUIET.name: "200/s, first after 0.013 s"}
    never = turns(BROKEN, {QUIET.name: 50}, executors=executors[2:])
    assert mutants(never)[PROTOCOL][BROKEN] == {QUIET.name: "200/s"}
    several = turns(BROKEN, {QUIET.name: 50}, executors=executors, provocation="auto")
    assert mutants(several)[PROTOCOL][BROKEN] == {QUIET.name: "200/s"}


def test_a_provocation_that_one_regime_was_not_run_under_is_left_empty() -> None:
    rows = mutants(turns(PROTOCOL, {"none": 0}), turns(BROKEN, {"executor-flush-tail": 50}))[PROTOCOL]
    assert rows[PROTOCOL]["executor-flush-tail"] == rows[BROKEN]["none"] == ""


def test_a_provocation_that_had_no_time_has_no_rate() -> None:
    rows = mutants(turns(BROKEN, {"none": 3}, seconds=0.0))[PROTOCOL]
    assert "/s" not in rows[BROKEN]["none"]


def test_cells_that_did_not_run_to_their_end_do_not_count() -> None:
    lost = [
        turns(BROKEN, {"none": 3}, status="crashed"),
        ended(cell(regime=BROKEN), status="skipped", outcomes={}, provocations={}),
    ]
    assert mutants(*lost) == {}
    assert list(mutants(*lost, turns("int3-nolast", {"none": 3}))[PROTOCOL]) == [PROTOCOL, "int3-nolast"]


def test_without_broken_variants_there_is_no_table() -> None:
    assert mutants(turns(PROTOCOL, {"none": 0}), ended(cell())) == {}


@pytest.mark.parametrize("study", ["atomicity", "mutants"])
def test_a_study_is_text_that_ends_in_a_newline_and_is_never_coloured(study: str) -> None:
    records = [torn(cell()), turns(BROKEN, {"none": 3}), witness(cell())]
    text = FORMATS[study](RUN, records, PROMISES, colour=True)
    assert text.endswith("|\n")
    assert "\033" not in text
