"""A command prefix under test: what runs behind it is the agent, asked and answered in JSON.

The prefix may be anything: it may hang, die, print what it likes, or leave processes behind. Whatever it does is an
answer or an AgentError, in bounded time and memory, and nothing of its process group is left.
"""

from __future__ import annotations

import json
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.agent import NAME, built, version
from stress.errors import HostError, StressError, UsageError
from stress.model import Status

RUN_GRACE_SECONDS = 45.0
"""What the agent may take beyond its plan's limit: an emulator starts, maps and ends hung threads slowly."""

MIXES_SECONDS = 60.0
"""What executing every byte mix of a case may take; each that hangs takes 5 ms, every other a few microseconds."""

PROBE_SECONDS = 60.0
VERSION_SECONDS = 5.0

LINGER_SECONDS = 2.0
"""How long pipes are read that some other process holds open after the prefix itself has ended."""

STDOUT_MAX = 32 << 20
STDERR_KEPT = 4096
"""Bytes of its beginning, and as many of its end."""

AGENT_STATUSES = (2, 3)
"""What the agent itself ends with, beside 0: it refuses its input, or cannot write (native/agent/main.c)."""

NOT_RUN = (126, 127)
"""A shell, or env, found no program, or none that it may run."""

MIXES_MAX = 4096
"""XMC_MIXES_MAX: how many mixes the agent takes at once."""

PROBED = ("vendor", "isa", "features", "membarrier", "tsc_hz", "line_bytes", "step_ops", "exec_ops")


class AgentError(StressError):
    """The prefix gave no answer; `status` says what that makes of a cell."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class _Heard:
    """What a command said: its output, both ends of its stderr, and its exit status as subprocess has it."""

    stdout: bytes
    stderr: bytes
    code: int
    in_time: bool

    @property
    def complaint(self) -> str:
        """The first line of stderr, which mostly says what went wrong, and the last, which says how it ended.

        A line that ends in a colon is told with what follows it.
        """
        lines = [line.strip() for line in self.stderr.decode(errors="replace").strip().splitlines()]
        if len(lines) > 1 and lines[0].endswith(":"):
            lines[:2] = [" ".join(lines[:2])]
        told = [
            "".join(c if c.isprintable() else "?" for c in line)[:200] for line in (*lines[:1], *lines[-1:])
        ]
        return " ... ".join(dict.fromkeys(told))

    @property
    def status(self) -> Status:
        """What an exit status other than 0 makes of a cell.

        What the agent ends with by itself, and a program that is not there, are failures of ours. With anything else
        what is under test died: the same core does not, without it.
        """
        own = self.code in AGENT_STATUSES and self.stderr.startswith(f"{NAME}: ".encode())
        return Status.ERROR if own or self.code in NOT_RUN else Status.CRASHED

    @property
    def end(self) -> str:
        """How it ended, in words."""
        name = _signal(self.code)
        how = f"died of {name}" if name else f"ended with status {self.code}"
        return f"{how}: {self.complaint}" if self.complaint else how


def _listen(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bytes, bool]:
    """Read both pipes until the process has ended and they are closed; False where that took too long or too much."""
    assert process.stdout
    assert process.stderr
    end = time.monotonic() + seconds
    kept = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, err = kept
    ended = os.pidfd_open(process.pid)
    in_time = True
    with selectors.DefaultSelector() as selector:
        for descriptor in (*kept, ended):
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and in_time:
            in_time = time.monotonic() < end and len(kept[out]) <= STDOUT_MAX
            for key, _ in selector.select(max(0.0, end - time.monotonic())) if in_time else ():
                data = b"" if key.fd == ended else os.read(key.fd, 65536)
                if data:
                    kept[key.fd] += data
                    del kept[err][STDERR_KEPT:-STDERR_KEPT]
                else:
                    selector.unregister(key.fd)
                if key.fd == ended:
                    end = min(end, time.monotonic() + LINGER_SECONDS)
        in_time |= ended not in selector.get_map() and len(kept[out]) <= STDOUT_MAX
    os.close(ended)
    return bytes(kept[out]), bytes(kept[err]), in_time


def _hear(
    words: Sequence[str],
    text: bytes,
    seconds: float,
    pass_fds: Sequence[int] = (),
    first: Callable[[], None] | None = None,
) -> _Heard:
    """Run a command with `text` as its stdin; OSError where there is none. `first` runs in the child, before it."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(text)
        stdin.seek(0)
        process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            preexec_fn=first,
            process_group=0,
        )
    with process:
        try:
            stdout, stderr, in_time = _listen(process, seconds)
        finally:
            # Not reaped yet, so its number, and its group's, is still its own.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        return _Heard(stdout, stderr, process.wait(), in_time)


def _signal(code: int) -> str:
    """The signal that an exit status speaks of, as subprocess or as a shell puts it, or ""."""
    number = -code if code < 0 else code - 128
    with suppress(ValueError):
        return signal.Signals(number).name
    return ""


def _object(text: bytes) -> dict[str, Any] | None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    with suppress(ValueError, RecursionError):
        value = json.loads(text, parse_constant=refuse)
        return value if isinstance(value, dict) else None
    return None


