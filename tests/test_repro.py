"""From a record to a C file: run again, made smaller, written down, built by two compilers, and seen once more."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stress import repro
from stress.event import Event, choose
from stress.model import Limits, Plan, Step
from stress.repro import Attempts, attempt, look
from stress.shrink import Trial
from stress.store import RunFolder
from tests.support import (
    MOV,
    STALE,
    gadget_case,
    halves,
    is_one_line,
    make_plan,
    regime,
    run_plan,
    started,
    stress,
    until,
    workers_of,
)
from tests.test_onefile import COMPILERS, FLAGS, build

SHORT = 0.15
"""Seconds of a planted cell."""

SEARCH = "0.15"
"""Seconds of a search: what is planted is seen within milliseconds."""


PLANTED: dict[str, Callable[[], Plan]] = {
    "torn": lambda: make_plan(MOV, halves("front", "back"), Limits(SHORT)),
    "fault": lambda: make_plan(gadget_case("0f0b"), halves("front", "back"), Limits(SHORT)),
    "stale": lambda: make_plan(MOV, regime(*STALE), Limits(SHORT)),
}


def kept(folder: Path, plan: Plan) -> dict[str, Any]:
    """The record of one run of `plan`, kept in a run folder as `stress run` does."""
    record, events = run_plan(plan)
    host = {"isa": "x86_64", "vendor": "AuthenticAMD", "model_name": "made", "kernel": "made"}
    run = RunFolder.create(folder, {"run": "r", "host": host, "request": {}, "fingerprint": ""})
    named = [{"id": record["id"], **event} for event in events]
    run.append_end(record | {"vendor": "AuthenticAMD", "host": "here"}, named)
    run.close()
    return record


def test_a_cell_that_is_not_there_is_named(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "r", {"run": "r"}).close()
    done = stress("repro", "mov-imm32@in8/whole:none:l3", "--run", tmp_path / "r")
    assert done.returncode == 2
    assert is_one_line(done.stderr)
    done = stress("repro", "x", "--run", tmp_path / "none")
    assert done.returncode == 2
    assert is_one_line(done.stderr)


def fake_record(count: int = 100, seconds: float = 1.0) -> dict[str, Any]:
    signature = {"outcome": "torn", "phase": "concurrent", "signal": "", "code": 0, "count": count}
    cpus = {"writer": 0, "executors": [1]}
    return {"cell": "made", "signatures": [signature], "seconds": seconds, "plan": {"cpus": cpus}}


def attempts(*trials: Trial) -> Attempts:
    plan = make_plan(MOV, regime(Step("store", "all", "new")), Limits(1.0))
    return Attempts(fake_record(), plan, Event("torn"), 80.0, trials)


def test_what_was_reproduced_is_told_with_how_long_it_took() -> None:
    lines = attempts(Trial(1, 0.002, 10), Trial(0, 1.0, 10), Trial(3, 0.004, 10)).lines()
    assert lines[-1] == "reproduced in 2 of 3 attempts, after 2 to 4 ms, median 3"


def test_what_was_not_is_told_with_a_bound_and_a_chance() -> None:
    lines = attempts(Trial(0, 0.05, 1000), Trial(0, 0.05, 2000)).lines()
    assert lines[-3:] == [
        "not reproduced in 2 attempts, 0.10 s, 3e+03 executions",
        "so at most one in 1e+03 executions (95 %)",
        "at the rate of the record that is missed with a probability of 0.00034",
    ]


def test_what_cannot_be_run_here_is_told() -> None:
    assert "cannot be run again here: no room" in attempts(Trial(0, 0.0, 0, "no room")).lines()[-1]


def test_an_attempt_is_as_long_as_the_rate_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def remember(_plan: Plan, _event: Event, seconds: float, _command: tuple[str, ...]) -> Trial:
        asked.append(seconds)
        return Trial(1, 0.001, 1)

    monkeypatch.setattr(repro, "look", remember)
    plan = make_plan(MOV, regime(Step("store", "all", "new")), Limits(1.0))
    attempt(fake_record(10**6), plan, Event("torn"), 2, None)
    attempt(fake_record(10), plan, Event("torn"), 1, None)
    attempt(fake_record(1, 1000.0), plan, Event("torn"), 1, None)
    attempt(fake_record(10), plan, Event("torn"), 1, 7.0)
    assert asked[:2] == [repro.SHORTEST_SECONDS] * 2
    assert asked[2] == pytest.approx(69.08 / 4.795, rel=1e-3)
    assert asked[3:] == [repro.LONGEST_SECONDS, 7.0]


def test_another_event_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run that stops at its first event stops at a fault; the third of those that do not sees the tear."""
    plan = make_plan(MOV, regime(Step("store", "all", "new")), Limits(1.0))
    fault = {"outcome": "fault", "phase": "concurrent", "signal": "SIGILL", "code": 2, "count": 1}
    ran: list[tuple[bool, float]] = []

    def fake(asked: Plan, _command: tuple[str, ...]) -> dict[str, Any]:
        ran.append((asked.limits.until_first_event, asked.limits.seconds))
        seen = [fault, *(fake_record()["signatures"] if len(ran) == 4 else [])]
        took = 0.01 if asked.limits.until_first_event else asked.limits.seconds
        return {"status": "ok", "reason": "", "seconds": took, "outcomes": {}, "signatures": seen}

    monkeypatch.setattr(repro, "run", fake)
    found = look(plan, Event("torn"), 10.0)
    assert found.events == 100
    assert [first for first, _ in ran] == [True, False, False, False]
    assert [seconds for _, seconds in ran[1:]] == [0.05, 0.1, 0.2]
    assert found.seconds == pytest.approx(0.36)


