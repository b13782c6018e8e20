"""Studies: every figure of their tables is one of the records', and no word says more than a witness saw."""

from __future__ import annotations

from typing import Any

import pytest

from stress.model import Placement, Site
from stress.stats import short_rate, upper_bound_95
from stress.witness import ENOUGH_CONTROLS
from tests.support import QUIET, Record, shown
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
        keys = 2 if "store" in head[1:] else 1
        found[name] = {" ".join(row[:keys]): dict(zip(head[keys:], row[keys:], strict=True)) for row in rows}
        assert len(found[name]) == len(rows)
    return found


def atomicity(*records: Record) -> Tables:
    return tables(shown("atomicity", RUN, records, PROMISES))


def mutants(*records: Record) -> Tables:
    return tables(shown("mutants", RUN, records, PROMISES))


EVERY = "mov-imm32, every site and store"
SUMMARY = "mov-imm32: 4 bytes"


def row(*records: Record) -> dict[str, str]:
    """What the table of every site and store says of the only one."""
    (found,) = atomicity(*records)[EVERY].values()
    return found


def seen(*records: Record) -> str:
    """How often events were seen, as the table says it, and what sort of tears they were."""
    found = row(*records)
    return f"{found['torn']} ({found['tears']})" if found["tears"] else found["torn"]


def readers(*records: Record) -> str:
    """What the table says that data readers saw."""
    return row(*records)["data readers"]


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
    assert list(found) == [SUMMARY, EVERY, "mov-imm64: 8 bytes", "mov-imm64, every site and store"]
    assert list(found[EVERY]) == [
        "in8 bytes", "x8+3 bytes", "x64+1 bytes", "x64+2 whole", "x64+2 bytes", "x4096+1 bytes",
    ]  # fmt: skip
    assert found[EVERY]["x64+2 whole"]["data readers"] == "no witness"
    assert list(found[SUMMARY]) == ["whole", "bytes"]
    assert found[SUMMARY]["whole"] == {
        "inside": "",
        "across 8": "",
        "across 64": f"{NOTHING}; no witness",
        "across 4096": "",
    }


def test_the_summary_counts_the_sites_that_showed_something_and_names_the_worst() -> None:
    few, many, none = (cell(site=Site(64, n)) for n in (1, 2, 3))
    witnesses = [witness(few), witness(many, front=7), witness(none)]
    found = atomicity(torn(few, 5), torn(many, 95), ended(none), *witnesses)[SUMMARY]["whole"]["across 64"]
    assert found.startswith("2 of 3, up to 190/s (")
    assert found.endswith("); one event or front first")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"1100": 5}, "2n 2o 100 %"),
        ({"0011": 5}, "2o 2n 100 %"),  # the byte that is newer is the back one
        ({"0033": 5}, "2n 2o 100 %"),  # image 0 follows image 3
        ({"2200": 5}, "2x 2y 100 %"),
        ({"1000": 60, "2111": 20, "1100": 20}, "1n 3o 80 %, 2n 2o 20 %"),
        ({"1000": 60, "1100": 30, "1110": 10}, "1n 3o 60 %, 2n 2o 30 % and 1 more"),
        ({"0101": 5}, "1o 1n 1o 1n 100 %"),
    ],
)
def test_mixes_are_told_by_which_bytes_were_new(labels: dict[str, int], told: str) -> None:
    signatures = [wrong(label, count) for label, count in labels.items()]
    record = ended(cell(), {"torn": sum(labels.values())}, signatures=signatures)
    assert row(record)["mixes"] == told


def test_a_mix_that_is_cut_between_instructions_is_marked() -> None:
    """Several instructions may be fetched one by one: that is no boundary of fetch."""
    of = cell("two-imm8", site=INSIDE)
    signatures = [wrong("0001", 75), wrong("0102", 25) | {"mixes": []}]
    found = atomicity(ended(of, {"torn": 100}, signatures=signatures), witness(of))
    rows = found["two-imm8, every site and store"]["in8 whole"]
    assert rows["mixes"] == "3o / 1n 75 %, none known 25 %"
    assert "75 % between instructions" in found["two-imm8: 4 bytes"]["whole"]["inside"]


def test_mixes_that_are_not_known_are_not_guessed() -> None:
    both, none = wrong("1100", 6) | {"mixes": ["1100", "0011"]}, wrong("", 4) | {"mixes": []}
    assert (
        row(ended(cell(), {"torn": 10}, signatures=[both, none]))["mixes"] == "several 60 %, none known 40 %"
    )


def test_one_byte_has_no_sides_to_read() -> None:
    found = atomicity(ended(cell("opcode-byte", site=INSIDE)))["opcode-byte, every site and store"]
    assert found["in8 whole"]["data readers"] == "one byte"


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
        (3, 0, "front first"),
        (0, 3, "back first"),
        (3, 4, "front first and back first"),
        (2, 0, "not settled"),  # too few to say that it is two events, and too many to say that it is one
        (0, 1, "not settled"),
    ],
)
def test_what_readers_saw_is_put_in_words(front: int, back: int, text: str) -> None:
    assert readers(torn(cell()), witness(cell(), front, back)) == text


