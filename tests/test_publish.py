"""The publish shape: every way of publishing wrongly is caught and named, and every shipped regime runs here."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stress.cases import load_cases
from stress.errors import CaseError
from stress.grade import grade
from stress.host import read_host
from stress.model import Cell, Grade, Image, Limits, Plan, Publishing, Regime, Site
from stress.promises import load_promises
from stress.publish import ADDRESSES, PUBLISH_STEPS, control_of, front_of, publishing
from stress.regimes import load_provocations, load_regimes
from stress.runner import Running
from stress.steps import parse_step
from stress.topology import placements

ROOT = Path(__file__).resolve().parent.parent
REGIMES = {name: regime for name, regime in load_regimes().items() if regime.publish}
CASE = next(case for case in load_cases().values() if case.fields)
PROVOCATIONS = load_provocations()
NONE = PROVOCATIONS["none"]
ALONE = [provocation for provocation in PROVOCATIONS.values() if not provocation.antagonist]
WRONG = ("torn", "stale", "fault", "trap", "hang")


def run(
    regime: Regime,
    case: Any = CASE,
    patches: int = 0,
    seconds: float = 5,
    turns: Any = (NONE,),
    until: bool = False,
) -> Any:
    """Return the record of one cell of the publish shape, run here and now; `until`: its first event."""
    placement = placements(read_host().topology, ["auto"], 1)[0]
    publish = regime.publish
    assert publish
    site = Site(64, front_of(case), address=publish.address)
    cell = Cell(case, site, "copy", regime, tuple(turns), placement)
    running = Running(Plan(cell, Limits(seconds, 0, patches, until), 1, 8, 2_000))
    try:
        record, _ = running.finish()
    finally:
        running.close()
    assert record["status"] == "ok", record["reason"]
    return record


def wrong(record: Any) -> set[str]:
    """Return the outcomes that were seen and are not old or new."""
    return {name for row in record["outcomes"].values() for name in row if name in WRONG}


def planted(steps: str, address: str = "int3", slots: int = 0, **more: Any) -> Regime:
    """Return a regime of these steps, separated by commas."""
    writer = tuple(parse_step(step, PUBLISH_STEPS) for step in steps.split(","))
    publish = Publishing("K15", address, more.pop("reach", "pointer"), slots)
    return Regime("planted", "R0", "planted", "none", writer, via="alias", publish=publish)


HALF = "fill front, publish, await 2, fill back"
EARLY = "publish, await 2, fill all"
# name: regime, publications, the one wrong outcome, what its signature says
PLANTS: dict[str, tuple[Regime, int, str, dict[str, Any]]] = {
    "half a body, filler behind": (planted(HALF), 1, "torn", {"signal": "SIGTRAP"}),
    "half a body, old code behind": (planted(HALF, "reused", 2), 4, "torn", {"signal": "", "value": 1}),
    "filler": (planted(EARLY), 1, "trap", {"signal": "SIGTRAP", "pc": 1}),
    "old code of the slot": (planted(EARLY, "reused", 2), 4, "stale", {"signal": "", "value": 2}),
    "nothing mapped": (
        planted("fill all, publish, await 2, map rx", "fresh"), 1, "fault", {"signal": "SIGSEGV", "code": 2, "pc": 0}
    ),
    "an empty page": (
        planted("map rx, publish, await 2, fill all", "fresh"), 1, "fault", {"signal": "SIGSEGV", "code": 1, "pc": 0}
    ),
    "unmapped again": (
        planted("map rx, fill all, unmap, publish, await 2, map rx", "fresh"), 1, "fault", {"code": 2, "pc": 0}
    ),
    "not executable": (
        planted("map rw, fill all, publish, await 2, protect rx", "fresh"), 1, "fault", {"signal": "SIGSEGV", "pc": 0}
    ),
    "the other page frame": (
        planted("fill all, publish, await 2, map rx", "reused", 1), 3, "stale", {"signal": "", "value": 1}
    ),
    "the branch not yet stored": (
        planted("fill all, publish, await 2, branch", "reused", 64, reach="branch"), 3, "stale", {"value": 1}
    ),
    "a branch into filler": (
        planted("branch, publish, await 2, fill all", "reused", 64, reach="branch"), 1, "trap", {"pc": 1}
    ),
}  # fmt: skip


@pytest.mark.hardware
@pytest.mark.parametrize("name", PLANTS)
def test_what_is_published_wrongly_is_caught_and_named(name: str) -> None:
    regime, patches, outcome, signature = PLANTS[name]
    record = run(regime, patches=patches)
    # A branch is there before it is published: who takes it then is concurrent, and resumed ever after.
    phases = (
        {"post"}
        if regime.publish is None or regime.publish.reach != "branch"
        else {"post", "concurrent", "resumed"}
    )
    found = [s for s in record["signatures"] if s["outcome"] == outcome and s["phase"] in phases]
    assert any(all(s[key] == value for key, value in signature.items()) for s in found), record["signatures"]
    first_lap = {"torn", "trap"} if regime.publish and regime.publish.slots == 2 else set()
    assert wrong(record) <= {outcome} | first_lap


@pytest.mark.hardware
def test_a_body_that_branches_to_itself_hangs_and_is_recovered() -> None:
    spin = tuple(Image(b"\xeb\xfe" + image.bytes[2:], "", image.returns) for image in CASE.images)
    record = run(planted("fill all, publish"), replace(CASE, images=spin), patches=0, seconds=0.5)
    assert wrong(record) == {"hang"}
    assert {(s["signal"], s["pc"]) for s in record["signatures"]} == {("watchdog", 0)}


@pytest.mark.hardware
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_positive_control_sees_what_is_filled_too_late(address: str) -> None:
    record = run(control_of(address), seconds=20, until=True)
    assert "torn" in wrong(record)


@pytest.mark.hardware
@pytest.mark.parametrize("name", REGIMES)
def test_every_shipped_regime_publishes_and_is_executed(name: str) -> None:
    regime = REGIMES[name]
    waits = any(step.op in ("meet", "drain") for step in regime.writer)
    record = run(regime, patches=500 * waits, seconds=10 if waits else 2, turns=ALONE)
    rows = record["outcomes"].values()
    assert record["patches"] > 20
    assert sum(row.get("new", 0) for row in rows) > 20
    assert record["shape"] == "publish"
    if regime.completes and not regime.ablation_of:
        post = {outcome for outcome in WRONG if record["outcomes"].get("post", {}).get(outcome)}
        assert not post
        assert wrong(record) <= {"fault", "torn"}  # while a mapping changes
    if regime.code in ("R2", "R3", "R7") and regime.publish and regime.publish.reach == "pointer":
        assert not wrong(record)


@pytest.mark.hardware
def test_a_guessed_slot_is_run_speculatively(tmp_path: Path) -> None:
    """A line that only the next slot's code reads is found in the cache, though that code was never reached."""
    native = ROOT / "native"
    loops = [native / "arch" / platform.machine() / name for name in ("publish.S", "loops.S")]
    command: list[str | Path] = [
        "cc",
        "-O2",
        "-fcf-protection=none",
        f"-I{native}",
        ROOT / "tests" / "guess.c",
        *loops,
    ]
    subprocess.run([*command, "-o", tmp_path / "guess"], check=True, timeout=60)
    output = subprocess.run(
        [tmp_path / "guess"], check=True, timeout=60, capture_output=True, text=True
    ).stdout
    flushed, plain, _, slow = map(int, output.split())
    assert plain > flushed / 2 > slow


