"""The agent: the native core as a program of its own, made from the package's own sources by one compiler command."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path

from stress.errors import HostError, UsageError

NAME = "stress-agent"

LINKINGS = (("-static-pie",), ("-static",), ())
"""Ways to link, the first that works: an emulator or a board may have none of our libraries."""

BUILD_SECONDS = 300.0

KEPT = 4
"""Agents that stay in the user's cache, those that were wanted last."""

SUFFIXES = (".c", ".h", ".S", ".inc", "")
"""Of what decides what the agent is."""


def find_sources() -> Path:
    """Return the directory of the C sources: inside the package where it is installed, else beside it."""
    packaged = Path(str(resources.files("stress").joinpath("sources")))
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "native"


def version(sources: Path | None = None) -> str:
    """Return 12 hex digits of what the agent is built from; an agent tells its own when it is probed."""
    sources = sources or find_sources()
    digest = hashlib.sha256()
    for path in sorted(path for path in sources.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
        digest.update(f"{path.relative_to(sources)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _compiler(environment: Mapping[str, str]) -> list[str]:
    return shlex.split(environment.get("CC", "")) or ["cc"]


def _output(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        raise HostError(
            f"the C compiler {command[0]} cannot be run; install gcc and libc6-dev, or set CC"
        ) from None


def _port(sources: Path, compiler: list[str]) -> Path:
    """Return the folder of the ISA that `compiler` compiles for."""
    isa = _output([*compiler, "-dumpmachine"]).stdout.partition("-")[0]
    ports = {path.name: path for path in (sources / "arch").iterdir() if path.is_dir()}
    if isa not in ports:
        known = ", ".join(sorted(ports))
        raise UsageError(f"CC={compiler[0]} compiles for '{isa.strip()}'; there are ports for {known}")
    return ports[isa]


def build(target: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Compile the agent into `target`, for the ISA that `CC` compiles for; `CFLAGS` and `LDFLAGS` are obeyed.

    Raises:
        UsageError: there is no port for that ISA.
        HostError: there is no compiler, or it fails; the text has its last words.
    """
    sources, compiler = find_sources(), _compiler(environment)
    port = _port(sources, compiler)
    # prelude.c belongs to the Python extension.
    core = [path for path in sources.glob("*.c") if path.name != "prelude.c"]
    files = [*core, *(sources / "agent").glob("*.c"), *port.glob("*.[cS]")]
    command = [
        *compiler,
        *(f"@{file}" for file in (sources / "flags", port / "flags") if file.exists()),
        "-fPIE",
        f'-DAGENT_VERSION="{version(sources)}"',
        *shlex.split(environment.get("CFLAGS", "")),
        *map(str, sorted(files)),
        *shlex.split(environment.get("LDFLAGS", "")),
    ]
    for linking in LINKINGS:
        told = _output([*command, *linking, "-o", str(target)])
        if told.returncode == 0:
            return
    last = (told.stderr.strip().splitlines() or ["it says nothing"])[-1]
    raise HostError(f"the agent cannot be compiled by {shlex.join(compiler)}: {last}")


def _forget_old(folder: Path) -> None:
    """Remove the agents in `folder` that were not wanted for longest: each version of the sources leaves one."""
    agents = [path for path in folder.glob(f"{NAME}-*") if not path.suffix]  # a suffix: it is being built
    for path in sorted(agents, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        path.unlink(missing_ok=True)


def built(environment: Mapping[str, str] = os.environ) -> Path:
    """Return an agent for this machine, compiled into the user's cache the first time that it is wanted.

    Raises:
        UsageError, HostError: as `build`, or the cache cannot be written.
    """
    words = [version(), *(environment.get(name, "") for name in ("CC", "CFLAGS", "LDFLAGS"))]
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]
    folder = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stress"
    target = folder / f"{NAME}-{key}"
    if target.exists():
        with suppress(OSError):  # of another user's, or on a disk that is read only
            os.utime(target)
        return target
    scratch = folder / f"{target.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        build(scratch, environment)
        scratch.replace(target)
        _forget_old(folder)
    except OSError as error:
        raise HostError(f"{folder}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from None
    finally:
        scratch.unlink(missing_ok=True)
    return target
