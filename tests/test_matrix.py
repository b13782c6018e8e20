"""From a request's words to the cells of a machine: durations, counts, budgets, CPUs and lanes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stress.cases import find_cases, load_cases
from stress.errors import HostError, UsageError
from stress.host import Host, read_host
from stress.matrix import (
    LONGEST_SECONDS,
    OVERHEAD_SECONDS,
    SHORTEST_SECONDS,
    USUAL_BUDGET_SECONDS,
    USUAL_SECONDS,
    Matrix,
    Request,
    build,
    parse_count,
    parse_seconds,
)
from stress.model import Plan
from stress.plan import as_dict, plan_id
from stress.regimes import load_provocations, load_regimes
from tests.trees.hosts import PROBE, guest
from tests.trees.machines import plant, regular

ONE_CELL = Request(cases=("mov-imm32",), regimes=("none",), sites=("x64",))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The recorded guest: two CPUs."""
    return guest(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A server: 2 packages, 2 L3 caches each, 4 cores each, 2 threads each: 32 CPUs."""
    files = regular(packages=2, l3s=2, cores=4, threads=2)
    return read_host(plant(tmp_path_factory.mktemp("large"), files), PROBE)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("300ms", 0.3),
        ("90s", 90.0),
        ("2m", 120.0),
        ("2 min", 120.0),
        ("8h", 28800.0),
        ("1d", 86400.0),
        ("1e-3", 1e-3),
        ("1e2s", 100.0),
        (" 2s ", 2.0),
    ],
)
def test_durations_are_understood(text: str, seconds: float) -> None:
    assert parse_seconds(text, "--seconds") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "nan", "inf", "-inf", "infinity", "1e400", "1e400s", "-1", "0", "0s", "-0.5", "1e-400"),
        *("abc", "1x", "1S", "1M", "2mm", "1 2", "1_000", "0x10", "--5", "5e", "e5", "+", ".", "1,5", "1s s"),
    ],
)
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    told = re.escape(f"--seconds: '{text}' is no duration; give seconds or 300ms, 90s, 2m, 8h")
    with pytest.raises(UsageError, match=f"^{told}$"):
        parse_seconds(text, "--seconds")


@pytest.mark.parametrize("text", ["1e30", "1e300d", "1000000d"])
def test_a_duration_longer_than_any_clock_counts_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seconds"):
        parse_seconds(text, "--seconds")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("250000", 250_000),
        ("1e9", 10**9),
        ("10M", 10**7),
        ("1.5k", 1500),
        ("2G", 2 * 10**9),
        ("1T", 10**12),
        (" 7 ", 7),
    ],
)
def test_counts_are_understood(text: str, count: int) -> None:
    assert parse_count(text, "--patches") == count


@pytest.mark.parametrize(
    "text",
    [
        *("", "nan", "inf", "1e400", "-1", "0", "0.5", "1.0001k", "1e-3", "2m", "k", "1K", "10 M", "1_000"),
        *("0x10", "1e19", "9223372036854775808", "1e5e5", "."),
    ],
)
def test_what_is_no_count_is_refused_by_name(text: str) -> None:
    told = re.escape(f"--patches: '{text}' is no positive whole number; give as in 250000, 1e9 or 10M")
    with pytest.raises(UsageError, match=f"^{told}$"):
        parse_count(text, "--patches")


@given(st.text(max_size=12))
def test_any_text_is_a_positive_finite_number_or_a_usage_error(text: str) -> None:
    for parse in (parse_seconds, parse_count):
        try:
            value = parse(text, "--option")
        except UsageError:
            continue
        assert value > 0
        assert math.isfinite(value)


def raced(matrix: Matrix) -> list[Plan]:
    """The plans that were asked for; controls and witnesses run beside them."""
    return [plan for plan in matrix.plans if plan.cell.regime.role == "cell"]


def test_the_default_request_runs_every_case_under_every_regime_for_as_long_as_it_takes(small: Host) -> None:
    matrix = build(Request(), small)
    run = {plan.cell.regime.name for plan in raced(matrix)}
    assert run == {name for name, regime in load_regimes().items() if set(regime.needs) <= small.features}
    assert {skip.reason for skip in matrix.skips} >= {"this machine lacks serialize"}
    # The machine lacks AVX, and with it a whole store of more than 16 bytes.
    narrow = {name for name, case in load_cases().items() if case.patch_len <= 16}
    assert {plan.cell.case.name for plan in matrix.plans} == narrow | {"publish-mov"}
    assert {plan.cell.store for plan in raced(matrix)} == {"whole", "copy"}
    needed = matrix.depth * (USUAL_SECONDS + OVERHEAD_SECONDS)
    assert matrix.expected_seconds == pytest.approx(max(USUAL_BUDGET_SECONDS, needed))


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("budget", [300.0, 3000.0])
def test_the_budget_is_shared_out_to_all_cells(small: Host, budget: float, repeat: int) -> None:
    few = Request(sites=("x64",), cases=("mov-imm32,mov-imm64",), regimes=("none,idle,flag",), repeat=repeat)
    matrix = build(replace(few, budget_seconds=budget), small)
    (seconds,) = {plan.limits.seconds for plan in matrix.plans}
    assert seconds >= SHORTEST_SECONDS
    assert matrix.expected_seconds == pytest.approx(budget)


def test_seconds_of_a_cell_win_over_the_budget(small: Host) -> None:
    matrix = build(replace(ONE_CELL, seconds=7.0, budget_seconds=1.0), small)
    assert {plan.limits.seconds for plan in matrix.plans} == {7.0}


@pytest.mark.parametrize("limit", [{"executions": 10**9}, {"patches": 50}])
def test_a_cell_that_ends_by_a_count_is_not_cut_short_by_the_budget(
    small: Host, limit: dict[str, Any]
) -> None:
    (plan,) = raced(build(replace(ONE_CELL, budget_seconds=1.0, **limit), small))
    assert plan.limits.seconds == LONGEST_SECONDS
    assert {name: getattr(plan.limits, name) for name in limit} == limit


def test_a_budget_that_is_too_short_names_one_that_is_not(small: Host) -> None:
    with pytest.raises(
        UsageError, match=r"^--budget: 0\.5 s is too short for \d+ cells in a row; give \d+s or more"
    ):
        build(Request(budget_seconds=0.5), small)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.floats(0.001, 2.0), st.integers(1, 4), st.sampled_from(["none", "*"]))
def test_the_budget_that_is_asked_for_is_enough(
    large: Host, budget: float, repeat: int, regimes: str
) -> None:
    request = Request(cases=("mov-imm*",), regimes=(regimes,), budget_seconds=budget, repeat=repeat)
    try:
        build(request, large)
    except UsageError as error:
        need = float(str(error).partition("give ")[2].partition("s ")[0])
        assert need > budget
        assert build(replace(request, budget_seconds=need), large).plans


def test_only_the_cpus_that_are_named_are_used(large: Host) -> None:
    matrix = build(replace(ONE_CELL, cpus="4-7", repeat=3), large)
    assert {cpu for plan in matrix.plans for cpu in plan.cell.placement.cpus} <= {4, 5, 6, 7}


@pytest.mark.parametrize(
    ("cpus", "error", "text"),
    [
        ("99", UsageError, "CPU 99 does not exist or is not allowed (allowed: 0-1)"),
        ("0-99", UsageError, "CPU 2 does not exist or is not allowed (allowed: 0-1)"),
        ("x", UsageError, "give CPU numbers and ranges"),
        ("0", HostError, "one CPU is allowed (cpuset: 0)"),
    ],
)
def test_cpus_that_cannot_be_are_refused(small: Host, cpus: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        build(replace(ONE_CELL, cpus=cpus), small)


def test_one_allowed_cpu_is_refused_with_what_can_be_done(small: Host) -> None:
    with pytest.raises(HostError, match="an executor and a writer need two: start it without `taskset`"):
        build(ONE_CELL, replace(small, allowed=frozenset({1})))


def used(matrix: Matrix) -> list[tuple[int, ...]]:
    return sorted({plan.cell.placement.cpus for plan in matrix.plans})


def test_two_cpus_are_one_lane(small: Host) -> None:
    matrix = build(Request(cases=("mov*",)), small)
    assert matrix.lanes == 1
    assert len(used(matrix)) == 1


@pytest.mark.parametrize("executors", [1, 2, 3])
@pytest.mark.parametrize("relation", ["auto", "smt", "l3", "cross"])
def test_lanes_share_no_cpu_and_leave_one_to_the_controller(
    large: Host, relation: str, executors: int
) -> None:
    request = Request(cases=("mov*",), placements=(relation,), executors=executors, budget_seconds=1000.0)
    matrix = build(request, large)
    busy = [cpu for cpus in used(matrix) for cpu in cpus]
    assert len(used(matrix)) == matrix.lanes > 1
    assert len(busy) == len(set(busy)) < len(large.topology.cpus)
    assert {len(plan.cell.placement.executor_cpus) for plan in matrix.plans} == {executors}
    assert relation == "auto" or {plan.cell.placement.relation for plan in matrix.plans} == {relation}


def test_lanes_share_the_cells_evenly_and_the_budget_with_them(large: Host) -> None:
    matrix = build(Request(), large)
    loads = [sum(plan.cell.placement.cpus == cpus for plan in raced(matrix)) for cpus in used(matrix)]
    assert max(loads) - min(loads) <= 1
    assert matrix.expected_seconds == pytest.approx(120)


def test_several_relations_are_cells_of_their_own(large: Host) -> None:
    matrix = build(replace(ONE_CELL, placements=("all",)), large)
    assert [plan.cell.placement.relation for plan in raced(matrix)] == ["smt", "l3", "package", "cross"]
    assert matrix.lanes == 1


# What is not published is not guessed, and the small machine has no SMT sibling.
FITTING = {name: p for name, p in load_provocations().items() if not p.guess and p.antagonist != "smt"}
AUTO = tuple(name for name, provocation in FITTING.items() if provocation.turns)


@pytest.mark.parametrize(
    ("words", "provocations"),
    [
        (("auto",), [AUTO]),
        (("none",), [("none",)]),
        (("all",), [(name,) for name in FITTING]),
        (("writer-f*",), [("writer-flush-tail",), ("writer-flush-head",)]),
        (("none,auto",), [AUTO, ("none",)]),
        (("auto", "auto"), [AUTO]),
    ],
)
def test_provocations_take_turns_in_one_cell_or_have_one_each(
    small: Host, words: tuple[str, ...], provocations: list[tuple[str, ...]]
) -> None:
    plans = raced(build(replace(ONE_CELL, provoke=words), small))
    assert [tuple(p.name for p in plan.cell.provocations) for plan in plans] == provocations


def test_a_machine_that_can_run_nothing_says_why(small: Host) -> None:
    bare = replace(small, features=frozenset({"alias"}))
    with pytest.raises(
        HostError, match="no cell can be run here: this machine lacks rwx; see `stress doctor`"
    ):
        build(ONE_CELL, bare)


@pytest.mark.parametrize(
    "changed",
    [
        {"cases": ("nope",)},
        {"regimes": ("nope",)},
        {"sites": ("nope",)},
        {"stores": ("nope",)},
        {"provoke": ("nope",)},
    ],
)
def test_unknown_words_are_refused(small: Host, changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="'nope'"):
        build(replace(ONE_CELL, **changed), small)


def test_an_unknown_placement_is_refused(small: Host) -> None:
    with pytest.raises(UsageError, match="no placement 'nope' on CPUs 0-1"):
        build(replace(ONE_CELL, placements=("nope",)), small)


def test_the_same_request_makes_the_same_plans(large: Host) -> None:
    first, second = ([plan_id(as_dict(p)) for p in build(Request(seed=5), large).plans] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first)
    other = {plan_id(as_dict(p)) for p in build(Request(seed=6), large).plans}
    assert not other & set(first)


REQUESTS = st.builds(
    Request,
    cases=st.lists(st.text(max_size=5)).map(tuple),
    cpus=st.text(max_size=5),
    executors=st.integers(1, 64),
    seconds=st.none() | st.floats(0.001, 1e5),
    executions=st.integers(0, 2**63 - 1),
    until_first_event=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
    case_dir=st.text(max_size=5),
    regime_files=st.lists(st.text(max_size=5)).map(tuple),
)


@given(REQUESTS)
def test_a_stored_request_is_the_same_request(request_: Request) -> None:
    assert Request.from_dict(json.loads(json.dumps(request_.as_dict()))) == request_


@pytest.mark.parametrize(
    "stored",
    [
        {},
        Request().as_dict() | {"weather": "fine"},
        {key: value for key, value in Request().as_dict().items() if key != "seed"},
    ],
)
def test_a_request_of_another_version_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="begun by another version of stress; finish it with that version"):
        Request.from_dict(stored)


def test_a_users_own_files_are_read(small: Host, tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    own = (find_cases() / "mov-imm32.toml").read_text()
    (tmp_path / "cases" / "mine.toml").write_text(own)
    regimes = tmp_path / "regimes.toml"
    regimes.write_text(
        '[regimes.ours]\ncode = "R0"\nsummary = "s"\nsource = "s"\nwriter = ["store all new"]\n'
    )
    request = replace(
        ONE_CELL,
        cases=("all",),
        case_dir=str(tmp_path / "cases"),
        regimes=("ours",),
        regime_files=(str(regimes),),
    )
    assert [plan.cell.name for plan in raced(build(request, small))] == ["mine@x64+2/whole:ours:l3"]
