"""The command line: words in, exit status out. Commands import what they need when they run, so `--help` is quick."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stress import __version__, severity
from stress.errors import StressError, UsageError
from stress.formats import FORMATS, format_of, write
from stress.model import Grade

if TYPE_CHECKING:
    from stress.reading import Reading
    from stress.session import Session

CLEAN, FOUND, USAGE, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses: nothing at or above --fail-on; something was; usage; the harness failed; interrupted."""

FAIL_ON = ",".join(grade.lower() for grade in Grade if grade in severity.FAIL_ON)
"""Grades that fail a job where nobody says which, as `--fail-on` takes them."""

_many: dict[str, Any] = {"multiple": True, "metavar": "NAMES"}


class _Command(click.Command):
    """A command that takes no empty text for a value: a variable that a job has not set is no wish for the default."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(context, args)
        for parameter in self.params:
            value = context.params.get(parameter.name or "")
            given = (
                context.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.DEFAULT
            )
            if given and (value == "" or (isinstance(value, tuple) and "" in value)):
                raise UsageError(f"{parameter.opts[0]}: is empty; give a value, or leave it out")
        return rest


class _Group(click.Group):
    command_class = _Command


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="stress")
@click.option(
    "--config",
    "config_file",
    envvar="STRESS_CONFIG",
    metavar="FILE",
    help="Options from here, not from stress.toml or pyproject.toml; '' for none.",
)
@click.pass_context
def cli(context: click.Context, config_file: str | None) -> None:
    """May I change code while other CPUs execute it? Find out on this machine.

    Pins threads that spin through a code region, patches the region under a chosen discipline, and tells what those
    CPUs executed: old, new, torn or stale code.
    """
    from stress import config

    file = config.find(Path.cwd()) if config_file is None else Path(config_file) if config_file else None
    context.obj = config.load(file, cli)
    context.default_map = context.obj.defaults


def _choose_profile(context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """Lay the profile over what files say, before any other option is read."""
    if name and not context.resilient_parsing:
        context.default_map = context.obj.choose(name, context.info_name)
    return name


def _request_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose cells, the same for every command that takes any."""
    options = [
        click.option("--cases", default=("all",), help="Names, globs, comma lists, all; bug:NAME.", **_many),
        click.option("--regimes", default=("all",), help="Regimes, likewise.", **_many),
        click.option(
            "--sites",
            default=("usual",),
            help="usual, in, in8..in64, x64+2, x64 (middle), x64+*, all.",
            **_many,
        ),
        click.option(
            "--stores", default=("whole",), help="How the bytes land: `stress list stores`, or all.", **_many
        ),
        click.option("--provoke", default=("auto",), help="A provocation, all, or auto: in turns.", **_many),
        click.option(
            "--placements", default=("auto",), help="smt, l2, l3, package, cross, all, auto.", **_many
        ),
        click.option("--cpus", default="", metavar="LIST", help="Use these CPUs only, as in 2,4-7."),
        click.option("--executors", default=1, show_default=True, type=click.IntRange(1, 64), help="A cell."),
        click.option("--case-dir", default="", metavar="DIR", help="Read cases from here instead."),
        click.option("--bug-dir", default="", metavar="DIR", help="Read known bugs from here instead."),
        click.option("--regime-file", "regime_files", multiple=True, metavar="FILE", help="More regimes."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_format_option = click.option(
    "--format", "style", default="table", type=click.Choice(list(FORMATS)), help="Of stdout."
)
_baseline_option = click.option(
    "--baseline", metavar="DIR", help="A run whose findings are known: they do not fail."
)
_vendor_option = click.option(
    "--vendor",
    type=click.Choice(["amd", "intel", "generic"]),
    default=None,
    help="Grade by this vendor's promises.",
)


def _say(text: str) -> None:
    click.echo(f"stress: {text}", err=True)


def _echo_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, indent=1))


