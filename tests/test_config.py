"""Where an option's value comes from: a file, a profile, the environment, the command line, in this order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from stress import cli
from stress.config import PROFILES, find, load
from stress.errors import CaseError, UsageError
from stress.host import Host
from stress.matrix import build
from stress.tables import read_toml
from tests.support import stress
from tests.trees.hosts import guest

LIMITS = {"smoke": 60, "ci": 600, "soak": 12 * 3600}
"""Seconds that a profile may take."""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder and an environment without settings."""
    for name in os.environ:
        if name.startswith("STRESS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return guest(tmp_path / "tree")


def settings(*args: str) -> dict[str, tuple[Any, str]]:
    """What `config show` says, as this process would have it: value and source by option."""
    from click.testing import CliRunner

    told = CliRunner().invoke(cli.cli, ["config", "show", "--format", "json", *args], catch_exceptions=False)
    return {row["option"]: (row["value"], row["from"]) for row in json.loads(told.stdout)}


def refusal(text: str, name: str = "stress.toml") -> str:
    Path(name).write_text(text)
    with pytest.raises(CaseError) as caught:
        load(find(Path.cwd()), cli.cli)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_said_is_the_default() -> None:
    found = settings()
    assert found["sites"] == (["usual"], "default")
    assert {source for _, source in found.values()} == {"default"}


def test_files_environment_and_flags_rise_in_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("stress.toml").write_text('[run]\nbudget = "1m"\nseed = 5\nfail-on = "never"\n')
    monkeypatch.setenv("STRESS_RUN_SEED", "6")
    monkeypatch.setenv("STRESS_RUN_FAIL_ON", "clean")
    found = settings()
    assert found["budget"][0] == "1m"
    assert found["budget"][1].endswith("stress.toml, [run]")
    assert found["seed"] == (6, "environment, STRESS_RUN_SEED")
    context = cli.cli.commands["run"].make_context("run", ["--seed", "7"], parent=_root())
    assert (context.params["seed"], context.params["fail_on"], context.params["budget"]) == (7, "clean", "1m")


def _root() -> click.Context:
    context = cli.cli.make_context("stress", ["run"])
    with context:
        context.invoke(cli.cli.callback, config_file=None)  # type: ignore[arg-type]
    return context


def test_a_profile_stands_between_the_file_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[run]\nbudget = "1m"\nseed = 5\n[profiles.mine]\nbudget = "2m"\ncases = "nop5-*"\npatches = 7\n'
    Path("stress.toml").write_text(text)
    monkeypatch.setenv("STRESS_RUN_PATCHES", "8")
    found = settings("--profile", "mine")
    assert [found[name][0] for name in ("seed", "budget", "cases", "patches")] == [5, "2m", ["nop5-*"], "8"]
    assert found["budget"][1].endswith("stress.toml, profile mine")


def test_a_file_may_choose_a_profile_and_change_one_of_the_package_s() -> None:
    Path("stress.toml").write_text('[run]\nprofile = "smoke"\n[profiles.smoke]\nbudget = "20s"\n')
    found = settings()
    assert found["budget"][0] == "20s"
    assert found["cases"][0] == read_toml(PROFILES)["profiles"]["smoke"]["cases"]


def test_the_next_file_above_holds_and_stress_toml_before_pyproject(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find(below) is None
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
    (tmp_path / "pyproject.toml").write_text("[tool.stress.run]\nseed = 3\n")
    assert find(below) == tmp_path / "pyproject.toml"
    os.chdir(below)
    assert settings()["seed"][0] == 3
    (tmp_path / "stress.toml").write_text("")
    assert find(below) == tmp_path / "stress.toml"


def test_a_file_can_be_named_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "stress.toml").write_text("[report]\nformat = 'json'\n")
    (tmp_path / "other.toml").write_text("")

    def is_read(*args: str) -> bool:
        return "stress.toml, [report]" in stress(*args, "config", "show", "report", cwd=tmp_path).stdout

    assert is_read()
    assert not is_read("--config", "")
    assert not is_read("--config", "other.toml")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[run]\nsecond = 1\n", "run.second: unknown key; the keys here are profile, cases"),
        ("[rnu]\nseconds = 1\n", "rnu: unknown table; there are run, "),
        ("[config]\n", "config: unknown table"),
        ("run = 1\n", "run: 1 is no table"),
        ("[run]\nexecutors = 99\n", "run.executors: 99 is not in the range"),
        ('[run]\nformat = "pdf"\n', "run.format: 'pdf' is not one of"),
        ('[run]\nquiet = "yes"\n', "run.quiet: 'yes' has the wrong type"),
        ("[run]\nseconds = [1]\n", "run.seconds: [1] has the wrong type"),
        ("[run]\nseconds = true\n", "run.seconds: True has the wrong type"),
        ("[profiles]\nmine = 1\n", "profiles.mine: 1 is no table"),
        ("[profiles.mine]\nbudgte = 1\n", "profiles.mine.budgte: unknown key"),
        ("[run\n", "toml:"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_file_key_and_remedy(text: str, key: str) -> None:
    told = refusal(text)
    assert told.startswith(f"{Path.cwd()}/stress.toml: {key}")
    assert "; " in told


def test_the_command_line_tells_it_in_one_line_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "stress.toml").write_text("[run]\nsecond = 1\n")
    told = stress("list", "cpus", cwd=tmp_path)
    assert (told.returncode, told.stderr.count("\n")) == (cli.USAGE, 1)


def test_a_variable_that_is_none_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRESS_NG_SOMETHING", "1")
    load(None, cli.cli)
    monkeypatch.setenv("STRESS_RUN_BUGDET", "1m")
    with pytest.raises(
        UsageError, match=r"STRESS_RUN_BUGDET: unknown variable; there are .*STRESS_RUN_BUDGET"
    ):
        load(None, cli.cli)


def test_an_unknown_profile_is_refused() -> None:
    told = stress("run", "--profile", "nope", cwd=Path.cwd())
    assert told.returncode == cli.USAGE
    assert "there is no 'nope'; the profiles are smoke, ci, soak" in told.stderr


@pytest.mark.parametrize("profile", list(LIMITS))
def test_the_package_s_profiles_end_in_time_on_two_cpus(profile: str, host: Host) -> None:
    context = cli.cli.commands["run"].make_context("run", ["--profile", profile], parent=_root())
    not_of_the_request = (
        "out",
        "resume",
        "style",
        "fail_on",
        "baseline",
        "vendor",
        "quiet",
        "retry",
        "deadline",
    )
    options = {k: v for k, v in context.params.items() if k not in not_of_the_request}
    matrix = build(cli._request(options), host)
    assert 0.5 * LIMITS[profile] < matrix.expected_seconds < 0.9 * LIMITS[profile]


def test_profiles_named_in_help_are_those_that_there_are() -> None:
    names = list(read_toml(PROFILES)["profiles"])
    help_text = cli.cli.commands["run"].get_help(click.Context(cli.cli.commands["run"]))
    assert names == list(LIMITS)
    assert all(name in help_text for name in names)
