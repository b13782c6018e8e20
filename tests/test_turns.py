"""The chooser of turns: most time goes where most is seen, each turn keeps a share, and a record can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stress import blackbox, native
from stress.cases import load_cases
from stress.errors import NativeError
from stress.model import Limits, Placement, Provocation, Site
from stress.plan import PACES_LOG2, as_dict
from stress.regimes import load_provocations, load_regimes
from tests.support import Record, count, make_plan, placement, run_plan

CASES, REGIMES, PROVOCATIONS = load_cases(), load_regimes(), load_provocations()
MOV = CASES["mov-imm32"]
TURNS = 15
MS = 1_000_000


def simulate(rate: Callable[[int, int], float], slices: int, turns: int = TURNS) -> list[tuple[int, int]]:
    """Turn and time of each slice, where turn `t` at `now` (ns) shows `rate(t, now)` events a second."""
    told: list[tuple[int, int]] = []
    chosen: list[tuple[int, int]] = []
    times = [0] * turns
    now = 0
    for _ in range(slices):
        turn = native.replay(turns, [*told, (0, 0)])[-1]
        ns = min(50 * MS, MS // 4 << times[turn])
        told.append((ns, int(rate(turn, now) * ns / 1e9)))
        chosen.append((turn, ns))
        times[turn] += 1
        now += ns
    return chosen


def time_of(chosen: list[tuple[int, int]]) -> list[float]:
    """Each turn's part of the time."""
    total = sum(ns for _, ns in chosen)
    return [sum(ns for turn, ns in chosen if turn == t) / total for t in range(TURNS)]


def test_where_nothing_is_seen_every_turn_gets_the_same() -> None:
    shares = time_of(simulate(lambda turn, now: 0, 300))
    assert max(shares) <= 1.2 / TURNS
    assert min(shares) >= 0.8 / TURNS


@pytest.mark.parametrize("productive", [0, 7, TURNS - 1])
@pytest.mark.parametrize("per_second", [30, 1e6])
def test_the_only_productive_turn_gets_most_and_the_others_keep_their_share(
    productive: int, per_second: float
) -> None:
    shares = time_of(simulate(lambda turn, now: per_second if turn == productive else 0, 400))
    assert shares[productive] > 0.5
    assert min(shares) > 1 / (16 * TURNS)


def test_the_best_of_several_is_found() -> None:
    shares = time_of(simulate(lambda turn, now: 1e4 * (turn + 1), 400))
    assert shares[-1] > 0.5


def test_what_turns_productive_later_is_found_then() -> None:
    chosen = simulate(
        lambda turn, now: (1e5 if now > 500 * MS else 0) if turn == 11 else 20.0 * (turn == 2), 600
    )
    after = chosen[len(chosen) // 2 :]
    assert time_of(after)[11] > 0.5


def test_choices_follow_from_what_was_told_and_from_nothing_else() -> None:
    told = [(MS + i * 7919, i * i % 101) for i in range(500)]
    first = native.replay(TURNS, told)
    native.replay(3, told)
    assert native.replay(TURNS, told) == first
    assert native.replay(TURNS, told[:200]) == first[:200]


@pytest.mark.parametrize("turns", [0, 129])
def test_there_must_be_turns_to_choose_from(turns: int) -> None:
    with pytest.raises(NativeError, match="no turn can be chosen"):
        native.replay(turns, [(1, 1)])


def provoked(*provocations: Provocation, where: Placement | None = None, seconds: float = 1.0) -> Record:
    """The record of a store that tears byte by byte, inside one aligned 8, under these provocations in turn."""
    plan = make_plan(
        MOV,
        REGIMES["none"],
        Limits(seconds),
        Site(0),
        "bytes",
        provocations,
        where,
        pace_log2=12,
        slice_us=50_000,
    )
    record, _ = run_plan(plan)
    assert record["status"] == "ok", record["reason"]
    return record


def test_turns_are_every_provocation_at_every_pace() -> None:
    plan = as_dict(
        make_plan(MOV, REGIMES["none"], Limits(1.0), provocations=tuple(PROVOCATIONS.values()), pace_log2=12)
    )
    paces = (12, *PACES_LOG2)
    assert plan["turns"] == [[i, pace, 1] for pace in paces for i in range(len(PROVOCATIONS))]
    assert as_dict(make_plan(MOV, REGIMES["none"], Limits(1.0)))["turns"] == []


SLOW = [replace(PROVOCATIONS["executor-cold-branches"], name=f"slow-{n}") for n in range(5)]
QUICK = Provocation("quick", "nothing is done: executions by the million, where the slow ones make thousands")


@pytest.mark.hardware
@pytest.mark.parametrize("at", [0, 3, 5])
def test_the_one_productive_provocation_of_many_gets_most_of_the_time(at: int) -> None:
    record = provoked(*SLOW[:at], QUICK, *SLOW[at:], seconds=2.0)
    shares = record["provocations"]
    assert count(shares["quick"], "torn") > 0.9 * count(record, "torn") > 0
    assert shares["quick"]["seconds"] > 0.5 * record["seconds"]
    assert all(share["seconds"] > record["seconds"] / (16 * len(shares)) for share in shares.values())


@pytest.mark.hardware
def test_an_eventless_cell_is_spread_evenly() -> None:
    every = tuple(p for p in PROVOCATIONS.values() if p.turns and not p.guess)
    plan = make_plan(
        MOV, REGIMES["none"], Limits(2.0), Site(0), provocations=every, pace_log2=12, slice_us=50_000
    )
    record, _ = run_plan(plan)
    assert count(record, "torn", "fault", "stale", "hang") == 0
    seconds = [share["seconds"] for share in record["provocations"].values()]
    assert min(seconds) > 0.6 * record["seconds"] / len(every)


@pytest.mark.hardware
def test_the_record_holds_its_choices_and_they_can_be_replayed() -> None:
    record = provoked(*SLOW[:2], QUICK, PROVOCATIONS["writer-flush-tail"])
    choices = [tuple(map(int, choice.split(","))) for choice in record["choices"].split()]
    assert record["slices"] == len(choices) > len(record["plan"]["turns"])
    told = [(ns, reward) for _, ns, reward in choices]
    assert native.replay(len(record["plan"]["turns"]), told) == [turn for turn, _, _ in choices]
    assert sum(ns for _, ns, _ in choices) == pytest.approx(record["seconds"] * 1e9, rel=1e-3)
    # What ends after the last slice is nobody's reward.
    assert 0.9 * count(record, "torn") <= sum(reward for _, _, reward in choices) <= count(record, "torn")


@pytest.mark.hardware
@pytest.mark.parametrize("crew", [1, 2])
def test_only_as_many_execute_as_the_turn_says(crew: int) -> None:
    near = placement()
    crowd = Placement(near.relation, near.writer_cpu, near.executor_cpus * 2)
    plan = make_plan(MOV, REGIMES["none"], Limits(1.0), Site(0), "bytes", (QUICK, QUICK), crowd)
    resolved = as_dict(plan)
    assert {executors for _, _, executors in resolved["turns"]} == {1, 2}
    box = bytearray(blackbox.result_bytes())
    native.run(resolved | {"turns": [[0, 0, crew]]}, box)
    events = [executor["events"] for executor in blackbox.decode(resolved, box)["executors"]]
    assert [n > 0 for n in events] == [True, crew == 2]
