"""The nouns of the design as plain immutable data. No I/O, no policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What one execution showed (docs/glossary.md)."""

    OLD = "old"
    NEW = "new"
    TORN = "torn"
    STALE = "stale"
    FAULT = "fault"
    TRAP = "trap"
    HANG = "hang"


class Phase(StrEnum):
    """When an execution happened, relative to the patches around it."""

    CONCURRENT = "concurrent"
    POST = "post"
    INTERIOR = "interior"
    RESUMED = "resumed"


class Status(StrEnum):
    """Whether a cell ran. Never an outcome."""

    OK = "ok"
    SKIPPED = "skipped"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    ERROR = "error"


class Grade(StrEnum):
    """Outcome held against promise; computed when records are read, never stored. Worst first."""

    FORBIDDEN = "FORBIDDEN"
    SURPRISING = "SURPRISING"
    INTERESTING = "INTERESTING"
    UNPROVEN = "UNPROVEN"
    CLEAN = "CLEAN"


EXPECTED = frozenset({Outcome.OLD, Outcome.NEW, Outcome.TRAP})
"""Outcomes that no discipline calls wrong."""


@dataclass(frozen=True, slots=True)
class Image:
    """One content of the region.

    `bytes` is the whole region; `asm` says the same in AT&T syntax. Executing it returns `returns` (64 bits), or,
    where `traps`, raises the architecture's breakpoint at the head.
    """

    bytes: bytes
    asm: str
    returns: int = 0
    traps: bool = False


@dataclass(frozen=True, slots=True)
class Pad:
    """Fixed code at `offset` bytes from the region's first byte, for images to branch to."""

    offset: int
    bytes: bytes
    asm: str


@dataclass(frozen=True, slots=True)
class Case:
    """What is patched. Offsets count from the region's first byte, lengths are bytes.

    `entry`: where the executor calls. `head`: first byte of the patched instruction, where a trap would go.
    `ambiguous`: why a mix of two images may return what a third one returns; "" where none does.
    `patch`, `patch_len`: the bytes that the writer stores. `fields`: of a case to be published, the offsets of the
    two 8-byte fields that say which publication it is; () where the images alternate in place.
    """

    name: str
    kind: str
    summary: str
    source: str
    isa: str
    entry: int
    head: int
    patch: int
    patch_len: int
    images: tuple[Image, ...]
    pads: tuple[Pad, ...] = ()
    fields: tuple[int, ...] = ()
    ambiguous: str = ""

    @property
    def length(self) -> int:
        """Bytes of the region (every image has as many)."""
        return len(self.images[0].bytes)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the patched bytes lie: across a `boundary` with `front` bytes before it, or (0) in one aligned `inside`."""

    boundary: int
    front: int = 0
    inside: int = 8
    address: str = ""

    @property
    def name(self) -> str:
        """`in8` or `in16` and so on, or as in `x64+2`; of code that is published, what stood at the address before."""
        if self.address:
            return self.address
        boundary = "2m" if self.boundary == 1 << 21 else self.boundary
        return f"x{boundary}+{self.front}" if self.boundary else f"in{self.inside}"


@dataclass(frozen=True, slots=True)
class Store:
    """A way for the bytes of a patch to land.

    `longest`: bytes that it can change (0: any number). `block`: it stays inside one aligned block of so many (0: it
    may straddle). `several`: not one event. `kind`: what the modification becomes by being stored so, "" where the
    case and the site decide. `keeps`: kinds that are several stores in this very order. `needs`: feature names of the
    host.
    """

    name: str
    summary: str
    longest: int = 0
    block: int = 0
    several: bool = False
    kind: str = ""
    keeps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A writer step: `op`, then what it acts on (`part`), then a word or a number (`value`)."""

    op: str
    part: str = ""
    value: str | int = ""

    @property
    def text(self) -> str:
        """The step as a regime file spells it."""
        return " ".join(str(word) for word in (self.op, self.part, self.value) if word != "")


@dataclass(frozen=True, slots=True)
class ExecStep:
    """An executor step; `on_change`: only when `done` moved since the last look."""

    op: str
    on_change: bool = False

    @property
    def text(self) -> str:
        """The step as a regime file spells it."""
        return f"{self.op} on-change" if self.on_change else self.op


