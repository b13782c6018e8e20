"""kill -9, at any moment, of anyone: what was finished is on the disk, what is left goes on, nobody spins."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from stress import cli
from stress.matrix import Request, build
from stress.plan import as_dict, plan_id
from stress.store import EVENTS, RECORDS, read_events, read_records
from tests.support import (
    ROOT,
    Record,
    here,
    is_alive,
    session_processes,
    started,
    stress,
    until,
    workers_of,
)

MOMENTS = 10
GONE = 3.0
"""Seconds until nobody may be left; milliseconds, where nobody else works on this machine."""
SECONDS = 0.04
REQUEST = Request(
    cases=("mov-imm32",), regimes=("none,int3+sync-core",), sites=("x64",), seconds=SECONDS, seed=11
)
ARGS = tuple("run --cases mov-imm32 --regimes none,int3+sync-core --sites x64 --seed 11 --seconds".split())


def everything() -> set[str]:
    """The ids of all plans of the run."""
    return {plan_id(as_dict(plan)) for plan in build(REQUEST, here()).plans}


def finished(out: Path) -> list[Record]:
    """The end records, each of which is whole."""
    ends = [record for record in read_records(out) if record["type"] == "end"]
    for record in ends:
        assert {"status", "reason", "outcomes", "signatures", "plan", "host", "vendor"} <= set(record)
        assert record["id"] == plan_id(record["plan"])
    return ends


def is_whole(out: Path) -> None:
    """Every line of both files parses, but for the last where it was being written."""
    for name in (RECORDS, EVENTS):
        *lines, last = (out / name).read_bytes().split(b"\n") if (out / name).exists() else [b""]
        for line in lines:
            json.loads(line)
        assert last == b"" or not last.endswith(b"}")


def goes_on(out: Path) -> list[Record]:
    """Resume, and return all end records: one for each plan."""
    done = stress("run", "--resume", out, "--quiet", "--fail-on", "never")
    assert done.returncode in (cli.CLEAN, cli.BROKEN), done.stderr
    assert "Traceback" not in done.stderr
    ends = finished(out)
    assert Counter(record["id"] for record in ends) == dict.fromkeys(everything(), 1)
    return ends


@pytest.mark.hardware
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_killed_controller_loses_no_finished_cell_and_leaves_nobody(tmp_path: Path, moment: int) -> None:
    out = tmp_path / "run"
    with started(*ARGS, str(SECONDS), "--out", out) as run:
        assert until(lambda: (out / RECORDS).exists(), 20)
        time.sleep(random.Random(moment).uniform(0, 0.7))
        run.kill()
        run.wait()
        assert until(lambda: not session_processes(run.pid), GONE), session_processes(run.pid)
    is_whole(out)
    before = finished(out)
    after = goes_on(out)
    assert [record for record in after if record["id"] in {r["id"] for r in before}] == before
    assert {record["status"] for record in after} == {"ok"}


KILLED_BETWEEN = """
import os, signal, sys
from stress import cli, store

append, events = store.append, []

def dies_between(descriptor, file, data):
    if events:
        os.kill(os.getpid(), signal.SIGKILL)
    append(descriptor, file, data)
    if file.name == store.EVENTS:
        events.append(data)

store.append = dies_between
cli.main(sys.argv[1:])
"""
"""`stress`, killed as soon as the events of a cell are on the disk, before its end record is written."""


@pytest.mark.hardware
def test_events_whose_record_a_kill_cost_are_not_there_twice(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", KILLED_BETWEEN, *ARGS, str(SECONDS), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    orphans = list(read_events(out))
    (cell,) = {event["id"] for event in orphans}
    assert cell not in {record["id"] for record in finished(out)}
    goes_on(out)
    after = list(read_events(out))
    assert cell in {event["id"] for event in after}
    assert not [event for event in after if event in orphans]
    assert {event["id"] for event in after} <= everything()


@pytest.mark.hardware
def test_a_controller_killed_as_it_begins_leaves_nobody(tmp_path: Path) -> None:
    moments = random.Random(3)
    for turn in range(5):
        with started(*ARGS, str(SECONDS), "--out", tmp_path / str(turn)) as run:
            time.sleep(moments.uniform(0.05, 0.35))
            run.kill()
            run.wait()
            session = run.pid
            assert until(lambda: not session_processes(session), GONE)  # noqa: B023


@pytest.mark.hardware
def test_killed_workers_cost_their_own_cells_only(tmp_path: Path) -> None:
    out, moments, killed = tmp_path / "run", random.Random(5), set[int]()
    with started(*ARGS, "0.2", "--repeat", "6", "--out", out) as run:
        assert until(lambda: (out / RECORDS).exists(), 20)
        while len(killed) < MOMENTS and run.poll() is None:
            time.sleep(moments.uniform(0.05, 0.25))
            for worker in workers_of(run.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.add(worker)
        _, told = run.communicate(timeout=60)
        assert until(lambda: not session_processes(run.pid), GONE)
    assert len(killed) == MOMENTS
    assert "Traceback" not in told
    assert run.returncode == cli.BROKEN
    is_whole(out)
    statuses = Counter(record["status"] for record in finished(out))
    assert set(statuses) <= {"ok", "crashed"}
    # One that was killed after it had said everything has a result all the same.
    assert 1 <= statuses["crashed"] <= MOMENTS
    assert {r["reason"] for r in finished(out) if r["status"] == "crashed"} == {"the worker died of SIGKILL"}
    assert sum(statuses.values()) == 6 * len(everything())


@pytest.mark.hardware
def test_a_killed_fork_server_costs_its_own_cells_only(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with started(*ARGS, "0.3", "--out", out) as run:
        assert until(lambda: bool(workers_of(run.pid)), 20)
        time.sleep(0.1)
        (worker,) = workers_of(run.pid)
        server = session_processes(run.pid)[worker]
        os.kill(server, signal.SIGKILL)
        assert until(lambda: not is_alive(worker), 1)
        _, told = run.communicate(timeout=60)
        assert until(lambda: not session_processes(run.pid), GONE)
    assert "Traceback" not in told, told
    assert run.returncode == cli.BROKEN
    ends = finished(out)
    assert len({record["id"] for record in ends}) == len(ends) == len(everything())
    assert sum(record["status"] == "ok" for record in ends) >= len(ends) - 2
