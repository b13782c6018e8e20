"""Which CPUs share what (sysfs below a root path, so that tests can plant it), and which to run a cell on."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import filter as glob_filter
from pathlib import Path

from stress.errors import HostError, UsageError
from stress.model import Placement

RELATIONS = ("smt", "l2", "l3", "package", "cross")
"""How near two CPUs can be, nearest first: same core, same L2, same L3, same package, another package."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """One logical CPU, as the kernel sees it.

    `package`, `die`, `cluster`, `core`: -1 where not told.
    `smt`, `l2`, `l3`: every online CPU on its core, or behind its level 2 or 3 cache, itself included, ours
    to use or not; empty where nobody says.
    `kind`: the sort of core on a hybrid machine (`core`, `atom`, `capacity-446`), "" where all are alike.
    """

    number: int
    package: int
    die: int
    cluster: int
    core: int
    smt: frozenset[int]
    l2: frozenset[int]
    l3: frozenset[int]
    kind: str


@dataclass(frozen=True, slots=True)
class Topology:
    """CPUs in ascending order of their numbers."""

    cpus: tuple[Cpu, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The CPUs' numbers, ascending."""
        return tuple(cpu.number for cpu in self.cpus)

    @property
    def relations(self) -> tuple[str, ...]:
        """Every relation that two of these CPUs have, nearest first."""
        found = {relation(a, b) for a in self.cpus for b in self.cpus if a is not b}
        return tuple(name for name in RELATIONS if name in found)

    def only(self, numbers: Collection[int]) -> Topology:
        """Return this topology without the CPUs that are not in `numbers`."""
        return Topology(tuple(cpu for cpu in self.cpus if cpu.number in numbers))


def read_text(path: Path) -> str:
    """Return the file's text, stripped; "" where it is absent or unreadable, as in many a container."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def listed_cpus(text: str) -> frozenset[int]:
    """Return the CPUs of a list that the kernel wrote (`0-3,8`); none for "" and `(null)`."""
    spans = re.findall(r"([0-9]+)(?:-([0-9]+))?", text)
    return frozenset(n for first, last in spans for n in range(int(first), int(last or first) + 1))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Return `cpus` as the kernel writes them: `0-3,8`; "" for none."""
    present = set(cpus)
    firsts = sorted(number for number in present if number - 1 not in present)
    lasts = sorted(number for number in present if number + 1 not in present)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def parse_cpu_list(text: str, allowed: Collection[int] | None = None) -> frozenset[int]:
    """Return the CPUs that a user's `text` (`0-3,8`) names.

    `allowed`: those that may be named; None: those that this thread may run on.

    Raises UsageError, naming the allowed ones, where the text is malformed or names any other.
    """
    allowed = os.sched_getaffinity(0) if allowed is None else allowed
    here = f"(allowed: {format_cpu_list(allowed)})"
    spans = [re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part.strip()) for part in text.split(",")]
    ranges = [range(int(span[1]), int(span[2] or span[1]) + 1) for span in spans if span]
    if len(ranges) < len(spans) or not all(ranges):
        raise UsageError(f"--cpus {text!r}: give CPU numbers and ranges, as in 0-3,8 {here}")
    # Lazily: `0-999999999` must be refused, not expanded.
    wrong = next((number for span in ranges for number in span if number not in allowed), None)
    if wrong is not None:
        raise UsageError(f"--cpus {text}: CPU {wrong} does not exist or is not allowed {here}")
    return frozenset(number for span in ranges for number in span)


def _number(path: Path) -> int:
    text = read_text(path)
    # 65535 is how x86 prints a cluster that the firmware does not tell: an unsigned -1.
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) and text != "65535" else -1


