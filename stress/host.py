"""What is known of this machine: the fingerprint that records refer to, and the noise that can be counted."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from stress.topology import Cpu, Topology, format_cpu_list, listed_cpus, read_text, read_topology

SLASH = Path("/")

# linux/membarrier.h: the bits that MEMBARRIER_CMD_QUERY answers with.
_MEMBARRIERS = {
    "membarrier-global": 1 << 0,
    "membarrier-global-expedited": 1 << 1,
    "membarrier-private": 1 << 3,
    "membarrier-sync-core": 1 << 5,
    "membarrier-rseq": 1 << 7,
}
# Flags that /proc/cpuinfo lists only while the kernel uses what they name.
_KERNEL_FLAGS = {"pti": "pti", "fred": "fred-used"}
# Only these words of the kernel's command line are recorded: the rest may hold secrets.
_CMDLINE = re.compile(
    r"(isolcpus|nohz|nohz_full|rcu_nocbs|irqaffinity|mitigations|nosmt|pti|nopti|fred|invlpgb|clearcpuid)(=.*)?"
)
# An Arm guest has no flag that says so, but a board that nobody solders.
_GUESTS = re.compile(
    r"qemu|kvm|vmware|virtualbox|xen|virtual machine|compute engine|ec2 (?!.*metal)", re.IGNORECASE
)
# Keys of /proc/cpuinfo by what they tell, whichever ISA has them.
_FAMILY = ("cpu family", "CPU architecture", "mvendorid")
_MODEL = ("model", "CPU part", "marchid")
_STEPPING = ("stepping", "CPU revision", "mimpid")
_NAME = ("model name", "uarch", "Processor")

# What one run measures or is granted, and the next may not.
_UNSTABLE = ("allowed", "quota_cpus", "stolen", "tsc_hz")


@dataclass(frozen=True, slots=True)
class Probe:
    """What the native core found out by trying (struct xmc_probe).

    `membarrier`: the mask of its query command. `tsc_hz`: ticks a second, measured.
    `step_ops`, `exec_ops`: bit n is set where writer or executor step n exists here.
    """

    vendor: str
    isa: str
    features: frozenset[str]
    membarrier: int
    tsc_hz: int
    line_bytes: int
    step_ops: int
    exec_ops: int


@dataclass(frozen=True, slots=True)
class Host:
    """A machine as this process sees it.

    `family`, `model`, `stepping` are None, and texts "", where not told.
    `hypervisor`: "" on bare metal, `unknown` where it does not say its name.
    `features`: names of enum xmc_feature, `membarrier-*`, and `pti` and `fred-used` for what the kernel uses.
    `machine`: every online CPU; `allowed`: those that this process may run on.
    `quota_cpus`: how many CPUs' time the control group grants; None: no limit.
    `stolen`: the share of CPU time since boot that the hypervisor took away.
    `tsc_hz` to `exec_ops` are those of Probe.
    `under`: the `command` prefix that is under test, and the `version` it prints; {}: nothing but this machine. What
    Probe has was found under it, all else is this machine's.
    """

    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    microcode: str
    model_name: str
    hypervisor: str
    isa: str
    features: frozenset[str]
    kernel: str
    kernel_version: str
    cmdline: tuple[str, ...]
    mitigations: Mapping[str, str]
    page_bytes: int
    line_bytes: int
    clocksource: str
    governor: str
    isolated: frozenset[int]
    nohz_full: frozenset[int]
    machine: Topology
    allowed: frozenset[int]
    quota_cpus: float | None
    stolen: float
    tsc_hz: int
    step_ops: int
    exec_ops: int
    under: Mapping[str, str] = field(default_factory=dict)

    @property
    def topology(self) -> Topology:
        """The allowed CPUs only."""
        return self.machine.only(self.allowed)

    @property
    def has_cpuid(self) -> bool:
        """Whether it is of the ISA that the manuals of Intel and AMD describe."""
        return self.isa.startswith("x86")

    @property
    def fingerprint(self) -> str:
        """12 hex digits, the same on this machine until its hardware, kernel or settings change."""
        stable = {key: value for key, value in self.as_dict().items() if key not in _UNSTABLE}
        return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """Return every field, ready for JSON; sets of CPUs as the kernel writes them (`0-3,8`)."""
        plain = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        return plain | {"features": sorted(self.features), "machine": _plain(self.machine.cpus)}


def _plain(value: Any) -> Any:
    match value:
        case frozenset():
            return format_cpu_list(cpu for cpu in value if isinstance(cpu, int))
        case tuple():
            return [_plain(item) for item in value]
        case Cpu():
            return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        case Mapping():
            return dict(value)
    return value


def _probe() -> Probe:
    # Here, not above: what only reads trees or records needs no compiled core.
    from stress import native

    return as_probe(native.probe())


def as_probe(raw: Mapping[str, Any]) -> Probe:
    """Return what the core or an agent found as a Probe."""
    return Probe(**{**raw, "features": frozenset(raw["features"])})


def _cpuinfo(root: Path, cpus: Collection[int]) -> dict[str, str]:
    # The first block of one of `cpus`, or else the first at all.
    pairs = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in read_text(root / "proc/cpuinfo").split("\n\n")
    ]
    return next((block for block in pairs if block.get("processor", "") in map(str, cpus)), pairs[0])


def _told(info: Mapping[str, str], keys: Collection[str]) -> str:
    return next((info[key] for key in keys if key in info), "")


def _integer(info: Mapping[str, str], keys: Collection[str]) -> int | None:
    try:
        return int(_told(info, keys), 0)
    except ValueError:
        return None


def _stepping(info: Mapping[str, str]) -> int | None:
    variant, revision = _integer(info, ("CPU variant",)), _integer(info, _STEPPING)
    # Arm's r3p1 has two numbers; MIDR_EL1 holds them as one byte's halves.
    return revision if variant is None or revision is None else variant << 4 | revision


def _hypervisor(root: Path, certain: bool) -> str:
    dmi = root / "sys/class/dmi/id"
    board = f"{read_text(dmi / 'sys_vendor')} {read_text(dmi / 'product_name')}".strip()
    tree = read_text(root / "proc/device-tree/hypervisor/compatible").strip("\0")
    named = board if certain or _GUESTS.search(board) else ""
    return read_text(root / "sys/hypervisor/type") or tree or named or ("unknown" if certain else "")


def _allowed(root: Path) -> frozenset[int] | None:
    if root == SLASH:
        return frozenset(os.sched_getaffinity(0))
    told = re.search(r"^Cpus_allowed_list:(.*)$", read_text(root / "proc/self/status"), re.MULTILINE)
    return listed_cpus(told[1]) if told else None


def _group_quota(folder: Path) -> float | None:
    # Version 2 has one file, version 1 two; `max` and -1 mean no limit.
    quota, _, period = read_text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _quota(root: Path) -> float | None:
    quotas = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (controllers, "cpu", "unified", ""):
            # In a container the group may be mounted as the root, whatever the path says: hence the parents.
            for path in (group, *map(str, PurePosixPath(group).parents)):
                quotas.append(_group_quota(root / "sys/fs/cgroup" / mount / path.strip("/")))
    return min((quota for quota in quotas if quota is not None), default=None)


def _ticks(root: Path) -> dict[str, list[int]]:
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user and nice already.
    rows = re.findall(r"^cpu([0-9]*) +([0-9 ]+)$", read_text(root / "proc/stat"), re.MULTILINE)
    return {number: [*map(int, row.split()), *[0] * 8][:8] for number, row in rows}


def stolen_ticks(cpus: Collection[int], root: Path = SLASH) -> dict[int, int]:
    """Return for each of `cpus` the ticks (USER_HZ, mostly 10 ms) that the hypervisor took since boot."""
    ticks = _ticks(root)
    return {number: ticks[str(number)][7] for number in cpus if str(number) in ticks}


def interrupts(cpus: Collection[int], root: Path = SLASH) -> dict[int, int]:
    """Return for each of `cpus` how many interrupts of any kind it took since boot."""
    header, *lines = read_text(root / "proc/interrupts").splitlines() or [""]
    columns = [int(number) for number in re.findall(r"CPU([0-9]+)", header)]
    totals = dict.fromkeys(cpus, 0)
    for line in lines:
        counts = line.partition(":")[2].split()[: len(columns)]
        # Error counters (ERR, MIS) have one figure and no column.
        if len(counts) == len(columns) and all(map(str.isdecimal, counts)):
            for number, count in zip(columns, counts, strict=True):
                if number in totals:
                    totals[number] += int(count)
    return totals


def _features(probe: Probe, info: Mapping[str, str]) -> frozenset[str]:
    flags = _told(info, ("flags",)).split()
    used = {name for flag, name in _KERNEL_FLAGS.items() if flag in flags}
    return probe.features | used | {name for name, bit in _MEMBARRIERS.items() if probe.membarrier & bit}


def read_host(root: Path = SLASH, probe: Probe | None = None, under: Mapping[str, str] | None = None) -> Host:
    """Return what /proc and /sys below `root` tell, and what `probe` found (None: the native core looks).

    `under`: the prefix under which it was found.

    Raises HostError where no allowed CPU is online.
    """
    probe, ticks = probe or _probe(), _ticks(root).get("", [0])
    machine, allowed = read_topology(root), read_topology(root, _allowed(root))
    base, kernel = root / "sys/devices/system", root / "proc/sys/kernel"
    info = _cpuinfo(root, machine.numbers)
    microcode = read_text(base / f"cpu/cpu{machine.numbers[0]}/microcode/version")
    governors = {read_text(base / f"cpu/cpu{n}/cpufreq/scaling_governor") for n in machine.numbers}
    certain = "hypervisor" in probe.features or "hypervisor" in _told(info, ("flags",)).split()
    return Host(
        vendor=probe.vendor or _told(info, ("vendor_id", "CPU implementer")),
        family=_integer(info, _FAMILY),
        model=_integer(info, _MODEL),
        stepping=_stepping(info),
        microcode=microcode or info.get("microcode", ""),
        model_name=_told(info, _NAME),
        hypervisor=_hypervisor(root, certain),
        isa=probe.isa,
        features=_features(probe, info),
        kernel=read_text(kernel / "osrelease"),
        kernel_version=read_text(kernel / "version"),
        cmdline=tuple(word for word in read_text(root / "proc/cmdline").split() if _CMDLINE.fullmatch(word)),
        mitigations={path.name: read_text(path) for path in sorted((base / "cpu/vulnerabilities").glob("*"))},
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        line_bytes=probe.line_bytes,
        clocksource=read_text(base / "clocksource/clocksource0/current_clocksource"),
        governor=",".join(sorted(governors - {""})),
        isolated=listed_cpus(read_text(base / "cpu/isolated")),
        nohz_full=listed_cpus(read_text(base / "cpu/nohz_full")),
        machine=machine,
        allowed=frozenset(allowed.numbers),
        quota_cpus=_quota(root),
        stolen=round(ticks[-1] / max(sum(ticks), 1), 4),
        tsc_hz=probe.tsc_hz,
        step_ops=probe.step_ops,
        exec_ops=probe.exec_ops,
        under=dict(under or {}),
    )
