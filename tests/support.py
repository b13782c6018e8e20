"""What tests of running cells share: cases made by hand, cells on this machine's CPUs, and the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from stress.aggregate import RegimeLine
from stress.formats import write
from stress.host import Host, read_host
from stress.model import Case, Cell, Image, Limits, Placement, Plan, Provocation, Regime, Site, Step
from stress.promises import Promises
from stress.reading import Listed, Reading
from stress.runner import Running
from stress.summary import to_json
from stress.topology import placements

ROOT = Path(__file__).resolve().parent.parent
QUIET = Provocation("none", "nothing is done to help")
WAIT = Step("await", "", 2)
"""Two reports of progress: the second lies wholly inside the planted moment."""

Record = dict[str, Any]


@cache
def here() -> Host:
    return read_host()


@cache
def placement() -> Placement:
    return placements(here().topology, ["auto"], 1)[0]


def image(code: str, returns: int = 0, traps: bool = False) -> Image:
    return Image(bytes.fromhex(code), "", returns, traps)


def make_case(*images: Image, patch: tuple[int, int], head: int = 0, entry: int = 0) -> Case:
    return Case("made", "K1", "made", "none", "x86_64", entry, head, patch[0], patch[1], images)


MOV = make_case(image("b811111111c3", 0x11111111), image("b822222222c3", 0x22222222), patch=(1, 4))
GADGET = 0x10
STRICT_CFLAGS = "-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes"
"""With which the tests' agents are built: where all use the same, it is built once."""


def gadget_case(code: str) -> Case:
    """A case whose mix of new first and old second byte jumps to `code`; old returns GADGET, new returns 0."""
    room = bytes.fromhex(code).rjust(1, b"\x90")
    tail = b"\xc3".ljust(GADGET, b"\xcc") + room + b"\xcc"
    old, new = bytes((0xB0, GADGET)) + tail, b"\xeb\x00" + tail
    return make_case(Image(old, "", GADGET), Image(new, "", 0), patch=(0, 2))


def regime(*writer: Step, **more: Any) -> Regime:
    return Regime("planted", "R0", "planted", "none", tuple(writer), **more)


def halves(*parts: str) -> Regime:
    """Store the parts one after another, each run for a while before the next."""
    steps = [step for part in parts for step in (Step("store", part, "new"), WAIT)]
    return regime(*steps)


STALE = (Step("publish"), WAIT, Step("store", "all", "new"))


def make_plan(
    case: Case,
    discipline: Regime,
    limits: Limits,
    site: Site | None = None,
    store: str = "whole",
    provocations: tuple[Provocation, ...] = (QUIET,),
    where: Placement | None = None,
    pace_log2: int = 0,
    slice_us: int = 20_000,
) -> Plan:
    if site is None:
        site = Site(64, case.patch_len // 2) if case.patch_len > 1 else Site(0)
    cell = Cell(case, site, store, discipline, provocations, where or placement())
    return Plan(cell, limits, 1, pace_log2, slice_us)


def run_plan(plan: Plan) -> tuple[Record, list[Record]]:
    running = Running(plan)
    try:
        return running.finish()
    finally:
        running.close()


def run_cell(*args: Any, **kwargs: Any) -> Record:
    """The record of the plan that `make_plan` makes of the arguments."""
    return run_plan(make_plan(*args, **kwargs))[0]


def count(record: Record, *outcomes: str) -> int:
    """Executions with one of the outcomes; all executions, where none is named."""
    rows = record["outcomes"].values()
    return sum(n for row in rows for name, n in row.items() if not outcomes or name in outcomes)


WRONG = ("torn", "stale", "fault", "hang")


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "stress", *map(str, args)]


def stress(*args: str | Path, timeout: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
    """What the command line answers."""
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT, **more}
    return subprocess.run(command(*args), check=False, text=True, timeout=timeout, **settings)


@contextmanager
def started(*args: str | Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """The command in a session of its own; none of its processes is left, whatever becomes of the test."""
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    with subprocess.Popen(command(*args), cwd=ROOT, start_new_session=True, text=True, **settings) as run:
        try:
            yield run
        finally:
            for pid in session_processes(run.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def is_one_line(text: str) -> bool:
    return "Traceback" not in text and text.endswith("\n") and text.count("\n") == 1


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for `condition`, looking often; whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def _stat(pid: int) -> tuple[str, int, int]:
    # State, parent, session; what stands in front of the last parenthesis is a name that may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])


def session_processes(session: int) -> dict[int, int]:
    """Living processes of a session, each with its parent."""
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            state, parent, its = _stat(int(name))
        except (OSError, IndexError):
            continue
        if its == session and state not in "ZX":
            found[int(name)] = parent
    return found


def is_alive(pid: int) -> bool:
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def workers_of(controller: int) -> list[int]:
    """Worker processes of a controller that leads its own session: grandchildren, by way of the fork server."""
    family = session_processes(controller)
    children = {pid for pid, parent in family.items() if parent == controller}
    return [pid for pid, parent in family.items() if parent in children]


def read(
    run: Mapping[str, Any],
    records: Iterable[Mapping[str, Any]],
    promises: Promises,
    colour: bool = False,
    vendor: str = "",
    **more: Any,
) -> Reading:
    """What formats are given of some records."""
    return Reading(run, Listed(records), promises, vendor, colour, **more)


def aggregate(records: Iterable[Mapping[str, Any]], promises: Promises) -> list[RegimeLine]:
    """A line a regime."""
    return read({}, records, promises).lines


def shown(style: str, *args: Any, **kwargs: Any) -> str:
    """What `read` makes of the arguments, in a format."""
    return write(style, read(*args, **kwargs))


def as_json(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """What `read` makes of the arguments, as the JSON format has it."""
    return to_json(read(*args, **kwargs))


def names(values: Iterable[Any]) -> Sequence[str]:
    return [value.name for value in values]