def test_filler_that_was_published_is_an_event() -> None:
    record = {
        "outcomes": {"post": {"old": 10**6, "trap": 1}}, "shape": "publish", "status": "ok", "reason": "",
        "kind": "K15", "code": "R7b", "completes": True, "ablation_of": "", "vendor": "AuthenticAMD",
        "regime": "bpf-pack", "patches": 10**4, "provocation": "none", "provocations": {},
    }  # fmt: skip
    assert grade(record, load_promises()).grade is Grade.SURPRISING
    assert grade(record | {"shape": "toggle"}, load_promises()).grade is not Grade.SURPRISING


def test_the_seed_experiments_are_there() -> None:
    codes = {(r.code, r.publish.address, r.publish.reach) for r in REGIMES.values() if r.publish}
    assert {("R7", "fresh", "pointer"), ("R7", "fresh", "mapping"), ("R7b", "int3", "pointer")} <= codes
    assert {("R3", "int3", "pointer"), ("R1", "reused", "branch"), ("R6", "reused", "pointer")} <= codes
    assert {r.publish.kind for r in REGIMES.values() if r.publish} == {"K15", "K18", "K20", "K21", "K22"}
    assert all(r.publish.today and r.publish.fred for r in REGIMES.values() if r.publish)


GOOD = """\
[regimes.mine]
code = "R1"
summary = "what my JIT does"
source = "a manual, section 1"
writer = ["map rx", "fill all", "publish"]
[regimes.mine.publish]
kind = "K15"
address = "fresh"
today = "nothing"
fred = "nothing"
"""


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"fill all", ', "", "the body is left unfilled"),
        ('"fill all"', '"store all new"', "the steps are fill,"),
        (', "publish"', "", "give publish once"),
        ('"map rx", ', "", "does not go with the steps"),
        ('"fresh"', '"int3"', "does not go with the steps"),
        ('"fresh"', '"fresh"\nslots = 1000', "give a power of two"),
        ('"fresh"', '"fresh"\nreach = "branch"', "add the step branch"),
        ('"map rx"', '"alias", "map rx"', "the alias stays"),
        ('writer', 'via = "same"\nwriter', "nobody can write there"),
    ],
)  # fmt: skip
def test_a_broken_regime_is_refused_with_help(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_regimes(path)["mine"].shape == "publish"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(CaseError, match=text):
        load_regimes(path)


def test_a_plan_of_the_other_shape_says_nothing_of_this_one() -> None:
    placement = placements(read_host().topology, ["auto"], 1)[0]
    cell = Cell(CASE, Site(64, 16), "whole", load_regimes()["none"], (NONE,), placement)
    assert publishing(cell) is None


def test_the_page_names_every_step_and_every_experiment() -> None:
    page = (ROOT / "docs" / "publish.md").read_text()
    spelled = {words.split()[0] for words in re.findall(r"`([^`\n]+)`", page)}
    assert set(PUBLISH_STEPS) - {"mfence", "sfence", "lfence"} <= spelled
    named = {name for name in REGIMES if f"`{name}`" in page}
    assert set(REGIMES) == named
