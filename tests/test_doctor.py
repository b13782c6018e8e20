"""What the doctor says of hosts that lack one thing or another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stress.doctor import Finding, Level, examine
from stress.host import Host, read_host
from tests.trees.hosts import PROBE, guest
from tests.trees.machines import plant, regular

SUBJECTS = (
    *("cpus", "placements", "smt", "reservation", "rwx", "alias", "membarrier", "syscall-dispatch"),
    *("procmem", "vmwritev", "ptrace", "protect", "huge-pages"),
    *("serialize", "fred", "invlpgb", "hypervisor", "microcode", "isolation", "governor"),
)


@pytest.fixture
def desktop(tmp_path: Path) -> Host:
    """A desktop of 8 cores with everything granted and quietened."""
    probe = replace(PROBE, features=PROBE.features - {"hypervisor"} | {"serialize"})
    host = read_host(plant(tmp_path, regular(cores=8, threads=2)), probe)
    isolated = frozenset(host.machine.numbers) - {0, 8}
    return replace(host, microcode="0xa101148", governor="performance", isolated=isolated, clocksource="tsc")


def find(host: Host, subject: str) -> Finding:
    (finding,) = [finding for finding in examine(host) if finding.subject == subject]
    return finding


def lacking(host: Host, *features: str) -> Host:
    return replace(host, features=host.features - set(features))


def having(host: Host, *features: str) -> Host:
    return replace(host, features=host.features | set(features))


def test_nothing_is_wrong_with_a_quiet_desktop(desktop: Host) -> None:
    findings = examine(desktop)
    assert tuple(finding.subject for finding in findings) == SUBJECTS
    assert {finding.level for finding in findings} == {Level.OK}


def test_the_recorded_guest(tmp_path: Path) -> None:
    levels = {finding.subject: finding.level for finding in examine(guest(tmp_path))}
    warned = {subject for subject, level in levels.items() if level is not Level.OK}
    assert warned == {"cpus", "hypervisor", "microcode", "isolation"}
    assert Level.STOP not in levels.values()


def test_every_finding_is_one_line_and_every_trouble_has_a_remedy(tmp_path: Path, desktop: Host) -> None:
    bare = replace(desktop, features=frozenset(), isolated=frozenset(), governor="powersave", quota_cpus=1.0)
    alone = read_host(plant(tmp_path / "alone", regular(cores=1)), replace(PROBE, features=frozenset()))
    new = having(desktop, "fred", "fred-used", "invlpgb")
    for host in (desktop, bare, alone, guest(tmp_path / "guest"), new):
        for finding in examine(host):
            assert finding.text
            assert "\n" not in finding.text + finding.remedy
            assert finding.remedy or finding.level is Level.OK


@pytest.mark.parametrize(
    ("allowed", "level", "text", "remedy"),
    [
        (
            {0},
            Level.STOP,
            "one CPU is allowed (0) of those online (0-15): executor and writer need two",
            "start it without `taskset`, or widen the container's cpuset",
        ),
        (
            {3, 7},
            Level.WARN,
            "two CPUs are allowed (3,7) of those online (0-15): none is left for the controller",
            "start it without `taskset`, or widen the container's cpuset",
        ),
        ({1, 2, 3}, Level.OK, "3 CPUs are allowed (1-3) of those online (0-15)", ""),
    ],
)
def test_cpus(desktop: Host, allowed: set[int], level: Level, text: str, remedy: str) -> None:
    host = replace(desktop, allowed=frozenset(allowed))
    assert find(host, "cpus") == Finding(level, "cpus", text, remedy)


def test_one_cpu_in_the_whole_machine(tmp_path: Path) -> None:
    host = read_host(plant(tmp_path, regular(cores=1)), PROBE)
    assert find(host, "cpus").remedy == "give the guest a second CPU"
    assert "placements" not in {finding.subject for finding in examine(host)}


def test_quota(desktop: Host) -> None:
    assert find(replace(desktop, quota_cpus=1.5), "quota").level is Level.WARN
    assert "grants 1.5 CPUs' time to 16 CPUs" in find(replace(desktop, quota_cpus=1.5), "quota").text
    assert "quota" not in {finding.subject for finding in examine(replace(desktop, quota_cpus=16.0))}


def test_smt_siblings(tmp_path: Path, desktop: Host) -> None:
    assert find(desktop, "smt").level is Level.OK
    strangers = find(replace(desktop, allowed=frozenset({1, 2, 9})), "smt")
    assert (strangers.level, strangers.text) == (
        Level.WARN,
        "CPUs 10 share cores with ours and may run anything",
    )
    assert (
        find(guest(tmp_path / "guest"), "smt").text == "no SMT siblings here: placement smt cannot be tried"
    )


@pytest.mark.parametrize(
    ("feature", "subject", "level", "words"),
    [
        ("rwx", "rwx", Level.WARN, "only the alias regimes run"),
        ("alias", "alias", Level.WARN, "the alias regimes are skipped"),
        ("reserve", "reservation", Level.STOP, "no region can be placed"),
        ("membarrier-sync-core", "membarrier", Level.WARN, "no SYNC_CORE here"),
        ("procmem", "procmem", Level.WARN, "the procmem regimes are skipped"),
        ("vmwritev", "vmwritev", Level.WARN, "the vmwritev regimes are skipped"),
        ("ptrace", "ptrace", Level.WARN, "the ptrace regimes are skipped"),
        ("protect-x", "protect", Level.WARN, "the protect regimes are skipped"),
        ("huge-pages", "huge-pages", Level.WARN, "the huge regimes are skipped"),
        ("syscall-dispatch", "syscall-dispatch", Level.WARN, "is not stopped"),
        ("serialize", "serialize", Level.OK, "no SERIALIZE on this CPU"),
    ],
)
def test_missing_feature(desktop: Host, feature: str, subject: str, level: Level, words: str) -> None:
    finding = find(lacking(desktop, feature), subject)
    assert finding.level is level
    assert words in finding.text
    assert finding.remedy
    assert [other for other in examine(lacking(desktop, feature)) if other.level is not Level.OK] == (
        [finding] if level is not Level.OK else []
    )


def test_no_mapping_at_all_stops(desktop: Host) -> None:
    assert find(lacking(desktop, "rwx", "alias"), "mapping").level is Level.STOP


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ((), "no FRED: signals and interrupts return by IRET, which serializes"),
        (("fred",), "the CPU has FRED and the kernel does not use it"),
        (("fred", "fred-used"), "they no longer mask a missing synchronization"),
    ],
)
def test_event_returns(desktop: Host, features: tuple[str, ...], words: str) -> None:
    assert words in find(having(desktop, *features), "fred").text


def test_invlpgb(desktop: Host) -> None:
    assert "mask nothing" in find(having(desktop, "invlpgb"), "invlpgb").text
    assert "no INVLPGB" in find(desktop, "invlpgb").text


def test_other_isas_are_not_asked_for_x86_instructions(desktop: Host) -> None:
    subjects = {finding.subject for finding in examine(replace(desktop, isa="aarch64"))}
    assert not subjects & {"serialize", "fred", "invlpgb"}


def test_hypervisor_says_how_much_was_stolen(desktop: Host) -> None:
    finding = find(replace(desktop, hypervisor="KVM", stolen=0.0213), "hypervisor")
    assert finding.level is Level.WARN
    assert finding.text.startswith("a guest (hypervisor: KVM, stolen 2.1% of CPU time)")


@pytest.mark.parametrize(
    ("hypervisor", "microcode", "level"),
    [
        ("", "0x1", Level.OK),
        ("", "", Level.WARN),
        ("KVM", "0xa101148", Level.OK),
        ("KVM", "0x1", Level.WARN),
        ("KVM", "0x1000065", Level.WARN),
        ("VMware", "0xFFFFFFFF", Level.WARN),
    ],
)
def test_microcode(desktop: Host, hypervisor: str, microcode: str, level: Level) -> None:
    assert find(replace(desktop, hypervisor=hypervisor, microcode=microcode), "microcode").level is level


def test_isolation(desktop: Host) -> None:
    none = find(replace(desktop, isolated=frozenset()), "isolation")
    assert none.level is Level.WARN
    assert none.remedy == (
        "boot with isolcpus=managed_irq,domain,1-7,9-15 nohz_full=1-7,9-15 rcu_nocbs=1-7,9-15 irqaffinity=0,8"
    )
    # Linux takes isolated CPUs out of everybody's affinity.
    away = find(replace(desktop, isolated=frozenset({6, 7}), allowed=frozenset(range(6))), "isolation")
    assert away == Finding(
        Level.WARN,
        "isolation",
        "isolated CPUs: 6-7, of which none allowed to this process",
        "taskset -c 0,6-7 stress ...",
    )
    used = find(replace(desktop, isolated=frozenset({6, 7})), "isolation")
    assert (used.level, used.remedy) == (Level.OK, "use them: --cpus 6-7")


def test_governor(desktop: Host) -> None:
    assert find(replace(desktop, governor="powersave"), "governor").level is Level.WARN
    assert find(replace(desktop, governor=""), "governor").level is Level.OK


def test_clock(desktop: Host) -> None:
    assert find(replace(desktop, clocksource="hpet"), "clock").level is Level.WARN
