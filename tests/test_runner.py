"""However a worker ends, its cell has a record, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from stress import runner
from stress.model import ExecStep, Limits, Placement, Plan, Step
from stress.plan import as_dict, plan_id
from stress.runner import Running, start_record
from tests.support import (
    MOV,
    QUIET,
    ROOT,
    count,
    gadget_case,
    halves,
    here,
    is_alive,
    make_plan,
    regime,
    run_plan,
    until,
)

NUMBER = {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
COUNTS = {
    "type": "object",
    "propertyNames": {"enum": ["concurrent", "post", "interior", "resumed"]},
    "additionalProperties": {
        "type": "object",
        "propertyNames": {"enum": ["old", "new", "torn", "stale", "fault", "trap", "hang"]},
        "additionalProperties": {"type": "integer", "minimum": 1},
    },
}
HISTOGRAM = {"type": "object", "propertyNames": {"pattern": "^[0-9]+$"}, "additionalProperties": COUNT}


def exactly(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def at_least(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


THREAD = {
    "cpu": COUNT,
    "cpu_first": COUNT,
    "cpu_seconds": NUMBER,
    "switches_voluntary": COUNT,
    "switches_forced": COUNT,
}
SHARE = exactly(seconds=NUMBER, patches=COUNT, outcomes=COUNTS)
SIGNATURE = at_least(
    count={"type": "integer", "minimum": 1},
    outcome={"enum": ["torn", "stale", "fault", "hang"]},
    phase={"enum": ["concurrent", "post", "interior", "resumed"]},
    signal={"type": "string", "pattern": "^(SIG[A-Z]+|watchdog|)$"},
    code={"type": "integer"},
    pc={"type": "integer"},
    value=COUNT,
)
EXECUTOR = at_least(
    **THREAD,
    interrupts=COUNT,
    events=COUNT,
    clobbers=COUNT,
    signatures_lost=COUNT,
    first_event_seconds={"type": ["number", "null"], "minimum": 0},
)
RECORD = at_least(
    schema={"const": 1},
    type={"const": "end"},
    id={"type": "string", "pattern": "^[0-9a-f]{16}$"},
    cell=TEXT,
    case=TEXT,
    kind={"type": "string", "pattern": "^K[0-9]+$"},
    site=TEXT,
    store=TEXT,
    regime=TEXT,
    code={"type": "string", "pattern": "^R[0-9][a-z]?$"},
    completes={"type": "boolean"},
    ablation_of=TEXT,
    provocation=TEXT,
    placement=TEXT,
    cpus={"type": "array", "items": COUNT, "minItems": 2},
    plan={"type": "object"},
    started={"type": "string", "format": "date-time", "pattern": "T.*\\+00:00$"},
    status={"enum": ["ok", "skipped", "timeout", "crashed", "error"]},
    reason=TEXT,
    seconds=NUMBER,
    patches=COUNT,
    outcomes=COUNTS,
    provocations={"type": "object", "additionalProperties": SHARE},
    signatures={"type": "array", "items": SIGNATURE},
    stale_generations=HISTOGRAM,
    stale_ticks=HISTOGRAM,
)
COUNTED = at_least(
    writer=at_least(**THREAD),
    executors={"type": "array", "items": EXECUTOR, "minItems": 1},
    tsc_hz={"type": "integer", "minimum": 10**8},
    hangs_signalled=COUNT,
    syscalls_contained={"type": "boolean"},
    crash={"type": "null"},
)

NONE = regime(Step("store", "all", "new"))
LONG = make_plan(MOV, NONE, Limits(60.0))
ILL = gadget_case("0f0b")


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A cell that would run for a minute, and has begun to count."""
    cell = Running(getattr(request, "param", LONG))
    yield cell
    cell.abandon()


def has_counted(cell: Running) -> bool:
    """Whether the worker's executors have been at work for a while: they spin, and nothing else here does."""
    ticks = 0
    for task in Path(f"/proc/{cell.worker_pid}/task").glob("*/stat"):
        ticks += int(task.read_text().rpartition(")")[2].split()[11])
    return ticks >= 2 * max(1, os.sysconf("SC_CLK_TCK") // 20)


def well_formed(record: dict[str, Any]) -> dict[str, Any]:
    """The record, which is one, and survives JSON."""
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), RECORD)
    return record


