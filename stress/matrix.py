"""What was asked for, as the cells of this machine: the step from the command line's words to plans."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from stress.bugs import split_words
from stress.cases import load_cases
from stress.errors import HostError, UsageError
from stress.evidence import companions
from stress.host import Host
from stress.model import Case, Cell, Limits, Placement, Plan, Provocation, Regime, Skip
from stress.plan import cells, check_stores, plans, select
from stress.recipes import bug_cells, choose_bugs, once
from stress.regimes import load_provocations, load_regimes
from stress.topology import pack, parse_cpu_list, placements

OVERHEAD_SECONDS = 0.05
"""What starting a worker, ending it and storing its record add to a cell (measured on a 2-CPU guest)."""

PLANS_MAX = 1_000_000
"""A run's cells, each as often as it is repeated: what memory and a year have room for."""

UNDER_OVERHEAD_SECONDS = 0.4
"""The same where a prefix, perhaps an emulator, starts an agent for it, and another for its byte mixes."""

UNDER_HANG_MS = 2000
"""CPU time without progress before an executor hangs, where an emulator may be some twenty times slower."""

LONGEST_SECONDS = 3600.0
"""A cell whose end was asked for in executions or patches, not in time, is cut off here."""

SHORTEST_SECONDS = 0.02

USUAL_SITES = ("usual",)
USUAL_BUDGET_SECONDS, USUAL_SECONDS = 120.0, 0.03
"""What a run takes where nobody says: this long, or, with many cells, so much for each."""

UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
SCALES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True)
class Request:
    """The words of the command line that decide which plans there are; stored in `run.json` for `--resume`.

    Lists may hold names, globs and comma lists. `seconds` of a cell (None: from the budget), `budget_seconds` of the
    whole run (0: as usual); `executions` and `patches` of a cell (0: no such limit). `under`: a command prefix, and
    `agent` the file of the agent that it runs ("": one built for this machine).
    """

    cases: tuple[str, ...] = ("all",)
    regimes: tuple[str, ...] = ("all",)
    sites: tuple[str, ...] = ("usual",)
    stores: tuple[str, ...] = ("whole",)
    provoke: tuple[str, ...] = ("auto",)
    placements: tuple[str, ...] = ("auto",)
    cpus: str = ""
    executors: int = 1
    seconds: float | None = None
    budget_seconds: float = 0.0
    executions: int = 0
    patches: int = 0
    until_first_event: bool = False
    repeat: int = 1
    seed: int = 0
    case_dir: str = ""
    bug_dir: str = ""
    regime_files: tuple[str, ...] = ()
    under: str = ""
    agent: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The request ready for JSON."""
        return asdict(self)

    def located(self) -> Request:
        """The same request with absolute paths: a run may be gone on with from elsewhere."""
        return replace(
            self,
            case_dir=str(Path(self.case_dir).resolve()) if self.case_dir else "",
            bug_dir=str(Path(self.bug_dir).resolve()) if self.bug_dir else "",
            regime_files=tuple(str(Path(file).resolve()) for file in self.regime_files),
            agent=str(Path(self.agent).resolve()) if self.agent else "",
        )

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> Request:
        """The request that `as_dict` made this of; UsageError where a newer or older version made it."""
        known = {field.name for field in fields(Request)}
        if set(stored) != known:
            raise UsageError("this run was begun by another version of stress; finish it with that version")
        words: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return Request(**words)


@dataclass(frozen=True, slots=True)
class Matrix:
    """The cells of a run: plans for those that can be run here, reasons for those that cannot."""

    plans: tuple[Plan, ...]
    skips: tuple[Skip, ...]
    lanes: int
    """How many cells run side by side."""
    depth: int
    """How many cells run one after the other, at most."""
    overhead: float
    """Seconds that a cell takes beyond its own."""

    @property
    def expected_seconds(self) -> float:
        """How long running all of it takes."""
        return self.depth * (self.plans[0].limits.seconds + self.overhead)


def parse_seconds(text: str, option: str) -> float:
    """Seconds of a duration such as `0.5`, `300ms`, `2m` or `8h`; positive and finite, or UsageError."""
    match = re.fullmatch(r"([0-9.eE+-]+)\s*([a-z]*)", text.strip())
    try:
        value = float(match[1]) * UNITS[match[2]] if match else math.nan
    except (ValueError, KeyError):
        value = math.nan
    if not math.isfinite(value) or not 0 < value < 1e9:  # 32 years; the core counts nanoseconds in 64 bits
        raise UsageError(f"{option}: '{text}' is no duration; give seconds or 300ms, 90s, 2m, 8h")
    return value


def parse_count(text: str, option: str) -> int:
    """A positive whole number such as `250000`, `1e9` or `10M`; UsageError otherwise."""
    match = re.fullmatch(r"([0-9.eE+]+)([kMGT]?)", text.strip())
    try:
        value = float(match[1]) * SCALES[match[2]] if match else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 1 or value != int(value) or value >= 2**63:
        raise UsageError(f"{option}: '{text}' is no positive whole number; give as in 250000, 1e9 or 10M")
    return int(value)


def _turns(words: Sequence[str]) -> list[tuple[Provocation, ...]]:
    """`auto` is one cell in which all take turns; every other word is a cell of its own for each it names."""
    known = load_provocations()
    names = [part.strip() for word in words for part in word.split(",")]
    turns: list[tuple[Provocation, ...]] = (
        [tuple(p for p in known.values() if p.turns)] if "auto" in names else []
    )
    rest = [name for name in names if name != "auto"]
    return turns + [(p,) for p in select(known, rest, "--provoke")] if rest else turns


def _placements(request: Request, host: Host) -> list[Placement]:
    """One placement for each relation asked for; where one relation is asked for, as many lanes as fit."""
    topology = host.topology
    if request.cpus:
        topology = topology.only(parse_cpu_list(request.cpus, host.allowed))
    words = [part.strip() for word in request.placements for part in word.split(",")]
    found = placements(topology, words, request.executors)
    # What an antagonist runs on must be nobody else's.
    alone = any(provocation.antagonist for turn in _turns(request.provoke) for provocation in turn)
    if len(found) == 1 and not alone:
        return pack(topology, found[0].relation, request.executors) or found
    return found


def choose_regimes(words: Sequence[str], files: Sequence[str]) -> list[Regime]:
    """The regimes that `--regimes` names, out of the package's and the user's own files."""
    return select(load_regimes(*(Path(file) for file in files), asked=words), words, "--regimes")


def choose_cases(words: Sequence[str], directory: str, isa: str) -> list[Case]:
    """The cases that `--cases` names."""
    return select(load_cases(Path(directory) if directory else None, isa), words, "--cases")


def _usual_sites(case: Case, regime: Regime) -> tuple[str, ...]:
    """Where a case is run under a regime when nobody said where: where it is most exposed.

    That is across a cache line, or, in pages of 2 MiB, where two of them meet. Inside one aligned block, where vendors
    promise something of the store itself, it is run under the two regimes that add nothing to the store.
    """
    edge = "x64" if regime.pages == "4k" else "x2m"
    straddles = (edge,) if case.patch_len > 1 else ()
    return ("in", *straddles) if regime.name in ("none", "idle") else straddles or ("in",)


def _plain_cells(request: Request, host: Host, lane: Placement) -> tuple[list[Cell], list[Skip]]:
    cases = choose_cases(request.cases, request.case_dir, host.isa)
    regimes = choose_regimes(request.regimes, request.regime_files)
    stores, turns = check_stores(request.stores), _turns(request.provoke)
    sites = _usual_sites if request.sites == USUAL_SITES else request.sites
    return cells(cases, sites, stores, regimes, turns, [lane], host.features)


def _cells(request: Request, host: Host, lane: Placement) -> tuple[list[Cell], list[Skip]]:
    """What the words mean in one lane. Known bugs bring regimes, sites and stores of their own."""
    plain, words = split_words(request.cases)
    if not words:
        return _plain_cells(request, host, lane)
    if not plain:
        for option in ("regimes", "sites", "stores"):
            if getattr(request, option) != getattr(Request(), option):
                raise UsageError(
                    f"--{option}: a known bug brings its own; leave it out, or name a case as well"
                )
    chosen = choose_bugs(words, request.bug_dir, host.isa)
    run, skips = bug_cells(chosen, _turns(request.provoke), lane, host.features)
    if plain:
        more, less = _plain_cells(replace(request, cases=tuple(plain)), host, lane)
        run, skips = run + more, skips + less
    return once(run), skips


def _seconds(request: Request, depth: int, overhead: float) -> float:
    """Seconds of each cell, where `depth` of them run one after the other."""
    if request.seconds is not None:
        return request.seconds
    if request.executions or request.patches:
        return LONGEST_SECONDS
    budget = request.budget_seconds or max(USUAL_BUDGET_SECONDS, depth * (USUAL_SECONDS + overhead))
    share = budget / depth - overhead
    if share < SHORTEST_SECONDS:
        need = math.ceil(depth * (SHORTEST_SECONDS + overhead))
        raise UsageError(
            f"--budget: {request.budget_seconds:g} s is too short for {depth} cells in a row; "
            f"give {need}s or more, or fewer cells"
        )
    return share


def build(request: Request, host: Host) -> Matrix:
    """The plans and skips that `request` means on `host`.

    Raises:
        UsageError: a word of the request names nothing, or cannot be.
        CaseError: a case or regime file is wrong.
        HostError: the CPUs or placements asked for do not exist here, or no cell can be run.
    """
    lanes = _placements(request, host)
    one_relation = len({lane.relation for lane in lanes}) == 1
    run: list[Cell] = []
    skips: list[Skip] = []
    for lane in lanes[:1] if one_relation else lanes:
        more, less = _cells(request, host, lane)
        run, skips = run + more, skips + less
    if not run:
        reasons = "; ".join(sorted({skip.reason for skip in skips})) or "nothing was chosen"
        raise HostError(f"no cell can be run here: {reasons}; see `stress doctor` and `stress list cells`")
    if one_relation:
        # Neighbours share case and site, and so, on the same CPUs, their companions.
        run = [_on(cell, lanes[i * len(lanes) // len(run)]) for i, cell in enumerate(run)]
    run += companions(run)
    loads = Counter(cell.placement.cpus for cell in run)
    if len(run) * request.repeat > PLANS_MAX:
        text = f"{request.repeat} times {len(run)} cells is more than {PLANS_MAX:,}"
        raise UsageError(f"--repeat: {text}; give fewer, or begin several runs")
    depth = (max(loads.values()) if one_relation else len(run)) * request.repeat
    overhead = UNDER_OVERHEAD_SECONDS if host.under else OVERHEAD_SECONDS
    seconds = _seconds(request, depth, overhead)
    limits = Limits(seconds, request.executions, request.patches, request.until_first_event)
    made = plans(run, limits, request.seed, request.repeat)
    if host.under:
        made = [replace(plan, hang_ms=UNDER_HANG_MS) for plan in made]
    return Matrix(tuple(made), tuple(skips), len(lanes) if one_relation else 1, depth, overhead)


def _on(cell: Cell, lane: Placement) -> Cell:
    return replace(cell, placement=lane)
