"""What a host can and cannot show, and how to make it show more: findings, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from stress.host import Host
from stress.topology import format_cpu_list


class Level(StrEnum):
    """How bad a finding is: nothing to do, less can be seen or measured, nothing can run."""

    OK = "ok"
    WARN = "warn"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about the host, and one about what to do; "" where nothing need or can be done."""

    level: Level
    subject: str
    text: str
    remedy: str = ""


# What KVM shows a guest in place of the microcode's version, and VMware: nothing of the CPU underneath.
_MADE_UP_MICROCODE = ("0x0", "0x1", "0x01000065", "0x1000065", "0xffffffff")

# Feature, level without it, subject, text with it, text without it, remedy.
_FEATURES = (
    (
        "reserve",
        Level.STOP,
        "reservation",
        "the inaccessible address space around a region can be had: torn branches land in it",
        "the address space to contain torn branches is refused: no region can be placed",
        "ulimit -v unlimited (RLIMIT_AS)",
    ),
    (
        "rwx",
        Level.WARN,
        "rwx",
        "a mapping may be writable and executable at once",
        "no mapping may be writable and executable at once: only the alias regimes run",
        "allow it: SELinux execmem, systemd MemoryDenyWriteExecute=no, PaX MPROTECT off",
    ),
    (
        "alias",
        Level.WARN,
        "alias",
        "memory may be mapped twice, writable here and executable there",
        "memory may not be mapped executable a second time: the alias regimes are skipped",
        "sysctl vm.memfd_noexec=0, and a seccomp filter that allows memfd_create",
    ),
    (
        "membarrier-sync-core",
        Level.WARN,
        "membarrier",
        "membarrier(2) can make every executor synchronize its core",
        "membarrier(2) has no SYNC_CORE here: the regimes built on it are skipped",
        "Linux 4.16 with CONFIG_MEMBARRIER, and a seccomp filter that allows membarrier",
    ),
    (
        "syscall-dispatch",
        Level.WARN,
        "syscall-dispatch",
        "a torn instruction that turns out a system call is stopped",
        "a torn instruction that turns out a system call is not stopped: it happens",
        "Linux 5.11 with syscall user dispatch; until then run nothing of value beside it",
    ),
    (
        "procmem",
        Level.WARN,
        "procmem",
        "/proc/self/mem writes to pages that may not be written: the procmem regimes run",
        "/proc/self/mem refuses to write to pages that may not be written: the procmem regimes are skipped",
        "boot with proc_mem.force_override=always, and mount /proc",
    ),
    (
        "vmwritev",
        Level.WARN,
        "vmwritev",
        "process_vm_writev works: the vmwritev regimes run",
        "process_vm_writev is refused: the vmwritev regimes are skipped",
        "CONFIG_CROSS_MEMORY_ATTACH, and a seccomp filter that allows process_vm_writev",
    ),
    (
        "ptrace",
        Level.WARN,
        "ptrace",
        "a child may trace us: the ptrace regimes run",
        "no child may trace us: the ptrace regimes are skipped",
        "sysctl kernel.yama.ptrace_scope=1 or 0, and a seccomp filter that allows ptrace",
    ),
    (
        "protect-x",
        Level.WARN,
        "protect",
        "a page that was writable may be made executable again: the protect regimes run",
        "a page that was writable may not be made executable again: the protect regimes are skipped",
        "allow it: SELinux execmod, systemd MemoryDenyWriteExecute=no",
    ),
    (
        "huge-pages",
        Level.WARN,
        "huge-pages",
        "code can lie in pages of 2 MiB: the huge regimes run",
        "no page of 2 MiB is to be had for code: the huge regimes are skipped",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and free memory",
    ),
)


def _cpus(host: Host) -> Iterator[Finding]:
    allowed, online = format_cpu_list(host.allowed), format_cpu_list(host.machine.numbers)
    count, spare = len(host.allowed), len(host.machine.cpus) > len(host.allowed)
    widen = "start it without `taskset`, or widen the container's cpuset"
    if count == 1:
        text = f"one CPU is allowed ({allowed}) of those online ({online}): executor and writer need two"
        yield Finding(Level.STOP, "cpus", text, widen if spare else "give the guest a second CPU")
    elif count == 2:
        text = f"two CPUs are allowed ({allowed}) of those online ({online}): none is left for the controller"
        yield Finding(Level.WARN, "cpus", text, widen if spare else "a third CPU would be quieter")
    else:
        yield Finding(Level.OK, "cpus", f"{count} CPUs are allowed ({allowed}) of those online ({online})")
    if host.quota_cpus is not None and host.quota_cpus < count:
        text = f"the control group grants {host.quota_cpus:g} CPUs' time to {count} CPUs, and stops spinners"
        remedy = "lift cpu.max (docker --cpus, systemd CPUQuota=), or give --cpus fewer CPUs"
        yield Finding(Level.WARN, "quota", text, remedy)


def _pairs(host: Host) -> Iterator[Finding]:
    topology = host.topology
    if len(topology.cpus) > 1:
        yield Finding(Level.OK, "placements", f"pairs of CPUs here: {', '.join(topology.relations)}")
    strangers = {number for cpu in topology.cpus for number in cpu.smt} - host.allowed
    if strangers:
        text = f"CPUs {format_cpu_list(strangers)} share cores with ours and may run anything"
        yield Finding(Level.WARN, "smt", text, "allow whole cores, or keep other work off those CPUs")
    elif "smt" in topology.relations:
        yield Finding(Level.OK, "smt", "SMT siblings are ours to place threads on")
    else:
        yield Finding(Level.OK, "smt", "no SMT siblings here: placement smt cannot be tried")


