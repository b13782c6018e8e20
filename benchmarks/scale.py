"""How many cells run side by side, on machines that we do not have: the planner's packing, held against what fits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure, once
from stress.model import Placement
from stress.topology import Topology, pack, read_topology
from tests.trees.machines import hybrid, plant, recorded, regular

RELATION = "l3"
"""Of a lane's two CPUs: distinct cores behind one last-level cache."""

MACHINES = {
    "guest, recorded": recorded("guest"),
    "8 cores of 2 threads": regular(cores=8, threads=2),
    "hybrid, 8 + 8 cores": hybrid(),
    "2 packages, 4 L3s": regular(packages=2, l3s=2, cores=4, threads=2),
    "4 packages, 16 L3s": regular(packages=4, l3s=4, cores=8, threads=2),
}
"""Files below a root, as the kernel shows them: recorded, or built after the numbering that Linux uses on most."""


def _on_cores_of_their_own(topology: Topology, lanes: list[Placement]) -> int:
    """How many of `lanes`, in order, use only cores that none before them uses."""
    core, taken, own = {cpu.number: min(cpu.smt) for cpu in topology.cpus}, set[int](), 0
    for lane in lanes:
        cores = {core[cpu] for cpu in lane.cpus}
        own += not cores & taken
        taken |= cores
    return own


def packed(name: str, topology: Topology) -> Figure:
    """Lanes that share no core, against all cores but the controller's, two by two."""
    begun = time.perf_counter()
    lanes = pack(topology, RELATION, 1)
    took = time.perf_counter() - begun
    used = [cpu for lane in lanes for cpu in lane.cpus]
    if len(used) != len(set(used)):
        raise RuntimeError(f"{name}: two lanes share a CPU")
    cores = len({min(cpu.smt) for cpu in topology.cpus})
    fit = max(1, (cores - (cores > 2)) // 2)
    more = len(lanes) - (own := _on_cores_of_their_own(topology, lanes))
    note = f"{len(topology.cpus)} CPUs, packed in {took * 1e3:.0f} ms; {more} more lanes on the cores' other threads"
    return once(f"lanes, {name}", "pairs of cores", "", own, fit, 0.9, note=note)


def figures() -> Iterator[Figure]:
    """One figure a machine."""
    for name, files in MACHINES.items():
        with tempfile.TemporaryDirectory() as folder:
            yield packed(name, read_topology(plant(Path(folder), files)))
