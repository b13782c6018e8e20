"""A probe and a host to start from in tests, as the recorded guest would be with every feature granted."""

from __future__ import annotations

from pathlib import Path

from stress.host import Host, Probe, read_host
from tests.trees.machines import plant, recorded

PROBE = Probe(
    vendor="AuthenticAMD",
    isa="x86_64",
    features=frozenset(
        {"rwx", "alias", "reserve", "syscall-dispatch", "mfence-serializes", "cx16", "hypervisor"}
        | {"procmem", "vmwritev", "ptrace", "protect-x", "huge-pages"}
    ),
    membarrier=0x3FF,
    tsc_hz=2_596_144_000,
    line_bytes=64,
    step_ops=0xFFF,
    exec_ops=0x1DF,
)


def guest(root: Path, files: dict[str, str] | None = None, probe: Probe = PROBE) -> Host:
    """Return the recorded guest with `files` over it."""
    return read_host(plant(root, recorded("guest") | (files or {})), probe)