def test_a_tear_that_was_seen_needs_no_control() -> None:
    assert readers(torn(cell()), witness(cell(), front=3, planted=0)) == "front first"


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
BROKEN = "int3+sync-core-without-2"
BY_TURN = f"{PROTOCOL}, by provocation"


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
    found = mutants(broken, ended(cell(regime="none")), complete)
    assert list(found) == [PROTOCOL, BY_TURN]
    rows = found[BY_TURN]
    assert list(rows) == [PROTOCOL, BROKEN]
    bound = f"0 (<{short_rate(upper_bound_95(0, 10_000_000))})"
    assert rows[PROTOCOL] == {"none": bound, "executor-flush-tail": bound}
    assert rows[BROKEN] == {"none": bound, "executor-flush-tail": "200/s"}


def test_cells_of_one_regime_are_summed_by_provocation() -> None:
    one, other = turns(BROKEN, {"none": 10}, seconds=1.0), turns(BROKEN, {"none": 30}, seconds=3.0)
    assert mutants(one, other)[BY_TURN][BROKEN] == {"none": "10/s"}


def test_the_first_event_is_told_where_one_cell_had_one_provocation() -> None:
    executors = [{"first_event_seconds": 0.5}, {"first_event_seconds": 0.0125}, {"first_event_seconds": None}]
    alone = turns(BROKEN, {QUIET.name: 50}, executors=executors)
    assert mutants(alone)[BY_TURN][BROKEN] == {QUIET.name: "200/s, 12 ms"}
    never = turns(BROKEN, {QUIET.name: 50}, executors=executors[2:])
    assert mutants(never)[BY_TURN][BROKEN] == {QUIET.name: "200/s"}
    several = turns(BROKEN, {QUIET.name: 50}, executors=executors, provocation="auto")
    assert mutants(several)[BY_TURN][BROKEN] == {QUIET.name: "200/s"}


def test_a_provocation_that_one_regime_was_not_run_under_is_left_empty() -> None:
    rows = mutants(turns(PROTOCOL, {"none": 0}), turns(BROKEN, {"executor-flush-tail": 50}))[BY_TURN]
    assert rows[PROTOCOL]["executor-flush-tail"] == rows[BROKEN]["none"] == ""


def test_a_provocation_that_had_no_time_has_no_rate() -> None:
    rows = mutants(turns(BROKEN, {"none": 3}, seconds=0.0))[BY_TURN]
    assert rows[BROKEN]["none"] == "3 in no time"


def test_cells_that_did_not_run_to_their_end_do_not_count() -> None:
    lost = [
        turns(BROKEN, {"none": 3}, status="crashed"),
        ended(cell(regime=BROKEN), status="skipped", outcomes={}, provocations={}),
    ]
    assert mutants(*lost) == {}
    assert list(mutants(*lost, turns("int3+sync-core-without-6", {"none": 3}))[BY_TURN]) == [
        PROTOCOL,
        "int3+sync-core-without-6",
    ]


def one_by_one(of: str, events: dict[str, int], first: float | None) -> list[Record]:
    """Cells of one provocation each, with the time to the first event where there was one."""
    return [
        turns(of, {name: n}, provocation=name, executors=[{"first_event_seconds": first if n else None}])
        for name, n in events.items()
    ]


def test_the_summary_says_what_is_left_out_what_went_red_and_how_soon() -> None:
    cells = [
        *one_by_one(PROTOCOL, {"none": 0, "signals": 0}, None),
        *one_by_one("int3+sync-core-without-2-4", {"none": 5, "signals": 50}, 0.0021),
        *one_by_one(BROKEN, {"none": 0, "signals": 50}, 0.2),
        turns("int3+sync-core-without-4", {"none": 0}),
    ]
    rows = mutants(*cells)[PROTOCOL]
    sync = "`membarrier sync-core`"
    assert list(rows) == ["nothing", f"2 {sync}", f"4 {sync}", f"2 {sync}; 4 {sync}"]
    bound = f"0 (<{short_rate(upper_bound_95(0, 20_000_000))})"
    assert rows["nothing"] == {"red under": "0 of 2", "soonest": "", "most": bound}
    assert rows[f"2 {sync}"] == {
        "red under": "1 of 2",
        "soonest": "200 ms (signals)",
        "most": "200/s (signals)",
    }
    assert rows[f"4 {sync}"]["red under"] == "0 of 1"
    assert rows[f"2 {sync}; 4 {sync}"]["soonest"] == "2.1 ms (none)"


def test_a_variant_with_a_name_of_its_own_is_told_by_it() -> None:
    rows = mutants(turns("quiesce", {"none": 0}), turns("quiesce-early", {"none": 3}))["quiesce"]
    assert list(rows) == ["nothing", "`quiesce-early`"]


def test_cells_in_which_provocations_take_turns_have_no_first_event() -> None:
    executors = [{"first_event_seconds": 0.5}]
    found = mutants(
        turns(PROTOCOL, {"none": 0}), turns(BROKEN, {"none": 50}, executors=executors, provocation="auto")
    )
    assert found[PROTOCOL]["2 `membarrier sync-core`"]["soonest"] == ""


def test_without_broken_variants_there_is_no_table() -> None:
    assert mutants(turns(PROTOCOL, {"none": 0}), ended(cell())) == {}


@pytest.mark.parametrize("study", ["atomicity", "mutants"])
def test_a_study_is_text_that_ends_in_a_newline_and_is_never_coloured(study: str) -> None:
    records = [torn(cell()), turns(BROKEN, {"none": 3}), witness(cell())]
    text = shown(study, RUN, records, PROMISES, colour=True)
    assert text.endswith("|\n")
    assert "\033" not in text
