"""The fingerprint and the noise counters, read from recorded and planted trees."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import stress
from stress.errors import HostError
from stress.host import Host, interrupts, read_host, stolen_ticks
from tests.trees.hosts import PROBE, guest
from tests.trees.machines import CPUS, big_little, plant, recorded, regular

TOTALS = {0: 320613, 1: 1651588}
STAT = (
    "cpu  100 0 50 800 0 0 0 50 30 0\ncpu0 60 0 30 400 0 0 0 10 30 0\ncpu1 40 0 20 400 0 0 0 40 0 0\nintr 3\n"
)
ARM_CPUINFO = """\
processor\t: 0
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

processor\t: 1
CPU part\t: 0xd0d
"""
RISCV_CPUINFO = """\
processor\t: 0
hart\t\t: 2
isa\t\t: rv64imafdc
uarch\t\t: sifive,u74-mc
mvendorid\t: 0x489
marchid\t\t: 0x8000000000000007
mimpid\t\t: 0x4210427
"""


def test_recorded_guest(tmp_path: Path) -> None:
    host = guest(tmp_path, {"proc/stat": STAT})
    assert (host.vendor, host.family, host.model, host.stepping) == ("AuthenticAMD", 25, 17, 1)
    assert (host.model_name, host.microcode, host.isa) == ("AMD EPYC", "0x1000065", "x86_64")
    assert (host.hypervisor, host.clocksource, host.governor) == ("unknown", "tsc", "")
    assert (host.kernel, host.kernel_version) == ("6.18.44-fc-v657", "#1 SMP PREEMPT_DYNAMIC @0")
    assert host.mitigations["spec_store_bypass"] == "Vulnerable"
    assert (host.isolated, host.nohz_full, host.quota_cpus) == (frozenset(), frozenset(), None)
    assert host.topology == host.machine
    assert host.allowed == {0, 1}
    assert host.stolen == 0.05
    assert host.page_bytes == os.sysconf("SC_PAGE_SIZE")
    assert host.has_cpuid


def test_membarrier_commands_become_features(tmp_path: Path) -> None:
    every = {"global", "global-expedited", "private", "sync-core", "rseq"}
    host = guest(tmp_path)
    assert {name for name in host.features if name.startswith("membarrier-")} == {
        f"membarrier-{n}" for n in every
    }
    for bit, name in {0: "global", 1: "global-expedited", 3: "private", 5: "sync-core", 7: "rseq"}.items():
        probe = replace(PROBE, membarrier=1 << bit)
        assert guest(tmp_path, probe=probe).features == PROBE.features | {f"membarrier-{name}"}
    assert guest(tmp_path, probe=replace(PROBE, membarrier=0)).features == PROBE.features


def test_what_the_kernel_uses_becomes_a_feature(tmp_path: Path) -> None:
    info = recorded("guest")["proc/cpuinfo"].replace(" fpu ", " fpu pti fred ")
    assert {"pti", "fred-used"} <= guest(tmp_path, {"proc/cpuinfo": info}).features


def test_only_words_that_matter_are_kept_of_the_command_line(tmp_path: Path) -> None:
    line = "BOOT_IMAGE=/vmlinuz root=/dev/x token=hunter2 isolcpus=managed_irq,1 nohz_full=1 nopti mitigations=off"
    host = guest(tmp_path, {"proc/cmdline": f"{line} xnohz=on pti_secret=1\n"})
    assert host.cmdline == ("isolcpus=managed_irq,1", "nohz_full=1", "nopti", "mitigations=off")
    assert "hunter2" not in json.dumps(host.as_dict())


def test_settings(tmp_path: Path) -> None:
    files = {
        f"{CPUS}/isolated": "1\n",
        f"{CPUS}/nohz_full": "(null)\n",
        f"{CPUS}/cpu0/microcode/version": "0xa101148\n",
        f"{CPUS}/cpu0/cpufreq/scaling_governor": "powersave\n",
        f"{CPUS}/cpu1/cpufreq/scaling_governor": "performance\n",
    }
    host = guest(tmp_path, files)
    assert (host.isolated, host.nohz_full) == (frozenset({1}), frozenset())
    assert (host.microcode, host.governor) == ("0xa101148", "performance,powersave")


@pytest.mark.parametrize(
    ("files", "flag", "expected"),
    [
        ({}, False, ""),
        ({}, True, "unknown"),
        ({"sys/hypervisor/type": "xen\n"}, True, "xen"),
        ({"proc/device-tree/hypervisor/compatible": "xen,xen-4.17\0"}, False, "xen,xen-4.17"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n"}, False, "QEMU"),
        (
            {"sys/class/dmi/id/sys_vendor": "Acme\n", "sys/class/dmi/id/product_name": "Cloud\n"},
            True,
            "Acme Cloud",
        ),
        ({"sys/class/dmi/id/sys_vendor": "Acme\n", "sys/class/dmi/id/product_name": "Desktop\n"}, False, ""),
        (
            {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "m7g.large\n"},
            False,
            "Amazon EC2 m7g.large",
        ),
        (
            {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "m7g.metal\n"},
            False,
            "",
        ),
    ],
)
def test_hypervisor(tmp_path: Path, files: dict[str, str], flag: bool, expected: str) -> None:
    features = frozenset({"hypervisor"} if flag else ())
    root = plant(tmp_path, regular(cores=2) | files)
    assert read_host(root, replace(PROBE, features=features)).hypervisor == expected


def test_arm(tmp_path: Path) -> None:
    root = plant(tmp_path, big_little() | {"proc/cpuinfo": ARM_CPUINFO})
    host = read_host(root, replace(PROBE, vendor="", isa="aarch64", features=frozenset()))
    assert (host.vendor, host.family, host.model, host.stepping) == ("0x41", 8, 0xD0C, 0x31)
    assert not host.has_cpuid


def test_riscv(tmp_path: Path) -> None:
    root = plant(tmp_path, regular(cores=4) | {"proc/cpuinfo": RISCV_CPUINFO})
    host = read_host(root, replace(PROBE, vendor="", isa="riscv64", features=frozenset()))
    assert (host.family, host.model, host.stepping) == (0x489, 0x8000000000000007, 0x4210427)
    assert host.model_name == "sifive,u74-mc"


def test_bare_tree_has_nothing_but_cpus(tmp_path: Path) -> None:
    host = read_host(plant(tmp_path, regular(cores=2)), replace(PROBE, vendor="", features=frozenset()))
    assert (host.family, host.model, host.stepping) == (None, None, None)
    assert {host.vendor, host.microcode, host.model_name, host.kernel, host.clocksource, host.hypervisor} == {
        ""
    }
    assert (host.quota_cpus, host.stolen, host.cmdline, host.mitigations) == (None, 0.0, (), {})
    json.dumps(host.as_dict())


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "4:cpuset:/\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (V2, None),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            V2
            | {"sys/fs/cgroup/a/cpu.max": "50000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"},
            0.5,
        ),
        (V2 | {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4.0),
        (V1 | {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n"}, None),
        (
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "10000\n",
            },
            2.5,
        ),
        (
            V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "2\n"},
            0.5,
        ),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert guest(tmp_path, files).quota_cpus == expected


def test_cpuset_of_a_container(tmp_path: Path) -> None:
    files = regular(cores=8, threads=2) | {
        "proc/self/status": "Name:\tx\nCpus_allowed_list:\t3,7\nThreads:\t1\n"
    }
    host = read_host(plant(tmp_path, files), PROBE)
    assert host.allowed == {3, 7}
    assert host.topology.numbers == (3, 7)
    assert len(host.machine.cpus) == 16


def test_cpuset_without_an_online_cpu(tmp_path: Path) -> None:
    files = regular(cores=2) | {"proc/self/status": "Cpus_allowed_list:\t9\n"}
    with pytest.raises(HostError, match="no allowed CPU is online"):
        read_host(plant(tmp_path, files), PROBE)


def test_fingerprint_survives_what_changes_between_runs(tmp_path: Path) -> None:
    host = guest(tmp_path / "a")
    again = guest(tmp_path / "b", {"proc/stat": STAT, "proc/self/status": "Cpus_allowed_list:\t1\n"})
    again = replace(again, tsc_hz=1, quota_cpus=0.5)
    assert len(host.fingerprint) == 12
    assert int(host.fingerprint, 16) >= 0
    assert again.allowed != host.allowed
    assert again.fingerprint == host.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"microcode": "0x2"},
        {"kernel": "6.19.0"},
        {"features": frozenset({"serialize"})},
        {"governor": "powersave"},
        {"isolated": frozenset({1})},
        {"machine": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_notices_what_matters(tmp_path: Path, change: dict[str, Any]) -> None:
    host = guest(tmp_path)
    if "machine" in change:
        change = {"machine": host.machine.only({0})}
    assert replace(host, **change).fingerprint != host.fingerprint


def test_json(tmp_path: Path) -> None:
    plain = json.loads(json.dumps(guest(tmp_path).as_dict()))
    assert plain["allowed"] == "0-1"
    assert plain["isolated"] == ""
    assert plain["features"] == sorted(plain["features"])
    assert plain["machine"][1] == {
        "number": 1,
        "package": 0,
        "die": 0,
        "cluster": -1,
        "core": 1,
        "smt": "1",
        "l2": "1",
        "l3": "0-1",
        "kind": "",
    }
    assert set(plain) == set(Host.__dataclass_fields__)
    assert "hostname" not in plain


def test_without_a_probe_the_native_core_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {name: getattr(PROBE, name) for name in PROBE.__dataclass_fields__} | {"features": ["rwx", "cx16"]}
    native = SimpleNamespace(probe=lambda: raw)
    monkeypatch.setitem(sys.modules, "stress.native", native)
    monkeypatch.setattr(stress, "native", native, raising=False)
    host = read_host(plant(tmp_path, recorded("guest")))
    assert {"rwx", "cx16", "membarrier-sync-core"} <= host.features
    assert host.tsc_hz == PROBE.tsc_hz


def test_this_machine() -> None:
    host = read_host(probe=PROBE)
    assert host.allowed == os.sched_getaffinity(0)
    assert host.fingerprint == read_host(probe=PROBE).fingerprint
    counted = interrupts(host.allowed)
    assert set(counted) == host.allowed
    assert set(stolen_ticks(host.allowed)) == host.allowed


def test_interrupts_of_the_recorded_guest(tmp_path: Path) -> None:
    root = plant(tmp_path, recorded("guest"))
    assert interrupts({0, 1}, root) == TOTALS
    assert interrupts({1, 5}, root) == {1: TOTALS[1], 5: 0}


def test_interrupt_columns_are_the_online_cpus(tmp_path: Path) -> None:
    text = """\
            CPU0       CPU3       CPU11
   0:         10          0          7  IO-APIC 2-edge timer 99 98
 NMI:          1          2          3  Non-maskable interrupts
IPI0:        100        200        300  Rescheduling interrupts
 ERR:          5
 MIS:          0
"""
    plant(tmp_path, {"proc/interrupts": text})
    assert interrupts([0, 3, 11], tmp_path) == {0: 111, 3: 202, 11: 310}


def test_interrupts_where_nobody_counts_them(tmp_path: Path) -> None:
    assert interrupts({0, 1}, tmp_path) == {0: 0, 1: 0}


def test_stolen_ticks(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/stat": STAT})
    assert stolen_ticks({0, 1, 7}, tmp_path) == {0: 10, 1: 40}
