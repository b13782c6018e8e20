"""Measure what the README quotes: each figure a ratio to a baseline that ran in alternation with it, in this run.

    python benchmarks/run.py [--rounds 9] [--seconds 0.2] [--json FILE]

A ratio is the median over the rounds of (ours / baseline) within one round, so that a machine whose speed drifts
drifts under both. Exit status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from stress import blackbox, native
from stress.cases import load_cases
from stress.host import read_host
from stress.model import Cell, Limits, Placement, Plan, Provocation, Regime, Site
from stress.plan import as_dict

Pair = Callable[[float], tuple[float, float]]
"""Seconds to spend on each side -> (ours, baseline), both per second."""


@dataclass(frozen=True)
class Figure:
    """One line of the result. `low` and `high` are the extreme ratios of the rounds."""

    name: str
    baseline: str
    ours_per_second: float
    baseline_per_second: float
    ratio: float
    low: float
    high: float
    target: float
    met: bool


def idle_plan(case: str, seconds: float, cpu: int) -> dict[str, Any]:
    """A plan in which one executor runs the case's image 0 in the value loop and nobody patches."""
    regime = Regime("idle", "R0", "nothing is stored", "none", ())
    nothing = (Provocation("none", "nothing"),)
    cell = Cell(load_cases()[case], Site(0), "whole", regime, nothing, Placement("l3", -1, (cpu,)))
    return as_dict(Plan(cell, Limits(seconds), 1, 0, 0))


def value_loop(case: str, cpu: int) -> Pair:
    """Executions a second of the value loop, against a C loop that calls the same region and counts."""

    def pair(seconds: float) -> tuple[float, float]:
        plan = idle_plan(case, seconds, cpu)
        box = bytearray(blackbox.result_bytes())
        native.run(plan, box)
        result = blackbox.decode(plan, box)
        executions = sum(sum(row.values()) for row in result["outcomes"].values())
        return executions / result["seconds"], native.bare_loop(plan, seconds)

    return pair


def measure(name: str, baseline: str, target: float, pair: Pair, rounds: int, seconds: float) -> Figure:
    """One figure from `rounds` rounds after one that is thrown away."""
    pair(seconds)
    seen = [pair(seconds) for _ in range(rounds)]
    ratios = sorted(ours / base for ours, base in seen)
    ratio = statistics.median(ratios)
    ours, base = (statistics.median(side) for side in zip(*seen, strict=True))
    return Figure(name, baseline, ours, base, ratio, ratios[0], ratios[-1], target, ratio >= target)


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    host = read_host()
    cpu = max(host.allowed)
    os.sched_setaffinity(0, {cpu})
    baseline = "C loop: call, compare, count"
    pairs = {case: value_loop(case, cpu) for case in ("mov-imm32", "jmp-rel32", "call-rel32")}
    figures = [
        measure(f"value loop, {case}", baseline, 0.95, pair, options.rounds, options.seconds)
        for case, pair in pairs.items()
    ]
    print(
        f"{host.model_name}, family {host.family} model {host.model}, hypervisor {host.hypervisor or 'none'}"
    )
    print(f"{'figure':26} {'ours/s':>9} {'baseline/s':>10}  {'ratio':>5} {'low':>5} {'high':>5}  target")
    for f in figures:
        verdict = "met" if f.met else "MISSED"
        print(
            f"{f.name:26} {f.ours_per_second / 1e6:8.1f}M {f.baseline_per_second / 1e6:9.1f}M  "
            f"{f.ratio:5.2f} {f.low:5.2f} {f.high:5.2f}  {f.target:.2f} {verdict}"
        )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"host": host.as_dict(), "figures": [asdict(f) for f in figures]}, file, indent=1)
    return 0 if all(f.met for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
