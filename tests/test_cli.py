"""The command line as its users meet it: exit statuses, one line for every error, interrupts, odd machines."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import io
import json
import os
import pty
import random
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stress import __main__ as entry
from stress import cli
from stress.aggregate import RegimeLine
from stress.cases import find_cases, load_cases
from stress.model import Grade
from stress.regimes import load_regimes
from stress.store import RECORDS, read_records
from tests.conftest import can_race
from tests.support import ROOT, command, here, is_one_line, session_processes, started, stress, until

two_cpus = pytest.mark.skipif(not can_race(), reason="one CPU is refused before anything else is looked at")

TORN = ("run", "--cases", "mov-imm32", "--sites", "x64+2", "--stores", "bytes", "--regimes", "none")
IDLE = ("run", "--cases", "mov-imm32", "--sites", "x64+2", "--regimes", "idle")
FIGURES = "executions patches old new torn stale fault trap hang store_tears fetch_tears seconds upper_bound_95".split()
PR_SET_MDWE = 65


def complaint(*args: str | Path, status: int, **more: Any) -> str:
    """What the command says on stderr, which is one line, with nothing on stdout."""
    done = stress(*args, **more)
    assert done.returncode == status, done.stderr
    assert is_one_line(done.stderr), done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.fixture
def keep_sigterm() -> Iterator[None]:
    """`main` handles SIGTERM as an interrupt; pytest has its own idea."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str], keep_sigterm: None) -> Callable[..., str]:
    """As `complaint`, in this process: quicker, and whatever escapes `main` is an error here."""

    def refuse(*args: str | Path, status: int = cli.USAGE) -> str:
        got = cli.main([str(arg) for arg in args])
        told = capfd.readouterr()
        assert got == status, told.err
        assert is_one_line(told.err), told.err
        assert told.out == ""
        return told.err

    return refuse


def test_an_error_is_one_line_of_the_process_too(tmp_path: Path) -> None:
    assert "no such option" in complaint("run", "--nonsense", status=cli.USAGE).lower()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("--cases nope", "--cases: 'nope' matches nothing; there are: "),
        ("--cases mov-imm32,nope", "--cases: 'nope' matches nothing"),
        ("--regimes nope", "--regimes: 'nope' matches nothing; there are: "),
        ("--sites x7", "--sites: 'x7' is no site; give in"),
        ("--stores nope", "--stores: 'nope' matches nothing; there are: whole, "),
        (
            "--provoke nope",
            "--provoke: 'nope' matches nothing; there are: contend-tail, executor-flush-tail, ",
        ),
        ("--placements nope", "no placement 'nope' on CPUs "),
        ("--seconds nan", "--seconds: 'nan' is no duration"),
        ("--seconds inf", "--seconds: 'inf' is no duration"),
        ("--seconds -1", "--seconds: '-1' is no duration"),
        ("--seconds 0", "--seconds: '0' is no duration"),
        ("--budget 0.01 --seconds=", "--seconds: is empty"),
        ("--budget 0.01", "--budget: 0.01 s is too short"),
        ("--budget soon", "--budget: 'soon' is no duration"),
        ("--executions 0", "--executions: '0' is no positive whole number"),
        ("--budget 0.01 --executions=", "--executions: is empty"),
        ("--executions 1e400", "--executions: '1e400' is no positive whole number"),
        ("--patches 1.5", "--patches: '1.5' is no positive whole number"),
        ("--budget 0.01 --patches=", "--patches: is empty"),
        ("--cpus 99999", "--cpus 99999: CPU 99999 does not exist or is not allowed"),
        ("--cpus x", "--cpus 'x': give CPU numbers and ranges"),
        ("--executors 64", "executors beside a writer"),
        ("--executors 65", "Invalid value for '--executors'"),
        ("--repeat 0", "Invalid value for '--repeat'"),
        ("--seed -1", "Invalid value for '--seed'"),
        ("--until never", "Invalid value for '--until'"),
        ("--format xml", "Invalid value for '--format'"),
        ("--vendor via", "Invalid value for '--vendor'"),
        ("--fail-on nonsense", "--fail-on: 'nonsense' is no grade; give forbidden, surprising, "),
        ("--case-dir /nonexistent", "/nonexistent: cases: there is no *.toml file"),
        ("--regime-file /nonexistent", "/nonexistent: file: cannot be read"),
        ("--nonsense", "No such option"),
        ("--seconds", "requires an argument"),
    ],
)
@two_cpus
def test_wrong_usage_is_one_line_that_names_the_option(
    args: str, text: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert text in refusal("run", "--out", tmp_path / "run", *args.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("list cells --cases nope", "--cases: 'nope' matches nothing"),
        ("list regimes --regimes nope", "--regimes: 'nope' matches nothing"),
        ("list weather", "Invalid value"),
        ("show case nope", "'nope' matches nothing"),
        ("show regime nope", "'nope' matches nothing"),
        ("show weather nope", "Invalid value"),
        ("selftest --cpus 99999", "CPU 99999 does not exist"),
        ("selftest --times 0", "Invalid value for '--times'"),
        ("report", "Missing argument"),
        ("nonsense", "No such command 'nonsense'"),
    ],
)
@two_cpus
def test_every_command_refuses_wrong_usage(args: str, text: str, refusal: Callable[..., str]) -> None:
    assert text in refusal(*args.split())


