"""What sysfs trees of many machines say, and which CPUs are then chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path

import pytest

from stress.errors import HostError, UsageError
from stress.model import Placement
from stress.topology import (
    RELATIONS,
    Topology,
    format_cpu_list,
    listed_cpus,
    pack,
    parse_cpu_list,
    placements,
    read_topology,
    relation,
)
from tests.trees.machines import CPUS, big_little, cpu, hybrid, plant, recorded, regular, without

DESKTOP = regular(cores=8, threads=2)
SERVER = regular(packages=2, l3s=2, cores=4, threads=2)
HUGE = regular(packages=4, l3s=4, cores=8, threads=2)

MACHINES: dict[str, tuple[Mapping[str, str], set[int] | None, tuple[str, ...]]] = {
    "guest": (recorded("guest"), None, ("l3",)),
    "desktop": (DESKTOP, None, ("smt", "l3")),
    "hybrid": (hybrid(), None, ("smt", "l2", "l3")),
    "server": (SERVER, None, ("smt", "l3", "package", "cross")),
    "huge": (HUGE, None, ("smt", "l3", "package", "cross")),
    "big-little": (big_little(), None, ("l2", "package")),
    "container": (DESKTOP, {3, 7}, ("l3",)),
    "no-cache": (without(DESKTOP, "/cache/"), None, ("smt", "package")),
    "three-packages": (regular(packages=3, cores=2), None, ("l3", "cross")),
    "no-topology": ({f"{CPUS}/cpu{n}/online": "1" for n in range(3)}, None, ("package",)),
}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Topology]:
    folder = tmp_path_factory.mktemp("machines")
    return {
        name: read_topology(plant(folder / name, files), allowed)
        for name, (files, allowed, _) in MACHINES.items()
    }


@pytest.mark.parametrize("name", MACHINES)
def test_relations_that_exist(machines: dict[str, Topology], name: str) -> None:
    assert machines[name].relations == MACHINES[name][2]


@pytest.mark.parametrize("name", [name for name in MACHINES if name != "huge"])
def test_relation_is_symmetric(machines: dict[str, Topology], name: str) -> None:
    for a, b in combinations(machines[name].cpus, 2):
        assert relation(a, b) == relation(b, a)


def chosen(topology: Topology, wanted: str, executors: int = 1) -> tuple[str, int, tuple[int, ...]]:
    (placement,) = placements(topology, [wanted], executors)
    return placement.relation, placement.writer_cpu, placement.executor_cpus


@pytest.mark.parametrize(
    ("name", "wanted", "executors", "expected"),
    [
        ("guest", "auto", 1, ("l3", 0, (1,))),
        # CPU 0's core (0 and 8) is left to the controller.
        ("desktop", "auto", 1, ("l3", 1, (2,))),
        ("desktop", "smt", 1, ("smt", 1, (9,))),
        # Other cores first, then their siblings; never the writer's own sibling.
        ("desktop", "l3", 3, ("l3", 1, (2, 3, 4))),
        ("desktop", "l3", 8, ("l3", 1, (2, 3, 4, 5, 6, 7, 10, 11))),
        # One sibling is all there is: the others are farther away.
        ("desktop", "smt", 2, ("smt", 1, (9, 2))),
        ("hybrid", "auto", 1, ("l2", 16, (17,))),
        ("hybrid", "smt", 1, ("smt", 2, (3,))),
        # Cores of the writer's kind first.
        ("hybrid", "l3", 7, ("l3", 2, (4, 6, 8, 10, 12, 14, 16))),
        ("server", "auto", 1, ("l3", 1, (2,))),
        ("server", "package", 1, ("package", 1, (4,))),
        ("server", "cross", 2, ("cross", 1, (8, 9))),
        ("huge", "cross", 64, ("cross", 1, (*range(32, 96),))),
        ("big-little", "auto", 1, ("l2", 1, (2,))),
        ("big-little", "package", 1, ("package", 1, (4,))),
        # Three cores beside CPU 0's are too few for three small neighbours: the big ones have them.
        ("big-little", "l2", 3, ("l2", 4, (5, 6, 7))),
        ("container", "auto", 1, ("l3", 3, (7,))),
        ("no-cache", "auto", 1, ("package", 1, (2,))),
        ("three-packages", "l3", 1, ("l3", 2, (3,))),
        ("no-topology", "auto", 1, ("package", 1, (2,))),
        ("no-topology", "auto", 2, ("package", 0, (1, 2))),
    ],
)
def test_placement(
    machines: dict[str, Topology],
    name: str,
    wanted: str,
    executors: int,
    expected: tuple[str, int, tuple[int, ...]],
) -> None:
    assert chosen(machines[name], wanted, executors) == expected


def test_all_means_every_relation_once(machines: dict[str, Topology]) -> None:
    named = [p.relation for p in placements(machines["server"], ["cross", "all", "smt", "auto", "p*"], 1)]
    assert named == ["cross", "smt", "l3", "package"]


def test_auto_on_one_core_is_smt(tmp_path: Path) -> None:
    topology = read_topology(plant(tmp_path, regular(cores=1, threads=2)))
    assert chosen(topology, "auto") == ("smt", 0, (1,))


def test_controller_keeps_cpu_0_of_two_cores(tmp_path: Path) -> None:
    topology = read_topology(plant(tmp_path, regular(cores=2, threads=2)))
    assert chosen(topology, "auto") == ("l3", 1, (2,))
    assert chosen(topology, "smt") == ("smt", 1, (3,))


def test_first_core_is_used_where_the_relation_needs_it(tmp_path: Path) -> None:
    topology = read_topology(plant(tmp_path, regular(packages=3, cores=2))).only({0, 2, 3})
    assert chosen(topology, "cross") == ("cross", 0, (2,))


def test_one_cpu_is_refused(tmp_path: Path) -> None:
    topology = read_topology(plant(tmp_path, regular(cores=1)))
    for choose in (lambda: placements(topology, ["auto"], 1), lambda: pack(topology, "auto", 1)):
        with pytest.raises(HostError) as caught:
            choose()
        assert str(caught.value) == (
            "one CPU is allowed (cpuset: 0); an executor and a writer need two: start it without `taskset`, "
            "widen the container's cpuset or give the guest a second CPU (see `stress doctor`)"
        )
        assert caught.value.exit_status == 2


def test_missing_relation_names_those_that_exist(machines: dict[str, Topology]) -> None:
    with pytest.raises(HostError) as caught:
        placements(machines["desktop"], ["cross"], 1)
    assert str(caught.value) == "no placement 'cross' on CPUs 0-15: give auto, all or smt, l3"


def test_unknown_relation_is_a_usage_error(machines: dict[str, Topology]) -> None:
    with pytest.raises(UsageError) as caught:
        placements(machines["guest"], ["sibling"], 1)
    assert str(caught.value) == "no placement 'sibling' on CPUs 0-1: give auto, all or l3"


@pytest.mark.parametrize("executors", [0, 2])
def test_too_many_executors(machines: dict[str, Topology], executors: int) -> None:
    with pytest.raises(HostError) as caught:
        placements(machines["guest"], ["auto"], executors)
    assert str(caught.value) == f"{executors} executors beside a writer: CPUs 0-1 have room for 1 to 1"


def test_executors_are_never_nearer_than_the_relation(machines: dict[str, Topology]) -> None:
    with pytest.raises(HostError) as caught:
        placements(machines["server"], ["cross"], 17)
    assert str(caught.value) == "17 executors do not fit at relation cross or farther: give fewer"


@pytest.mark.parametrize("name", MACHINES)
def test_packed_placements_are_disjoint_and_as_near_as_asked(
    machines: dict[str, Topology], name: str
) -> None:
    topology = machines[name]
    cpus = {cpu.number: cpu for cpu in topology.cpus}
    for wanted, executors in product(topology.relations, range(1, min(4, len(cpus)))):
        packed = pack(topology, wanted, executors)
        used = [number for placement in packed for number in placement.cpus]
        assert len(used) == len(set(used))
        assert set(used) <= set(topology.numbers)
        assert len(packed) == 1 or len(used) < len(cpus), "none is left for the controller"
        for placement in packed:
            assert len(placement.executor_cpus) == executors
            found = [relation(cpus[placement.writer_cpu], cpus[number]) for number in placement.executor_cpus]
            assert min(found, key=RELATIONS.index) == placement.relation == wanted


@pytest.mark.parametrize(
    ("name", "wanted", "count"),
    [
        ("guest", "l3", 1),
        ("desktop", "smt", 7),
        ("desktop", "l3", 7),
        ("hybrid", "l2", 4),
        ("hybrid", "l3", 11),
        ("server", "cross", 15),
        ("server", "package", 15),
        ("huge", "cross", 127),
        ("huge", "smt", 127),
        ("container", "l3", 1),
        ("three-packages", "cross", 2),
        ("three-packages", "l3", 2),
        ("no-topology", "auto", 1),
    ],
)
def test_pack_fits_as_many_as_there_are(
    machines: dict[str, Topology], name: str, wanted: str, count: int
) -> None:
    assert len(pack(machines[name], wanted, 1)) == count


def test_pack_takes_whole_free_cores_first(machines: dict[str, Topology]) -> None:
    first = pack(machines["desktop"], "l3", 1)[:3]
    assert first == [Placement("l3", n, (n + 1,)) for n in (1, 3, 5)]


def test_pack_wastes_no_package(tmp_path: Path) -> None:
    """Pairing the first two packages with one another would leave the third one's CPUs no partner."""
    topology = read_topology(plant(tmp_path, regular(packages=3, cores=4)))
    assert len(pack(topology, "cross", 1)) == 5


