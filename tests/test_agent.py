"""The agent says of a plan what this process would: by its records, and by what it refuses."""

from __future__ import annotations

import copy
import json
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress import agent, blackbox, cli, native
from stress._native import lib
from stress.cases import load_cases
from stress.errors import StressError
from stress.evidence import CONTROL, companions
from stress.matrix import Request, build
from stress.mixes import of_plan
from stress.model import Cell, Limits, Plan, Step
from stress.plan import as_dict
from stress.regimes import load_provocations, load_regimes
from stress.runner import Running
from stress.sites import sites_of
from stress.under import MIXES_MAX, Under
from tests.support import (
    MOV,
    STALE,
    STRICT_CFLAGS,
    WRONG,
    gadget_case,
    halves,
    here,
    make_plan,
    placement,
    regime,
)

TIMES = {"seconds", "cpu_seconds", "first_event_seconds", "started", "tsc", "tsc_hz"}
COUNTS = {
    *("count", "patches", "done", "begun", "events", "interrupts", "stolen_ticks", "signals_sent", "hops"),
    *("switches_voluntary", "switches_forced", "hangs_signalled", "samples", "tears"),
    *("stale_generations", "stale_ticks", "clobbers", "signatures_lost", "slices", "choices"),
}
COUNTED = {"outcomes", "signatures"}
"""What is there, and how often, is up to the race: of these only what may be there is the same."""


@pytest.fixture(scope="session")
def program() -> Path:
    """An agent whose sources compile without a warning: the one that `strict_agent` has `--under` use."""
    return agent.built({**os.environ, "CFLAGS": STRICT_CFLAGS})


def told(program: Path, *options: str, text: str | bytes = b"") -> subprocess.CompletedProcess[bytes]:
    data = text.encode() if isinstance(text, str) else text
    return subprocess.run([program, *options], input=data, capture_output=True, timeout=60)