KERNEL_VIAS = frozenset({"procmem", "vmwritev", "ptrace"})
"""Ways to the bytes on which the kernel copies them: how many stores that makes nobody says."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """What a regime of the publish shape adds (docs/publish.md).

    `kind`: K1..K23, what each publication counts as. `address`: what stood there: `fresh`, `int3`, `reused`.
    `reach`: how executors get there: `pointer`, `branch`, `mapping`. `slots`: addresses that take turns, 0: as many
    as the address state wants. `today`: what serializes executors by accident; `fred`: what of that FRED changes.
    """

    kind: str
    address: str
    reach: str = "pointer"
    slots: int = 0
    today: str = ""
    fred: str = ""


@dataclass(frozen=True, slots=True)
class Regime:
    """A synchronization discipline: writer steps, executor steps, and what they claim.

    `completes`: after its last step no executor may run old code. `code`: R0..R9 (docs/promises.md).
    `needs`: feature names of the host. `min_patch`: bytes that must be patched for it to make sense.
    `ablation_of`: the complete protocol that this one deliberately breaks, or "".
    `pages`: `4k`; or `2m`, the region lies in two pages of 2 MiB.
    `role`: `cell`; or what runs beside cells: `control`, known to tear, and `witness`, whose executors read the
    patched bytes as data instead of executing them.
    """

    name: str
    code: str
    summary: str
    source: str
    writer: tuple[Step, ...]
    executor: tuple[ExecStep, ...] = ()
    via: str = "same"
    completes: bool = False
    needs: tuple[str, ...] = ()
    min_patch: int = 1
    ablation_of: str = ""
    role: str = "cell"
    pages: str = "4k"
    publish: Publishing | None = None

    @property
    def shape(self) -> str:
        """`toggle`: the region is executed while its images alternate; `publish`: it is made reachable."""
        return "publish" if self.publish else "toggle"

    @property
    def kind(self) -> str:
        """The modification kind that it makes of every case; "" where case, site and store decide."""
        return self.publish.kind if self.publish else "K23" if self.guards else "K15" if self.parted else ""

    @property
    def traps(self) -> bool:
        """Whether the writer plants traps, so that an executor may expect to meet one."""
        return any(step.value == "trap" for step in self.writer)

    @property
    def guards(self) -> bool:
        """Whether the writer plants guards, branches to themselves, in which executors wait."""
        return any(step.value == "guard" for step in self.writer)

    @property
    def faults(self) -> bool:
        """Whether the writer forbids execution for a while, so that an executor may expect a refused fetch."""
        return any(step.op == "protect" and "x" not in step.part for step in self.writer)

    @property
    def parted(self) -> bool:
        """Whether it stores new bytes in several steps and claims nothing to make up for that."""
        return not self.completes and sum(step.value == "new" for step in self.writer) > 1

    @property
    def patches(self) -> bool:
        """Whether the writer stores anything at all."""
        return any(step.op == "store" for step in self.writer)


@dataclass(frozen=True, slots=True)
class Provocation:
    """Something that widens the race window and changes nothing of what is promised.

    `cost`: what it costs, and what else it does. `signal_us`: mean microseconds between signals that reach every
    executor at random (0: none). `antagonist`: what a further thread does (`lines`, `smt`; "": there is none).
    `turns`: whether it takes its turn in `auto`.
    Of the publish shape alone: `guess`, the executor mispredicts into what comes next while it loads the pointer;
    `flush_pointer`, its line is flushed first.
    """

    name: str
    summary: str
    writer: tuple[Step, ...] = ()
    executor: tuple[ExecStep, ...] = ()
    cost: str = ""
    signal_us: int = 0
    antagonist: str = ""
    turns: bool = True
    guess: bool = False
    flush_pointer: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Which CPUs: the writer's, then the executors'. `relation` is how near the nearest executor is to the writer.

    For an antagonist, -1 where there is none: `spare_cpu`, which is nobody's, and `sibling_cpu`, likewise, on the core
    of the first executor. No part of what the placement is.
    """

    relation: str
    writer_cpu: int
    executor_cpus: tuple[int, ...]
    spare_cpu: int = field(default=-1, compare=False)
    sibling_cpu: int = field(default=-1, compare=False)

    @property
    def cpus(self) -> tuple[int, ...]:
        """All CPUs, the writer's first."""
        return (self.writer_cpu, *self.executor_cpus)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a cell ends: the first limit met. `seconds` of wall time (0: none), counts (0: none)."""

    seconds: float = 1.0
    executions: int = 0
    patches: int = 0
    until_first_event: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that is run, one line of results.

    `bugs`: the sides of known bugs that it was asked for as, `NAME:wrong` or `NAME:right`; nothing of what is run.
    """

    case: Case
    site: Site
    store: str
    regime: Regime
    provocations: tuple[Provocation, ...]
    placement: Placement
    bugs: tuple[str, ...] = ()

    @property
    def provocation(self) -> str:
        """The one provocation's name, or `auto` where several take turns."""
        return self.provocations[0].name if len(self.provocations) == 1 else "auto"

    @property
    def name(self) -> str:
        """As in `mov-imm32@x64+2/whole:int3+sync-core:l3`, with `~PROVOCATION` where it is not `auto`."""
        suffix = "" if self.provocation == "auto" else f"~{self.provocation}"
        return f"{self.case.name}@{self.site.name}/{self.store}:{self.regime.name}:{self.placement.relation}{suffix}"


@dataclass(frozen=True, slots=True)
class Skip:
    """A cell that was asked for and cannot be run here, and why."""

    cell: Cell
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A cell resolved for one host: everything that decides what is run. `id` is a hash of exactly this."""

    cell: Cell
    limits: Limits
    seed: int
    pace_log2: int
    slice_us: int
    repeat: int = 0
    hang_ms: int = 100