@dataclass(frozen=True, slots=True)
class Under:
    """A prefix and an agent: `command` is what stands before the agent's arguments, its file last."""

    command: tuple[str, ...]

    @staticmethod
    def of(prefix: str, agent: str) -> Under:
        """The prefix as a shell would split it, and the agent in file `agent` ("": one that is built for this machine).

        Raises:
            UsageError: there is no such command or file.
            HostError: no agent can be built here.
        """
        try:
            words = shlex.split(prefix)
        except ValueError as error:
            raise UsageError(f"--under: {error}; quote the command as a shell wants it") from None
        if not words:
            raise UsageError(
                "--under: is empty; give a command, as in 'setarch -R' or 'valgrind --tool=none'"
            )
        if not shutil.which(words[0]):
            raise UsageError(f"--under: there is no command '{words[0]}'; install it, or give its path")
        if agent and not os.access(agent, os.X_OK):
            raise UsageError(f"--agent: {agent} is no program; build one with `stress agent -o FILE`")
        return Under((*words, str(Path(agent).resolve() if agent else built())))

    @property
    def prefix(self) -> str:
        """The prefix alone, as a shell takes it."""
        return shlex.join(self.command[:-1])

    def described(self) -> dict[str, str]:
        """`command`, and `version`: the first line that it prints when asked, "" where it prints none."""
        line = ""
        with suppress(OSError):
            heard = _hear([self.command[0], "--version"], b"", VERSION_SECONDS)
            text = heard.stdout.decode(errors="replace").strip()
            line = text.splitlines()[0][:200] if text and heard.in_time and heard.code == 0 else ""
        return {"command": self.prefix, "version": "".join(c for c in line if c.isprintable())}

    def _ask(
        self,
        options: Sequence[str],
        question: Any,
        seconds: float,
        pass_fds: Sequence[int] = (),
        first: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """The agent's answer: a JSON object. Raises AgentError."""
        text = json.dumps(question).encode()
        try:
            heard = _hear([*self.command, *options], text, seconds, pass_fds, first)
        except OSError as error:
            raise AgentError(Status.ERROR, f"`{self.prefix}` cannot be run: {error.strerror}") from None
        if len(heard.stdout) > STDOUT_MAX:
            raise AgentError(Status.ERROR, f"`{self.prefix}` printed more than {STDOUT_MAX >> 20} MiB")
        if not heard.in_time:
            raise AgentError(Status.TIMEOUT, f"no answer within {seconds:g} s; `{self.prefix}` was killed")
        if heard.code:
            raise AgentError(heard.status, f"`{self.prefix}` {heard.end}")
        answer = _object(heard.stdout)
        if answer is None:
            shown = ascii(heard.stdout[:60].decode(errors="replace"))
            raise AgentError(Status.ERROR, f"`{self.prefix}` printed {shown}, where an answer was due")
        return answer

    def probe(self) -> dict[str, Any]:
        """What the agent finds under the prefix: the fields of `host.Probe`.

        Raises:
            HostError: it does not run there, or is another version's.
        """
        try:
            answer = self._ask(["--probe"], {}, PROBE_SECONDS)
        except AgentError as error:
            raise HostError(f"--under: {NAME} does not run there: {error}") from None
        if answer.get("version") != version() or not set(PROBED) <= set(answer):
            raise HostError(
                f"--under: `{self.prefix}` is no agent of this version; build it with `stress agent -o FILE`"
            )
        return {name: answer[name] for name in PROBED}

    def run(self, plan: dict[str, Any], box: int, first: Callable[[], None] | None = None) -> dict[str, Any]:
        """The counted half of the record of `plan`, with `status` and `reason`.

        `box`: descriptor of the black box, in which it also counts where the descriptor reaches it. Raises AgentError.
        """
        seconds = plan["limits"]["seconds"] + RUN_GRACE_SECONDS
        answer = self._ask(["--box", str(box)], plan, seconds, [box], first)
        if answer.get("status") not in set(Status):
            raise AgentError(Status.ERROR, f"`{self.prefix}` printed no record, but other JSON")
        return answer

    def run_mixes(
        self, plan: dict[str, Any], mixes: list[bytes], first: Callable[[], None] | None = None
    ) -> list[tuple[str, int, int, int]]:
        """How each of `mixes` shows itself, as `native.run_mixes`. Raises AgentError."""
        shown: list[tuple[str, int, int, int]] = []
        for begin in range(0, len(mixes), MIXES_MAX):
            some = [mix.hex() for mix in mixes[begin : begin + MIXES_MAX]]
            answer = self._ask(["--mixes"], {"plan": plan, "mixes": some}, MIXES_SECONDS, (), first)
            if answer.get("error") or len(answer.get("signatures", ())) != len(some):
                why = os.strerror(answer.get("error") or 0)
                raise AgentError(Status.ERROR, f"the byte mixes could not be executed: {why}")
            shown += [(signal, code, pc, value) for signal, code, pc, value in answer["signatures"]]
        return shown