def _save(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {file}: {error.strerror}; give a file that can be written") from error


def _request(options: dict[str, Any]) -> Any:
    """The request that the options of `run` make."""
    import secrets

    from stress.matrix import Request, parse_count, parse_seconds

    options = dict(options)
    seconds, budget = options.pop("seconds"), options.pop("budget")
    executions, patches = options.pop("executions"), options.pop("patches")
    seed, until, _ = options.pop("seed"), options.pop("until"), options.pop("profile")
    under = options.pop("under")
    if under == "" or (options["agent"] and under is None):
        raise UsageError("--under: is empty; give a command, as in 'setarch -R' or 'valgrind --tool=none'")
    return Request(
        **options,
        seconds=parse_seconds(seconds, "--seconds") if seconds is not None else None,
        budget_seconds=parse_seconds(budget, "--budget") if budget is not None else 0.0,
        executions=parse_count(executions, "--executions") if executions is not None else 0,
        patches=parse_count(patches, "--patches") if patches is not None else 0,
        until_first_event=until == "first-event",
        under=under or "",
        seed=secrets.randbits(32) if seed is None else seed,
    )


@cli.command()
@click.option(
    "--profile",
    is_eager=True,
    callback=_choose_profile,
    metavar="NAME",
    help="smoke (< 1 min), ci (< 10 min), soak (a night), or one of the configuration file's.",
)
@_request_options
@click.option("--seconds", metavar="TIME", help="Of each cell; without it --budget is shared out.")
@click.option("--budget", metavar="TIME", help="Of the whole run; by default 2m, or more for many cells.")
@click.option("--executions", metavar="N", help="End a cell after so many, as in 1e9.")
@click.option("--patches", metavar="N", help="End a cell after so many.")
@click.option(
    "--until",
    type=click.Choice(["limit", "first-event"]),
    default="limit",
    help="End a cell at its first event.",
)
@click.option("--repeat", default=1, type=click.IntRange(1), help="Run every cell so many times.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Reproduce the order and the paces of a run.")
@click.option("--under", metavar="CMD", help="Put this command under test: it runs every cell's agent.")
@click.option("--agent", default="", metavar="FILE", help="The agent for --under; by default one is built.")
@click.option("--out", metavar="DIR", help="Where the records go; by default a new folder in ./stress-runs.")
@click.option("--resume", metavar="DIR", help="Go on with an unfinished run; all else is as it was then.")
@click.option("--retry", is_flag=True, help="With --resume: run again what the machine went down under.")
@click.option("--deadline", metavar="TIME", help="End the run after so long, whatever is left of it.")
@_format_option
@click.option("--fail-on", default=FAIL_ON, show_default=True, metavar="GRADES")
@_baseline_option
@_vendor_option
@click.option("--quiet", is_flag=True, help="No progress, no announcement.")
def run(
    out: str | None,
    resume: str | None,
    retry: bool,
    deadline: str | None,
    style: str,
    fail_on: str,
    baseline: str | None,
    vendor: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Run cells, store a record of each, print what they showed by regime.

    ktap and lava are printed as the run goes on, a line a cell; every other format at its end.

    Exit status: 0 nothing at or above --fail-on was seen; 1 something was; 2 wrong usage; 3 the harness failed; 130
    interrupted or out of time, with the finished cells kept and summarised.
    """
    from stress.matrix import parse_seconds
    from stress.session import Session
    from stress.store import read_run

    how = vendor, severity.parse_grades(fail_on, "--fail-on"), baseline
    if baseline:
        read_run(baseline)  # what is no run is refused before anything is run
    ends = parse_seconds(deadline, "--deadline") if deadline is not None else 0.0
    if retry and not resume:
        raise UsageError("--retry: there is nothing to run again; give --resume DIR too")
    session = Session.resume(Path(resume)) if resume else Session.begin(_request(options), out)
    if not quiet:
        for line in session.announcement():
            _say(line)
    live = session.live(style, sys.stdout, *how) if FORMATS[style].live else None
    finished = session.run(quiet, live, ends, retry)
    reading = session.reading(*how)
    if not live:
        click.echo(write(style, reading), nl=False)
    sys.exit(_status(session, reading, finished, bool(how[1])))


def _status(session: Session, reading: Reading, finished: bool, strict: bool) -> int:
    """Say on stderr what a run did not do, and return its exit status; `strict`: findings fail."""
    if not finished:
        left = session.cells_left
        why = "out of time" if session.late else "interrupted"
        _say(f"{why}, {left} cells were not run; go on with: stress run --resume {session.path}")
        return INTERRUPTED
    if session.harness_failed:
        _say(f"{session.harness_failed} cells failed in the harness, not on the CPU; see {session.path}")
    if session.died:
        _say(f"{session.died} cells were ended by the death of what is under test; see {session.path}")
    found = reading.failed or (session.died and strict)
    return FOUND if found else BROKEN if session.harness_failed else CLEAN


@cli.command()
@click.option("-o", "--output", default="stress-agent", show_default=True, metavar="FILE")
def agent(output: str) -> None:
    """Build the agent: the native core as a program, for emulators and machines without Python.

    A plan goes in on stdin, what the record counts comes out on stdout, as JSON. It is built by CC (default cc), with
    CFLAGS and LDFLAGS, for the ISA that CC compiles for, and needs no library where a static one can be linked.
    """
    from stress.agent import build

    build(Path(output))


@cli.command("list")
@click.argument(
    "what",
    type=click.Choice(["cases", "bugs", "regimes", "codes", "provocations", "stores", "cells", "cpus"]),
)
@_request_options
@click.option("--format", "style", default="table", type=click.Choice(["table", "json"]))
def list_(what: str, style: str, **options: Any) -> None:
    """List what there is: cases, known bugs, regimes, the codes they carry, provocations, stores, cells, or CPUs."""
    from stress import listing

    rows = listing.ROWS[what](options)
    if style == "json":
        _echo_json(rows)
    else:
        click.echo(listing.as_text(rows))


@cli.command()
@click.argument("what", type=click.Choice(["case", "regime", "bug", "event"]))
@click.argument("name")
@click.argument("number", required=False, type=click.IntRange(1))
@click.option("--run", "folder", metavar="DIR", help="Of an event: the run it belongs to; else the youngest.")
@click.option("--case-dir", default="", metavar="DIR", help="Read cases from here instead.")
@click.option("--bug-dir", default="", metavar="DIR", help="Read known bugs from here instead.")
@click.option("--regime-file", "regime_files", multiple=True, metavar="FILE", help="More regimes.")
@click.option("--all", "every", is_flag=True, help="Every byte mix, however many there are.")
def show(
    what: str,
    name: str,
    number: int | None,
    folder: str | None,
    case_dir: str,
    bug_dir: str,
    regime_files: tuple[str, ...],
    every: bool,
) -> None:
    """Show one case (images, byte mixes and what each does), one regime (its steps, what it claims), one known bug
    (both protocols, what was changed, who says so), or the NUMBERth event of a cell (what memory held, what ran,
    registers, age); without NUMBER, which there are.
    """
    from stress import showing
    from stress.again import event_text
    from stress.recipes import show_bug

    pages = {
        "case": lambda: showing.show_case(name, case_dir, every),
        "regime": lambda: showing.show_regime(name, regime_files),
        "bug": lambda: show_bug(name, bug_dir),
        "event": lambda: event_text(name, Path(folder) if folder else None, number),
    }
    click.echo(pages[what]())


@cli.command()
@click.option("--format", "style", default="table", type=click.Choice(["table", "json"]))
def doctor(style: str) -> None:
    """Tell whether this machine can run it, and how well. Exit status 1 where it cannot."""
    from dataclasses import asdict

    from stress import doctor as examiner
    from stress.host import read_host

    host = read_host()
    findings = examiner.examine(host)
    if style == "json":
        _echo_json({"host": host.as_dict(), "findings": [asdict(finding) for finding in findings]})
    else:
        for f in findings:
            click.echo(f"{f.level:4}  {f.subject:16} {f.text}")
            if f.remedy:
                click.echo(f"{'':22} -> {f.remedy}")
    sys.exit(FOUND if any(finding.level == "stop" for finding in findings) else CLEAN)


@cli.command()
@click.option(
    "--times", default=1, show_default=True, type=click.IntRange(1), help="Plant everything so often."
)
@click.option("--cpus", default="", metavar="LIST", help="Use these CPUs only.")
def selftest(times: int, cpus: str) -> None:
    """Plant a torn, a stale, a faulting, a hanging execution and a dying worker; all must be caught.

    Exit status: 0 all were caught and named right, 3 one was not.
    """
    from stress.host import read_host
    from stress.regimes import load_provocations
    from stress.selftest import PLANTS
    from stress.selftest import selftest as plant_all
    from stress.topology import parse_cpu_list, placements

    topology = read_host().topology
    if cpus:
        topology = topology.only(parse_cpu_list(cpus, topology.numbers))
    placement = placements(topology, ["auto"], 1)[0]
    good = 0
    for turn in range(times):
        for found in plant_all(placement, load_provocations()["none"], seed=turn + 1):
            good += found.caught
            if turn == 0 or not found.caught:
                word = (
                    "caught"
                    if found.caught
                    else f"MISSED: {found.record['status']} {found.record['outcomes']}"
                )
                click.echo(f"{found.plant.name:16} {word:8} {found.plant.summary}")
    click.echo(f"{good} of {times * len(PLANTS)} caught")
    sys.exit(CLEAN if good == times * len(PLANTS) else BROKEN)


@cli.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@_format_option
@click.option(
    "-o",
    "--output",
    "files",
    multiple=True,
    metavar="FILE",
    help=f"Write FILE instead: {', '.join(its.suffix for its in FORMATS.values() if its.suffix)}.",
)
@click.option("--fail-on", metavar="GRADES", help=f"Exit with 1 where one occurs; formats use {FAIL_ON}.")
@_baseline_option
@_vendor_option
def report(
    folders: tuple[str, ...],
    style: str,
    files: tuple[str, ...],
    fail_on: str | None,
    baseline: str | None,
    vendor: str | None,
) -> None:
    """Print what one or more run folders hold, merged, in any format, or write it to files.

    Exit status: 1 where --fail-on or --baseline is given and a cell fails; else 0.
    """
    from stress.live import write_lines
    from stress.session import read_reading

    styles = [format_of(file) for file in files]
    reading = read_reading(
        [Path(folder) for folder in folders],
        vendor,
        severity.parse_grades(fail_on or FAIL_ON, "--fail-on"),
        baseline,
    )
    for file, name in zip(files, styles, strict=True):
        _save(file, write(name, reading))
    if not files:
        text = write(style, reading)
        write_lines(text, sys.stdout) if FORMATS[style].live else click.echo(text, nl=False)
    sys.exit(FOUND if (fail_on or baseline) and reading.failed else CLEAN)


@cli.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR DIR...")
@click.option("--format", "style", default="table", type=click.Choice(["table", "json", "markdown"]))
@click.option("--fail-on", default=FAIL_ON, show_default=True, metavar="GRADES", help="Red however rare.")
@click.option(
    "--factor",
    default=10.0,
    show_default=True,
    type=click.FloatRange(1, 1e9),
    help="Rates that were seen before changed if by more than this.",
)
@_vendor_option
def compare(folders: tuple[str, ...], style: str, fail_on: str, factor: float, vendor: str | None) -> None:
    """Tell what changed from the first run to each other: what newly went red, what went green.

    Exit status: 1 where a cell went red, its rate rose, or it does not run to its end any more; else 0.
    """
    from stress.changes import WRITERS
    from stress.compare import compare as hold
    from stress.session import read_reading

    if factor != factor:
        raise UsageError("--factor: nan is no number; give 1 or more")
    if len(folders) < 2:
        raise UsageError("compare: one run alone has not changed; give two folders or more")
    bad = severity.parse_grades(fail_on, "--fail-on")
    found = hold([read_reading([Path(f)], vendor, bad) for f in folders], folders, bad, factor)
    click.echo(WRITERS[style](found), nl=False)
    sys.exit(FOUND if found.worse else CLEAN)


@cli.command()
@click.argument("cell")
@click.option("--run", "folder", metavar="DIR", help="The run it belongs to; by default the youngest.")
@_vendor_option
def explain(cell: str, folder: str | None, vendor: str | None) -> None:
    """Tell why a cell of a run has its grade: what ran, what was seen, what is promised, by whom."""
    from stress.session import explain_text

    click.echo(explain_text(cell, Path(folder) if folder else None, vendor))


@cli.group("config")
def config_group() -> None:
    """Tell what holds where nothing is said on the command line."""


@config_group.command("show")
@click.argument("command", default="run")
@click.option("--profile", metavar="NAME", help="As `stress run --profile NAME` would have it.")
@click.option("--format", "style", default="table", type=click.Choice(["table", "json"]))
@click.pass_context
def config_show(context: click.Context, command: str, profile: str | None, style: str) -> None:
    """Show each option of a command (run, where none is named), its value, and where that is from."""
    from stress.config import settings

    its = cli.commands.get(command)
    if its is None or isinstance(its, click.Group):
        raise UsageError(f"config show: there is no command '{command}'; see `stress --help`")
    # Arguments are not at issue, and whatever must be given is not missing here.
    arguments = ["--profile", profile] if profile else []
    its = click.Command(command, params=[p for p in its.params if isinstance(p, click.Option)])
    rows = [
        {"option": option, "value": list(value) if isinstance(value, tuple) else value, "from": source}
        for option, value, source in settings(
            its.make_context(command, arguments, parent=context.find_root()), context.obj
        )
    ]
    if style == "json":
        _echo_json(rows)
    for row in rows if style == "table" else ():
        value = ",".join(row["value"]) if isinstance(row["value"], list) else row["value"]
        click.echo(f"{row['option']:12} {'' if value is None else value!s:36} {row['from']}")


@cli.command()
@click.argument("cell")
@click.option("--run", "folder", metavar="DIR", help="The run it belongs to; by default the youngest.")
@click.option("--times", default=3, show_default=True, type=click.IntRange(1), help="Attempts.")
@click.option("--seconds", metavar="TIME", help="Of an attempt; without it as its rate asks for.")
@click.option(
    "--event",
    "outcome",
    type=click.Choice(["torn", "stale", "fault", "hang"]),
    help="Which, where the cell saw several; by default the gravest.",
)
@click.option("--shrink", is_flag=True, help="Find the smallest plan that still shows it.")
@click.option("-o", "--output", metavar="FILE", help="Write one C file that shows it.")
@click.option("--cpus", default="", metavar="LIST", help="Use these CPUs only.")
@_vendor_option
@click.option("--quiet", is_flag=True, help="Do not tell what --shrink is about.")
def repro(cell: str, folder: str | None, seconds: str | None, quiet: bool, **options: Any) -> None:
    """Run the very plan of a cell's record again until its event is seen; make it smaller; write it as C.

    CELL is a cell's name, or its record's id. Exit status: 1 it was reproduced, 0 it was not, 2 wrong usage.
    """
    from stress.again import repro as again
    from stress.matrix import parse_seconds

    limit = parse_seconds(seconds, "--seconds") if seconds is not None else None
    tell = (lambda _: None) if quiet else _say
    text, seen = again(cell, Path(folder) if folder else None, limit, tell, **options)
    click.echo(text, nl=False)
    sys.exit(FOUND if seen else CLEAN)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _nowhere() -> TextIOWrapper:
    return open(os.devnull, "w", encoding="utf-8")


def _forget_stdout() -> None:
    """Have the interpreter flush what is left of stdout, at its exit, to where it does no harm."""
    with suppress(OSError, ValueError), _nowhere() as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    stdout = sys.stdout
    try:
        cli.main(
            args=list(arguments) if arguments is not None else None, prog_name="stress", standalone_mode=False
        )
        sys.stdout.flush()
        return CLEAN
    except SystemExit as end:
        if sys.stdout is not stdout:  # click wraps it where it met a reader that had gone, and exits with 1
            raise BrokenPipeError from end
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else BROKEN


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; every error is one line on stderr."""
    signal.signal(signal.SIGTERM, _interrupt)  # a lab's `timeout` deserves the summary that Ctrl-C gets
    # Before a file of ours takes the number of a stream that is closed.
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is no reason to show nothing
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(arguments)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "stress"
        click.echo(f"{command}: {error.format_message()}; see `{command} --help`", err=True)
        return USAGE
    except StressError as error:
        _say(" ".join(str(error).split()))
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has gone: nothing is wrong, and there is no one to tell
        _forget_stdout()
        return CLEAN
    except OSError as error:
        _forget_stdout()
        _say(f"cannot write the output: {error.strerror or error}; give it a place with room, or use --out")
        return BROKEN