def refused(answer: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on stderr with which the agent refuses its input."""
    line = answer.stderr.decode()
    assert answer.returncode == cli.USAGE, answer
    assert not answer.stdout
    assert line.startswith("stress-agent: ")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    return line


def _racing(case: str, site: str, discipline: Any, store: str = "whole") -> Plan:
    its = load_cases()[case]
    cell = Cell(its, sites_of(its, site)[0], store, discipline, (load_provocations()["none"],), placement())
    return Plan(cell, Limits(0.05), 7, 8, 2_000)


def _published() -> Plan:
    request = Request(cases=("publish-*",), regimes=("jit-text",), provoke=("auto",), seconds=0.05, seed=3)
    matrix = build(request, here())
    return next(plan for plan in matrix.plans if plan.cell.regime.name == "jit-text")


def _witness() -> Plan:
    cell = _racing("mov-imm32", "x64", load_regimes()["none"]).cell
    witness = next(c for c in companions([cell]) if c.regime.role == "witness")
    return Plan(witness, Limits(0.05), 1, 8, 2_000)


def shapes() -> dict[str, Plan]:
    """Plans whose outcomes are planted, and plans of every shape that race."""
    regimes = load_regimes()
    two = Limits(20.0, patches=2)
    return {
        "value loop": make_plan(MOV, halves("front", "back"), two),
        "window loop": make_plan(MOV, regime(*STALE), Limits(20.0, patches=3)),
        "fault": make_plan(gadget_case("0f0b"), halves("front", "back"), two),
        "trap": _racing("mov-imm32", "x64", regimes["int3+sync-core"]),
        "refused": make_plan(MOV, regime(Step("store", "front", "new")), Limits(5.0)),
        "hop": _racing("jmp-rel32", "x64", regimes["alias+int3+sync-core"]),
        "control": _racing("mov-imm32", "x64", CONTROL, "bytes"),
        "witness": _witness(),
        "publish": _published(),
    }


SHAPES = shapes()
PLAN = as_dict(SHAPES["value loop"])


def run(plan: Plan, command: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    running = Running(plan, command)
    try:
        return running.finish()
    finally:
        running.close()


def stripped(value: Any, exact: bool, key: str = "") -> Any:
    """The value without counts and times; without what a race decides as well, unless `exact`."""
    if key in TIMES | COUNTS or (key in COUNTED and not exact):
        return type(value).__name__ if value is not None else "float"
    if key == "outcomes":
        return {phase: wrong for phase, row in value.items() if (wrong := sorted(row.keys() & set(WRONG)))}
    if key == "signatures":
        return sorted(json.dumps(stripped(s, exact), sort_keys=True) for s in value)
    if isinstance(value, dict):
        return {name: stripped(member, exact, name) for name, member in value.items()}
    if isinstance(value, list):
        return [stripped(member, exact) for member in value]
    return value


@pytest.mark.hardware
@pytest.mark.parametrize("name", SHAPES)
def test_the_agents_record_is_the_record_of_this_process(program: Path, name: str) -> None:
    """Whatever is no count and no time: plan and id, status and reason, and, where it is planted, what was seen."""
    exact = name in ("value loop", "fault", "refused")  # the others race
    mine, my_events = run(SHAPES[name])
    its, its_events = run(SHAPES[name], ("env", str(program)))
    assert stripped(its, exact) == stripped(mine, exact)
    assert mine["status"] == ("error" if name == "refused" else "ok")
    if exact:
        assert {e["signal"] for e in its_events} == {e["signal"] for e in my_events}
    for event in its_events:
        assert set(event) == set(my_events[0]) if my_events else True


@pytest.mark.hardware
@pytest.mark.parametrize("name", SHAPES)
def test_what_it_prints_is_what_the_black_box_holds(program: Path, name: str) -> None:
    """Two readers of one box, in C and in Python, agree to the last digit."""
    plan = as_dict(SHAPES[name])
    box = os.memfd_create("box")
    try:
        os.ftruncate(box, blackbox.result_bytes())
        with mmap.mmap(box, blackbox.result_bytes()) as memory:
            its = Under(("env", str(program))).run(plan, box)
            status, reason = its.pop("status"), its.pop("reason")
            assert (status, bool(reason)) == (("error", True) if name == "refused" else ("ok", False))
            assert its == blackbox.decode(plan, memory)
    finally:
        os.close(box)


@pytest.mark.hardware
def test_it_executes_mixes_as_this_process_does(program: Path) -> None:
    plan = as_dict(SHAPES["fault"])
    contents = [mix.bytes for mix in of_plan(plan)]
    assert Under(("env", str(program))).run_mixes(plan, contents) == native.run_mixes(plan, contents)
    assert lib.XMC_MIXES_MAX == MIXES_MAX


def test_it_finds_what_this_process_finds(program: Path) -> None:
    mine, its = native.probe(), Under(("env", str(program))).probe()
    assert {**its, "tsc_hz": 0} == {**mine, "tsc_hz": 0}


@pytest.mark.hardware
def test_a_plan_out_of_a_record_is_all_it_needs(program: Path) -> None:
    record, _ = run(SHAPES["value loop"])
    answer = told(program, text=json.dumps(record["plan"]))
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["status"] == "ok"
    assert not answer.stderr


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(member, (*path, key))


def _changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    at: Any = plan
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return plan


IGNORED = {("cell",), ("repeat",), ("region", "trap_pc")}


@pytest.mark.parametrize(
    "value", [{"no": [{}]}, -(2**70), "no such word", 1.5], ids=["{}", "-", "word", "1.5"]
)
def test_every_value_of_a_plan_is_checked(program: Path, value: Any) -> None:
    """Wherever something else stands than the plan has there, one line names the place."""
    for path in _leaves(PLAN):
        free = path in IGNORED or (path[-1:] == ("name",) and isinstance(value, str))
        fits = path == ("limits", "seconds") and value == 1.5
        if path and not free and not fits:
            line = refused(told(program, text=json.dumps(_changed(path, value))))
            assert all(f".{key}" in line or f"[{key}]" in line for key in path[:1]), (path, line)


def test_every_key_of_a_plan_is_wanted_and_no_other(program: Path) -> None:
    for path in _leaves(PLAN):
        if not path or isinstance(path[-1], int) or path == ("publish",):
            continue
        plan = copy.deepcopy(PLAN)
        at: Any = plan
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]
        assert f".{path[-1]}: is missing" in refused(told(program, text=json.dumps(plan)))
        at["more"] = 1
        assert 'unknown key "more"' in refused(told(program, text=json.dumps(plan)))


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:0123456789.eE+-\\ntu \u00e9\0', max_size=40).map(str.encode)
)
@settings(deadline=None, max_examples=150)
def test_what_is_no_plan_is_refused_in_one_line(program: Path, data: bytes) -> None:
    refused(told(program, text=data))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not JSON at byte 0"),
        (json.dumps(PLAN)[:-1], "a comma or the closing bracket"),
        (json.dumps(PLAN) + "x", "the end of the text"),
        ('{"seed": 1, "seed": 2}', "each key once only"),
        ("[" * 100, "fewer brackets inside each other"),
        ('["\\q"]', "a string that JSON allows"),
        (b'["\xc0\xaf"]', "a string that JSON allows"),
        (b'["\xed\xa0\x80"]', "a string that JSON allows"),
        ("[01]", "a value"),
        ("[1.]", "a digit"),
        ("[1e]", "a digit"),
        (" " * (5 << 20), "is longer than"),
    ],
    ids=[
        *(
            "nothing",
            "cut",
            "more",
            "twice",
            "deep",
            "escape",
            "overlong",
            "surrogate",
            "zero",
            "point",
            "e",
            "long",
        )
    ],
)
def test_json_is_read_strictly(program: Path, text: str | bytes, what: str) -> None:
    assert what in refused(told(program, text=text))


def test_wrong_usage_is_refused_and_help_is_given(program: Path) -> None:
    assert "wrong usage" in refused(told(program, "--nonsense"))
    assert "wrong usage" in refused(told(program, "--box", "x"))
    assert b"Usage: stress-agent" in told(program, "--help").stdout
    assert told(program, "--version").stdout.decode() == f"stress-agent {agent.version()}\n"


def test_an_output_that_cannot_be_written_is_told(program: Path) -> None:
    with open("/dev/full", "wb") as full:
        told_so = subprocess.run([program, "--probe"], stdout=full, stderr=subprocess.PIPE)
    assert told_so.returncode == cli.BROKEN
    assert b"cannot write the output" in told_so.stderr


@pytest.mark.hardware
def test_a_descriptor_that_is_no_black_box_is_left_alone(program: Path, tmp_path: Path) -> None:
    file = tmp_path / "other"
    file.write_bytes(b"precious")
    descriptor = os.open(file, os.O_RDWR)
    try:
        assert Under(("env", str(program))).run(PLAN, descriptor)["status"] == "ok"
    finally:
        os.close(descriptor)
    assert file.read_bytes() == b"precious"


def test_it_needs_no_library(program: Path) -> None:
    headers = subprocess.run(["readelf", "-l", program], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in headers, "no static C library here; on Debian: apt install libc6-dev"


def test_the_cache_keeps_the_agents_that_were_wanted_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "build", lambda target, _: target.touch())
    there = tmp_path / "stress"
    there.mkdir()
    for n in range(6):
        old = there / f"{agent.NAME}-{n}"
        old.touch()
        os.utime(old, (n, n))
    (there / f"{agent.NAME}-7.123").touch()  # somebody else's, half built
    made = agent.built({"XDG_CACHE_HOME": str(tmp_path)})
    kept = {f"{agent.NAME}-{n}" for n in (3, 4, 5)} | {made.name, f"{agent.NAME}-7.123"}
    assert set(os.listdir(there)) == kept
    os.utime(made, (1, 1))
    assert agent.built({"XDG_CACHE_HOME": str(tmp_path)}) == made
    assert made.stat().st_mtime > 1


def test_a_compiler_that_fails_or_compiles_for_something_else_is_told(tmp_path: Path) -> None:
    other = tmp_path / "cc"
    other.write_text("#!/bin/sh\necho pdp11-dec-bsd\n")
    broken = tmp_path / "broken"
    broken.write_text(
        f'#!/bin/sh\n[ "$1" = -dumpmachine ] && exec {shutil.which("cc")} "$1"\necho no >&2; exit 1\n'
    )
    for file in (other, broken):
        file.chmod(0o755)
    wants = {
        other: "there are ports for",
        broken: "cannot be compiled by",
        tmp_path / "none": "cannot be run",
    }
    for compiler, what in wants.items():
        with pytest.raises(StressError, match=what):
            agent.build(tmp_path / "agent", {"CC": str(compiler)})
    assert not (tmp_path / "agent").exists()
