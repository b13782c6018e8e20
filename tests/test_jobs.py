"""The ready jobs, checked as far as a machine without a lab can: syntax, shape, and that every command exists."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stress.cli import cli
from stress.formats import FORMATS, format_of
from stress.tables import read_toml
from tests.support import ROOT

JOBS = ROOT / "jobs"
FILES = [path for path in sorted(JOBS.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
PROFILES = read_toml(ROOT / "stress" / "profiles.toml")["profiles"]


def load(name: str) -> Any:
    return yaml.safe_load((JOBS / name).read_text())


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of each call of the tool in a job."""
    text = path.read_text().replace("\\\n", " ")
    if path.name == "Containerfile":
        (call,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
        yield json.loads(call)
    for line in text.splitlines():
        if line.lstrip().startswith(("#", "description", "Description")) or path.suffix == ".md":
            continue
        for found in re.findall(r"(?:^|[ \"'/(-])stress ((?:run|report|doctor|compare)\b[^\n;|\"']*)", line):
            yield re.split(r"\s*(?:>>|>)", found)[0].split()


CALLS = [(path, words) for path in FILES for words in commands(path)]


def test_jobs_call_the_tool() -> None:
    assert {path.name for path, _ in CALLS} >= {
        *("lava.yaml", "test_stress.py", "github.yml", "gitlab.yml", "stress.service", "Containerfile"),
    }


@pytest.mark.parametrize(("path", "words"), CALLS, ids=lambda value: getattr(value, "name", None))
def test_every_command_and_option_exists(path: Path, words: list[str]) -> None:
    command = cli.commands[words[0]]
    options = {opt: p for p in command.params for opt in p.opts}
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if not word.startswith("-"):
            continue
        assert word in options, (path, word)
        if word == "--format":
            assert value in FORMATS
        if word == "-o":
            format_of(value)
        if word == "--profile" and re.fullmatch(r"\w+", value):
            assert value in PROFILES


def test_variables_of_the_environment_exist() -> None:
    known = {
        f"STRESS_{name}_{max(p.opts, key=len).lstrip('-')}".upper().replace("-", "_")
        for name, command in cli.commands.items()
        for p in command.params
    }
    named = {word for path in FILES for word in re.findall(r"\bSTRESS_[A-Z_]+", path.read_text())}
    assert named
    assert named <= known


def test_the_lava_definition_is_what_its_schema_wants() -> None:
    """lava_common/schemas/test/testdef.py: these keys, of these types."""
    job = load("lava.yaml")
    assert set(job) <= {"metadata", "install", "params", "parameters", "run", "parse"}
    assert job["metadata"]["format"] == "Lava-Test Test Definition 1.0"
    assert not re.search(r"[$&\"'`()<>/\\|; ]", job["metadata"]["name"])
    assert isinstance(job["metadata"]["description"], str)
    assert all(isinstance(dep, str) for dep in job["install"]["deps"])
    assert all(isinstance(step, str) for step in job["run"]["steps"])
    assert job["params"]["PROFILE"] in PROFILES


def shell_of(path: Path) -> list[str]:
    """The shell scripts in a job."""
    job = load(path.name)
    if path.name == "lava.yaml":
        return ["\n".join(job["run"]["steps"])]
    if path.name == "gitlab.yml":
        return ["\n".join(job["stress"][key]) for key in ("script", "after_script")]
    return [step["run"] for step in job["jobs"]["stress"]["steps"] if "run" in step]


@pytest.mark.parametrize("name", ["lava.yaml", "github.yml", "gitlab.yml"])
def test_shell_in_jobs_is_shell(name: str) -> None:
    scripts = shell_of(JOBS / name)
    assert scripts
    for script in scripts:
        plain = re.sub(r"\$\{\{.*?\}\}", "expression", script)
        subprocess.run(["sh", "-n"], input=plain, text=True, check=True, timeout=10)


def test_a_finding_does_not_cut_the_lava_job_short(tmp_path: Path) -> None:
    """Its steps run under `set -e`: where the tool exits with 1 all of them run; with 3 the run is a failed case."""
    (script,) = shell_of(JOBS / "lava.yaml")
    told = {}
    for status in (0, 1, 3):
        stubs = tmp_path / str(status)
        stubs.mkdir()
        for name, text in {
            "stress": f'test "$1" != run || exit {status}',
            "lava-test-case": 'case=$1; shift 2; "$@" && echo "$case pass" || echo "$case fail"',
            **dict.fromkeys(("python3", "tar", "rm", "lava-test-reference"), ":"),
        }.items():
            (stubs / name).write_text(f"#!/bin/sh\n{text}\n")
            (stubs / name).chmod(0o755)
        steps = script.replace("/var/tmp/stress-venv/bin/python", "python3").replace(
            "/var/tmp/stress-venv/bin:", ""
        )
        run = f"set -e\nPROFILE=smoke FAIL_ON=never\n{steps}\necho end"
        done = subprocess.run(
            ["sh", "-c", run],
            env={"PATH": f"{stubs}:/usr/bin:/bin"},
            text=True,
            capture_output=True,
            timeout=10,
        )
        told[status] = done.stdout.split("\n")[:3]
    assert told[0] == told[1] == ["stress-doctor pass", "stress-run pass", "end"]
    assert told[3] == ["stress-doctor pass", "stress-run fail", "end"]


def test_github_s_workflow_has_the_shape_of_one() -> None:
    job = load("github.yml")
    assert set(job) == {
        "name",
        True,
        "permissions",
        "jobs",
    }  # YAML 1.1 reads `on` as true, and so does GitHub's own
    steps = job["jobs"]["stress"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    assert isinstance(job["jobs"]["stress"]["runs-on"], list)


def test_gitlab_s_job_has_the_shape_of_one() -> None:
    job = load("gitlab.yml")["stress"]
    assert all(isinstance(line, str) for key in ("script", "after_script") for line in job[key])
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"]["junit"] == "stress-run.xml"


def test_the_labgrid_example_compiles_and_its_environment_has_the_driver() -> None:
    module = ast.parse((JOBS / "labgrid" / "test_stress.py").read_text())
    (named,) = (
        node.args[0].value
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "get_driver"
        and isinstance(node.args[0], ast.Constant)
    )
    target = load("labgrid/environment.yaml")["targets"]["main"]
    assert named in target["drivers"]
    assert {"address", "username"} <= set(target["resources"]["NetworkService"])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    for path in (JOBS / "systemd").iterdir():
        text = path.read_text().replace(
            "/usr/local/bin/stress", "/bin/true"
        )  # verify wants the executable to exist
        (tmp_path / path.name).write_text(text)
    units = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(
        [verifier, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    about = [line for line in done.stderr.splitlines() if "stress" in line]
    assert (done.returncode, about) == (0, [])


def seccomp() -> dict[str, Any]:
    profile: dict[str, Any] = json.loads((JOBS / "container" / "seccomp.json").read_text())
    return profile


def test_the_seccomp_profile_has_the_shape_that_runtimes_read() -> None:
    """The OCI runtime specification, config-linux.md: seccomp."""
    profile = seccomp()
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "archMap", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    for rule in profile["syscalls"]:
        assert set(rule) <= {"names", "action", "comment"}
        assert rule["action"] == "SCMP_ACT_ALLOW"
        assert rule["names"] == sorted(set(rule["names"]))


def test_the_seccomp_profile_lets_the_core_s_own_calls_through() -> None:
    allowed = {name for rule in seccomp()["syscalls"] for name in rule["names"]}
    source = "".join(path.read_text() for path in (ROOT / "native").rglob("*.[ch]"))
    own = set(re.findall(r"\bSYS_([a-z0-9_]+)", source))
    own |= {
        name for name in ("process_vm_writev", "ptrace", "memfd_create", "mremap") if f"{name}(" in source
    }
    assert {"membarrier", "ptrace", "process_vm_writev"} <= own
    assert own <= allowed


def test_what_the_container_is_told_is_what_there_is() -> None:
    text = (JOBS / "container" / "Containerfile").read_text()
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0])
    assert entry == ["stress"]
    for path in re.findall(r"seccomp=(\S+)", text):
        assert (ROOT / path).is_file()
    assert shlex.split(re.findall(r"^ENV (.*)$", text, re.MULTILINE)[0])
