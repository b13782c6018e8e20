"""Provocations: each does what its name says, and none changes what is executed."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stress._native import lib
from stress.cases import load_cases
from stress.fits import antagonist_cpu
from stress.model import Limits, Provocation, Site
from stress.plan import cells
from stress.regimes import ANTAGONISTS, load_provocations, load_regimes
from tests.support import MOV, ROOT, WRONG, count, here, placement, run_cell

PROVOCATIONS = load_provocations()
REGIMES = load_regimes()

SHOWN_BY = {
    "none": (),
    "writer-flush-tail": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "writer-flush-head": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "contend-tail": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "executor-flush-tail": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "executor-flush-both": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "writer-own": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "writer-share": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "executor-evict-tlb": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "executor-cold-branches": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "executor-mispredict": ("test_the_steps_of_provocations_do_what_their_names_say",),
    "signals": ("test_signals_reach_the_executors_at_random",),
    "antagonist-lines": ("test_an_antagonist_makes_its_rounds_and_changes_nothing",),
    "antagonist-smt": (
        "test_an_antagonist_makes_its_rounds_and_changes_nothing",
        "test_an_antagonist_without_a_place_is_a_skip_with_the_reason",
    ),
    "executor-guess": ("test_a_guessed_slot_is_run_speculatively",),
    "executor-guess-slow": ("test_a_guessed_slot_is_run_speculatively",),
}
"""Which test shows that a provocation does what its name says."""


def test_every_provocation_has_its_test_and_says_what_it_costs() -> None:
    assert set(SHOWN_BY) == set(PROVOCATIONS)
    source = "".join((ROOT / "tests" / f"test_{name}.py").read_text() for name in ("provocations", "publish"))
    assert all(f"def {test}(" in source for tests in SHOWN_BY.values() for test in tests)
    assert all(provocation.cost for provocation in PROVOCATIONS.values())
    page = (ROOT / "docs" / "design.md").read_text()
    assert [name for name in PROVOCATIONS if name != "none" and f"`{name}`" not in page] == []


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """What tests/provoke.c printed: figures by name."""
    native, program = ROOT / "native", tmp_path_factory.mktemp("provoke") / "provoke"
    arch = native / "arch" / platform.machine()
    sources = [native / "program.c", native / "stores.c", arch / "arch.c", arch / "loops.S"]
    flags = ["-std=gnu11", "-O2", "-fcf-protection=none", "-fno-strict-aliasing", f"-I{native}"]
    command: list[str | Path] = ["cc", *flags, ROOT / "tests" / "provoke.c", *sources, "-o", program]
    subprocess.run(command, check=True, timeout=60)
    output = subprocess.run([program], check=True, timeout=60, capture_output=True, text=True).stdout
    return {name: list(map(int, rest)) for name, *rest in map(str.split, output.splitlines())}


@pytest.mark.hardware
def test_the_steps_of_provocations_do_what_their_names_say(told: dict[str, list[int]]) -> None:
    """Flushed lines are far away and their neighbours near; pages and branches are counted, predictions observed."""
    (far,) = told["flush"]
    assert told["flush-head"][0] > far / 2 > told["flush-head"][1]
    assert told["flush-tail"][1] > far / 2 > told["flush-tail"][0]
    assert told["own"][0] < far / 2
    assert told["mispredict"][0] < told["mispredict"][1] / 2
    assert told["evict-tlb"] == [2048, 0]
    assert told["cold-branches"] == [256, 0]
    assert told["branches"] == [63, 1]
    assert "2048 other pages" in PROVOCATIONS["executor-evict-tlb"].summary
    assert f"{256 * 63} other branches" in PROVOCATIONS["executor-cold-branches"].summary
    head, tail = -64, 0
    assert told["lines"] == [
        *(lib.XMC_STEP_FLUSH, head),
        *(lib.XMC_STEP_FLUSH, tail),
        *(lib.XMC_STEP_OWN, head),
        *(lib.XMC_STEP_SHARE, tail),
    ]


@pytest.mark.hardware
def test_signals_reach_the_executors_at_random() -> None:
    quiet = run_cell(MOV, REGIMES["idle"], Limits(0.2))
    record = run_cell(MOV, REGIMES["idle"], Limits(0.5), provocations=(PROVOCATIONS["signals"],))
    assert quiet["signals_sent"] == 0
    assert record["signals_sent"] > 100
    assert count(record) == count(record, "old") > 0


def antagonist(does: str) -> Provocation:
    return next(p for p in PROVOCATIONS.values() if p.antagonist == does)


@pytest.mark.hardware
@pytest.mark.parametrize("does", ANTAGONISTS)
def test_an_antagonist_makes_its_rounds_and_changes_nothing(does: str) -> None:
    # Where there is no sibling to be had the thread itself is tried all the same: on the writer's CPU.
    near = placement()
    where = replace(near, sibling_cpu=near.sibling_cpu if near.sibling_cpu >= 0 else near.writer_cpu)
    turns, site = (PROVOCATIONS["none"], antagonist(does)), Site(64, 2)
    record = run_cell(MOV, REGIMES["idle"], Limits(0.5), site, provocations=turns, where=where)
    assert (record["status"], record["reason"]) == ("ok", "")
    assert count(record) == count(record, "old") > 0
    assert "antagonist" not in record["provocations"]["none"]
    did = record["provocations"][antagonist(does).name]["antagonist"]
    assert did["rounds"] > 1000
    assert did["cpu"] == antagonist_cpu(antagonist(does), where)
    assert did["shares"] == ("writer" if did["cpu"] == where.writer_cpu else "")
    raced = run_cell(
        load_cases()["mov-imm32"], REGIMES["int3+sync-core"], Limits(0.5), site,
        provocations=turns[1:], where=where, pace_log2=12,
    )  # fmt: skip
    assert raced["patches"] > 0
    assert count(raced, *WRONG) == 0, raced["signatures"]


def skips_of(does: str, where: Any, regime: str = "none") -> list[str]:
    case, turn = load_cases()["mov-imm32"], (antagonist(does),)
    run, skips = cells([case], ["x64"], ["whole"], [REGIMES[regime]], [turn], [where], here().features)
    assert len(run) + len(skips) == 1
    return [skip.reason for skip in skips]


@pytest.mark.hardware
def test_an_antagonist_without_a_place_is_a_skip_with_the_reason() -> None:
    alone = replace(placement(), spare_cpu=-1, sibling_cpu=-1)
    executor = alone.executor_cpus[0]
    assert skips_of("smt", alone) == [
        f"antagonist-smt needs an SMT sibling of the executor's CPU {executor} that is ours and idle"
    ]
    assert skips_of("smt", replace(alone, sibling_cpu=3)) == []
    assert skips_of("lines", alone) == []
    assert antagonist_cpu(antagonist("lines"), alone) == alone.writer_cpu
    assert antagonist_cpu(antagonist("lines"), replace(alone, spare_cpu=3)) == 3
    assert antagonist_cpu(PROVOCATIONS["none"], alone) == -1
