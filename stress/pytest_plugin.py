"""`pytest --stress-cases NAMES`: every cell is an item. Without the option nothing is imported and nothing happens.

Cells that share a CPU are one xdist group, controls and witnesses first, so that `-n auto` runs side by side what
does not disturb itself, and a cell is judged with its evidence at hand. One process keeps the run folder: the
workers' records reach it with their reports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # what is imported only where the option is given
    from stress.host import Host
    from stress.matrix import Request
    from stress.model import Plan
    from stress.session import Session

WORDS = ("cases", "regimes", "sites", "stores", "provoke", "placements")
"""Options that are those of `stress run`, with their meaning and default."""

GROUP = "xdist_group"
REQUEST: pytest.StashKey[Request] = pytest.StashKey()
HOST: pytest.StashKey[Host] = pytest.StashKey()
BAD: pytest.StashKey[set[str]] = pytest.StashKey()
RECORDS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--stress-cases` and what goes with it."""
    group = parser.getgroup("stress", "cross-modifying code: cells as tests")
    for word in WORDS:
        group.addoption(f"--stress-{word}", metavar="NAMES", help=f"as `stress run --{word}`")
    group.addoption(
        "--stress-seconds", metavar="TIME", help="of each cell; else a share of two minutes or more"
    )
    group.addoption("--stress-cpus", metavar="LIST", default="", help="use these CPUs only")
    group.addoption("--stress-seed", metavar="N", type=int, help="reproduce the paces of a run")
    group.addoption(
        "--stress-fail-on", metavar="GRADES", default="forbidden,surprising", help="grades that fail a test"
    )
    group.addoption(
        "--stress-out", metavar="DIR", help="the run folder; by default a new one in ./stress-runs"
    )


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)  # before xdist, which takes `-n` to mean `--dist load`
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Have xdist keep groups together: cells that share a CPU may not run side by side."""
    if not config.getoption("stress_cases") or not getattr(config.option, "numprocesses", None):
        return
    if config.option.dist == "no":
        config.option.dist = "loadgroup"
    if config.option.dist != "loadgroup":
        raise pytest.UsageError(
            "--stress-cases needs --dist loadgroup: cells that share a CPU run one by one"
        )


def pytest_configure(config: pytest.Config) -> None:
    """Read the request; the seed that is drawn here is the same in every xdist worker."""
    if not config.getoption("stress_cases"):
        return
    if _is_worker(config):  # it reads the command line anew, where `-n` alone does not say how to distribute
        config.option.loadgroup = True
    import secrets

    from stress.matrix import Request, parse_seconds
    from stress.severity import parse_grades

    config.addinivalue_line("markers", "stress: a cell of cross-modifying code, run on real CPUs")
    if config.option.stress_seed is None:
        config.option.stress_seed = secrets.randbits(32)
    chosen = {word: (text,) for word in WORDS if (text := config.getoption(f"stress_{word}"))}
    seconds = config.getoption("stress_seconds")
    with _one_line():
        config.stash[REQUEST] = Request(
            **chosen,  # type: ignore[arg-type]
            cpus=config.getoption("stress_cpus"),
            seed=config.option.stress_seed,
            seconds=parse_seconds(seconds, "--stress-seconds") if seconds else None,
        )
        config.stash[BAD] = parse_grades(config.getoption("stress_fail_on"), "--stress-fail-on")
    config.stash[RECORDS] = []


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn our errors into pytest's own for wrong usage."""
    from stress.errors import StressError

    try:
        yield
    except StressError as error:
        raise pytest.UsageError(" ".join(str(error).split())) from error


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the run folder, in the one process that keeps it."""
    config = session.config
    if REQUEST not in config.stash or _is_worker(config) or config.option.collectonly:
        return
    import shlex

    from stress.session import Session

    with _one_line():
        command = shlex.join(["pytest", *sys.argv[1:]])
        begun = Session.begin(config.stash[REQUEST], config.getoption("stress_out"), command)
    config.pluginmanager.register(Keeper(begun), "stress-keeper")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Put the cells beside what else was collected."""
    report = yield
    if isinstance(collector, pytest.Session) and REQUEST in collector.config.stash:
        report.result = [*report.result, Cells.from_parent(collector, name="stress", nodeid="stress")]
    return report


