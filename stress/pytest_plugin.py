"""`pytest --stress-cases NAMES`: every cell is an item. Without the option nothing is imported and nothing happens.

Cells that share a CPU are one xdist group, controls and witnesses first, so that `-n auto` runs side by side what
does not disturb itself, and a cell is judged with its evidence at hand. One process holds the run folder; the workers
join it, so that each can say on the disk what it is about to run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # what is imported only where the option is given
    from stress.matrix import Matrix, Request
    from stress.model import Plan
    from stress.session import Session

WORDS = ("cases", "regimes", "sites", "stores", "provoke", "placements")
"""Options that are those of `stress run`, with their meaning and default."""

OURS = re.compile(r"(?<!\S)(?<!run )--(?=[a-z])(?!stress-)")
"""Before the name of an option of `stress run` that an error speaks of, unless it speaks of that command."""

GROUP = "xdist_group"
FOLDER = "stress_folder"
"""Under which a worker of xdist is told the run folder."""

REQUEST: pytest.StashKey[Request] = pytest.StashKey()
SESSION: pytest.StashKey[Session] = pytest.StashKey()
MATRIX: pytest.StashKey[Matrix] = pytest.StashKey()
BAD: pytest.StashKey[set[str]] = pytest.StashKey()


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
    group.addoption(
        "--stress-resume", metavar="DIR", help="go on with this run; its cells are as they were then"
    )
    group.addoption("--stress-retry", action="store_true", help="run again what the machine went down under")


def _is_asked_for(config: pytest.Config) -> bool:
    return bool(config.getoption("stress_cases")) or config.getoption("stress_resume") is not None


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)  # before xdist, which takes `-n` to mean `--dist load`
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Have xdist keep groups together: cells that share a CPU may not run side by side."""
    if not _is_asked_for(config) or not getattr(config.option, "numprocesses", None):
        return
    if config.option.dist == "no":
        config.option.dist = "loadgroup"
    if config.option.dist != "loadgroup":
        raise pytest.UsageError("cells need --dist loadgroup: cells that share a CPU run one by one")


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; what a worker of xdist runs, it reads from the run folder."""
    if not _is_asked_for(config):
        return
    from stress.severity import parse_grades

    config.addinivalue_line("markers", "stress: a cell of cross-modifying code, run on real CPUs")
    with _one_line():
        config.stash[BAD] = parse_grades(config.getoption("stress_fail_on"), "--stress-fail-on")
        if _is_worker(
            config
        ):  # it reads the command line anew, where `-n` alone does not say how to distribute
            config.option.loadgroup = True
        elif config.getoption("stress_resume") is None:
            config.stash[REQUEST] = _request(config)


def _request(config: pytest.Config) -> Request:
    import secrets

    from stress.matrix import Request, parse_seconds

    chosen = {word: (text,) for word in WORDS if (text := config.getoption(f"stress_{word}"))}
    seconds, seed = config.getoption("stress_seconds"), config.getoption("stress_seed")
    return Request(
        **chosen,  # type: ignore[arg-type]
        cpus=config.getoption("stress_cpus"),
        seed=secrets.randbits(32) if seed is None else seed,
        seconds=parse_seconds(seconds, "--stress-seconds") if seconds else None,
    )


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn our errors into pytest's own for wrong usage, with our options as they are called here."""
    from stress.errors import StressError

    try:
        yield
    except StressError as error:
        text = " ".join(str(error).split())
        raise pytest.UsageError(re.sub(OURS, "--stress-", text)) from error


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the run folder, go on with one, or join the one that the other process of xdist holds."""
    config = session.config
    if not _is_asked_for(config):
        return
    from stress.host import read_host
    from stress.matrix import build

    with _one_line():
        if config.option.collectonly and REQUEST in config.stash:
            config.stash[MATRIX] = build(config.stash[REQUEST], read_host())
            return
        begun = config.stash[SESSION] = _begin(config)
        config.stash[MATRIX] = begun.matrix
        if not (_is_worker(config) or config.option.collectonly):
            begun.campaign.retry = config.getoption("stress_retry")
            begun.campaign.take_stock()


def _begin(config: pytest.Config) -> Session:
    import shlex

    from stress.session import Session

    if _is_worker(config):
        return Session.resume(Path(vars(config)["workerinput"][FOLDER]), joined=True)
    if (folder := config.getoption("stress_resume")) is not None:
        return Session.resume(Path(folder))
    command = shlex.join(["pytest", *sys.argv[1:]])
    return Session.begin(config.stash[REQUEST], config.getoption("stress_out"), command)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist the run folder."""
    if SESSION in node.config.stash:
        node.workerinput[FOLDER] = str(node.config.stash[SESSION].path.resolve())


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Put the cells beside what else was collected."""
    report = yield
    if isinstance(collector, pytest.Session) and MATRIX in collector.config.stash:
        report.result = [*report.result, Cells.from_parent(collector, name="stress", nodeid="stress")]
    return report


class Cells(pytest.Collector):
    """All cells of the request: what can be run, then what cannot, with the reason."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item a cell, in an order that no process changes."""
        matrix = self.config.stash[MATRIX]
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


