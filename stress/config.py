"""Options from a file, from profiles and from the environment, below those on the command line (docs/config.md).

A configuration file is `stress.toml`, or `pyproject.toml` with a table `tool.stress`, in this folder or the next above
that has one. It holds a table a command, with that command's options as `--help` spells them, without the dashes; and
tables `profiles.NAME` with options of `run`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from stress.errors import UsageError
from stress.tables import read_toml, refuse, show

PREFIX = "STRESS"
"""Of environment variables: STRESS_COMMAND_OPTION."""

PROFILES = Path(__file__).parent / "profiles.toml"

Options = dict[str, Any]
"""A command's options by the names of its function's parameters, of the types that click gives them."""


@dataclass(slots=True)
class Config:
    """What files and profiles say: the options of each command, and where each value is from."""

    defaults: dict[str, Options] = field(default_factory=dict)
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    profiles: dict[str, tuple[Options, str]] = field(default_factory=dict)
    file: Path | None = None

    def choose(self, name: str, command: str) -> Options:
        """Lay profile `name` over the options of `command`, and return them; UsageError where there is none."""
        if name not in self.profiles:
            raise UsageError(f"--profile: there is no '{name}'; the profiles are {', '.join(self.profiles)}")
        options, source = self.profiles[name]
        self.defaults[command] = {**self.defaults.get(command, {}), **options}
        self.sources |= {(command, key): source for key in options}
        return self.defaults[command]


def find(folder: Path) -> Path | None:
    """Return the configuration file that holds for `folder`, or None."""
    for here in (folder, *folder.parents):
        if (here / "stress.toml").is_file():
            return here / "stress.toml"
        project = here / "pyproject.toml"
        if project.is_file() and "stress" in _tables(project).get("tool", {}):
            return project
    return None


def load(file: Path | None, group: click.Group) -> Config:
    """Return what `file` and the package's own profiles say of the commands of `group`; name their variables.

    Raises:
        CaseError: a key is unknown or its value wrong; one line with file, key and remedy.
        UsageError: so is a variable of the environment.
    """
    for name, command in group.commands.items():
        for option in _options(command):
            option.envvar = _variable(name, option)
    config = Config(file=file)
    _read(config, PROFILES, _tables(PROFILES), group, "the package's profile")
    if file:
        tables = _tables(file)
        its = tables.get("tool", {}).get("stress", {}) if file.name == "pyproject.toml" else tables
        _read(config, file, its, group, f"{file}, profile")
    _check_environment(group)
    return config


def settings(context: click.Context, config: Config) -> Iterator[tuple[str, Any, str]]:
    """Yield each option of the command of `context`, its value, and where that is from."""
    command = str(context.info_name)
    for option in _options(context.command):
        name = str(option.name)
        where = context.get_parameter_source(name)
        source = {
            ParameterSource.DEFAULT_MAP: config.sources.get((command, name), "a file"),
            ParameterSource.ENVIRONMENT: f"environment, {option.envvar}",
            ParameterSource.COMMANDLINE: "command line",
        }
        yield _key(option), context.params[name], source.get(where, "default") if where else "default"


def _tables(file: Path) -> dict[str, Any]:
    return read_toml(file)


def _read(config: Config, file: Path, tables: Mapping[str, Any], group: click.Group, profile: str) -> None:
    for name, table in tables.items():
        if name == "profiles":
            continue
        if name not in group.commands or name == "config":
            known = ", ".join([*(c for c in group.commands if c != "config"), "profiles"])
            raise refuse(file, name, f"unknown table; there are {known}")
        options = _checked(file, name, table, group.commands[name])
        config.defaults[name] = options
        config.sources |= {(name, key): f"{file}, [{name}]" for key in options}
    for name, table in _table(file, "profiles", tables.get("profiles", {})).items():
        its = {
            k: v
            for k, v in _table(file, f"profiles.{name}", table).items()
            if k not in ("summary", "profile")
        }
        options = _checked(file, f"profiles.{name}", its, group.commands["run"])
        before, _ = config.profiles.get(name, ({}, ""))
        config.profiles[name] = {**before, **options}, f"{profile} {name}"


def _table(file: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refuse(file, key, f"{show(value)} is no table; give [{key}]")
    return value


def _checked(file: Path, key: str, table: Any, command: click.Command) -> Options:
    """Return a table's values as the command's options take them; CaseError on the first that is unknown or wrong."""
    options = {_key(option): option for option in _options(command)}
    values: Options = {}
    for name, value in _table(file, key, table).items():
        if name not in options:
            raise refuse(file, f"{key}.{name}", f"unknown key; the keys here are {', '.join(options)}")
        option = options[name]
        if isinstance(value, dict) or (isinstance(value, list) and not option.multiple):
            raise refuse(file, f"{key}.{name}", f"{show(value)} has the wrong type; give one value")
        if isinstance(value, bool) != option.is_flag:
            raise refuse(
                file, f"{key}.{name}", f"{show(value)} has the wrong type; see `stress {key} --help`"
            )
        if option.multiple and not isinstance(value, list):
            value = [value]
        try:
            option.type_cast_value(click.Context(command), value)
        except click.BadParameter as error:
            raise refuse(
                file, f"{key}.{name}", f"{error.message.rstrip('.')}; give as --{name} takes it"
            ) from None
        values[str(option.name)] = value
    return values


def _check_environment(group: click.Group) -> None:
    """Refuse a variable that begins like one of a command's and is none: it would change nothing."""
    for name, command in group.commands.items():
        known = {_variable(name, option) for option in _options(command)}
        prefix = f"{PREFIX}_{name.upper()}_"
        for variable in os.environ:
            if variable.startswith(prefix) and variable not in known:
                raise UsageError(f"{variable}: unknown variable; there are {', '.join(sorted(known))}")


def _options(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option)]


def _key(option: click.Option) -> str:
    """The option as a file spells it: its longest name without the dashes."""
    return max(option.opts, key=len).lstrip("-")


def _variable(command: str, option: click.Option) -> str:
    return f"{PREFIX}_{command}_{_key(option)}".upper().replace("-", "_")
