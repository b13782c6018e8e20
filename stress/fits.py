"""Which parts of a cell go together: case, site, store, regime, provocations, placement and machine."""

from __future__ import annotations

from stress.model import KERNEL_VIAS, Cell, Placement, Provocation
from stress.sites import HUGE, misfit, needs_of

MANY = frozenset({"K11", "K12", "K13", "K14"})
"""Kinds that replace several instructions, or put several in the place of one: toggled, they do either in turn."""

TORN_GUARDS = ("bytes", "reversed", "movsb")
"""Stores of which a guard, being longer than a byte, is several."""

COPIED_STORES = ("whole", "qword", "bytes", "reversed", "split")
"""Stores that a sequence of copies of up to 8 bytes can stand for."""

COPIED_BYTES = 8
"""The most that one such copy stores."""


def antagonist_cpu(provocation: Provocation, placement: Placement) -> int:
    """Where the antagonist of `provocation` runs; -1 where it has none, or no CPU that would do.

    On the lines: a CPU that is nobody else's, or else the writer's, where the two take turns, and the writer is
    stopped in the middle of patches. Beside an executor: its SMT sibling alone, for anywhere else it is no rival.
    """
    lines = placement.spare_cpu if placement.spare_cpu >= 0 else placement.writer_cpu
    return {"": -1, "lines": lines, "smt": placement.sibling_cpu}[provocation.antagonist]


def _misplaced(cell: Cell) -> str:
    """Why an antagonist or a region has no place under `cell`, or ""."""
    executor = cell.placement.executor_cpus[0]
    for p in cell.provocations:
        if p.antagonist and antagonist_cpu(p, cell.placement) < 0:
            return f"{p.name} needs an SMT sibling of the executor's CPU {executor} that is ours and idle"
    if cell.site.boundary == HUGE and cell.regime.pages != "2m":
        return f"{cell.site.name} lies where pages of 2 MiB meet; the regime's are of 4 KiB"
    return ""


def _guardless(cell: Cell) -> str:
    """Why the steps cannot put anything over the head that guards it, or ""."""
    case, regime = cell.case, cell.regime
    parts = {step.part for step in regime.writer if step.op == "store"}
    if case.head > case.patch and parts & {"first", "rest"}:
        return "the head lies behind other patched bytes, and the regime stores first what is in front of it"
    if not regime.guards:
        return ""
    if cell.store in TORN_GUARDS:
        return (
            f"'{cell.store}' stores the guard, which is two bytes long, a byte at a time: it guards nothing"
        )
    if case.patch == case.head and cell.site.front == 1:
        return "the guard, which is two bytes long, would straddle the boundary"
    return ""


def reason(cell: Cell, features: frozenset[str]) -> str:
    """Why this host or the shape of the case rules `cell` out, or ""."""
    case, regime = cell.case, cell.regime
    wrong = _misplaced(cell)
    if not wrong and not regime.publish:
        wrong = misfit(case, cell.site, cell.store) or _guardless(cell)
    if wrong:
        return wrong
    if regime.via in KERNEL_VIAS and cell.store not in COPIED_STORES:
        return f"the kernel, which copies the bytes for {regime.via}, knows no '{cell.store}' store"
    if regime.via in KERNEL_VIAS and cell.store == "whole" and case.patch_len > COPIED_BYTES:
        return f"the kernel copies the bytes for {regime.via}: {case.patch_len} are no single store there"
    if case.patch_len < regime.min_patch:
        return f"the regime needs {regime.min_patch} patched bytes, the case has {case.patch_len}"
    if (regime.traps or regime.guards) and case.kind in MANY:
        what = "trap" if regime.traps else "guard"
        return f"the regime's {what} guards one instruction, and a thread may stand between those of the case"
    if regime.traps and any(image.traps for image in case.images):
        return "the case itself traps at its head, so the regime's own traps could not be told apart"
    needs = regime.needs if regime.publish else (*needs_of(case, cell.store), *regime.needs)
    missing = [need for need in needs if need not in features]
    return f"this machine lacks {', '.join(missing)}" if missing else ""