def again(record: str, folder: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    return stress("repro", record, "--run", folder, "--times", "1", *more, timeout=50)


@pytest.mark.hardware
@pytest.mark.parametrize("name", ["torn", "fault", "stale"])
def test_what_was_planted_is_seen_again(name: str, tmp_path: Path) -> None:
    record = kept(tmp_path / "r", PLANTED[name]())
    done = again(record["id"], tmp_path / "r")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "reproduced in 1 of 1 attempts" in done.stdout


@pytest.mark.hardware
def test_a_plan_that_cannot_tear_does_not() -> None:
    """The event of another plan is looked for in one that cannot tear."""
    torn = run_plan(PLANTED["torn"]())[0]
    quiet = make_plan(
        MOV, regime(Step("store", "all", "new")), Limits(SHORT), site=replace(torn_site(), boundary=8)
    )
    trial = look(quiet, choose(torn), 0.2)
    assert (trial.events, trial.failed) == (0, "")
    assert trial.executions > 0


def torn_site() -> Any:
    return PLANTED["torn"]().cell.site


SEEN_HERE = {
    "torn value across a page": ("mov-imm32", "x4096+2", "none", "torn", "writer-flush-tail"),
    "fault of a torn opcode across a line": ("nop5-jmp5", "x64+2", "none", "fault", "writer-flush-tail"),
    "torn under INT3 without its syncs": (
        "mov-imm32", "x64+2", "int3+sync-core-without-2-4-6", "torn", "executor-flush-tail",
    ),
    "fault of a torn displacement under a flag": ("jmp-rel32", "x64+2", "flag", "fault", "writer-flush-tail"),
    "torn by a copy of the kernel's": ("mov-imm64", "x64+4", "procmem", "torn", "executor-flush-tail"),
}  # fmt: skip
"""Five kinds of event that every x86 so far shows: case, site, regime, outcome, provocation."""


def all_the_way(tmp_path: Path, words: Sequence[str], outcome: str, *more: str, under: str = "") -> None:
    """Run, run again, shrink where `more` says so, write, build by both compilers, see it again; all unattended."""
    folder, source = tmp_path / "r", tmp_path / "x.c"
    case, site, discipline, turn = words
    sites = ("--sites", site) if site else ()
    prefix = ("--under", under) if under else ()
    ran = stress(
        "run", "--cases", case, *sites, "--regimes", discipline, "--provoke", turn, "--seconds", "0.2", *prefix,
        "--out", folder, "--quiet", "--fail-on", "never",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    record = next(r for r in lines if r["type"] == "end" and r["role"] == "cell" and r["status"] == "ok")
    done = stress(
        "repro", record["id"], "--run", folder, "--times", "1", "--event", outcome, *more, "--quiet", "-o", source,
        timeout=90,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith(f"under test: `{under}`") == bool(under)
    assert ("smallest plan after" in done.stdout) == ("--shrink" in more)
    text = source.read_text()
    assert "Promised: " in text
    assert "Seen: " in text
    for compiler in COMPILERS:
        program = build(text, tmp_path, compiler, [*FLAGS, *(["-static"] if under else [])])
        command = [*shlex.split(under), str(program), "5"]
        seen = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert seen.returncode == 1, (compiler, seen.stdout, seen.stderr)
        assert seen.stdout.endswith("REPRODUCED\n")


@pytest.mark.hardware
def test_five_kinds_of_event_go_all_the_way_from_a_run_to_a_c_file(tmp_path: Path) -> None:
    for number, (case, site, discipline, outcome, turn) in enumerate(SEEN_HERE.values()):
        (tmp_path / str(number)).mkdir()
        words = (case, site, discipline, turn)
        all_the_way(tmp_path / str(number), words, outcome, "--shrink", "--seconds", SEARCH)


OTHER_SHAPES = {
    "published before it is whole": ("publish-mov", "", "bpf-pack-early", "torn", "none"),
    "published where code still runs": ("publish-mov", "", "reuse-nodrain", "torn", "none"),
    "another page under running code": ("publish-mov", "", "frame-swap", "torn", "none"),
    "called before it is there": ("publish-mov", "", "jit-text-install", "fault", "none"),
    "across two huge pages": ("mov-imm32", "x2m+2", "huge", "torn", "writer-flush-tail"),
    "by another process": ("mov-imm32", "x64+2", "process", "torn", "writer-flush-tail"),
    "by a tracer": ("mov-imm64", "x64+4", "ptrace", "torn", "executor-flush-tail"),
    "with an antagonist": ("mov-imm32", "x64+2", "none", "torn", "antagonist-lines"),
}
"""Shapes of a plan beside code that alternates in one process: case, site, regime, outcome, provocation."""


@pytest.mark.hardware
@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_a_plan_of_any_shape_goes_all_the_way_to_a_c_file(name: str, tmp_path: Path) -> None:
    case, site, discipline, outcome, turn = OTHER_SHAPES[name]
    all_the_way(tmp_path, (case, site, discipline, turn), outcome)


@pytest.mark.hardware
def test_published_code_is_made_smaller(tmp_path: Path) -> None:
    """Nobody need wait for anybody for a half-filled body to be seen."""
    words = ("publish-mov", "", "bpf-pack-early", "writer-flush-tail")
    all_the_way(tmp_path, words, "torn", "--shrink", "--seconds", "0.3")
    assert "Published: " in (tmp_path / "x.c").read_text()


@pytest.mark.hardware
@pytest.mark.parametrize("more", [(), ("--shrink", "--seconds", "0.3")], ids=["as it is", "smaller"])
def test_what_an_emulator_does_is_seen_again_under_it_and_not_beneath(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    if not shutil.which("qemu-x86_64"):
        pytest.fail("qemu-x86_64 is missing; on Debian: apt install qemu-user")
    words = ("mov-imm32", "in8", "alias+sync-core", "none")
    all_the_way(tmp_path, words, "stale", *more, under="qemu-x86_64")
    assert "Run: qemu-x86_64 ./FILE" in (tmp_path / "x.c").read_text()
    here = subprocess.run(
        [tmp_path / "x-gcc", "0.3"], capture_output=True, text=True, check=False, timeout=20
    )
    assert here.returncode == 0, here.stdout


@pytest.mark.hardware
def test_a_kept_event_can_be_looked_at(tmp_path: Path) -> None:
    record = kept(tmp_path / "r", PLANTED["fault"]())
    listed = stress("show", "event", record["id"], "--run", tmp_path / "r")
    assert listed.returncode == 0, listed.stderr
    numbers = re.findall(r"^ +(\d+)  fault ", listed.stdout, re.MULTILINE)
    assert numbers
    page = stress("show", "event", record["id"], numbers[0], "--run", tmp_path / "r")
    assert page.returncode == 0, page.stderr
    assert "SIGILL" in page.stdout
    assert "registers as on entry" in page.stdout
    assert "behind step" in page.stdout or "half way" in page.stdout


@pytest.mark.hardware
def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    record = kept(tmp_path / "r", PLANTED["torn"]())
    with started("repro", record["id"], "--run", tmp_path / "r", "--times", "9999") as process:
        assert until(lambda: bool(workers_of(process.pid)), 20)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
