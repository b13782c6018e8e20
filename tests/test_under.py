"""Whatever a prefix does, its cells have a record with the right status, and nothing of it is left."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stress import cli, under
from stress.agent import build
from stress.errors import HostError, UsageError
from stress.model import Limits, Status, Step
from stress.plan import as_dict
from stress.runner import Running
from stress.session import read_reading
from stress.severity import parse_grades
from stress.under import AgentError, Under
from tests.support import (
    MOV,
    STRICT_CFLAGS,
    Record,
    count,
    halves,
    here,
    is_alive,
    is_one_line,
    make_plan,
    regime,
    session_processes,
    started,
    stress,
    until,
)

PLANTED = as_dict(make_plan(MOV, halves("front", "back"), Limits(20.0, patches=2)))
ENDLESS = make_plan(MOV, regime(Step("store", "all", "new")), Limits(60.0))
SMALL = ("--cases", "mov-imm32", "--regimes", "none", "--seconds", "0.05", "--quiet")

# A prefix that is well as long as it is only asked what it is.
WELL = 'case "$*" in *--probe*|*--version*) exec "$@";; esac\n'
KILLS = WELL + 'exec 3<&0; "$@" <&3 & sleep 0.2; kill -9 $!; wait $!'
HANGS = WELL + "sleep 600"
STOPS = WELL + "kill -STOP $$"
LITTERS = '"$@"; sleep 600 &'


@pytest.fixture(autouse=True)
def strict_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `--under` build an agent that compiles without a warning."""
    monkeypatch.setenv("CFLAGS", STRICT_CFLAGS)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Make a command of a shell script; what the agent is started by are its arguments."""

    def make(text: str) -> str:
        file = tmp_path / f"prefix{len(list(tmp_path.iterdir()))}"
        file.write_text(f"#!/bin/sh\necho $$ >>{tmp_path}/pids\n{text}\n")
        file.chmod(0o755)
        return str(file)

    return make


def nothing_is_left(folder: Path) -> bool:
    """Whether every script that was started, and all of its group, has gone."""
    groups = {int(line) for line in (folder / "pids").read_text().split()}

    def alive(pid: str) -> bool:
        try:
            state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            return False
        return int(group) in groups and state not in "ZX"

    return until(lambda: not any(alive(pid) for pid in os.listdir("/proc") if pid.isdecimal()), 3)


def answer(prefix: str, plan: dict[str, Any] = PLANTED) -> dict[str, Any]:
    box = os.memfd_create("box")
    try:
        return Under.of(prefix, "").run(plan, box)
    finally:
        os.close(box)


def records(folder: Path) -> list[Record]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == "end"]


@pytest.mark.hardware
@pytest.mark.parametrize("prefix", ["env", "nice -n 5", f"setarch {os.uname().machine} -R", "chrt -o 0"])
def test_a_prefix_that_changes_little_changes_nothing_that_is_seen(prefix: str) -> None:
    if not shutil.which(prefix.split()[0]):
        pytest.fail(f"{prefix.split()[0]} is missing; on Debian: apt install util-linux")
    result = answer(prefix)
    assert (result["status"], result["reason"], result["patches"]) == ("ok", "", 2)
    assert {s["outcome"] for s in result["signatures"]} == {"torn"}


@pytest.mark.hardware
@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (KILLS, Status.CRASHED, "died of SIGKILL"),
        (WELL + "kill -9 $$", Status.CRASHED, "died of SIGKILL"),
        (WELL + "kill -SEGV $$", Status.CRASHED, "died of SIGSEGV"),
        (WELL + "echo it burns >&2; exit 9", Status.CRASHED, "ended with status 9: it burns"),
        (
            WELL + "printf 'Assertion\\nat 1\\nat 2\\nThanks.' >&2; exit 1",
            Status.CRASHED,
            "1: Assertion ... Thanks.",
        ),
        (WELL + "yes well | head -9999 >&2; echo bad >&2; exit 1", Status.CRASHED, "status 1: well ... bad"),
        (
            WELL + "printf 'it happened:\\n  not an addr!\\nat 1\\nBye' >&2; exit 1",
            Status.CRASHED,
            "happened: not an addr! ... Bye",
        ),
        (WELL + "kill -ABRT $$", Status.CRASHED, "died of SIGABRT"),
        (WELL + 'exec "$1" <<-.\n{}\n.', Status.ERROR, "ended with status 2: stress-agent: plan"),
        ("echo hello", Status.ERROR, "printed 'hello\\n', where an answer was due"),
        ("exit 0", Status.ERROR, "printed '', where an answer was due"),
        ("cat", Status.ERROR, "printed no record, but other JSON"),
        ("echo '[]'", Status.ERROR, "where an answer was due"),
        ("echo '{\"status\": NaN}'", Status.ERROR, "where an answer was due"),
        ("head -c 300 /dev/urandom", Status.ERROR, "where an answer was due"),
        ("exec yes", Status.ERROR, "printed more than 32 MiB"),
        ("exec /nonexistent", Status.ERROR, "ended with status 127"),
    ],
)
def test_a_prefix_that_is_unwell_is_told_apart(
    script: Callable[[str], str], tmp_path: Path, text: str, status: Status, reason: str
) -> None:
    with pytest.raises(AgentError) as told:
        answer(script(text), as_dict(ENDLESS))
    assert told.value.status == status
    assert reason in str(told.value)
    assert is_one_line(f"{told.value}\n")
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "text", [HANGS, STOPS, "trap '' TERM INT HUP; sleep 600 & wait", "sleep 600 & sleep 600"]
)
def test_a_prefix_that_hangs_is_killed_with_all_it_started(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(under, "RUN_GRACE_SECONDS", -19.0)
    begun = time.monotonic()
    with pytest.raises(AgentError, match=r"no answer within 1 s; .* was killed") as told:
        answer(script(text))
    assert told.value.status == Status.TIMEOUT
    assert time.monotonic() - begun < 5
    assert nothing_is_left(tmp_path)


@pytest.mark.hardware
def test_a_prefix_that_leaves_something_behind_is_cleared_up_after(
    script: Callable[[str], str], tmp_path: Path
) -> None:
    """What it printed counts, and that a process of its holds the pipe open does not matter."""
    assert answer(script(LITTERS))["status"] == "ok"
    assert nothing_is_left(tmp_path)


@pytest.mark.hardware
def test_what_a_dead_agent_had_counted_is_in_the_record(script: Callable[[str], str], tmp_path: Path) -> None:
    target = Under.of(script(KILLS.replace("0.2", "1")), "")
    running = Running(ENDLESS, target.command)
    record, _ = running.finish()
    assert record["status"] == "crashed"
    assert "died of SIGKILL" in record["reason"]
    assert count(record) > 0
    assert 0 < record["seconds"] < 60
    assert nothing_is_left(tmp_path)


@pytest.mark.hardware
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_worker_takes_the_agent_along(
    script: Callable[[str], str], tmp_path: Path, number: signal.Signals
) -> None:
    running = Running(ENDLESS, Under.of(script('"$@"'), "").command)
    assert until(lambda: len(_children_of(tmp_path)) > 0, 20)
    (agent,) = _children_of(tmp_path)
    os.kill(running.worker_pid, number)
    assert until(lambda: not is_alive(agent), 3)
    running.abandon()
    assert nothing_is_left(tmp_path)


def _children_of(folder: Path) -> list[int]:
    """The processes that the scripts have started."""
    try:
        parents = {int(line) for line in (folder / "pids").read_text().split()}
    except OSError:
        return []
    family = session_processes(os.getsid(0))
    return [pid for pid, parent in family.items() if parent in parents]


@pytest.mark.hardware
def test_an_abandoned_cell_ends_its_prefix(script: Callable[[str], str], tmp_path: Path) -> None:
    running = Running(ENDLESS, Under.of(script(HANGS), "").command)
    assert until((tmp_path / "pids").exists, 20)
    begun = time.monotonic()
    running.abandon()
    assert time.monotonic() - begun < 3
    assert until(lambda: nothing_is_left(tmp_path), 10)


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("", "--under: is empty"),
        ("   ", "--under: is empty"),
        ("no-such-command -x", "--under: there is no command 'no-such-command'"),
        ("env 'x", "--under: No closing quotation"),
    ],
)
def test_a_prefix_that_cannot_be_is_wrong_usage(tmp_path: Path, prefix: str, text: str) -> None:
    told = stress("run", *SMALL, "--under", prefix, "--out", tmp_path / "run")
    assert told.returncode == cli.USAGE
    assert is_one_line(told.stderr)
    assert text in told.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("prefix", ["false", "echo {}", "true"])
def test_a_prefix_that_does_not_run_the_agent_is_no_machine(tmp_path: Path, prefix: str) -> None:
    told = stress("run", *SMALL, "--under", prefix, "--out", tmp_path / "run")
    assert told.returncode == cli.USAGE
    assert is_one_line(told.stderr)
    assert "--under: " in told.stderr
    assert not (tmp_path / "run").exists()


def test_an_agent_of_another_version_or_none_is_refused(script: Callable[[str], str]) -> None:
    with pytest.raises(UsageError, match="is no program; build one with"):
        Under.of("env", "/etc/passwd")
    other = script('echo \'{"version": "0"}\'')
    with pytest.raises(HostError, match="is no agent of this version"):
        Under.of("env", other).probe()


@pytest.mark.hardware
def test_a_run_names_what_is_under_test_and_can_be_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = stress("run", *SMALL, "--under", "env A=1", "--out", out)
    assert done.returncode == cli.CLEAN, done.stderr
    assert done.stdout.startswith("under test: `env A=1` (env (GNU coreutils)")
    host = json.loads((out / "run.json").read_text())["host"]
    assert host["under"]["command"] == "env A=1"
    lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    (out / "records.jsonl").write_text("".join(lines[:-1]))
    again = stress("run", "--resume", out, "--quiet")
    assert again.returncode == cli.CLEAN, again.stderr
    assert len(records(out)) == sum('"end"' in line for line in lines)
    assert {record["host"] for record in records(out)} == {
        json.loads((out / "run.json").read_text())["fingerprint"]
    }
    for said in (stress("report", out), stress("explain", records(out)[0]["id"], "--run", out)):
        assert said.stdout.startswith("under test: `env A=1`") or said.returncode == cli.USAGE


@pytest.mark.hardware
@pytest.mark.parametrize(
    ("text", "more", "status", "result", "code"),
    [
        ("kill -9 $$", (), "crashed", "fail", cli.FOUND),
        ("echo 'valgrind: Assertion failed' >&2; exit 1", (), "crashed", "fail", cli.FOUND),
        ("kill -9 $$", ("--fail-on", "never"), "crashed", "xfail", cli.CLEAN),
        ("echo lies", (), "error", "error", cli.BROKEN),
    ],
)
def test_what_dies_under_test_is_a_finding_and_no_failure_of_the_harness(
    script: Callable[[str], str],
    tmp_path: Path,
    text: str,
    more: tuple[str, ...],
    status: str,
    result: str,
    code: int,
) -> None:
    prefix, out = script(WELL + text), tmp_path / "run"
    done = stress("run", *SMALL, *more, "--under", shlex.quote(prefix), "--out", out)
    assert done.returncode == code, done.stderr
    assert {(r["status"], r["died"]) for r in records(out)} == {(status, status == "crashed")}
    assert prefix in records(out)[0]["reason"]
    fail_on = parse_grades("never" if more else "forbidden,surprising", "")
    assert {f.result for f in read_reading([out], fail_on=fail_on).findings} == {result}


@pytest.mark.hardware
def test_a_run_whose_controls_died_with_what_is_under_test_does_not_end_well(
    script: Callable[[str], str], tmp_path: Path
) -> None:
    """They are no findings of their own, but without them nothing is proven."""
    plan = tmp_path / "plan"
    text = f"""cat >{plan}; grep -q '"observe": true' {plan} && kill -9 $$; exec "$@" <{plan}"""
    prefix, out = script(WELL + text), tmp_path / "run"
    done = stress("run", *SMALL, "--under", shlex.quote(prefix), "--out", out)
    assert {(r["role"], r["status"]) for r in records(out)} >= {("cell", "ok"), ("witness", "crashed")}
    assert all(r["status"] == "ok" for r in records(out) if r["role"] != "witness")
    assert done.returncode == cli.FOUND
    assert "ended by the death of what is under test" in done.stderr


@pytest.mark.hardware
def test_an_interrupted_run_ends_its_prefix(script: Callable[[str], str], tmp_path: Path) -> None:
    prefix = script(HANGS)
    arguments = ("run", *SMALL, "--under", prefix, "--out", tmp_path / "run")
    with started(*arguments) as run:
        assert until(lambda: (tmp_path / "pids").exists() and len(records_begun(tmp_path / "run")) > 0, 30)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=20)
        assert run.returncode == cli.INTERRUPTED
    assert nothing_is_left(tmp_path)


VALGRIND = "valgrind -q --tool=none --fair-sched=yes"


@pytest.mark.hardware
@pytest.mark.parametrize(
    ("prefix", "stale"),
    [("qemu-x86_64", True), (VALGRIND, True), (f"{VALGRIND} --smc-check=all", False)],
)
def test_a_translator_that_does_not_see_stores_through_an_alias_is_caught(
    tmp_path: Path, prefix: str, stale: bool
) -> None:
    """None of them looks for new code where only another mapping was stored to, unless it is told to."""
    program = prefix.split()[0]
    if not shutil.which(program):
        pytest.fail(f"{program} is missing; on Debian: apt install qemu-user valgrind")
    out = tmp_path / "run"
    done = stress(
        *("run", "--cases", "mov-imm32", "--regimes", "sync-core,alias+sync-core", "--provoke", "none"),
        *("--seconds", "0.5", "--quiet", "--under", prefix, "--out", out),
    )
    assert done.returncode == (cli.FOUND if stale else cli.CLEAN), done.stderr
    assert {r["status"] for r in records(out)} == {"ok"}
    seen = {r["regime"]: r for r in records(out)}
    assert count(seen["sync-core"], "stale") == 0
    assert count(seen["sync-core"]) > 0
    assert (count(seen["alias+sync-core"], "stale") > 0) == stale
    assert done.stdout.startswith(f"under test: `{prefix}` ({program}")


@pytest.mark.hardware
@pytest.mark.parametrize(("prefix", "stale"), [("qemu-x86_64", {"reopen", "shmat"}), (VALGRIND, {"reopen"})])
def test_what_an_alias_is_made_by_matters_to_a_translator(
    tmp_path: Path, prefix: str, stale: set[str]
) -> None:
    """Valgrind looks for changed code where no file is mapped; QEMU nowhere but where it was stored to."""
    if not shutil.which(prefix.split()[0]):
        pytest.fail(f"{prefix.split()[0]} is missing; on Debian: apt install qemu-user valgrind")
    out = tmp_path / "run"
    stress(
        *("run", "--cases", "mov-imm32", "--sites", "in8", "--regimes", "reopen+sync-core,shmat+sync-core"),
        *("--provoke", "none", "--seconds", "0.5", "--quiet", "--under", prefix, "--out", out),
    )
    cells = [r for r in records(out) if r["role"] == "cell"]
    assert {(r["regime"], r["status"]) for r in cells} == {
        ("reopen+sync-core", "ok"),
        ("shmat+sync-core", "ok"),
    }
    assert {r["plan"]["via"] for r in cells if count(r, "stale")} == stale
    assert {r["plan"]["via"] for r in cells if count(r, "fault")} == set()


def records_begun(folder: Path) -> list[str]:
    try:
        return (folder / "records.jsonl").read_text().splitlines()
    except OSError:
        return []


LIE = """#include <stdarg.h>
#include <sys/prctl.h>
int __real_prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int __wrap_prctl(int op, ...)
{
	va_list more;
	unsigned long a[4];
	va_start(more, op);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(more, unsigned long);
	va_end(more);
	return op == PR_SET_SYSCALL_USER_DISPATCH ? 0 : __real_prctl(op, a[0], a[1], a[2], a[3]);
}
"""
"""What a translator does that passes the call on: it is told yes, and nothing is stopped."""


@pytest.mark.hardware
def test_containment_that_is_only_promised_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "lie.c").write_text(LIE)
    build(tmp_path / "liar", {"CFLAGS": f"{tmp_path}/lie.c -Wl,--wrap=prctl"})
    liar, honest = Under.of("env", str(tmp_path / "liar")), Under.of("env", "")
    assert "syscall-dispatch" not in liar.probe()["features"]
    assert ("syscall-dispatch" in honest.probe()["features"]) == ("syscall-dispatch" in here().features)
    box = os.memfd_create("box")
    assert liar.run(PLANTED, box)["syscalls_contained"] is False
    assert honest.run(PLANTED, box)["syscalls_contained"] == ("syscall-dispatch" in here().features)
    os.close(box)


@pytest.mark.hardware
def test_valgrind_stops_no_system_call_and_is_found_out() -> None:
    if not shutil.which("valgrind"):
        pytest.fail("valgrind is missing; on Debian: apt install valgrind")
    assert "syscall-dispatch" not in Under.of(VALGRIND, "").probe()["features"]
    assert answer(VALGRIND)["syscalls_contained"] is False
