"""Machines to plant below a root path: built from a few numbers, or recorded from a real one.

`python -m tests.trees.machines > tests/trees/NAME.txt` records the machine it runs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path

from stress.topology import format_cpu_list

CPUS = "sys/devices/system/cpu"
TREES = Path(__file__).parent

RECORDED = (
    "sys/devices/system/cpu/cpu[0-9]*/online",
    "sys/devices/system/cpu/cpu[0-9]*/cpu_capacity",
    "sys/devices/system/cpu/cpu[0-9]*/topology/*_id",
    "sys/devices/system/cpu/cpu[0-9]*/topology/core_cpus_list",
    "sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index*/level",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index*/type",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index*/shared_cpu_list",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu[0-9]*/microcode/version",
    "sys/devices/system/cpu/vulnerabilities/*",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/isolated",
    "sys/devices/system/cpu/nohz_full",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "sys/devices/cpu_*/cpus",
    "proc/cpuinfo",
    "proc/interrupts",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/version",
)


def record(root: Path = Path("/")) -> Iterator[str]:
    """Yield the lines of a recording: `== PATH`, then the file as it is."""
    for path in sorted(chain.from_iterable(root.glob(pattern) for pattern in RECORDED)):
        yield f"== {path.relative_to(root)}"
        yield from path.read_text().rstrip("\n").split("\n")


def recorded(name: str) -> dict[str, str]:
    """Return the files of a recording by their paths."""
    blocks = (TREES / f"{name}.txt").read_text().split("== ")[1:]
    return {path: text for path, _, text in (block.partition("\n") for block in blocks)}


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write `files` below `root`, and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cpu(
    number: int,
    *,
    core: int,
    smt: Sequence[int] = (),
    l2: Sequence[int] = (),
    l3: Sequence[int] = (),
    package: int = 0,
    die: int = 0,
    cluster: int = -1,
) -> dict[str, str]:
    """Return the files of one online CPU; each of `smt`, `l2`, `l3` includes it, and is left out where empty."""
    caches = (("1", "Data", smt), ("1", "Instruction", smt), ("2", "Unified", l2), ("3", "Unified", l3))
    files = {
        "online": "1",
        "topology/physical_package_id": str(package),
        "topology/die_id": str(die),
        "topology/cluster_id": str(cluster),
        "topology/core_id": str(core),
    }
    if smt:
        files["topology/core_cpus_list"] = files["topology/thread_siblings_list"] = format_cpu_list(smt)
    for index, (level, kind, shared) in enumerate(caches):
        if shared:
            files[f"cache/index{index}/level"] = level
            files[f"cache/index{index}/type"] = kind
            files[f"cache/index{index}/shared_cpu_list"] = format_cpu_list(shared)
    return {f"{CPUS}/cpu{number}/{name}": f"{text}\n" for name, text in files.items()}


def regular(*, packages: int = 1, l3s: int = 1, cores: int, threads: int = 1) -> dict[str, str]:
    """Return a machine whose every package has `l3s` caches of level 3, each with `cores` cores of `threads`.

    Numbered as Linux does on most: first every core's first thread, then every core's second. Level 2 is a core's.
    """
    places = list(product(range(packages), range(l3s), range(cores)))
    total = len(places)
    files = {f"{CPUS}/online": f"0-{total * threads - 1}\n"}
    for index, (package, l3, core) in enumerate(places):
        smt = range(index, total * threads, total)
        sharing = [at for at, place in enumerate(places) if place[:2] == (package, l3)]
        near = [at + total * thread for at in sharing for thread in range(threads)]
        for number in smt:
            files |= cpu(number, package=package, core=l3 * cores + core, smt=smt, l2=smt, l3=near)
    return files


def hybrid() -> dict[str, str]:
    """Return 8 cores of two threads (0-15) and 8 small ones (16-23), which share a level 2 by fours."""
    everyone = range(24)
    files = {f"{CPUS}/online": "0-23\n"}
    files |= {"sys/devices/cpu_core/cpus": "0-15\n", "sys/devices/cpu_atom/cpus": "16-23\n"}
    for number in range(16):
        smt = (number & ~1, number | 1)
        files |= cpu(number, core=number // 2 * 4, cluster=number // 2 * 8, smt=smt, l2=smt, l3=everyone)
    for number in range(16, 24):
        four = range(number & ~3, (number & ~3) + 4)
        files |= cpu(number, core=number + 16, cluster=64 + four[0], smt=(number,), l2=four, l3=everyone)
    return files


def big_little() -> dict[str, str]:
    """Return an Arm board: 4 small cores and 4 big ones, a level 2 for each four, and no level 3."""
    files = {f"{CPUS}/online": "0-7\n"}
    for number in range(8):
        four = range(number & ~3, (number & ~3) + 4)
        files |= cpu(number, core=number & 3, cluster=number // 4, die=-1, smt=(number,), l2=four)
        files[f"{CPUS}/cpu{number}/cpu_capacity"] = "1024\n" if number > 3 else "446\n"
    return files


def without(files: Mapping[str, str], part: str) -> dict[str, str]:
    """Return `files` but for those with `part` in their path."""
    return {path: text for path, text in files.items() if part not in path}


if __name__ == "__main__":
    print("\n".join(record()))
