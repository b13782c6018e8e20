"""From a request to a folder and a text, and back: begin, run, resume, report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stress import session as module
from stress.campaign import Campaign
from stress.cases import find_cases
from stress.errors import CaseError, HostError, StoreError, StressError, UsageError
from stress.formats import write
from stress.host import Host
from stress.matrix import Request
from stress.plan import as_dict, describe, plan_id
from stress.regimes import load_regimes
from stress.runner import EMPTY
from stress.session import Session, read_reading
from stress.store import RECORDS, RUN, RunFolder, read_records
from tests.trees.hosts import guest

REQUEST = Request(cases=("mov-imm32,opcode-byte",), regimes=("none,flag,idle",), seconds=0.05, seed=7)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return guest(tmp_path / "tree")


@pytest.fixture
def elsewhere(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The recorded guest, instead of the machine that the test runs on."""
    monkeypatch.setattr(module, "read_host", lambda: host)
    return host


@pytest.fixture
def begun(elsewhere: Host, tmp_path: Path) -> Iterator[Session]:
    session = Session.begin(REQUEST, str(tmp_path / "run"))
    yield session
    session.folder.close()


def pretend(session: Session, plans: int | None = None, status: str = "ok", **outcomes: int) -> None:
    """Store a record of so many plans, without running them."""
    for plan in session.matrix.plans[:plans]:
        resolved = as_dict(plan)
        record = {"schema": 1, "type": "end", "id": plan_id(resolved), **describe(plan.cell), **EMPTY}
        record |= {"plan": resolved, "started": "", "status": status, "reason": "", "seconds": 0.05}
        record |= {"outcomes": {"concurrent": {"old": 10**6} | outcomes}, "patches": 10**5}
        pair = {"samples": [0, 0], "tears": [[0, 0, 0], [0, 0, 0]]}
        record |= {"pairs": [pair] * plan.cell.case.patch_len if resolved["observe"] else []}
        record |= {"vendor": session.host.vendor, "host": session.host.fingerprint}
        session.folder.append_record(record)
        session.records.append(record)


def grades(session: Session) -> set[str]:
    """Of the cells that ran."""
    return {finding.grade for finding in session.reading().findings if finding.grade}


def again(session: Session) -> Session:
    """The session, resumed after the process that began it is gone."""
    session.folder.close()
    return Session.resume(session.path)


def test_a_run_begins_with_everything_that_a_resume_needs(begun: Session) -> None:
    held = json.loads((begun.path / RUN).read_text())
    assert Request.from_dict(held["request"]) == REQUEST
    assert held["seed"] == 7
    assert held["fingerprint"] == begun.host.fingerprint
    assert held["host"] == begun.host.as_dict()
    assert held["command"].startswith("stress")
    assert re.fullmatch("[0-9a-f]{32}", held["run"])
    assert (begun.path / RECORDS).read_text() == ""


