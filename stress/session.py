"""One `stress run` from request to printed result: what the command line drives, free of the command line."""

from __future__ import annotations

import shlex
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from stress import __version__
from stress.archive import Archive
from stress.campaign import Campaign, Progress
from stress.errors import StoreError
from stress.explain import explain, latest_run
from stress.formats import lines_of
from stress.host import Host, as_probe, read_host
from stress.live import Live
from stress.matrix import Matrix, Request, build
from stress.model import Grade, Status
from stress.plan import as_dict, describe, plan_id
from stress.progress import Line, span, wants_colour, width_of
from stress.promises import load_promises
from stress.reading import Listed, Reading, Record, worst_of
from stress.regimes import load_regimes
from stress.severity import FAIL_ON
from stress.store import RunFolder, read_records, read_run
from stress.survive import as_begun
from stress.table import under_text
from stress.under import Under

FOLDER = "stress-runs"

FAILED = (Status.ERROR, Status.TIMEOUT, Status.CRASHED)
"""What a cell whose harness broke ends with; what it counted before that is graded all the same. A record that says
`died` is none: what was under test broke.
"""

VENDORS = {None: "", "amd": "AuthenticAMD", "intel": "GenuineIntel", "generic": "generic"}


def _new_folder() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(FOLDER) / f"{stamp}-{uuid.uuid4().hex[:6]}"


def _under_test(request: Request) -> tuple[Host, Under | None]:
    """This machine; or, where the request has a prefix, what the agent finds under that, and how to run it there."""
    if not request.under:
        return read_host(), None
    under = Under.of(request.under, request.agent)
    return read_host(probe=as_probe(under.probe()), under=under.described()), under