def _kinds(root: Path, numbers: Collection[int]) -> dict[int, str]:
    # Intel hybrids have one performance monitor a kind (cpu_core, cpu_atom); elsewhere the capacity tells.
    monitors = sorted((root / "sys/devices").glob("cpu_*/cpus"))
    if monitors:
        return {
            number: path.parent.name[len("cpu_") :]
            for path in monitors
            for number in listed_cpus(read_text(path))
        }
    base = root / "sys/devices/system/cpu"
    capacities = {number: read_text(base / f"cpu{number}/cpu_capacity") for number in numbers}
    alike = len(set(capacities.values())) < 2
    return {number: f"capacity-{text}" for number, text in capacities.items() if text and not alike}


def _read_cpu(folder: Path, number: int, kind: str) -> Cpu:
    told = folder / "topology"
    ids = ("physical_package_id", "die_id", "cluster_id", "core_id")
    package, die, cluster, core = (_number(told / name) for name in ids)
    shared: dict[str, frozenset[int]] = {}
    for index in sorted((folder / "cache").glob("index*")):
        if read_text(index / "type") != "Instruction":
            shared.setdefault(read_text(index / "level"), listed_cpus(read_text(index / "shared_cpu_list")))
    # Linux before 5.3 has only the second name of the list.
    smt = listed_cpus(read_text(told / "core_cpus_list") or read_text(told / "thread_siblings_list"))
    l2, l3 = (shared.get(level, frozenset()) for level in ("2", "3"))
    return Cpu(number, package, die, cluster, core, smt | {number}, l2, l3, kind)


def _online(root: Path) -> set[int]:
    base = root / "sys/devices/system/cpu"
    numbers = {int(path.name[3:]) for path in base.glob("cpu[0-9]*") if path.name[3:].isdecimal()}
    if not numbers:  # no sysfs at all
        numbers = {int(n) for n in re.findall(r"^cpu([0-9]+) ", read_text(root / "proc/stat"), re.MULTILINE)}
    # CPU 0 often has no such file, since it cannot be taken offline.
    numbers = {number for number in numbers if read_text(base / f"cpu{number}/online") != "0"}
    # A container's view of the list may be renumbered, and then it says nothing about these.
    return (numbers & listed_cpus(read_text(base / "online"))) or numbers


def read_topology(root: Path = Path("/"), allowed: Set[int] | None = None) -> Topology:
    """Return the online CPUs that are in `allowed` (None: all). Raises HostError where there is none."""
    online, base = _online(root), root / "sys/devices/system/cpu"
    numbers = sorted(online if allowed is None else online & allowed)
    if not numbers:
        raise HostError(f"no allowed CPU is online (online: {format_cpu_list(online)})")
    kinds = _kinds(root, numbers)
    return Topology(tuple(_read_cpu(base / f"cpu{n}", n, kinds.get(n, "")) for n in numbers))


def relation(a: Cpu, b: Cpu) -> str:
    """Return how near two different CPUs are: the nearest of RELATIONS that applies."""
    if b.number in a.smt:
        return "smt"
    if b.number in a.l2:
        return "l2"
    if b.number in a.l3:
        return "l3"
    return "package" if a.package == b.package else "cross"


def _names(topology: Topology, wanted: Iterable[str], executors: int) -> list[str]:
    cpus, most, names = format_cpu_list(topology.numbers), len(topology.cpus) - 1, dict[str, None]()
    if most == 0:
        raise HostError(
            f"one CPU is allowed (cpuset: {cpus}); an executor and a writer need two: start it without "
            "`taskset`, widen the container's cpuset or give the guest a second CPU (see `stress doctor`)"
        )
    if not 1 <= executors <= most:
        raise HostError(f"{executors} executors beside a writer: CPUs {cpus} have room for 1 to {most}")
    existing = list(topology.relations)
    apart = [name for name in existing if name != "smt"] or existing
    for word in wanted:
        found = {"auto": apart[:1], "all": existing}.get(word) or glob_filter(existing, word)
        if not found:
            error = HostError if glob_filter(RELATIONS, word) else UsageError
            raise error(f"no placement {word!r} on CPUs {cpus}: give auto, all or {', '.join(existing)}")
        names |= dict.fromkeys(found)
    return list(names)


