"""The detectors detect, and who plants a defect that is not caught is told so."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from stress import cli, selftest
from stress.model import Limits, Site, Step
from stress.selftest import PLANTS, WILD_PC, Plant
from tests.support import QUIET, make_plan, placement, regime, run_plan, stress

TIMES = 3
SIGNATURE = {"count": 3, "phase": "concurrent", "signal": "", "code": 0, "pc": 0, "value": 0}


@pytest.fixture(autouse=True)
def keep_sigterm() -> Iterator[None]:
    """`main` handles SIGTERM as an interrupt; pytest has its own idea."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def a_record(outcome: str, phase: str = "concurrent", **signature: Any) -> dict[str, Any]:
    """What a run says that saw one kind of wrong execution."""
    return {
        "status": "ok",
        "reason": "",
        "outcomes": {phase: {"old": 10, outcome: 3}},
        "signatures": [SIGNATURE | {"outcome": outcome, "phase": phase} | signature],
    }


def dead(reason: str) -> dict[str, Any]:
    return {"status": "crashed", "reason": reason, "outcomes": {}, "signatures": []}


GOOD = {
    "torn-value": a_record("torn", value=0x11112222),
    "torn-branch": a_record("fault", signal="SIGSEGV", pc=WILD_PC),
    "illegal-mix": a_record("fault", signal="SIGILL"),
    "stale": a_record("stale", "post", value=0x11111111),
    "branch-to-self": a_record("hang", signal="watchdog"),
    "half-published": a_record("torn", "post", signal="SIGTRAP", pc=21),
    "filler": a_record("trap", "post", signal="SIGTRAP", pc=1),
    "unmapped": a_record("fault", "post", signal="SIGSEGV", pc=0),
    "other-frame": a_record("stale", "post", value=1),
    "killed-worker": dead("the worker died of SIGKILL"),
    "broken-harness": dead("the worker died of SIGSEGV outside any region (pc 0x1234, address 0x8)"),
}


def doctored(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record with one thing wrong, over and over."""
    for status in ("ok", "crashed", "timeout", "error", "skipped"):
        if status != record["status"]:
            yield f"status {status}", record | {"status": status}
    if record["status"] == "crashed":
        for reason in ("", "the worker died of SIGABRT", "the worker died of SIGSEGV"):
            yield f"reason {reason}", record | {"reason": reason}
        return
    yield "no signature", record | {"signatures": []}
    yield "nothing seen", record | {"signatures": [], "outcomes": {"concurrent": {"old": 13}}}
    for key, value in {"outcome": "trap", "signal": "SIGFPE", "pc": 77, "value": 77}.items():
        if key == "value" and record["signatures"][0]["signal"]:
            continue  # an address, which no plant decides
        if record["signatures"][0][key] == value:
            continue
        if key == "pc" and not record["signatures"][0]["signal"]:
            continue  # what returned has no PC
        other = deepcopy(record)
        other["signatures"][0][key] = value
        yield f"{key} {value}", other
    for outcome in {"torn", "stale", "fault", "hang"} - {record["signatures"][0]["outcome"]}:
        other = deepcopy(record)
        other["outcomes"]["resumed"] = {outcome: 1}
        yield f"{outcome} too", other


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_detector_knows_its_own_defect_and_takes_nothing_else_for_it(plant: Plant) -> None:
    assert plant.caught(GOOD[plant.name])
    for what, record in doctored(GOOD[plant.name]):
        assert not plant.caught(record), what
    for name, record in GOOD.items():
        assert plant.caught(record) == (name == plant.name), name


@pytest.mark.hardware
def test_all_plants_are_caught_every_time() -> None:
    for seed in range(1, TIMES + 1):
        findings = list(selftest.selftest(placement(), QUIET, seed))
        assert [finding.plant.name for finding in findings] == list(GOOD)
        missed = {f.plant.name: (f.record["status"], f.record["outcomes"]) for f in findings if not f.caught}
        assert not missed


@pytest.mark.hardware
def test_the_command_says_that_all_were_caught() -> None:
    done = stress("selftest")
    assert done.returncode == cli.CLEAN, done.stdout
    *lines, last = done.stdout.splitlines()
    assert last == f"{len(GOOD)} of {len(GOOD)} caught"
    assert [line.split()[:2] for line in lines] == [[name, "caught"] for name in GOOD]
    assert done.stderr == ""


@pytest.mark.hardware
@pytest.mark.parametrize("name", GOOD)
def test_a_broken_detector_is_missed_and_exits_3(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plants = tuple(replace(p, caught=lambda _: False) for p in PLANTS if p.name == name)
    monkeypatch.setattr(selftest, "PLANTS", plants)
    assert cli.main(["selftest"]) == cli.BROKEN
    told = capsys.readouterr().out
    assert told.splitlines()[0].startswith(f"{name:16} MISSED: ")
    assert told.splitlines()[-1] == "0 of 1 caught"


@pytest.mark.hardware
@pytest.mark.parametrize("plant", PLANTS[:5], ids=lambda plant: plant.name)
def test_a_plant_that_is_not_planted_is_not_caught(plant: Plant) -> None:
    sound = regime(Step("store", "all", "new"), Step("publish"))
    plan = make_plan(plant.case, sound, Limits(0.05), Site(0))
    record, _ = run_plan(plan)
    assert record["status"] == "ok"
    assert not plant.caught(record)