def test_pack_leaves_another_cpu_where_the_first_is_needed(tmp_path: Path) -> None:
    topology = read_topology(plant(tmp_path, regular(cores=2, threads=2))).only({0, 1, 2})
    assert pack(topology, "smt", 1) == [Placement("smt", 0, (2,))]


def test_256_cpus_take_no_time(machines: dict[str, Topology]) -> None:
    begun = time.process_time()
    placements(machines["huge"], ["all"], 63)
    pack(machines["huge"], "cross", 1)
    assert time.process_time() - begun < 5


def test_offline_cpus_are_left_out(tmp_path: Path) -> None:
    files = without(DESKTOP, "/cpu2/") | {f"{CPUS}/cpu2/online": "0\n", f"{CPUS}/online": "0-1,3-15\n"}
    files |= cpu(10, core=2, smt=(10,), l2=(10,), l3=sorted({*range(16)} - {2}))
    topology = read_topology(plant(tmp_path, files))
    assert topology.numbers == (0, 1, *range(3, 16))
    assert pack(topology.only({0, 1, 9, 10}), "smt", 1) == [Placement("smt", 1, (9,))]


def test_offline_told_by_the_list_only(tmp_path: Path) -> None:
    files = without(regular(cores=4), "/cpu3/online") | {f"{CPUS}/online": "0-2\n"}
    assert read_topology(plant(tmp_path, files)).numbers == (0, 1, 2)


