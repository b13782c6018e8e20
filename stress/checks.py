"""What the steps of a discipline may be together: contradictions that no run should have to find out."""

from __future__ import annotations

from collections.abc import Iterator

from stress.model import Regime

# enum xmc_limit of native/xmc.h
STEPS_MAX = 32

_COVERS = ({"all"}, {"first", "rest"}, {"front", "back"})
"""Parts that are the whole patch together."""

Complaints = Iterator[tuple[str, str]]
"""Of one check: keys, and what is wrong with them and what to do. Only the first is reported."""

PLANTED = ("trap", "guard")
"""What a writer may put over the head for a while."""

GUARDED = 3
"""Fewest patched bytes of which a guard leaves any to the rest (on x86 it is two bytes long)."""

_OBEY_RIGHTS = ("same", "vmwritev")
"""Ways to the bytes that the executors' own page must permit."""

_OTHER_PROCESS = ("process", "ptrace")


def _check_steps(regime: Regime) -> Complaints:
    for key, steps in (("writer", regime.writer), ("executor", regime.executor)):
        if len(steps) > STEPS_MAX:
            yield key, f"there are {len(steps)} steps; give at most {STEPS_MAX}"
    ops = [step.op for step in regime.writer]
    if "publish" in ops[:-1]:
        yield f"writer[{ops.index('publish')}]", "publish is not the last step; give it once, at the end"
    if regime.completes and "publish" not in ops:
        yield "completes", "nothing says when the change is complete; end writer with publish"
    for n, step in enumerate(regime.executor):
        if step.on_change and "publish" not in ops:
            yield f"executor[{n}]", "nothing changes without publish; end writer with it, or drop on-change"


def _check_stores(regime: Regime) -> Complaints:
    new = {step.part for step in regime.writer if (step.op, step.value) == ("store", "new")}
    if regime.writer and not any(parts <= new for parts in _COVERS):
        yield "writer", "the stores of new bytes leave some old; store all, first and rest, or front and back"
    parts = {step.part for step in regime.writer if step.op == "store"} - {"all", "first"}
    if parts and regime.min_patch < 2:
        yield "min_patch", f"one byte has no {' or '.join(sorted(parts))}; give at least 2"
    for n, step in enumerate(regime.writer):
        later = {after.part for after in regime.writer[n:] if after.value == "new"}
        if step.value in PLANTED and not later & {step.part, "all"}:
            yield f"writer[{n}]", f"the {step.value} stays; follow it with `store {step.part} new`"
        if step.value == "guard" and step.part != "first":
            yield f"writer[{n}]", "a guard stands over the head; give `store first guard`"
    if regime.traps and regime.guards:
        yield "writer", "the head is as long as a trap or as a guard; plant one of the two"
    if regime.guards and regime.min_patch < GUARDED:
        yield "min_patch", f"a guard takes two bytes, and leaves a rest of one; give at least {GUARDED}"


def _check_rights(regime: Regime) -> Complaints:
    """A patch begins with the rights that the one before left; the first with all that `via` gives."""
    changes = [n for n, step in enumerate(regime.writer) if step.op == "protect"]
    rights = regime.writer[changes[-1]].part if changes else ""
    if changes and "x" not in rights:
        yield f"writer[{changes[-1]}]", "nothing could be executed any more; follow it with `protect rx`"
    for n, step in enumerate(regime.writer):
        rights = step.part if step.op == "protect" else rights
        if step.op == "store" and rights == "rx" and regime.via in _OBEY_RIGHTS:
            yield f"writer[{n}]", "the page is not writable here; put `protect rw` or `protect rwx` in front"


def _check_via(regime: Regime) -> Complaints:
    for n, step in enumerate(regime.writer):
        if step.op == "protect" and regime.via in _OTHER_PROCESS:
            text = "no process changes another one's mappings; give via same, alias, procmem or vmwritev"
            yield f"writer[{n}]", text
        if step.op == "remap" and regime.via != "alias":
            yield f"writer[{n}]", 'only a shared file can be mapped over itself; give via = "alias"'


def _check_pages(regime: Regime) -> Complaints:
    if regime.pages != "4k" and regime.via != "same":
        yield "pages", 'a file in memory is rarely had in large pages; give via = "same", or leave pages out'


def _check_stops(regime: Regime) -> Complaints:
    stopped = False
    for n, step in enumerate(regime.writer):
        if step.op == "quiesce" and stopped:
            yield f"writer[{n}]", "the executors are parked already; put release in front"
        elif step.op == "release" and not stopped:
            yield f"writer[{n}]", "nobody is parked; put quiesce in front"
        elif step.op in ("signal", "await", "publish") and stopped:
            yield f"writer[{n}]", f"parked executors do not answer; put release in front of {step.op}"
        stopped = step.op == "quiesce" or (stopped and step.op != "release")
    if stopped:
        yield "writer", "the executors stay parked; end with release"


CHECKS = (_check_steps, _check_stores, _check_via, _check_pages, _check_rights, _check_stops)