def test_an_unknown_run_to_report_is_one_line(tmp_path: Path) -> None:
    assert "is no run folder" in complaint("report", tmp_path / "nope", status=cli.USAGE)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("patch = [1, 4]", "patch = [1, 40]", "x86_64.patch"),
        ("patch = [1, 4]", "patch = 7", "x86_64.patch"),
        ('kind = "K1"', 'kind = "K99"', "kind"),
        ('"b8 11 21 31 41 c3"', '"zz"', "bytes"),
        ("returns = 0x41312111", "", "returns"),
        ("[x86_64]", "[x86_64", "line"),
        ("summary", "sumary", "sumary"),
    ],
)
@two_cpus
def test_a_malformed_case_file_is_one_line_with_file_and_key(
    tmp_path: Path, old: str, new: str, key: str, refusal: Callable[..., str]
) -> None:
    text = (find_cases() / "mov-imm32.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    told = refusal("run", "--case-dir", tmp_path, "--out", tmp_path / "run")
    assert told.startswith(f"stress: {tmp_path}/mine.toml: ")
    assert key in told


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[regimes.x", ""),
        ("[regimes.x]\ncode = 'R0'", "regimes.x"),
        ("[regimes.x]\ncode='R0'\nsummary='s'\nsource='s'\nwriter=['sing']\n", "regimes.x.writer"),
        ("[regimes.none]\ncode='R0'\nsummary='s'\nsource='s'\nwriter=['store all new']\n", "already defined"),
        ("[weather]\nfine = true\n", "weather"),
    ],
)
@two_cpus
def test_a_malformed_regime_file_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, key: str, refusal: Callable[..., str]
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    told = complaint(
        "run", "--regime-file", tmp_path / "mine.toml", "--out", tmp_path / "r", status=cli.USAGE
    )
    assert f"{tmp_path}/mine.toml" in told
    assert key in told


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 10])
@two_cpus
def test_a_case_file_that_is_no_text_is_one_line(
    tmp_path: Path, content: bytes, refusal: Callable[..., str]
) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    assert "mine.toml" in refusal("run", "--case-dir", tmp_path)


@pytest.mark.parametrize("where", ["/proc/nope", "/proc/self/nope", "/dev/null", "/sys/nope"])
@two_cpus
def test_an_output_folder_that_cannot_be_is_one_line(where: str, refusal: Callable[..., str]) -> None:
    assert f"stress: {where}: " in refusal(*IDLE, "--out", where)


@two_cpus
def test_a_file_in_place_of_the_output_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    assert "give an --out that is a folder" in complaint(*IDLE, "--out", tmp_path / "run", status=cli.USAGE)
    assert (tmp_path / "run").read_text() == "mine"