def keep_groups(items: Iterable[Any]) -> None:
    """Name the groups of items: xdist 3.8 appends them to a member that pytest 9.2 no longer makes the name of."""
    for item in items:
        name = item.__dict__.get("_nodeid")
        if name and hasattr(item, "_id"):
            item._id = type(item._id).parse(name)


@pytest.hookimpl(tryfirst=True)  # before xdist, which tells the scheduler the names of all items
def pytest_collection_finish(session: pytest.Session) -> None:
    """Have cells that share a CPU stay together."""
    keep_groups(item for item in session.items if isinstance(item, CellItem))


class CellItem(pytest.Item):
    """One cell. Fails on its grade, or where the harness failed; skipped where the machine lacks what it needs."""

    def __init__(self, *, plan: Plan | None, **more: Any) -> None:
        super().__init__(**more)
        self.plan = plan
        self.add_marker("stress")

    def runtest(self) -> None:
        """Run the cell, unless its run folder has its record, and judge it."""
        from stress.model import Status

        assert self.plan is not None  # those without one carry the mark `skip`
        session = self.config.stash[SESSION]
        record = session.campaign.run_one(self.plan)
        if record["status"] == Status.SKIPPED:
            pytest.skip(record["reason"])
        if record["status"] != Status.OK:
            raise GradeError(f"{record['status']}: {record['reason']}")
        if record["role"] == "cell":
            self._judge(record, session)

    def _judge(self, record: dict[str, Any], session: Session) -> None:
        from stress.evidence import gather
        from stress.explain import explain
        from stress.grade import grade
        from stress.promises import load_promises

        records, promises = session.records, load_promises()
        verdict = grade(record, promises, gather(records).control(record))
        self.user_properties.append(("grade", verdict.grade.value))
        if verdict.grade in self.config.stash[BAD]:
            raise GradeError(explain(records, record["id"], promises, session.host.isa))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return why it failed in words; a traceback only where the plugin itself is wrong."""
        from stress.errors import StressError

        if isinstance(excinfo.value, GradeError | StressError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int, str]:
        """Return what the report's headline names."""
        return self.path, 0, self.name


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table that `stress run` prints."""
    if SESSION not in config.stash or config.option.collectonly:
        return
    from stress.formats import write
    from stress.store import read_records

    session = config.stash[SESSION]
    session.records[:] = read_records(session.path)  # what the workers of xdist stored, too
    terminalreporter.section("stress")
    terminalreporter.write(write("table", session.reading()))
    terminalreporter.write_line(f"records in {session.path}")
    if left := session.cells_left:
        terminalreporter.write_line(
            f"{left} cells were not run; go on with: pytest --stress-resume {session.path}"
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let others write to the folder."""
    if SESSION in config.stash:
        config.stash[SESSION].folder.close()