@pytest.mark.hardware
@pytest.mark.parametrize(
    "plan",
    [
        make_plan(MOV, NONE, Limits(0.1)),
        make_plan(MOV, halves("front", "back"), Limits(20.0, patches=2)),
        make_plan(ILL, halves("front", "back"), Limits(20.0, patches=2)),
        make_plan(MOV, regime(), Limits(0.05)),
    ],
    ids=["none", "torn", "fault", "idle"],
)
def test_a_record_has_every_field_and_is_named_by_its_plan(plan: Plan) -> None:
    record = well_formed(run_plan(plan)[0])
    jsonschema.validate(record, COUNTED)
    assert (record["status"], record["reason"]) == ("ok", "")
    assert record["plan"] == as_dict(plan)
    assert record["id"] == plan_id(record["plan"])
    assert record["cell"] == plan.cell.name
    assert set(record["provocations"]) == {p.name for p in plan.cell.provocations}


def test_the_start_record_names_the_cell_that_may_not_survive() -> None:
    record = start_record(LONG)
    assert record == {
        "schema": 1,
        "type": "start",
        "id": plan_id(as_dict(LONG)),
        "cell": LONG.cell.name,
        "started": record["started"],
    }
    assert record["started"].endswith("+00:00")


@pytest.mark.hardware
def test_events_say_what_the_record_counts() -> None:
    record, events = run_plan(make_plan(ILL, halves("front", "back"), Limits(20.0, patches=2)))
    assert "events" not in record
    assert events
    assert {event["signal"] for event in events} == {"SIGILL"}
    json.dumps(events, allow_nan=False)


@pytest.mark.hardware
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_a_worker_killed_in_the_middle_leaves_what_it_had_counted(running: Running, number: int) -> None:
    assert until(lambda: has_counted(running), 20)
    os.kill(running.worker_pid, number)
    record, _ = running.finish()
    well_formed(record)
    assert record["status"] == "crashed"
    assert record["reason"].startswith(f"the worker died of {signal.Signals(number).name}")
    assert count(record) > 0
    assert 0 < record["seconds"] < 60
    assert until(lambda: not is_alive(running.worker_pid), 2)


@pytest.mark.hardware
def test_a_worker_that_is_stopped_is_killed_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "GRACE_SECONDS", 1.5)
    cell = Running(make_plan(MOV, NONE, Limits(0.5)))
    try:
        assert until(lambda: has_counted(cell), 20)
        os.kill(cell.worker_pid, signal.SIGSTOP)
        assert not cell.overdue
        begun = time.monotonic()
        record, _ = cell.finish()
        assert time.monotonic() - begun < 6
    finally:
        cell.abandon()
    well_formed(record)
    assert record["status"] == "timeout"
    assert record["reason"] == "no result within 2 s; the worker was killed"
    assert count(record) > 0
    assert cell.overdue
    assert until(lambda: not is_alive(cell.worker_pid), 2)


@pytest.mark.hardware
def test_a_plan_that_the_core_refuses_is_an_error() -> None:
    record, events = run_plan(make_plan(MOV, regime(Step("store", "front", "new")), Limits(5.0)))
    well_formed(record)
    assert record["status"] == "error"
    assert record["reason"] == "the native core ended with EINVAL: Invalid argument"
    assert (count(record), events) == (0, [])


@pytest.mark.hardware
def test_what_this_machine_lacks_is_skipped() -> None:
    if "serialize" in here().features:
        pytest.xfail("this CPU has every step there is")
    steps = regime(Step("store", "all", "new"), Step("publish"), executor=(ExecStep("serialize", True),))
    record, _ = run_plan(make_plan(MOV, steps, Limits(5.0)))
    well_formed(record)
    assert record["status"] == "skipped"
    assert record["reason"].startswith("refused by this machine: ")


