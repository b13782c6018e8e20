"""A run that is cut short, however: resumed it has the cells of an undisturbed run, none twice, none lost."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stress import cli, runner
from stress.campaign import Progress
from stress.errors import HostError
from stress.matrix import Request
from stress.session import Session
from stress.store import RECORDS, read_records
from stress.survive import CRASHED_THE_MACHINE, as_begun, boot_id, fallen, taken_back
from tests.support import Record, here, session_processes, started, stress, until

MOMENTS = 20
GONE = 3.0
"""Seconds until nobody may be left; milliseconds, where nobody else works on this machine."""
WORDS = {
    "cases": "mov-imm32,nop5-jmp5,ret-nop",
    "regimes": "none,flag,sync-core",
    "sites": "in,x64",
}
SECONDS, SEED = 0.02, 11
ARGS = [
    "run",
    *(word for name, value in WORDS.items() for word in (f"--{name}", value)),
    *("--seconds", str(SECONDS), "--seed", str(SEED), "--quiet", "--fail-on", "never"),
]
CHOSEN: dict[str, Any] = {name: (value,) for name, value in WORDS.items()}
REQUEST = Request(seconds=SECONDS, seed=SEED, **CHOSEN)
OTHER_BOOT = "5f6e0c1c-0000-4000-8000-000000000000"


def ended(out: Path) -> list[Record]:
    return [r for r in read_records(out) if r["type"] == "end"] if (out / RECORDS).exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert stress(*ARGS, "--out", out).returncode == cli.CLEAN
    return ended(out)


def is_the_same_run(out: Path, undisturbed: list[Record]) -> None:
    """Every cell of the undisturbed run once, and no other; what was left out says why."""
    assert Counter(r["id"] for r in ended(out)) == Counter(r["id"] for r in undisturbed)
    assert {r["cell"] for r in ended(out)} == {r["cell"] for r in undisturbed}


def resumed(out: Path, *more: str) -> int:
    done = stress("run", "--resume", out, "--quiet", "--fail-on", "never", *more)
    assert "Traceback" not in done.stderr
    return done.returncode


@pytest.mark.hardware
def test_killed_at_twenty_moments_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: list[Record]
) -> None:
    out, moments = tmp_path / "run", random.Random(6)
    first: dict[str, Record] = {}
    for _ in range(MOMENTS):
        begin: list[str | Path] = (
            ["run", "--resume", out, "--quiet"] if (out / RECORDS).exists() else [*ARGS, "--out", out]
        )
        with started(*begin) as run:
            time.sleep(moments.uniform(0.1, 0.7))
            run.kill()
            run.wait()
            session = run.pid
            assert until(lambda: not session_processes(session), GONE)  # noqa: B023
        for record in ended(out):
            assert first.setdefault(record["id"], record) == record
    assert resumed(out) == cli.CLEAN
    is_the_same_run(out, undisturbed)
    assert {r["status"] for r in ended(out)} == {r["status"] for r in undisturbed}


@pytest.mark.hardware
def test_a_full_disk_ends_it_in_one_line_and_costs_nothing_that_was_finished(
    tmp_path: Path, undisturbed: list[Record]
) -> None:
    out = tmp_path / "run"
    with started(*ARGS, "--out", out) as run:
        assert until(lambda: len(ended(out)) >= 3, 20)
        # The kernel then refuses what a full disk refuses: to let the file grow.
        room = (out / RECORDS).stat().st_size + 5_000
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (room, room))
        _, told = run.communicate(timeout=30)
        assert until(lambda: not session_processes(run.pid), GONE)
    assert run.returncode == cli.BROKEN
    assert told.count("\n") == 1
    assert "cannot write" in told
    assert "free some space" in told
    before = ended(out)
    assert 3 <= len(before) < len(undisturbed)
    assert resumed(out) == cli.CLEAN
    is_the_same_run(out, undisturbed)
    assert [r for r in ended(out) if r["id"] in {b["id"] for b in before}] == before


@pytest.mark.hardware
def test_a_worker_that_is_stopped_ends_within_its_own_timeout(
    tmp_path: Path, undisturbed: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "GRACE_SECONDS", 1.0)
    session = Session.begin(REQUEST, str(tmp_path / "run"))
    stopped: list[str] = []

    def stop_one(progress: Progress) -> None:
        for running in session.campaign.running if progress.done == 5 and not stopped else ():
            stopped.append(running.id)
            os.kill(running.worker_pid, signal.SIGSTOP)

    session.campaign.run(stop_one)
    session.folder.close()
    is_the_same_run(session.path, undisturbed)
    (late,) = [r for r in ended(session.path) if r["status"] != "ok" and r["status"] != "skipped"]
    assert (late["id"], late["status"]) == (stopped[0], "timeout")
    assert "the worker was killed" in late["reason"]


def unfinished(out: Path) -> Record:
    """A run of which one cell was begun and not ended when the machine was reset: the records of one boot ago."""
    session = Session.begin(REQUEST, str(out))
    campaign = session.campaign
    campaign.boot = OTHER_BOOT
    start = campaign.start_line(campaign.plans[3])
    session.folder.append_record(campaign.start_line(campaign.plans[2]))
    session.folder.append_record(taken_back(campaign.start_line(campaign.plans[2])))
    session.folder.append_record(start)
    session.folder.close()
    return start


@pytest.mark.hardware
def test_the_cell_that_took_the_machine_down_is_named_and_not_run_again(
    tmp_path: Path, undisturbed: list[Record]
) -> None:
    start = unfinished(tmp_path / "run")
    assert resumed(tmp_path / "run") == cli.BROKEN
    is_the_same_run(tmp_path / "run", undisturbed)
    (down,) = [r for r in ended(tmp_path / "run") if r["status"] == "crashed"]
    assert (down["id"], down["cell"], down["reason"]) == (start["id"], start["cell"], CRASHED_THE_MACHINE)
    assert down["plan"]["cell"] == start["cell"]
    told = stress("report", tmp_path / "run").stdout
    assert "crashed the machine" in told


@pytest.mark.hardware
def test_it_is_run_again_where_that_is_asked_for(tmp_path: Path, undisturbed: list[Record]) -> None:
    unfinished(tmp_path / "run")
    assert resumed(tmp_path / "run", "--retry") == cli.CLEAN
    is_the_same_run(tmp_path / "run", undisturbed)
    assert not [r for r in ended(tmp_path / "run") if r["status"] == "crashed"]


def test_to_run_again_needs_a_run() -> None:
    done = stress(*ARGS, "--retry")
    assert done.returncode == cli.USAGE
    assert "--resume" in done.stderr


def test_only_what_another_boot_left_unfinished_is_accused() -> None:
    def start(name: str, boot: str) -> dict[str, Any]:
        return {"type": "start", "id": name, "boot": boot}

    records = [
        start("ended", "old"),
        {"type": "end", "id": "ended"},
        start("killed", "now"),
        start("down", "old"),
        start("interrupted", "old"),
        taken_back(start("interrupted", "old")),
        start("again", "old"),
        start("again", "now"),
        {"type": "start", "id": "from before there were boots"},
    ]
    assert [r["id"] for r in fallen(records, "now")] == ["down"]
    assert fallen(records, "") == []


def test_the_boot_has_a_name_where_the_kernel_gives_one(tmp_path: Path) -> None:
    assert boot_id() == boot_id() != ""
    assert boot_id(tmp_path) == ""


@pytest.mark.hardware
def test_a_deadline_ends_the_run_whatever_is_left(tmp_path: Path, undisturbed: list[Record]) -> None:
    # How long the first worker takes to start is the machine's affair: double the time until one cell has ended.
    for doubled in range(5):
        out = tmp_path / f"run{doubled}"
        done = stress(*ARGS, "--deadline", f"{0.5 * 2**doubled}s", "--out", out)
        assert done.returncode == cli.INTERRUPTED
        assert "out of time" in done.stderr
        if ended(out):
            break
    assert 0 < len(ended(out)) < len(undisturbed)
    assert resumed(out) == cli.CLEAN
    is_the_same_run(out, undisturbed)


@pytest.mark.hardware
def test_it_is_not_gone_on_with_on_other_cpus(tmp_path: Path) -> None:
    out = tmp_path / "run"
    Session.begin(REQUEST, str(out)).folder.close()
    one = min(here().allowed)
    done = stress("run", "--resume", out, preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert done.returncode == cli.USAGE
    assert done.stderr.count("\n") == 1
    assert "taskset -c" in done.stderr
    assert not ended(out)


def test_of_more_cpus_only_those_it_was_begun_on_are_used() -> None:
    one = min(here().allowed)
    assert as_begun(Path("run"), {"host": {"allowed": str(one)}}, here()).allowed == {one}
    assert as_begun(Path("run"), {"host": {}}, here()) == here()
    with pytest.raises(HostError, match="begin a new run"):
        as_begun(Path("run"), {"host": {"allowed": f"{one},4000"}}, here())