@two_cpus
def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "is not empty and holds no run" in complaint(*IDLE, "--out", tmp_path, status=cli.USAGE)
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.parametrize("where", ["/nonexistent", "/etc/passwd", "/proc"])
def test_resuming_what_is_no_run_is_one_line(where: str, refusal: Callable[..., str]) -> None:
    assert f"stress: {where}: is no run folder" in refusal("run", "--resume", where)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_resuming_or_reporting_a_damaged_run_is_one_line(
    tmp_path: Path, content: str, refusal: Callable[..., str]
) -> None:
    (tmp_path / "run.json").write_text(content)
    (tmp_path / RECORDS).write_text("")
    assert str(tmp_path) in refusal("run", "--resume", tmp_path, status=cli.BROKEN)
    if "1" not in content:  # a report needs no more of the header than that
        assert str(tmp_path) in refusal("report", tmp_path, status=cli.BROKEN)


@pytest.mark.parametrize(
    "option", ["--out", "--resume", "--cpus", "--case-dir", "--sites", "--fail-on", "--profile", "--baseline"]
)
def test_an_empty_value_is_no_wish_for_the_default(option: str, refusal: Callable[..., str]) -> None:
    assert f"{option}: is empty" in refusal("run", option, "")


@pytest.mark.parametrize("args", [("--config",), ("run", "--regime-file")])
def test_a_pipe_and_a_device_are_no_files_to_wait_for(
    tmp_path: Path, args: tuple[str, ...], refusal: Callable[..., str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", "/dev/zero", tmp_path):
        more = ("run",) if args[0] != "run" else ()
        assert f"{file}: file: is no regular file" in refusal(*args, file, *more)


@two_cpus
def test_a_baseline_that_is_no_run_is_refused_before_anything_is_run(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert "is no run folder" in refusal(*IDLE, "--baseline", tmp_path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@two_cpus
def test_more_repeats_than_there_is_room_for_are_refused(refusal: Callable[..., str]) -> None:
    assert "--repeat: " in refusal(*IDLE, "--repeat", "9" * 20)


@pytest.mark.parametrize("args", [("list", "cases"), ("--help",), ("list", "cases", "--format", "json")])
def test_a_stdout_that_is_closed_is_nobody_to_tell(args: tuple[str, ...]) -> None:
    done = stress(*args, stdout=None, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (cli.CLEAN, "")


def test_a_factor_that_is_no_number_is_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "--factor" in refusal("compare", tmp_path, tmp_path, "--factor", "nan")


def one_cpu() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def test_one_allowed_cpu_is_one_line_with_what_can_be_done() -> None:
    told = complaint("run", status=cli.USAGE, preexec_fn=one_cpu)
    assert "one CPU is allowed" in told
    assert (
        "an executor and a writer need two: start it without `taskset`, widen the container's cpuset" in told
    )


@two_cpus
def test_one_cpu_that_is_asked_for_is_one_line_with_what_can_be_done() -> None:
    cpu = min(os.sched_getaffinity(0))
    assert f"one CPU is allowed (cpuset: {cpu})" in complaint("run", "--cpus", str(cpu), status=cli.USAGE)


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))


@two_cpus
def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path: Path) -> None:
    told = complaint(*IDLE, "--out", tmp_path / "run", status=cli.BROKEN, preexec_fn=small_files)
    assert "free some space or give another --out" in told


@pytest.mark.hardware
def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_loses_no_record(tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = ("run", "--cases", "mov-imm32", "--regimes", "none", "--seconds", "0.2", "--quiet", "--out", out)
    with started(*args) as run:
        assert until(lambda: records(out, "end") >= 1, 20)
        full = (out / RECORDS).stat().st_size
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (full, full))
        _, told = run.communicate(timeout=20)
    assert run.returncode == cli.BROKEN
    assert is_one_line(told), told
    assert "free some space or give another --out" in told
    assert (out / RECORDS).read_bytes().endswith(b"\n")
    assert records(out, "end") >= 1
    assert until(lambda: not session_processes(run.pid), 2)
    assert stress("run", "--resume", out, "--quiet").returncode in (cli.CLEAN, cli.FOUND)


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))


