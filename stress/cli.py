"""The command line: words in, exit status out. Commands import what they need when they run, so `--help` is quick."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from stress import __version__
from stress.errors import StressError, UsageError
from stress.sites import STORES

CLEAN, FOUND, USAGE, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses: nothing at or above --fail-on; something was; usage; the harness failed; interrupted."""

_many: dict[str, Any] = {"multiple": True, "metavar": "NAMES"}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stress")
def cli() -> None:
    """May I change code while other CPUs execute it? Find out on this machine.

    Pins threads that spin through a code region, patches the region under a chosen discipline, and tells what those
    CPUs executed: old, new, torn or stale code.
    """


_STORES_HELP = f"{', '.join(STORES)}, or all."


def _request_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose cells, the same for every command that takes any."""
    options = [
        click.option("--cases", default=("all",), help="Cases: names, globs, comma lists, or all.", **_many),
        click.option("--regimes", default=("all",), help="Regimes, likewise.", **_many),
        click.option(
            "--sites",
            default=("usual",),
            help="usual, in, in8..in64, x64+2, x64 (middle), x64+*, all.",
            **_many,
        ),
        click.option("--stores", default=("whole",), help=_STORES_HELP, **_many),
        click.option("--provoke", default=("auto",), help="A provocation, all, or auto: in turns.", **_many),
        click.option(
            "--placements", default=("auto",), help="smt, l2, l3, package, cross, all, auto.", **_many
        ),
        click.option("--cpus", default="", metavar="LIST", help="Use these CPUs only, as in 2,4-7."),
        click.option("--executors", default=1, show_default=True, type=click.IntRange(1, 64), help="A cell."),
        click.option("--case-dir", default="", metavar="DIR", help="Read cases from here instead."),
        click.option("--regime-file", "regime_files", multiple=True, metavar="FILE", help="More regimes."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_vendor_option = click.option(
    "--vendor",
    type=click.Choice(["amd", "intel", "generic"]),
    default=None,
    help="Grade by this vendor's promises.",
)


def _say(text: str) -> None:
    click.echo(f"stress: {text}", err=True)


def _echo_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1))


def _request(options: dict[str, Any]) -> Any:
    """The request that the options of `run` make."""
    import secrets

    from stress.matrix import Request, parse_count, parse_seconds

    options = dict(options)
    seconds, budget = options.pop("seconds"), options.pop("budget")
    executions, patches = options.pop("executions"), options.pop("patches")
    seed, until, under = options.pop("seed"), options.pop("until"), options.pop("under")
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


def _fail_on(text: str) -> set[str]:
    """The grades that `--fail-on` names; UsageError on an unknown one."""
    from stress.model import Grade

    words = {word.strip().upper() for word in text.split(",") if word.strip()} - {"NEVER"}
    unknown = words - set(Grade)
    if unknown:
        known = ", ".join(grade.lower() for grade in Grade)
        raise UsageError(f"--fail-on: '{unknown.pop().lower()}' is no grade; give {known} or never")
    return words


@cli.command()
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
@click.option("--format", "style", default="table", type=click.Choice(["table", "json"]), help="Of stdout.")
@click.option("--fail-on", default="forbidden,surprising", show_default=True, metavar="GRADES")
@_vendor_option
@click.option("--quiet", is_flag=True, help="No progress, no announcement.")
def run(
    out: str | None,
    resume: str | None,
    style: str,
    fail_on: str,
    vendor: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Run cells, store a record of each, print what they showed by regime.

    Exit status: 0 nothing at or above --fail-on was seen; 1 something was; 2 wrong usage; 3 the harness failed; 130
    interrupted, with the finished cells kept and summarised.
    """
    from stress.session import Session

    bad = _fail_on(fail_on)
    session = Session.resume(Path(resume)) if resume else Session.begin(_request(options), out)
    if not quiet:
        for line in session.announcement():
            _say(line)
    finished = session.run(quiet)
    click.echo(session.text(style, vendor), nl=False)
    if not finished:
        left = session.cells_left
        _say(f"interrupted, {left} cells were not run; go on with: stress run --resume {session.path}")
        sys.exit(INTERRUPTED)
    if session.harness_failed:
        _say(f"{session.harness_failed} cells failed in the harness, not on the CPU; see {session.path}")
    sys.exit(FOUND if bad & session.grades(vendor) else BROKEN if session.harness_failed else CLEAN)


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
    "what", type=click.Choice(["cases", "regimes", "codes", "provocations", "stores", "cells", "cpus"])
)
@_request_options
@click.option("--format", "style", default="table", type=click.Choice(["table", "json"]))
def list_(what: str, style: str, **options: Any) -> None:
    """List what there is: cases, regimes, the codes that they carry, provocations, stores, cells, or CPUs."""
    from stress import listing

    rows = listing.ROWS[what](options)
    if style == "json":
        _echo_json(rows)
    else:
        click.echo(listing.as_text(rows))


@cli.command()
@click.argument("what", type=click.Choice(["case", "regime"]))
@click.argument("name")
@click.option("--case-dir", default="", metavar="DIR", help="Read cases from here instead.")
@click.option("--regime-file", "regime_files", multiple=True, metavar="FILE", help="More regimes.")
@click.option("--all", "every", is_flag=True, help="Every byte mix, however many there are.")
def show(what: str, name: str, case_dir: str, regime_files: tuple[str, ...], every: bool) -> None:
    """Show one case (images, byte mixes and what each does) or one regime (its steps, what it claims)."""
    from stress import listing

    case = what == "case"
    click.echo(listing.show_case(name, case_dir, every) if case else listing.show_regime(name, regime_files))


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
@click.option(
    "--format", "style", default="table", type=click.Choice(["table", "json", "atomicity", "mutants"])
)
@_vendor_option
def report(folders: tuple[str, ...], style: str, vendor: str | None) -> None:
    """Print what one or more run folders hold, merged: the same table or JSON that `run` prints."""
    from stress.session import report_text

    click.echo(report_text([Path(folder) for folder in folders], style, vendor), nl=False)


@cli.command()
@click.argument("cell")
@click.option("--run", "folder", metavar="DIR", help="The run it belongs to; by default the youngest.")
@_vendor_option
def explain(cell: str, folder: str | None, vendor: str | None) -> None:
    """Tell why a cell of a run has its grade: what ran, what was seen, what is promised, by whom."""
    from stress.session import explain_text

    click.echo(explain_text(cell, Path(folder) if folder else None, vendor))


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _forget_stdout() -> None:
    """Have the interpreter flush what is left of stdout, at its exit, to where it does no harm."""
    with open(os.devnull, "w") as nowhere, suppress(OSError, ValueError):
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