def _team(writer: Cpu, others: list[Cpu], name: str, executors: int, busy: Set[int]) -> tuple[int, ...]:
    # The nearest executor is at relation `name`, none nearer; () where that cannot be. Where too few are that
    # near, farther ones join. Idle cores come first, then the writer's kind of core, then low numbers.
    least, crowded, team = RELATIONS.index(name), set(busy), list[int]()
    ranks = {other: RELATIONS.index(relation(writer, other)) for other in others}
    rest = [other for other in others if ranks[other] >= least]
    if len(rest) < executors or least not in ranks.values():
        return ()
    for _ in range(executors):
        best = min(rest, key=lambda o: (ranks[o], o.number in crowded, o.kind != writer.kind, o.number))
        rest.remove(best)
        team.append(best.number)
        crowded |= best.smt
    return tuple(team)


def _fill(topology: Topology, name: str, executors: int, busy: Set[int], scarce: bool) -> Iterator[Placement]:
    # Disjoint placements until no more fits. `scarce`: who has the fewest partners picks first.
    free = {cpu.number: cpu for cpu in topology.cpus}
    near = {a: {b for b in free if b != a and relation(free[a], free[b]) == name} for a in free}
    while True:
        left = {number: len(near[number] & free.keys()) for number in free}
        order = sorted(free, key=lambda n: (n in busy, left[n] < executors, scarce * left[n], n))
        for number in order:
            team = _team(free[number], [free[n] for n in free if n != number], name, executors, busy)
            if team:
                break
        else:
            return
        yield Placement(name, number, team)
        for used in (number, *team):
            busy |= free.pop(used).smt


def _with_spares(topology: Topology, placement: Placement) -> Placement:
    # An antagonist should get a core of its own, and not the one that takes most interrupts.
    crowded = {other for cpu in topology.cpus if cpu.number in placement.cpus for other in cpu.smt}
    free = [number for number in topology.numbers if number not in placement.cpus]
    free.sort(key=lambda number: (number in crowded, number == topology.numbers[0], number))
    siblings = next(cpu.smt for cpu in topology.cpus if cpu.number == placement.executor_cpus[0])
    beside = [number for number in free if number in siblings]
    return replace(placement, spare_cpu=[*free, -1][0], sibling_cpu=[*beside, -1][0])


def placements(topology: Topology, wanted: Sequence[str], executors: int) -> list[Placement]:
    """Return one placement, always the same, of a writer and `executors` executors for each relation wanted.

    `wanted`: RELATIONS or globs over them; `auto`: the nearest that two distinct cores have, else `smt`;
    `all`: every one that exists here. Where relation and number allow, a CPU is left to the controller: the
    whole first core, which takes most interrupts, where there are more than two.

    Raises UsageError where a relation is none of RELATIONS, HostError where these CPUs do not have it.
    """
    names = _names(topology, wanted, executors)
    chosen, first = list[Placement](), topology.cpus[0]
    pools = [topology.only(topology.numbers[1:]), topology]
    if len({min(cpu.smt) for cpu in topology.cpus}) > 2:
        pools.insert(0, topology.only(set(topology.numbers) - first.smt))
    for name in names:
        found = next((p for pool in pools for p in _fill(pool, name, executors, frozenset(), False)), None)
        if found is None:
            raise HostError(f"{executors} executors do not fit at relation {name} or farther: give fewer")
        chosen.append(_with_spares(topology, found))
    return chosen


def pack(topology: Topology, relation: str, executors: int) -> list[Placement]:
    """Return placements of one relation that share no CPU, as many as a greedy choice fits; free cores first.

    One CPU of more than two is left to the controller, unless the only placement needs it. Raises as
    `placements` does.
    """
    name, first = _names(topology, [relation], executors)[0], topology.cpus[0]
    spared = list(_fill(topology.only(topology.numbers[1:]), name, executors, first.smt, True))
    packed = list(_fill(topology, name, executors, frozenset(), True))
    if len(packed) > 1 and sum(len(placement.cpus) for placement in packed) == len(topology.cpus):
        packed.pop()
    return spared if len(spared) >= len(packed) else packed