@pytest.mark.hardware
def test_too_few_descriptors_are_one_line(tmp_path: Path) -> None:
    done = stress(*IDLE, "--seconds", "0.05", "--quiet", "--out", tmp_path / "run", preexec_fn=few_files)
    assert done.returncode == cli.BROKEN
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", ["list cells", "doctor --format json"])
@two_cpus
def test_an_output_that_cannot_be_written_is_one_line(args: str) -> None:
    with open("/dev/full", "w") as full:
        done = stress(*args.split(), stdout=full)
    assert done.returncode == cli.BROKEN
    assert is_one_line(done.stderr), done.stderr


@pytest.mark.parametrize("args", ["list cells", "show case mov-imm32"])
@two_cpus
def test_a_reader_that_goes_away_is_no_error(args: str) -> None:
    with subprocess.Popen(
        command(*args.split()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        told = run.stderr.read()
    assert told == ""
    assert run.returncode == cli.CLEAN


def records(out: Path, kind: str) -> int:
    """How many records of a kind the folder holds by now."""
    path = out / RECORDS
    return sum(r["type"] == kind for r in read_records(out)) if path.exists() else 0


def interrupted(out: Path, number: int, *args: str | Path) -> tuple[float, int, str, str]:
    """Seconds to the end after a signal to the group when one cell has ended; status, stdout, stderr."""
    with started("run", "--cases", "mov-imm32", "--seconds", "0.3", *args, "--out", out) as run:
        assert until(lambda: records(out, "end") >= 1 and records(out, "start") >= 2, 30)
        begun = time.monotonic()
        os.killpg(run.pid, number)
        told, said = run.communicate(timeout=20)
        took = time.monotonic() - begun
        assert until(lambda: not session_processes(run.pid), 2)
    return took, run.returncode, told, said


@pytest.mark.hardware
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt_ends_within_half_a_second_with_the_finished_cells_summarised(
    tmp_path: Path, number: int
) -> None:
    fastest = 1e9
    for turn in range(3):  # the machine may be busy with something else
        out = tmp_path / str(turn)
        took, status, table, said = interrupted(out, number, "--regimes", "none,idle,flag")
        fastest = min(fastest, took)
        assert status == cli.INTERRUPTED
        assert "Traceback" not in said
        assert table.startswith("regime ")
        assert re.search(
            rf"interrupted, \d+ cells were not run; go on with: stress run --resume {out}\n$", said
        )
        if fastest < 0.5:
            break
    assert fastest < 0.5


@pytest.mark.hardware
def test_an_interrupted_run_prints_json_if_asked_and_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "run"
    _, status, told, said = interrupted(out, signal.SIGINT, "--regimes", "none,idle,flag", "--format", "json")
    left = re.search(r"interrupted, (\d+) cells were not run", said)
    assert (status, bool(left)) == (cli.INTERRUPTED, True), said
    json.loads(told)
    ended = {r["id"] for r in read_records(out) if r["type"] == "end"}
    done = stress("run", "--resume", out, "--fail-on", "never", "--format", "json")
    assert done.returncode == cli.CLEAN, done.stderr
    ends = [r["id"] for r in read_records(out) if r["type"] == "end"]
    assert len(ends) == len(set(ends))
    assert left
    assert len(set(ends) - ended) == int(left[1])


@pytest.mark.hardware
def test_an_interrupt_at_any_moment_shows_no_traceback(tmp_path: Path) -> None:
    moments = random.Random(7)
    for turn in range(12):
        args = ("run", "--cases", "mov-imm32", "--regimes", "none,idle", "--seconds", "0.1")
        with started(*args, "--out", tmp_path / str(turn)) as run:
            assert run.stderr
            run.stderr.readline()
            time.sleep(moments.uniform(0, 0.4))
            os.killpg(run.pid, signal.SIGINT)
            _, said = run.communicate(timeout=20)
        assert "Traceback" not in said, said
        assert run.returncode == cli.INTERRUPTED


def test_an_interrupt_during_start_up_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def interrupting(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "stress.cli":
            raise KeyboardInterrupt
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", interrupting)
    try:
        status = entry.main()
    except KeyboardInterrupt:
        status = -1
    assert status == cli.INTERRUPTED


@pytest.mark.hardware
def test_a_clean_run_exits_0_and_says_on_stderr_what_it_does(tmp_path: Path) -> None:
    done = stress(*IDLE, "--seconds", "0.1", "--out", tmp_path / "run")
    assert done.returncode == cli.CLEAN
    assert re.fullmatch(
        r"stress: \d+ cells of 0\.1 s on CPUs [0-9,]+; about .* s\n"
        rf"stress: 0 more combinations cannot run here; seed \d+; records in {tmp_path}/run\n",
        done.stderr,
    )
    assert done.stdout.startswith("regime ")
    assert re.search(r"^idle +1 .* (CLEAN|UNPROVEN)$", done.stdout, re.MULTILINE)


@pytest.mark.hardware
def test_a_quiet_run_says_nothing_but_the_result(tmp_path: Path) -> None:
    done = stress(*IDLE, "--seconds", "0.05", "--quiet", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (cli.CLEAN, "")
    assert done.stdout


@pytest.mark.hardware
def test_what_is_found_decides_the_exit_status_as_asked(tmp_path: Path) -> None:
    found = stress(*TORN, "--seconds", "0.5", "--fail-on", "interesting", "--out", tmp_path / "run")
    assert found.returncode == cli.FOUND
    assert "INTERESTING" in found.stdout
    never = stress(*TORN, "--seconds", "0.1", "--fail-on", "never", "--out", tmp_path / "again")
    assert never.returncode == cli.CLEAN


@pytest.mark.hardware
def test_a_run_ends_a_cell_at_its_first_event_if_asked(tmp_path: Path) -> None:
    args = (*TORN, "--seconds", "20", "--until", "first-event", "--format", "json", "--out", tmp_path / "run")
    begun = time.monotonic()
    # Its companions end early too: a control that tears, a witness that has no events and is bounded by --patches.
    (cell,) = json.loads(stress(*args, "--patches", "2M").stdout)["cells"]
    assert cell["torn"] >= 1
    assert time.monotonic() - begun < 30


@pytest.mark.hardware
def test_json_has_exactly_the_keys_of_the_design(tmp_path: Path) -> None:
    args = ("--format", "json", "--seconds", "0.1", "--fail-on", "never", "--out", tmp_path / "run")
    shown = json.loads(stress("run", "--cases", "mov-imm32", "--regimes", "none,idle", *args).stdout)
    assert set(shown) == {"schema", "run", "regimes", "cells"}
    assert {line["regime"] for line in shown["regimes"]} == {"none", "idle"}
    for line in shown["regimes"]:
        assert set(line) == {"regime", "cells", "grade", *FIGURES} == set(RegimeLine.__slots__)
        assert line["grade"] in set(Grade)
        assert line["cells"] == 2
    names = "cell case site store regime provocation placement cpus status grade promise".split()
    for cell in shown["cells"]:
        # Beyond the design: whose it is, what it means to a job, why it did not run, and each provocation's share.
        assert set(cell) == {*names, *FIGURES, "id", "host", "result", "reason", "provocations", "bugs"}
        assert cell["promise"] in ("forbidden", "relied-on", "allowed")
        assert cell["cell"].startswith(f"mov-imm32@{cell['site']}/whole:{cell['regime']}:{cell['placement']}")
        outcomes = sum(cell[name] for name in "old new torn stale fault trap hang".split())
        assert cell["executions"] == outcomes > 0
    assert sum(c["executions"] for c in shown["cells"]) == sum(r["executions"] for r in shown["regimes"])
    assert shown["run"]["request"]["cases"] == ["mov-imm32"]


@pytest.mark.hardware
def test_a_users_own_regime_and_case_are_run(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(
        '[regimes.ours]\ncode = "R4"\nsummary = "ours"\nsource = "ours"\ncompletes = true\nmin_patch = 2\n'
        'writer = ["store first trap", "membarrier sync-core", "store rest new", "membarrier sync-core", '
        '"store first new", "membarrier sync-core", "publish"]\n'
    )
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "mine.toml").write_text((find_cases() / "mov-imm32.toml").read_text())
    args = ("--regime-file", tmp_path / "ours.toml", "--case-dir", tmp_path / "cases", "--seconds", "0.3")
    done = stress("run", *args, "--regimes", "ours", "--format", "json", "--out", tmp_path / "run")
    assert done.returncode == cli.CLEAN, done.stderr
    for cell in json.loads(done.stdout)["cells"]:
        assert (cell["case"], cell["regime"], cell["status"], cell["torn"]) == ("mine", "ours", "ok", 0)
        assert cell["trap"] > 0


def no_rwx() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, 1, 0, 0, 0)


def rwx_can_be_refused() -> bool:
    """Whether the kernel knows PR_SET_MDWE (Linux 6.3); asked in a child, which has to live with it."""
    code = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) != 0)"
    return subprocess.run([command()[0], "-c", code], check=False).returncode == 0


@pytest.mark.hardware
def test_where_no_mapping_may_be_writable_and_executable_the_alias_regimes_still_run(tmp_path: Path) -> None:
    if not rwx_can_be_refused():
        pytest.xfail("this kernel has no PR_SET_MDWE")
    args = ("run", "--cases", "mov-imm32", "--sites", "x64", "--seconds", "0.1", "--fail-on", "never")
    done = stress(*args, "--format", "json", "--out", tmp_path / "run", preexec_fn=no_rwx)
    assert done.returncode == cli.CLEAN, done.stderr
    assert "Traceback" not in done.stderr
    cells = json.loads(done.stdout)["cells"]
    needs = {name: regime.needs for name, regime in load_regimes().items()}
    for cell in cells:
        assert cell["status"] in ("ok", "skipped"), cell
        if "rwx" in needs[cell["regime"]]:
            assert cell["status"] == "skipped"
            assert re.match("this machine lacks .*rwx", cell["reason"])
            assert cell["executions"] == 0
        assert bool(cell["reason"]) == (cell["status"] == "skipped")
    ran = {cell["regime"] for cell in cells if cell["status"] == "ok" and cell["executions"]}
    assert "alias" in ran
    assert "alias+int3+sync-core" in ran or "membarrier-sync-core" not in here().features


@pytest.mark.hardware
def test_where_nothing_can_be_run_it_says_why_in_one_line(tmp_path: Path) -> None:
    if not rwx_can_be_refused():
        pytest.xfail("this kernel has no PR_SET_MDWE")
    told = complaint(*TORN, "--out", tmp_path / "run", status=cli.USAGE, preexec_fn=no_rwx)
    assert "no cell can be run here: this machine lacks rwx; see `stress doctor`" in told


def little_space() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


@pytest.mark.hardware
def test_without_address_space_the_harness_fails_and_says_so_without_a_traceback(tmp_path: Path) -> None:
    done = stress(*IDLE, "--seconds", "0.1", "--out", tmp_path / "run", preexec_fn=little_space)
    assert done.returncode in (cli.USAGE, cli.BROKEN)
    assert "Traceback" not in done.stderr


@pytest.mark.hardware
def test_a_duration_of_months_is_waited_for(tmp_path: Path) -> None:
    with started(*IDLE, "--seconds", "60d", "--out", tmp_path / "run") as run:
        assert until(lambda: records(tmp_path / "run", "start") >= 1 or run.poll() is not None, 20)
        time.sleep(0.3)
        assert run.poll() is None, run.communicate()[1][-300:]
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate(timeout=20)
    assert run.returncode == cli.INTERRUPTED
    assert "Traceback" not in said


@pytest.mark.hardware
def test_progress_is_shown_on_a_terminal_and_wiped_off(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with started(*IDLE, "--seconds", "0.1", "--out", tmp_path / "run", stderr=theirs) as run:
        os.close(theirs)
        table, _ = run.communicate(timeout=30)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    text = shown.decode()
    assert "\033" not in table
    assert re.search(r"\r\033\[K0/\d+  mov-imm32@", text)
    assert re.search(r"M executions/s  .* left", text)
    assert text.endswith("\r\033[K")


@pytest.mark.parametrize("what", ["cases", "regimes", "provocations", "cells", "cpus"])
@two_cpus
def test_lists_are_text_or_json(what: str, capfd: pytest.CaptureFixture[str], keep_sigterm: None) -> None:
    assert cli.main(["list", what, "--format", "json"]) == cli.CLEAN
    rows = json.loads(capfd.readouterr().out)
    assert cli.main(["list", what]) == cli.CLEAN
    assert len(capfd.readouterr().out.splitlines()) == len(rows) + 1
    assert all(list(rows[0]) == list(row) for row in rows)


def test_versions_and_help_are_quick_and_plain() -> None:
    assert re.fullmatch(r"stress, version [0-9.a-z+]+\n", stress("--version").stdout)
    done = stress("--help")
    assert done.returncode == cli.CLEAN
    assert done.stdout.startswith("Usage: stress")
    assert all(f"  {name} " in done.stdout for name in cli.cli.commands)


@pytest.mark.parametrize("name", cli.cli.commands)
def test_every_command_has_help(name: str, capfd: pytest.CaptureFixture[str], keep_sigterm: None) -> None:
    assert cli.main([name, "--help"]) == cli.CLEAN
    assert capfd.readouterr().out.startswith(f"Usage: stress {name} ")


def test_help_loads_no_native_code() -> None:
    code = (
        "import sys\nfrom stress.cli import main\nmain(['--help'])\n"
        "sys.exit(any('_native' in name or name.startswith('multiprocess') for name in sys.modules))"
    )
    done = subprocess.run([command()[0], "-c", code], capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.parametrize("name", load_cases())
@two_cpus
def test_every_case_can_be_shown(name: str, capsys: pytest.CaptureFixture[str], keep_sigterm: None) -> None:
    assert cli.main(["show", "case", name]) == cli.CLEAN
    assert capsys.readouterr().out.startswith(f"{name} (K")


@pytest.mark.parametrize("name", load_regimes())
@two_cpus
def test_every_regime_can_be_shown(name: str, capsys: pytest.CaptureFixture[str], keep_sigterm: None) -> None:
    assert cli.main(["show", "regime", name]) == cli.CLEAN
    assert capsys.readouterr().out.startswith(f"{name} (R")


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt, BrokenPipeError, OSError(28, "No space left on device")]
)
def test_what_a_command_raises_becomes_an_exit_status(
    raised: BaseException | type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    keep_sigterm: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def failing(**_: object) -> None:
        raise raised

    monkeypatch.setattr(cli.cli.commands["doctor"], "callback", failing)
    monkeypatch.setattr("sys.stderr", io.StringIO())  # `main` may close it
    wanted: dict[object, int] = {KeyboardInterrupt: cli.INTERRUPTED, BrokenPipeError: cli.CLEAN}
    assert cli.main(["doctor"]) == wanted.get(raised, cli.BROKEN)


def test_doctor_says_whether_this_machine_can(tmp_path: Path) -> None:
    done = stress("doctor", "--format", "json")
    told = json.loads(done.stdout)
    stops = any(finding["level"] == "stop" for finding in told["findings"])
    assert done.returncode == (cli.FOUND if stops else cli.CLEAN)
    assert told["host"]["isa"] == here().isa
    alone = stress("doctor", preexec_fn=one_cpu)
    assert alone.returncode == cli.FOUND
    assert "executor and writer need two" in alone.stdout
