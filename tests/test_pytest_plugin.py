"""Cells as tests: the grades of `stress run`, side by side where CPUs allow, and nothing unless it is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from stress import pytest_plugin
from stress.evidence import cells_of, gather
from stress.grade import grade
from stress.matrix import Request
from stress.model import Grade, Limits, Placement, Step
from stress.promises import load_promises
from stress.pytest_plugin import _groups
from stress.session import Session
from stress.store import EVENTS, RECORDS, read_records
from stress.survive import fallen
from tests.support import MOV, WRONG, Record, count, make_plan, regime, stress, until

WORDS = ("--cases", "mov-imm32,ret-nop", "--regimes", "none,idle,int3+sync-core", "--sites", "in,x64")
FAST = (*WORDS, "--seconds", "0.1", "--seed", "5")
MANY = (
    *("--cases", "mov-imm32,nop5-jmp5,jcc-flip,push-imm32,rex-w,int3-tail,ret-nop,lea-disp"),
    *("--regimes", "idle,none,flag,sync-core,int3+sync-core", "--sites", "in,x64"),
    *("--seconds", "0.06", "--seed", "5"),
)
RARE = 30
"""Events of two runs of a cell together up to which one of them may have seen none: they come in bursts."""


alone_and_xdist = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, args)]


def run_pytest(folder: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """What pytest says in an empty folder, with the plugin as installed."""
    return subprocess.run(
        command(*args), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def asked(*words: str) -> list[str]:
    return [word.replace("--", "--stress-", 1) for word in words]


def judged(out: Path) -> dict[str, tuple[str, int]]:
    """Each cell's grade, and how many events it showed."""
    records = list(read_records(out))
    promises, evidence = load_promises(), gather(records)
    return {
        r["cell"]: (grade(r, promises, evidence.control(r)).grade.value, count(dict(r), *WRONG))
        for r in cells_of(records)
    }


