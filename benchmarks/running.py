"""What a run costs beside its executions: the command line's start, a cell's overhead, reading and grading records."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, once, within

STRESS = (sys.executable, "-m", "stress")
HERE = Path(__file__).resolve().parent.parent
LINES = 20_000
"""Records that are read; 10^5 of them would be half a gigabyte. What they take is told for 10^5."""
PR_SET_CHILD_SUBREAPER = 36
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""With bytecode, as where the package is installed."""


@dataclass(frozen=True)
class Cost:
    """What a command took: wall and CPU seconds of it and all that it started, and its peak memory in bytes."""

    wall: float
    cpu: float
    peak: int


def cost_of(arguments: Sequence[str]) -> Cost:
    """Run `stress` with `arguments`, and wait for it and whatever it leaves behind.

    Its fork server outlives it a little; we are made the reaper of orphans, so that its time is ours to see too.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*STRESS, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE, env=COMPILED
    )
    _, _, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    process.returncode = 0
    try:
        while True:
            _, _, usage = os.wait4(-1, 0)
            cpu += usage.ru_utime + usage.ru_stime
    except ChildProcessError:
        return Cost(wall, cpu, peak)


def _records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [
        record
        for record in map(json.loads, lines)
        if record["type"] == "end" and record["status"] != "skipped"
    ]


def _starting(rounds: int) -> Iterator[Figure]:
    for words, most in ((("--help",), 0.15), (("list", "cases"), 0.3)):
        seen = [cost_of(words).wall for _ in range(rounds)]
        yield within(f"stress {' '.join(words)}", seen, most, "s")


RUN = (
    "run",
    "--cases",
    "mov-imm32,mov-imm64",
    "--regimes",
    "none,flag,sync-core",
    "--sites",
    "x64",
    "--seconds",
    "1",
    "--repeat",
    "3",
)


def _driving(folder: Path) -> Iterator[Figure]:
    cost = cost_of((*RUN, "--seed", "1", "--quiet", "--out", str(folder)))
    records = _records(folder)
    cells = sum(record["seconds"] for record in records)
    threads = sum(
        side["cpu_seconds"] for record in records for side in [*record["executors"], record["writer"]]
    )
    note = (
        f"{len(records)} cells of 1 s, one at a time; the first waits for the interpreter and the fork server"
    )
    yield once("wall time of a run", "sum of the cells", "s", cost.wall, cells, 1.05, True, note)
    share = (cost.cpu - threads) / cost.cpu
    note = f"{cost.cpu - threads:.2f} of {cost.cpu:.1f} CPU seconds; of them, what starting Python takes is spent once"
    yield within("CPU of a run beside its threads", [100 * share], 1.0, "%", note)


def grown(folder: Path, lines: int, target: Path) -> None:
    """Make a run folder `target` of `lines` end records: those of `folder` again and again, with ids of their own."""
    target.mkdir()
    (target / "run.json").write_bytes((folder / "run.json").read_bytes())
    texts = [json.dumps(record, separators=(",", ":")) for record in _records(folder)]
    ids = [json.loads(text)["id"] for text in texts]
    with (target / "records.jsonl").open("w", encoding="utf-8") as file:
        for n in range(lines):
            which = n % len(texts)
            file.write(texts[which].replace(ids[which], f"{n:016x}", 1) + "\n")


def _reading(folder: Path) -> Iterator[Figure]:
    costs = []
    for lines in (LINES // 10, LINES):
        target = folder.parent / f"grown-{lines}"
        grown(folder, lines, target)
        costs.append(cost_of(("report", str(target))))
        size = (target / "records.jsonl").stat().st_size
        (target / "records.jsonl").unlink()
    few, many = costs
    more = LINES - LINES // 10
    seconds = few.wall + (many.wall - few.wall) / more * 100_000
    note = f"from {LINES:,} records of {size / LINES:.0f} bytes, read, merged, graded and printed"
    yield within("report of 100,000 records", [seconds], 5.0, "s", note)
    note = f"{(many.peak - few.peak) / more:.0f} bytes a record more, where constant memory would be 0"
    ours, base = many.peak / 1e6, few.peak / 1e6
    yield once(f"peak memory, {LINES:,} records", "a tenth of them", "MB", ours, base, 1.1, True, note)


def figures(rounds: int) -> Iterator[Figure]:
    """Every figure of this file."""
    yield from _starting(rounds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        yield from _driving(folder)
        yield from _reading(folder)
