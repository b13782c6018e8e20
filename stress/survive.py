"""What a run that was cut short left behind: what took the machine down, and the CPUs that it goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stress.errors import HostError
from stress.host import SLASH, Host
from stress.topology import format_cpu_list, listed_cpus, read_text

BOOT = Path("proc/sys/kernel/random/boot_id")

CRASHED_THE_MACHINE = "crashed the machine: it went down, or was reset, while this cell was running"

Record = Mapping[str, Any]


def boot_id(root: Path = SLASH) -> str:
    """Return what names this boot of the machine; "" where the kernel does not say."""
    return read_text(root / BOOT)


def as_begun(path: Path, run: Record, host: Host) -> Host:
    """Return `host` with the CPUs that the run in `path` was begun with: on others its cells would be others.

    Raises:
        HostError: some of them may not be used now.
    """
    began = listed_cpus(run["host"].get("allowed") or format_cpu_list(host.allowed))
    if missing := began - host.allowed:
        cpus = format_cpu_list(began)
        raise HostError(
            f"{path}: was begun on CPUs {cpus}, of which {format_cpu_list(missing)} may not be used now; "
            f"go on with `taskset -c {cpus} stress run --resume {path}`, or begin a new run"
        )
    return replace(host, allowed=began)


def taken_back(start: Record) -> dict[str, Any]:
    """Return the start record that says: this cell was ended by us, and is not what stopped the machine."""
    return {**start, "boot": ""}


def fallen(records: Iterable[Record], boot: str) -> list[Record]:
    """Return the start records of the cells that were running when the machine went down, oldest first.

    Those are begun and not ended, and were begun before `boot`, this boot. What was begun under this boot lost its
    controller, not its machine. Where either boot is not known, nobody is accused.
    """
    begun: dict[str, Record] = {}
    for record in records:
        if record["type"] == "start":
            begun[record["id"]] = record
        else:
            begun.pop(record["id"], None)
    return [start for start in begun.values() if boot and start.get("boot") not in (None, "", boot)]