def differ(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two grades of a cell differ in what was seen, where that was often enough to be seen each time."""
    nothing = {Grade.CLEAN.value, Grade.UNPROVEN.value}
    (a, seen), (b, also) = one, other
    return a != b and not {a, b} <= nothing and seen + also > RARE


@pytest.mark.hardware
def test_it_gives_the_grades_that_stress_run_gives(tmp_path: Path) -> None:
    done = stress("run", *MANY, "--quiet", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    junit = tmp_path / "junit.xml"
    more = ("-n", "auto", "--stress-out", tmp_path / "tests", f"--junitxml={junit}")
    items = run_pytest(tmp_path, *asked(*MANY), *more)
    assert items.returncode == 0, items.stdout + items.stderr
    theirs, ours = judged(tmp_path / "run"), judged(tmp_path / "tests")
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 60
    assert {cell: (ours[cell], theirs[cell]) for cell in ours if differ(ours[cell], theirs[cell])} == {}
    # CLEAN or UNPROVEN says how often the writer got round to it: near the number that is needed, both happen.
    nothing = {Grade.CLEAN, Grade.UNPROVEN}
    words = [{ours[cell][0], theirs[cell][0]} for cell in ours]
    assert sum(len(both) > 1 and not both <= nothing for both in words) <= len(ours) / 20
    assert len({word for word, _ in ours.values()}) >= 2
    told = {
        case.get("name", "").rpartition("@cpus-")[0]: prop.get("value")
        for case in ElementTree.parse(junit).iter("testcase")
        for prop in case.iter("property")
    }
    cells = {r["cell"] for r in ran(tmp_path / "tests") if r["role"] == "cell"}
    assert told == {cell: word for cell, (word, _) in ours.items() if cell in cells}
    assert "INTERESTING" in items.stdout
    assert f"records in {tmp_path / 'tests'}" in items.stdout
    spans = [
        (begun, begun + timedelta(seconds=r["seconds"]))
        for r in records(tmp_path / "tests")
        if r["status"] == "ok" and (begun := datetime.fromisoformat(r["started"]))
    ]
    assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans))), (
        "two on the same CPUs at once"
    )
    starts_before_ends(tmp_path / "tests")


def records(out: Path) -> list[Record]:
    return [r for r in read_records(out) if r["type"] == "end"]


@pytest.mark.hardware
def test_a_grade_that_fails_is_explained_and_what_cannot_run_is_skipped(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run_pytest(tmp_path, *asked(*FAST), "-ra", "--stress-fail-on", "interesting", "--stress-out", out)
    assert done.returncode == 1
    assert "INTERESTING: torn, stale, faulting or hung executions were seen" in done.stdout
    assert "Traceback" not in done.stdout
    assert "the regime needs 2 patched bytes, the case has 1" in done.stdout
    assert Counter(r["status"] for r in records(out)) == {"ok": 12, "skipped": 1}


def starts_before_ends(out: Path) -> None:
    """Every cell that ran was on the disk as begun before it was there as ended; none of either twice."""
    lines = [(r["type"], r["id"]) for r in read_records(out) if r.get("status") != "skipped"]
    assert len(lines) == len(set(lines))
    for name in {name for _, name in lines}:
        assert lines.index(("start", name)) < lines.index(("end", name))


def ran(out: Path) -> list[Record]:
    return [r for r in records(out) if r["status"] != "skipped"]


@pytest.mark.hardware
@alone_and_xdist
def test_killed_it_goes_on_and_judges_from_the_record_what_had_ended(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    words = command(*asked(*FAST), *workers, "--stress-out", out)
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True) as run:
        assert until(lambda: (out / RECORDS).exists() and len(ran(out)) >= 3, 40)
        os.killpg(run.pid, signal.SIGKILL)
    before = ran(out)
    assert 3 <= len(before) < 12
    again: tuple[str | Path, ...] = (
        "--stress-resume",
        out,
        "--stress-fail-on",
        "interesting",
        *workers,
        "-ra",
    )
    first = run_pytest(tmp_path, *again)
    assert first.returncode == 1, first.stdout + first.stderr
    after = ran(out)
    assert Counter(r["id"] for r in after) == dict.fromkeys({r["id"] for r in after}, 1)
    assert len(after) == 12
    assert [r for r in after if r["id"] in {b["id"] for b in before}] == before
    files = {name: (out / name).read_bytes() for name in (RECORDS, EVENTS)}
    second = run_pytest(tmp_path, *again)  # all have ended: nothing runs, all are judged
    assert {name: (out / name).read_bytes() for name in (RECORDS, EVENTS)} == files

    def verdicts(text: str) -> list[str]:
        return sorted(line.partition(" - ")[0] for line in text.splitlines() if line.startswith("FAILED "))

    assert verdicts(first.stdout) == verdicts(second.stdout) != []


@pytest.mark.hardware
@alone_and_xdist
def test_the_cell_that_took_the_machine_down_is_named_and_not_run_again(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    request = Request(cases=("mov-imm32",), regimes=("none",), sites=("x64",), seconds=0.05, seed=5)
    session = Session.begin(request, str(out))
    session.campaign.boot = "5f6e0c1c-0000-4000-8000-000000000000"
    down = next(plan for plan in session.campaign.plans if plan.cell.regime.role == "cell")
    session.folder.append_record(session.campaign.start_line(down))
    session.folder.close()
    done = run_pytest(tmp_path, "--stress-resume", out, "-ra", *workers)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "crashed the machine" in done.stdout
    assert "1 failed" in done.stdout
    (record,) = [r for r in records(out) if r["status"] == "crashed"]
    assert record["cell"] == down.cell.name
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.hardware
def test_interrupted_it_accuses_nobody_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--cases", "mov-imm32", "--regimes", "none", "--sites", "x64", "--seconds", "30", "--seed", "5")
    asks = command(*asked(*words), "--stress-out", out)
    with subprocess.Popen(asks, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        assert until(lambda: (out / RECORDS).exists() and [*read_records(out)] != [], 40)
        run.send_signal(signal.SIGINT)
        told, _ = run.communicate(timeout=40)
    assert run.returncode == 2
    assert f"go on with: pytest --stress-resume {out}" in told
    assert not records(out)
    assert fallen(read_records(out), "another boot") == []


def test_items_are_named_marked_and_collected_without_being_run(tmp_path: Path) -> None:
    more = ("--collect-only", "-q", "-k", "none", "-m", "stress", "--stress-out", tmp_path / "run")
    done = run_pytest(tmp_path, *asked(*FAST), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = [line for line in done.stdout.splitlines() if line.startswith("stress::")]
    assert ids
    assert all(":none:" in name for name in ids)
    assert not (tmp_path / "run").exists()


def test_it_stands_beside_other_tests(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    both = run_pytest(tmp_path, *asked(*FAST), "--collect-only", "-q")
    assert "test_other.py::test_other" in both.stdout
    assert "stress::mov-imm32@" in both.stdout
    alone = run_pytest(tmp_path, "--collect-only", "-q")
    assert "stress::" not in alone.stdout


def test_without_the_option_nothing_of_the_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other():\n"
        "    ours = {name for name in sys.modules if name.partition('.')[0] == 'stress'}\n"
        "    assert ours == {'stress', 'stress.pytest_plugin'}\n"
        "    assert not {'jinja2', 'click', 'multiprocess', 'cffi'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "stress-runs").exists()


@pytest.mark.parametrize(
    ("args", "remedy"),
    [
        (("--stress-cases", "no-such-case"), "there are:"),
        (("--stress-cases", "mov-imm32", "--stress-seconds", "soon"), "give seconds or"),
        (("--stress-cases", "mov-imm32", "-n", "2", "--dist", "load"), "--dist loadgroup"),
        (("--stress-cases", "mov-imm32", "--stress-fail-on", "bad"), "no grade"),
        (("--stress-resume", "nowhere"), "is no run folder"),
        (("--stress-resume", ""), "is no run folder"),
        (
            ("--stress-cases", "ret-nop", "--stress-out", "held"),
            "go on with --stress-resume, or give another --stress-out",
        ),
    ],
)
def test_wrong_usage_is_told_in_a_line(tmp_path: Path, args: tuple[str, ...], remedy: str) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "run.json").write_text("{}")
    done = run_pytest(tmp_path, *args)
    assert done.returncode == 4
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


def test_cells_that_share_a_cpu_are_one_group() -> None:
    step = regime(Step("store", "all", "new"))

    def plan(*cpus: int) -> object:
        return make_plan(MOV, step, Limits(), where=Placement("l3", cpus[0], cpus[1:]))

    groups = _groups((plan(0, 1), plan(2, 3), plan(3, 4), plan(6, 7), plan(1, 0)))  # type: ignore[arg-type]
    assert groups == {(0, 1): "0-1", (1, 0): "0-1", (2, 3): "2-3-4", (3, 4): "2-3-4", (6, 7): "6-7"}


def test_its_options_are_those_of_stress_run() -> None:
    from stress.cli import run

    known = {option.removeprefix("--") for parameter in run.params for option in parameter.opts}
    assert set(pytest_plugin.WORDS) <= known
