"""Measure what the README quotes: each figure a ratio to a baseline that ran in alternation with it, in this run.

    python -m benchmarks.run [--only loops,power] [--rounds 7] [--seconds 0.15] [--json FILE]

A ratio is the median over the rounds of (ours / baseline) within one round. Exit status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from benchmarks import loops, power, publishing, running, scale
from benchmarks.figure import Figure, table
from stress.host import read_host

GROUPS: dict[str, Callable[[int, float], Iterator[Figure]]] = {
    "loops": loops.figures,
    "publishing": publishing.figures,
    "common": lambda rounds, seconds: power.common(rounds, 2 * seconds),
    "rare": lambda rounds, seconds: power.rare(rounds, 2 * seconds),
    "running": lambda rounds, seconds: running.figures(rounds),
    "scale": lambda rounds, seconds: scale.figures(),
}
"""What can be measured, by the name that `--only` takes."""


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(GROUPS), help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=7, help="at least 7 for a figure that is quoted")
    parser.add_argument("--seconds", type=float, default=0.15, help="on each side of a round")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(GROUPS):
        parser.error(f"--only: '{unknown.pop()}' is none of {', '.join(GROUPS)}")
    host, begun = read_host(), time.monotonic()
    who = f"{host.model_name}, family {host.family} model {host.model}, {len(host.allowed)} CPUs"
    print(f"{who}, hypervisor {host.hypervisor or 'none'}, Linux {host.kernel}", flush=True)
    figures: list[Figure] = []
    for name in chosen:
        found = list(GROUPS[name](options.rounds, options.seconds))
        print(f"\n{table(found)}", flush=True)
        figures += found
    judged = [f for f in figures if f.target is not None]
    missed = [f for f in judged if not f.met]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} targets met in {time.monotonic() - begun:.0f} s")
    if options.json:
        told = [asdict(f) | {"verdict": f.verdict} for f in figures]
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"host": host.as_dict(), "figures": told}, file, indent=1)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
