"""Run the tool on a board that labgrid controls, and bring its records back. The board needs `stress` installed.

    pytest --lg-env jobs/labgrid/environment.yaml jobs/labgrid/test_stress.py

A run outlives the connection: it is started apart from it and asked for. A board that was reset goes on with --resume.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

PROFILE, SECONDS = "ci", 900
REMOTE, STATUS = "/var/tmp/stress-run", "/var/tmp/stress-status"
FOUND = 1
"""Exit status: a cell failed."""


@pytest.fixture
def shell(target: Any) -> Any:
    """The board's shell."""
    driver = target.get_driver("SSHDriver")
    target.activate(driver)
    return driver


def test_stress(shell: Any, tmp_path: Path) -> None:
    """No cell of the profile fails on the board."""
    shell.run_check(f"rm -rf {REMOTE} {STATUS}")
    run = f"stress run --profile {PROFILE} --quiet --out {REMOTE} --format table"
    shell.run_check(f"nohup sh -c '{run} >{REMOTE}.txt 2>&1; echo $? >{STATUS}' >/dev/null 2>&1 &")
    end = time.monotonic() + SECONDS
    while shell.run(f"test -s {STATUS}")[2] != 0:
        assert time.monotonic() < end, f"the run did not end within {SECONDS} s"
        time.sleep(5)
    for name in ("run.json", "records.jsonl", "events.jsonl"):
        shell.get(f"{REMOTE}/{name}", str(tmp_path / name))
    (status,) = shell.run_check(f"cat {STATUS}")
    table = "\n".join(shell.run_check(f"cat {REMOTE}.txt"))
    assert int(status) != FOUND, f"{table}\nrecords in {tmp_path}; see: stress report {tmp_path}"
    assert int(status) == 0, table