class Session:
    """A run: its request, its matrix on this host, and the folder that keeps it."""

    def __init__(
        self,
        request: Request,
        host: Host,
        under: Under | None,
        folder: RunFolder,
        records: Iterable[dict[str, Any]],
    ) -> None:
        """Use `begin` or `resume`."""
        self.request = request
        self.host = host
        self.folder = folder
        self.matrix: Matrix = build(request, host)
        self.campaign = Campaign(
            self.matrix.plans,
            self.matrix.skips,
            folder,
            host.vendor,
            host.fingerprint,
            request.seed,
            under.command if under else (),
            list(records),
        )

    @staticmethod
    def begin(request: Request, out: str | None, command: str = "") -> Session:
        """A new run in folder `out`, or in a new one below `stress-runs`; `command`: what asked for it, if not us.

        Raises:
            UsageError, CaseError, HostError: the request cannot be met; no folder is made then.
            StoreError: the folder cannot be made.
        """
        request = request.located()
        host, under = _under_test(request)
        build(request, host)
        run = {
            "schema": 1,
            "run": uuid.uuid4().hex,
            "version": __version__,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command or shlex.join(["stress", *sys.argv[1:]]),
            "seed": request.seed,
            "request": request.as_dict(),
            "fingerprint": host.fingerprint,
            "host": host.as_dict(),
        }
        return Session(request, host, under, RunFolder.create(Path(out) if out else _new_folder(), run), [])

    @staticmethod
    def resume(path: Path, joined: bool = False) -> Session:
        """An unfinished run, to go on with; `joined`: for a process that was started by the one that does.

        Raises:
            StoreError: `path` holds no run, or the run of another machine.
            HostError: it was begun on CPUs that may not be used now.
        """
        folder = RunFolder.join(path) if joined else RunFolder.open(path)
        missing = {"fingerprint", "request", "host"} - set(folder.run)
        if missing:
            raise StoreError(
                f"{path}/run.json: {sorted(missing)[0]}: missing; it is damaged, begin a new run"
            )
        request = Request.from_dict(folder.run["request"])
        host, under = _under_test(request)
        if folder.run["fingerprint"] != host.fingerprint:
            raise StoreError(f"{path}: was begun on another machine, kernel or setting; begin a new run here")
        return Session(request, as_begun(path, folder.run, host), under, folder, read_records(path))

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    def announcement(self) -> list[str]:
        """What will be done and how long it takes, before it is done."""
        plans, skips, left = self.matrix.plans, self.matrix.skips, self.cells_left
        each = plans[0].limits
        seconds = self.matrix.expected_seconds * left / len(plans)
        what = [
            f"{n} {unit}" for n, unit in ((each.executions, "executions"), (each.patches, "patches")) if n
        ]
        what = what or [span(each.seconds)]
        cpus = sorted({cpu for plan in plans for cpu in plan.cell.placement.cpus})
        aside = f", {self.matrix.lanes} side by side" if self.matrix.lanes > 1 else ""
        # Who asks for executions or patches gets those, however long they take.
        takes = "" if each.executions or each.patches else f"; about {span(seconds)}"
        tested = [f"under test: {text}"] if (text := under_text(self.host.under)) else []
        return [
            *tested,
            f"{left} cells of {' or '.join(what)} on CPUs {','.join(map(str, cpus))}{aside}{takes}",
            f"{len(skips)} more combinations cannot run here; seed {self.request.seed}; records in {self.path}",
        ]

    def run(
        self, quiet: bool, live: Live | None = None, deadline_seconds: float = 0.0, retry: bool = False
    ) -> bool:
        """Run what is left; False where it was interrupted, or `deadline_seconds` (0: none) were over.

        `live` is shown every record as it comes. `retry`: run also what was running when the machine went down.
        """
        line = Line(quiet)
        self.campaign.retry = retry
        if deadline_seconds:
            self.campaign.deadline = time.monotonic() + deadline_seconds

        def tell(progress: Progress) -> None:
            if live:
                line.clear()
                live.look()
            line.tell(progress)

        try:
            self.campaign.run(tell)
        except KeyboardInterrupt:
            return False
        finally:
            line.clear()
            if live:
                live.close()
        return not (deadline_seconds and self.cells_left)

    @property
    def late(self) -> bool:
        """Whether the deadline is near or over."""
        return time.monotonic() > self.campaign.deadline - self.matrix.plans[0].limits.seconds

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records so far."""
        return self.campaign.records

    @property
    def cells_left(self) -> int:
        """Plans without a finished record."""
        ended = {record["id"] for record in self.records if record["type"] == "end"}
        return sum(plan_id(as_dict(plan)) not in ended for plan in self.matrix.plans)

    @property
    def harness_failed(self) -> int:
        """Cells whose status says that the tool failed, not that the CPU did something."""
        ends = (r for r in self.records if r["type"] == "end" and not r.get("died"))
        return sum(r["status"] in FAILED for r in ends)

    @property
    def died(self) -> int:
        """Cells, controls and witnesses among them, in which what is under test died."""
        return sum(r["type"] == "end" and bool(r.get("died")) for r in self.records)

    def reading(
        self, vendor: str | None = None, fail_on: Collection[str] = FAIL_ON, baseline: str | None = None
    ) -> Reading:
        """The run so far, as formats are given it; `baseline`: a run folder whose findings are known."""
        known = _known(baseline, vendor)
        return _reading(self.folder.run, [self.path], vendor, fail_on, known)

    def live(self, style: str, stream: TextIO, *how: Any) -> Live:
        """What writes the run to `stream` while it goes on, in a format of lines; `how`: as `reading` takes it."""
        whole, plans = self.reading(*how), self.matrix.plans
        cells = len(self.matrix.skips) + sum(plan.cell.regime.role == "cell" for plan in plans)
        controls = (
            {"id": plan_id(as_dict(plan)), "host": self.host.fingerprint, **describe(plan.cell)}
            for plan in plans
            if plan.cell.regime.role == "control"
        )

        def read(records: Sequence[Record]) -> Reading:
            return replace(whole, records=Listed(records))

        return Live(lines_of(style), cells, self.records, controls, read, stream)


def _reading(
    run: dict[str, Any],
    folders: Sequence[Path],
    vendor: str | None,
    fail_on: Collection[str] = FAIL_ON,
    known: Mapping[str, Grade] | None = None,
) -> Reading:
    """The records in the order of the regimes' file, whatever the order in which they were run."""
    rank = {name: i for i, name in enumerate(load_regimes())}
    # A user's own come last: their file may be gone.
    records = Archive(folders, lambda regime: rank.get(regime, len(rank)))
    colour, names = wants_colour(sys.stdout), tuple(map(str, folders))
    promises, whose, width = load_promises(), VENDORS[vendor], width_of(sys.stdout)
    return Reading(run, records, promises, whose, colour, fail_on, known or {}, names, width)


def _known(baseline: str | None, vendor: str | None) -> dict[str, Grade]:
    """The cells of the run in folder `baseline`, each with its worst grade."""
    return worst_of(read_reading([Path(baseline)], vendor).findings) if baseline else {}


def read_reading(
    folders: Sequence[Path],
    vendor: str | None = None,
    fail_on: Collection[str] = FAIL_ON,
    baseline: str | None = None,
) -> Reading:
    """What one or more run folders hold, merged; StoreError where one cannot be read."""
    run = read_run(folders[0])
    return _reading(run, folders, vendor, fail_on, _known(baseline, vendor))


def explain_text(cell: str, folder: Path | None, vendor: str | None) -> str:
    """The page about one cell of the run in `folder`, or of the youngest run below here."""
    path = folder or latest_run(Path(FOLDER))
    host = read_run(path).get("host", {})
    page = explain(list(read_records(path)), cell, load_promises(), host.get("isa", ""), VENDORS[vendor])
    return f"under test: {text}\n\n{page}" if (text := under_text(host.get("under", {}))) else page
