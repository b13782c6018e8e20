"""Disciplines on real CPUs: every regime runs, the complete ones hold, and every step does what its name says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stress.evidence import companions
from stress.host import read_host
from stress.matrix import choose_cases
from stress.model import Cell, Limits, Placement, Plan, Regime
from stress.plan import cells, plans
from stress.regimes import load_provocations, load_regimes
from stress.runner import Running
from stress.steps import parse_step
from stress.topology import placements

pytestmark = pytest.mark.hardware

SECONDS = 0.1
HOST = read_host()
REGIMES = load_regimes(asked=["int3+delay-100"])
PROTOCOLS = {"R4", "R4g", "R4s", "R5q"}
"""Codes whose complete regimes let no executor meet a half-written patch, at any site."""
FRESH = {"R2", "R1m", "R3", "R5", "R6"} | PROTOCOLS
"""Codes after whose complete regimes nobody has ever been seen to run old code."""

Record = dict[str, Any]


def placement() -> Placement:
    return placements(HOST.topology, ["auto"], 1)[0]


def plan_of(regime: Regime, limits: Limits, site: str = "x64+2") -> Plan | str:
    """Return the plan of one cell, or why this machine cannot run it."""
    case = choose_cases(("mov-imm32",), "", HOST.isa)
    quiet = [(load_provocations()["none"],)]
    run, skips = cells(case, [site], ["whole"], [regime], quiet, [placement()], HOST.features)
    return plans(run, limits, seed=1)[0] if run else skips[0].reason


def race(regime: Regime, site: str = "x64+2", **limits: Any) -> Record:
    """Run one cell that this machine can run, and return its record."""
    plan = plan_of(regime, Limits(**limits), site)
    if isinstance(plan, str):
        pytest.skip(plan)
    return finished(plan)


def finished(plan: Plan) -> Record:
    """Run a plan to its end, and return its record."""
    run = Running(plan)
    try:
        return run.finish()[0]
    finally:
        run.close()


def made_of(*steps: str, via: str = "same") -> Regime:
    """Return a regime that the loader, which would ask what it is for, never saw."""
    return Regime("made-up", "R0", "none", "none", tuple(map(parse_step, steps)), via=via)


def count(record: Record, *outcomes: str, phases: tuple[str, ...] = ("concurrent", "post", "resumed")) -> int:
    table = record["outcomes"]
    return sum(table.get(phase, {}).get(outcome, 0) for phase in phases for outcome in outcomes)


@pytest.mark.parametrize("name", [name for name, regime in REGIMES.items() if not regime.publish])
def test_every_regime_runs_or_says_what_is_missing(name: str) -> None:
    regime = REGIMES[name]
    # Where a single store goes in flight only its place keeps it whole.
    site = "x64+2" if regime.code in PROTOCOLS else "in8"
    plan = plan_of(regime, Limits(SECONDS), site)
    if isinstance(plan, str):
        missing = set(regime.needs) - HOST.features
        assert plan == f"this machine lacks {', '.join(need for need in regime.needs if need in missing)}"
        return
    record = race(regime, site, seconds=SECONDS)
    assert (record["status"], record["reason"]) == ("ok", "")
    if not record["patches"] and regime.patches:  # some wait for the scheduler, which may be busy elsewhere
        record = race(regime, site, seconds=2.0, patches=3)
    assert bool(record["patches"]) == regime.patches
    assert record["writer"]["cpu"] == record["writer"]["cpu_first"] == placement().writer_cpu
    if regime.completes and not regime.ablation_of and regime.code in FRESH:
        assert count(record, "stale", "fault", "hang", "torn") == 0, record["outcomes"]


@pytest.mark.parametrize("name", ["process", "procmem", "vmwritev", "ptrace", "global", "rseq"])
def test_a_way_that_the_machine_lacks_is_a_skip_that_names_it(name: str) -> None:
    regime = REGIMES[name]
    case = choose_cases(("mov-imm32",), "", HOST.isa)
    quiet = [(load_provocations()["none"],)]
    for need in regime.needs:
        run, (skip,) = cells(case, ["in8"], ["whole"], [regime], quiet, [placement()], HOST.features - {need})
        assert not run
        assert skip.reason == f"this machine lacks {need}"


def test_the_writer_hops_to_the_executor_and_home() -> None:
    record = race(REGIMES["hop"], seconds=5.0, patches=5)
    assert record["patches"] == record["writer"]["hops"] == 5
    assert record["writer"]["cpu"] == placement().writer_cpu
    assert record["executors"][0]["switches_forced"] > 0
    assert race(REGIMES["flag"], seconds=SECONDS)["writer"]["hops"] == 0


def test_nobody_executes_while_all_are_parked() -> None:
    # `await` ends when the executors have made progress: so never, and the run ends by its deadline.
    parked = race(made_of("quiesce", "store all new", "await 1", "release"), seconds=0.3)
    assert (parked["status"], parked["patches"], parked["hangs_signalled"]) == ("ok", 0, 0)
    freed = race(made_of("quiesce", "store all new", "release", "await 1"), seconds=5.0, patches=3)
    assert (freed["status"], freed["patches"]) == ("ok", 3)


def test_half_a_patch_is_seen_unless_the_executors_are_parked() -> None:
    halves = ("store front new", "delay 20000", "store back new")
    assert count(race(made_of(*halves), seconds=SECONDS), "torn") > 0
    assert count(race(made_of("quiesce", *halves, "release"), seconds=SECONDS), "torn") == 0


def test_a_store_without_the_right_to_it_faults() -> None:
    record = race(made_of("protect rx", "store all new"), seconds=5.0)
    assert record["status"] == "crashed"
    assert record["reason"].startswith("the worker died of SIGSEGV outside any region")
    for rights in ("rw", "rwx"):
        steps = (f"protect {rights}", "store all new", "protect rx")
        assert race(made_of(*steps), seconds=5.0, patches=3)["patches"] == 3


def test_code_that_may_not_be_executed_traps_and_nothing_else() -> None:
    steps = ("store all new", "protect rw", "await 4", "protect rx", "await 1", "publish")
    record = race(made_of(*steps, via="alias"), "in8", seconds=5.0, patches=3)
    assert record["patches"] == 3
    # Of four reports at least three are of executions that began while nothing could be executed.
    assert count(record, "trap") >= 3 * 3
    assert count(record, "fault", "torn", "stale") == 0
    assert count(record, "trap", phases=("post",)) == 0


def test_kernel_writes_need_no_writable_page() -> None:
    record = race(made_of("protect rx", "store all new", via="procmem"), "in8", seconds=5.0, patches=3)
    assert (record["status"], record["patches"]) == ("ok", 3)
    assert race(made_of("protect rx", "store all new", via="vmwritev"), seconds=5.0)["status"] == "error"


def test_executors_never_find_the_address_unmapped() -> None:
    record = race(REGIMES["remap"], "in8", seconds=0.3)
    assert record["patches"] > 0
    assert count(record, "fault", "trap", "torn") == 0


@pytest.mark.parametrize("step", ["delay 18446744073709551615", "delay 1000000000000", "await 1000000000"])
@pytest.mark.parametrize("via", ["same", "process"])
def test_a_waiting_writer_ends_with_the_run(step: str, via: str) -> None:
    record = race(made_of("store all new", step, via=via), seconds=SECONDS)
    assert record["status"] == "ok"
    assert record["seconds"] < 1.0


@pytest.mark.parametrize("via", ["same", "alias", "process", "procmem", "vmwritev", "ptrace"])
def test_every_store_lands_as_the_plan_says_on_every_way(via: str) -> None:
    for site in ("in8", "x64+1", "x4096+3"):
        record = race(
            made_of("store all new", "await 2", "publish", "await 2", via=via), site, seconds=5.0, patches=4
        )
        assert (record["status"], record["patches"]) == ("ok", 4)
        # Between two patches everyone has time to run the image that was stored: no byte of it may be wrong.
        assert count(record, "torn", "fault", "stale", phases=("post",)) == 0
        assert count(record, "new", phases=("post",)) > 0


@contextmanager
def running(regime: Regime) -> Iterator[Running]:
    plan = plan_of(regime, Limits(20.0))
    if isinstance(plan, str):
        pytest.skip(plan)
    run = Running(plan)
    try:
        yield run
    finally:
        run.abandon()


def until(found: Any, seconds: float = 10.0) -> Any:
    """Return the first true value of `found()`, which must come in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def children(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return list(map(int, text.split()))


def states(pid: int) -> list[str]:
    """Return the scheduler's letter for every thread of a process."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [stat.rpartition(") ")[2][0] for stat in stats]


@pytest.mark.parametrize("name", ["process", "ptrace"])
def test_the_writers_process_dies_with_its_worker(name: str) -> None:
    with running(REGIMES[name]) as run:
        (writer,) = until(lambda: children(run.worker_pid))
        until(lambda: os.sched_getaffinity(writer) == {placement().writer_cpu})
        os.kill(run.worker_pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{writer}").exists() or states(writer) in (["Z"], ["X"], []))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_worker_dies_with_its_writers_process(number: signal.Signals) -> None:
    record = race(made_of("store all new", f"die {int(number)}", via="process"), seconds=5.0)
    assert record["status"] == "crashed"
    assert record["reason"].startswith(f"the worker died of {number.name}")


def test_the_writers_process_maps_no_code_and_its_worker_no_alias() -> None:
    with running(REGIMES["process"]) as run:
        (writer,) = until(lambda: children(run.worker_pid))

        def rights(pid: int) -> list[str]:
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
            return [line.split()[1] for line in maps if "stress-region" in line]

        until(lambda: rights(run.worker_pid) == ["r-xs"])
        assert rights(writer) == ["rw-s"]


def test_a_tracer_stops_one_thread_and_the_executors_run_on() -> None:
    with running(REGIMES["ptrace"]) as run:
        until(lambda: states(run.worker_pid).count("t") == 1)
        assert states(run.worker_pid).count("R") >= 1
    record = race(REGIMES["ptrace"], seconds=SECONDS)
    assert record["patches"] > 0
    assert count(record, "new") > 0


def test_the_control_and_the_witness_of_a_kernel_copy_take_its_way() -> None:
    plan = plan_of(REGIMES["procmem"], Limits(SECONDS))
    direct = plan_of(REGIMES["alias"], Limits(SECONDS))
    if isinstance(plan, str) or isinstance(direct, str):
        pytest.skip(str(plan))
    found: list[Cell] = companions([plan.cell, direct.cell])
    assert {cell.regime.name: cell.regime.via for cell in found} == {
        "control": "procmem",
        "witness": "alias",
        "witness-procmem": "procmem",
    }
    witness = next(cell for cell in found if cell.regime.name == "witness-procmem")
    record = finished(plans([witness], Limits(SECONDS), seed=1)[0])
    assert record["status"] == "ok"
    assert sum(sum(pair["samples"]) for pair in record["pairs"]) > 0