def _features(host: Host) -> Iterator[Finding]:
    if not {"rwx", "alias"} & host.features:
        yield Finding(
            Level.STOP, "mapping", "neither rwx nor alias: no code can be patched at all", "see those two"
        )
    for feature, level, subject, having, lacking, remedy in _FEATURES:
        if feature in host.features:
            yield Finding(Level.OK, subject, having)
        else:
            yield Finding(level, subject, lacking, remedy)


def _event_returns(host: Host) -> Finding:
    if "fred-used" in host.features:
        text = (
            "FRED is used: signals and interrupts return by ERETU or ERETS, which do not serialize (Intel "
            "SDM; unconfirmed for AMD), so they no longer mask a missing synchronization"
        )
        return Finding(Level.OK, "fred", text)
    masked = "signals and interrupts return by IRET, which serializes: each masks a missing synchronization"
    if "fred" in host.features:
        text = f"the CPU has FRED and the kernel does not use it: {masked}"
        return Finding(Level.OK, "fred", text, "boot with fred=on to see what they mask")
    return Finding(Level.OK, "fred", f"no FRED: {masked}", "fewer interrupts: see isolation")


def _instructions(host: Host) -> Iterator[Finding]:
    if not host.has_cpuid:
        return
    if "serialize" in host.features:
        yield Finding(Level.OK, "serialize", "the CPU has SERIALIZE")
    else:
        text = "no SERIALIZE on this CPU: the regimes that need it are skipped"
        yield Finding(
            Level.OK, "serialize", text, "CPUID and IRET serialize too, and have regimes of their own"
        )
    yield _event_returns(host)
    if "invlpgb" in host.features:
        text = (
            "the CPU has INVLPGB: where the kernel uses it, mprotect, munmap and mremap do not interrupt the "
            "other CPUs, and mask nothing"
        )
    else:
        text = (
            "no INVLPGB: mprotect, munmap and mremap interrupt the other CPUs, and mask a missing "
            "synchronization as any interrupt does"
        )
    yield Finding(Level.OK, "invlpgb", text)


def _identity(host: Host) -> Iterator[Finding]:
    if host.hypervisor:
        text = (
            f"a guest (hypervisor: {host.hypervisor}, stolen {host.stolen:.1%} of CPU time): CPUID and other "
            "instructions trap, CPUs pause unseen, and what is measured is a guest"
        )
        yield Finding(Level.WARN, "hypervisor", text, "repeat a finding on bare metal before you report it")
    else:
        yield Finding(Level.OK, "hypervisor", "bare metal, as far as it shows")
    if host.microcode and not (host.hypervisor and host.microcode.lower() in _MADE_UP_MICROCODE):
        yield Finding(Level.OK, "microcode", f"version {host.microcode}")
    else:
        told = f"the guest is told {host.microcode}, a placeholder" if host.microcode else "not told"
        text = f"microcode version unknown ({told}): a finding cannot be tied to one"
        remedy = (
            "/proc/cpuinfo of the machine underneath" if host.hypervisor else "a kernel with CONFIG_MICROCODE"
        )
        yield Finding(Level.WARN, "microcode", text, remedy)


def _isolation(host: Host) -> Finding:
    isolated = (host.isolated | host.nohz_full) & set(host.machine.numbers)
    text, quiet = format_cpu_list(isolated), isolated & host.allowed
    if len(quiet) > 1:
        return Finding(
            Level.OK, "isolation", f"isolated CPUs: {text}", f"use them: --cpus {format_cpu_list(quiet)}"
        )
    if isolated:
        # isolcpus= takes them out of every process's affinity, so that one has to ask for them.
        lacking = (
            f"isolated CPUs: {text}, of which {format_cpu_list(quiet) or 'none'} allowed to this process"
        )
        remedy = f"taskset -c {format_cpu_list(isolated | {min(host.allowed)})} stress ..."
        return Finding(Level.WARN, "isolation", lacking, remedy)
    first = host.machine.cpus[0].smt
    rest = format_cpu_list(set(host.machine.numbers) - first)
    remedy = (
        f"boot with isolcpus=managed_irq,domain,{rest} nohz_full={rest} rcu_nocbs={rest} "
        f"irqaffinity={format_cpu_list(first)}"
    )
    lacking = "no CPU is isolated: timer ticks and interrupts disturb every cell"
    return Finding(Level.WARN, "isolation", lacking, remedy if rest else "a second core")


def _quiet(host: Host) -> Iterator[Finding]:
    yield _isolation(host)
    if host.governor in ("", "performance"):
        yield Finding(Level.OK, "governor", host.governor or "no frequency governor here")
    else:
        text = f"frequency governor {host.governor}: rates depend on what ran before"
        yield Finding(Level.WARN, "governor", text, "cpupower frequency-set -g performance")
    if host.clocksource in ("hpet", "acpi_pm", "jiffies", "refined-jiffies"):
        text = f"the kernel distrusts the TSC (clock source {host.clocksource}): times in ticks may be wrong"
        yield Finding(Level.WARN, "clock", text, "look for `tsc` in the kernel's log")


def examine(host: Host) -> list[Finding]:
    """Return what is good and bad about `host`, at least one finding a subject, always in the same order."""
    parts = (_cpus, _pairs, _features, _instructions, _identity, _quiet)
    return [finding for part in parts for finding in part(host)]
