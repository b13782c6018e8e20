"""The mark `hardware`: tests that race on real CPUs run alone and are never skipped where they could."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from stress.pytest_plugin import keep_groups

CPUS_TO_RACE = 2


def can_race() -> bool:
    """Whether this process may use as many CPUs as a writer and an executor need."""
    return len(os.sched_getaffinity(0)) >= CPUS_TO_RACE


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job ignores Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "hardware: races on real CPUs; alone in one xdist group")


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups in its own hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("hardware") is None:
            continue
        item.add_marker(pytest.mark.xdist_group("hardware"))
        if not can_race():
            item.add_marker(pytest.mark.skip(reason=f"needs {CPUS_TO_RACE} CPUs, may use 1"))


@pytest.hookimpl(tryfirst=True)  # before xdist, which tells the scheduler the names of all items
def pytest_collection_finish(session: pytest.Session) -> None:
    """Have hardware tests stay together, or refuse to begin."""
    items: list[Any] = session.items if getattr(session.config.option, "loadgroup", False) else []
    keep_groups(items)
    for item in items:
        if item.get_closest_marker("hardware") and not item.nodeid.endswith("@hardware"):
            raise pytest.UsageError(
                "this pytest-xdist does not keep hardware tests together with this pytest"
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped hardware test a failure on a machine that could have run it."""
    report = yield
    expected = hasattr(report, "wasxfail") or not can_race()
    if report.skipped and not expected and item.get_closest_marker("hardware"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"a hardware test may not be skipped here: {reason}"
    return report