class Cells(pytest.Collector):
    """All cells of the request: what can be run, then what cannot, with the reason."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item a cell, in an order that no process changes."""
        from stress.host import read_host
        from stress.matrix import build

        host = self.config.stash[HOST] = read_host()
        with _one_line():
            matrix = build(self.config.stash[REQUEST], host)
        rank = {"control": 0, "witness": 1}
        groups = _groups(matrix.plans)
        for plan in sorted(matrix.plans, key=lambda plan: rank.get(plan.cell.regime.role, 2)):
            item = CellItem.from_parent(self, name=plan.cell.name, plan=plan)
            item.add_marker(getattr(pytest.mark, GROUP)(f"cpus-{groups[plan.cell.placement.cpus]}"))
            yield item
        for skip in matrix.skips:
            item = CellItem.from_parent(self, name=skip.cell.name, plan=None)
            item.add_marker(pytest.mark.skip(reason=skip.reason))
            yield item


def _groups(plans: tuple[Plan, ...]) -> dict[tuple[int, ...], str]:
    """Return for each set of CPUs the name of all that it is joined with by shared ones."""
    joined: list[set[int]] = []
    for cpus in {plan.cell.placement.cpus for plan in plans}:
        apart = [group for group in joined if not group & set(cpus)]
        joined = [*apart, set(cpus).union(*(group for group in joined if group & set(cpus)))]
    names = {cpu: "-".join(map(str, sorted(group))) for group in joined for cpu in group}
    return {plan.cell.placement.cpus: names[plan.cell.placement.cpus[0]] for plan in plans}


class GradeError(Exception):
    """A cell has a grade that fails; the text explains it."""


@pytest.hookimpl(tryfirst=True)  # before xdist, which tells the scheduler the names of all items
def pytest_collection_finish(session: pytest.Session) -> None:
    """Name the group of a cell: xdist 3.8 appends it to a member that pytest 9.2 no longer makes the name of."""
    items: list[Any] = [item for item in session.items if isinstance(item, CellItem)]
    for item in items:
        name = item.__dict__.get("_nodeid")
        if name and hasattr(item, "_id"):
            item._id = type(item._id).parse(name)


class CellItem(pytest.Item):
    """One cell. Fails on its grade, or where the harness failed; skipped where the machine lacks what it needs."""

    def __init__(self, *, plan: Plan | None, **more: Any) -> None:
        super().__init__(**more)
        self.plan = plan
        self.kept: dict[str, Any] | None = None
        self.add_marker("stress")

    def runtest(self) -> None:
        """Run the cell and judge it."""
        from stress.model import Status
        from stress.runner import Running

        assert self.plan is not None  # those without one carry the mark `skip`
        record, events = Running(self.plan).finish()
        host = self.config.stash[HOST]
        record |= {"vendor": host.vendor, "host": host.fingerprint}
        self.kept = {"record": record, "events": events}
        self.config.stash[RECORDS].append(record)
        if record["status"] == Status.SKIPPED:
            pytest.skip(record["reason"])
        if record["status"] != Status.OK:
            raise GradeError(f"{record['status']}: {record['reason']}")
        if record["role"] == "cell":
            self._judge(record)

    def _judge(self, record: dict[str, Any]) -> None:
        from stress.evidence import gather
        from stress.explain import explain
        from stress.grade import grade
        from stress.promises import load_promises

        records, promises = self.config.stash[RECORDS], load_promises()
        verdict = grade(record, promises, gather(records).control(record))
        self.user_properties.append(("grade", verdict.grade.value))
        if verdict.grade in self.config.stash[BAD]:
            raise GradeError(explain(records, record["id"], promises, self.config.stash[HOST].isa))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return why it failed in words; a traceback only where the plugin itself is wrong."""
        if isinstance(excinfo.value, GradeError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int, str]:
        """Return what the report's headline names."""
        return self.path, 0, self.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the record along: xdist carries a report's attributes to the process that keeps the folder."""
    report = yield
    if isinstance(item, CellItem) and report.when == "call" and item.kept:
        report.stress = item.kept  # type: ignore[attr-defined]
    return report


class Keeper:
    """Stores what the cells' reports bring, and sums it up: of the one process that keeps the run folder."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store a cell's record as soon as it is known."""
        kept = getattr(report, "stress", None)
        if kept:
            self.session.campaign.store(kept["record"], kept["events"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table that `stress run` prints."""
        from stress.formats import write

        self.session.campaign.store_skips()
        terminalreporter.section("stress")
        terminalreporter.write(write("table", self.session.reading()))
        terminalreporter.write_line(f"records in {self.session.path}")

    def pytest_unconfigure(self) -> None:
        """Let others write to the folder."""
        self.session.folder.close()