@pytest.mark.hardware
def test_a_worker_that_fails_otherwise_is_an_error_of_its_cell_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    bad = make_plan(MOV, NONE, Limits(0.1))
    cell = Running(bad)
    cell.abandon()
    record, _ = run_plan(make_plan(MOV, NONE, Limits(0.1), where=Placement("l3", 70_000, (70_001,))))
    well_formed(record)
    assert record["status"] == "error"
    assert record["reason"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.hardware
def test_a_case_with_more_mixes_than_can_be_tried_is_recorded_all_the_same() -> None:
    from dataclasses import replace

    from stress.model import Image

    many = tuple(Image(bytes((0x48, 0xB8, *[i + 16 * k for k in range(8)], 0xC3)), "", 0) for i in range(16))
    case = replace(
        MOV,
        patch=2,
        patch_len=8,
        images=tuple(replace(i, returns=int.from_bytes(i.bytes[2:10], "little")) for i in many),
    )
    record, _ = run_plan(make_plan(case, halves("front", "back"), Limits(20.0, patches=16)))
    well_formed(record)
    assert (record["status"], record["reason"], record["patches"]) == ("ok", "", 16)
    assert count(record, "torn") >= 16


@pytest.mark.hardware
def test_nothing_is_left_of_a_worker_that_ended_well() -> None:
    cell = Running(make_plan(MOV, NONE, Limits(0.05)))
    before = set(os.listdir("/proc/self/fd"))
    assert cell.finish()[0]["status"] == "ok"
    assert until(lambda: not is_alive(cell.worker_pid), 2)
    assert len(set(os.listdir("/proc/self/fd"))) < len(before)
    cell.close()
    cell.abandon()


@pytest.mark.hardware
def test_many_cells_leak_no_descriptor() -> None:
    plan = make_plan(MOV, NONE, Limits(0.01))
    run_plan(plan)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run_plan(plan)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.hardware
def test_an_abandoned_worker_is_gone_at_once(running: Running) -> None:
    assert until(lambda: has_counted(running), 20)
    begun = time.monotonic()
    running.abandon()
    assert not is_alive(running.worker_pid) or until(lambda: not is_alive(running.worker_pid), 1)
    assert time.monotonic() - begun < 1.5


@pytest.mark.hardware
@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_worker_does_not_outlive_its_controller(seconds: float) -> None:
    """Whether that dies while the worker starts, or when it has long been running."""
    code = (
        "from tests.support import *\nfrom stress.runner import Running\n"
        "cell = Running(make_plan(MOV, regime(Step('store', 'all', 'new')), Limits(60.0)))\n"
        "print(cell.worker_pid, flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with child:
        assert child.stdout
        worker = int(child.stdout.readline())
        time.sleep(seconds)
        assert is_alive(worker)
        child.kill()
    assert until(lambda: not is_alive(worker), 1)


@pytest.mark.hardware
def test_the_controller_may_wait_for_news_of_several_cells() -> None:
    from multiprocess.connection import wait

    cell = Running(make_plan(MOV, NONE, Limits(0.2)))
    try:
        ready = wait(cell.waitables, timeout=20)
        assert set(map(id, ready)) <= set(map(id, cell.waitables))
        assert ready
        assert cell.finish()[0]["status"] == "ok"
    finally:
        cell.close()


@pytest.mark.hardware
def test_ctrl_c_is_left_to_the_controller(running: Running) -> None:
    assert until(lambda: has_counted(running), 20)
    os.kill(running.worker_pid, signal.SIGINT)
    time.sleep(0.2)
    assert is_alive(running.worker_pid)


@pytest.mark.hardware
def test_a_cell_may_be_started_beside_another_thread() -> None:
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(run_plan(make_plan(MOV, NONE, Limits(0.05)))[0]["status"])
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["ok"] * 3


def test_the_provocation_that_stays_on_is_in_the_name() -> None:
    assert LONG.cell.name.endswith(f"~{QUIET.name}")


@pytest.mark.hardware
def test_a_start_that_the_fork_server_did_not_survive_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start = runner._start_quietly
    failed: list[Any] = []

    def die_once(process: Any) -> None:
        if not failed:
            failed.append(process)
            raise EOFError
        start(process)

    monkeypatch.setattr(runner, "_start_quietly", die_once)
    record, _ = run_plan(make_plan(MOV, regime(Step("store", "all", "new")), Limits(seconds=0.02)))
    assert failed
    assert record["status"] == "ok"