def test_renumbered_list_of_a_container_is_not_believed(tmp_path: Path) -> None:
    files = regular(cores=8) | {f"{CPUS}/online": "100-101\n"}
    assert read_topology(plant(tmp_path, files), {3, 7}).numbers == (3, 7)


def test_no_allowed_cpu_is_online(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^no allowed CPU is online \(online: 0-3\)$"):
        read_topology(plant(tmp_path, regular(cores=4)), {9})


def test_without_sysfs_the_numbers_come_from_proc(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/stat": "cpu  1 2 3\ncpu0 1 2 3\ncpu1 0 0 0\nintr 5\n"})
    assert read_topology(tmp_path).numbers == (0, 1)


def test_what_is_not_told_is_minus_one(tmp_path: Path) -> None:
    files = cpu(0, core=0, die=-1, cluster=65535)
    first = read_topology(plant(tmp_path, files)).cpus[0]
    assert (first.die, first.cluster) == (-1, -1)
    assert first.smt == {0}
    assert not first.l2 | first.l3


def test_kinds(machines: dict[str, Topology]) -> None:
    assert {c.number: c.kind for c in machines["hybrid"].cpus} == {
        n: "core" if n < 16 else "atom" for n in range(24)
    }
    assert [c.kind for c in machines["big-little"].cpus] == ["capacity-446"] * 4 + ["capacity-1024"] * 4
    assert {c.kind for c in machines["guest"].cpus} == {""}


def test_recorded_guest(machines: dict[str, Topology]) -> None:
    first, second = machines["guest"].cpus
    assert (first.package, first.die, first.cluster, first.core, second.core) == (0, 0, -1, 0, 1)
    assert second.smt == second.l2 == {1}
    assert second.l3 == {0, 1}


def test_this_machine() -> None:
    """Whatever it is: it has a CPU, and what sysfs says of it is consistent."""
    topology = read_topology()
    for one in topology.cpus:
        assert one.number in one.smt
        assert one.smt <= set(topology.numbers)


@pytest.mark.parametrize("text", ["0", "0-3,8", "1,3,5-7", ""])
def test_lists_survive_a_round_trip(text: str) -> None:
    assert format_cpu_list(listed_cpus(text)) == text


@pytest.mark.parametrize(("text", "expected"), [("0-3,8", {0, 1, 2, 3, 8}), (" 1 , 1-2", {1, 2})])
def test_cpu_list(text: str, expected: set[int]) -> None:
    assert parse_cpu_list(text, range(16)) == expected


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "1,,2", "0x1", "²", "1-2-3", "9" * 30, "0-3;8"])
def test_malformed_cpu_list(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cpu_list(text, range(4))
    assert str(caught.value) == f"--cpus {text!r}: give CPU numbers and ranges, as in 0-3,8 (allowed: 0-3)"


@pytest.mark.parametrize(("text", "wrong"), [("99", 99), ("0-999999999", 2), ("0,1,5", 5)])
def test_cpu_list_beyond_the_allowed(text: str, wrong: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cpu_list(text, {0, 1})
    assert str(caught.value) == f"--cpus {text}: CPU {wrong} does not exist or is not allowed (allowed: 0-1)"


def test_cpu_list_is_held_against_this_thread_by_default() -> None:
    with pytest.raises(UsageError, match="CPU 99999 does not exist or is not allowed"):
        parse_cpu_list("99999")