def test_without_a_name_the_folder_is_a_new_one_below_here(
    elsewhere: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sessions = [Session.begin(REQUEST, None) for _ in range(2)]
    assert len({session.path for session in sessions}) == 2
    for session in sessions:
        assert re.fullmatch(r"stress-runs/\d{8}T\d{6}Z-[0-9a-f]{6}", str(session.path))
        session.folder.close()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"cases": ("nope",)}, UsageError),
        ({"cpus": "99"}, UsageError),
        ({"seconds": None, "budget_seconds": 0.01}, UsageError),
        ({"cpus": "0"}, HostError),
        ({"case_dir": "/nonexistent"}, CaseError),
        ({"regime_files": ("/nonexistent",)}, CaseError),
    ],
)
def test_a_request_that_cannot_be_met_makes_no_folder(
    elsewhere: Host, tmp_path: Path, changed: dict[str, Any], error: type[StressError]
) -> None:
    with pytest.raises(error):
        Session.begin(replace(REQUEST, **changed), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_it_says_what_it_will_do_and_how_long_it_takes(begun: Session) -> None:
    first, second = begun.announcement()
    total = len(begun.matrix.plans)
    seconds = begun.matrix.expected_seconds
    assert re.fullmatch(rf"{total} cells of 0\.05 s on CPUs 0,1; about [0-9.]+ s", first)
    assert float(first.rpartition("about ")[2].rstrip(" s")) == pytest.approx(seconds, rel=0.3, abs=0.5)
    skips = len(begun.matrix.skips)
    assert second == f"{skips} more combinations cannot run here; seed 7; records in {begun.path}"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"executions": 10**9}, "cells of 1000000000 executions on CPUs 0,1"),
        ({"patches": 5}, "cells of 5 patches on CPUs 0,1"),
        ({"executions": 6, "patches": 5}, "cells of 6 executions or 5 patches on CPUs 0,1"),
    ],
)
def test_who_asks_for_counts_is_told_no_time(
    elsewhere: Host, tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    session = Session.begin(replace(REQUEST, seconds=None, **changed), str(tmp_path / "run"))
    with closing(session.folder):
        assert session.announcement()[0] == f"{len(session.matrix.plans)} {text}"


def test_a_resumed_run_is_the_same_run(begun: Session) -> None:
    pretend(begun, 2)
    names = [plan_id(as_dict(plan)) for plan in begun.matrix.plans]
    resumed = again(begun)
    assert resumed.request == REQUEST
    assert [plan_id(as_dict(plan)) for plan in resumed.matrix.plans] == names
    assert resumed.records == begun.records
    assert resumed.cells_left == len(names) - 2


def test_a_resumed_run_announces_what_is_left_of_it(begun: Session) -> None:
    total = len(begun.matrix.plans)
    pretend(begun, total - 2)
    text = again(begun).announcement()[0]
    assert text.startswith("2 "), text


def test_a_record_that_was_cut_short_is_not_taken_for_one(begun: Session) -> None:
    pretend(begun, 2)
    with (begun.path / RECORDS).open("a") as records:
        records.write('{"schema":1,"type":"end","id":"00')
    assert again(begun).cells_left == len(begun.matrix.plans) - 2


def test_a_run_of_another_machine_is_not_continued(begun: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(begun.host, kernel="9.9.9")
    monkeypatch.setattr(module, "read_host", lambda: other)
    with pytest.raises(
        StoreError, match="was begun on another machine, kernel or setting; begin a new run here"
    ):
        again(begun)


def test_a_run_of_another_version_is_not_continued(begun: Session) -> None:
    held = json.loads((begun.path / RUN).read_text())
    held["request"]["weather"] = "fine"
    (begun.path / RUN).write_text(json.dumps(held))
    with pytest.raises(UsageError, match="finish it with that version"):
        again(begun)


def test_a_run_that_goes_on_elsewhere_is_not_continued(begun: Session) -> None:
    with pytest.raises(StoreError, match="another run writes to it"):
        Session.resume(begun.path)


def test_a_folder_that_is_no_run_is_not_continued(elsewhere: Host, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no run folder"):
        Session.resume(tmp_path)


def test_a_run_goes_on_from_any_folder(
    elsewhere: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    Path("mine").mkdir()
    Path("mine/mine.toml").write_text((find_cases() / "mov-imm32.toml").read_text())
    Path("ours.toml").write_text(
        '[regimes.ours]\ncode = "R0"\nsummary = "s"\nsource = "s"\nwriter = ["store all new"]\n'
    )
    request = replace(
        REQUEST, cases=("all",), regimes=("ours",), case_dir="mine", regime_files=("ours.toml",)
    )
    session = Session.begin(request, str(tmp_path / "run"))
    pretend(session)
    session.folder.close()
    monkeypatch.chdir(tmp_path / "b")
    resumed = Session.resume(tmp_path / "run")
    with closing(resumed.folder):
        assert resumed.cells_left == 0


def test_cells_that_the_harness_failed_are_counted(begun: Session) -> None:
    pretend(begun, 1)
    assert begun.harness_failed == 0
    for status in ("crashed", "timeout", "error"):
        pretend(begun, 1, status=status)
    pretend(begun, 1, status="skipped")
    assert (begun.harness_failed, begun.died) == (3, 0)
    pretend(begun, 1, status="crashed")
    begun.records[-1]["died"] = True
    assert (begun.harness_failed, begun.died) == (3, 1)


def test_skipped_cells_have_no_grade(begun: Session) -> None:
    pretend(begun, 1, status="skipped")
    assert grades(begun) == set()


def test_an_interrupted_run_says_so(begun: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Campaign, tell: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Campaign, "run", interrupted)
    assert begun.run(quiet=True) is False


@pytest.mark.parametrize("style", ["table", "json"])
def test_regimes_are_shown_in_the_order_of_their_file(begun: Session, style: str) -> None:
    pretend(begun)
    begun.records.reverse()
    text = write(style, begun.reading())
    shown = list(dict.fromkeys(re.findall(r'^(?: *"regime": ")?(idle|none|flag)\b', text, re.MULTILINE)))
    assert shown == [name for name in load_regimes() if name in ("idle", "none", "flag")]


def test_the_report_of_a_folder_is_the_text_of_its_run(begun: Session) -> None:
    pretend(begun)
    assert write("json", read_reading([begun.path])) == write("json", begun.reading())


def test_a_report_does_not_disturb_the_run(begun: Session) -> None:
    pretend(begun, 1)
    with (begun.path / RECORDS).open("a") as records:
        records.write('{"half')
    before = (begun.path / RECORDS).read_bytes()
    assert write("table", read_reading([begun.path]))
    assert (begun.path / RECORDS).read_bytes() == before


def test_a_report_of_two_folders_holds_both(begun: Session, tmp_path: Path) -> None:
    pretend(begun)
    other = Session.begin(replace(REQUEST, seed=8), str(tmp_path / "other"))
    pretend(other)
    other.folder.close()
    cells = json.loads(write("json", read_reading([begun.path, other.path])))["cells"]
    assert len(cells) == 2 * len(json.loads(write("json", begun.reading()))["cells"])


def test_a_report_needs_no_files_but_the_folder(elsewhere: Host, tmp_path: Path) -> None:
    regimes = tmp_path / "ours.toml"
    regimes.write_text(
        '[regimes.ours]\ncode = "R0"\nsummary = "s"\nsource = "s"\nwriter = ["store all new"]\n'
    )
    session = Session.begin(
        replace(REQUEST, regimes=("ours",), regime_files=(str(regimes),)), str(tmp_path / "run")
    )
    pretend(session)
    session.folder.close()
    regimes.unlink()
    assert "ours" in write("table", read_reading([tmp_path / "run"]))


def test_a_report_of_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no run folder"):
        write("table", read_reading([tmp_path]))


@pytest.mark.hardware
def test_a_run_is_run_resumed_and_reported(tmp_path: Path) -> None:
    request = replace(REQUEST, cases=("mov-imm32",), seconds=0.03)
    session = Session.begin(request, str(tmp_path / "run"))
    stop = len(session.matrix.plans) // 2

    def interrupt(progress: Any) -> None:
        if progress.done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.campaign.run(interrupt)
    assert session.cells_left == len(session.matrix.plans) - stop > 0
    resumed = again(session)
    assert resumed.run(quiet=True) is True
    assert (resumed.cells_left, resumed.harness_failed) == (0, 0)
    ends = [r["id"] for r in read_records(session.path) if r["type"] == "end" and r["status"] != "skipped"]
    assert sorted(ends) == sorted(plan_id(as_dict(plan)) for plan in session.matrix.plans)
    assert grades(resumed)
    assert write("json", read_reading([session.path])) == write("json", resumed.reading())
    resumed.folder.close()
    assert RunFolder.open(session.path).run["seed"] == 7
