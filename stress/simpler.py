"""Simpler plans than a given one: what may be left out, one thing at a time, the simplest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from stress.model import Case, Plan, Provocation, Site
from stress.sites import BOUNDARIES, block_of

NOTHING = Provocation("none", "nothing is done to help")

Move = Callable[[Plan], Iterator[tuple[str, Plan]]]
"""Yields simpler plans, the simplest first, each with what it drops."""

Returns = Callable[[Plan], Case | None]
"""The case of a plan with what its images return found out by executing them, or None where one does not return."""


def moves(returns: Returns) -> Sequence[Move]:
    """Everything that may be dropped of a plan whose code alternates in place, what costs most first."""
    return (
        fewer_provocations,
        fewer_executors,
        fewer_images,
        fewer_writer_steps,
        fewer_executor_steps,
        lambda plan: fewer_bytes(plan, returns),
        simpler_site,
        simpler_store,
        shorter_pace,
        lambda plan: fewer_pads(plan, returns),
    )


def _with(plan: Plan, **changes: object) -> Plan:
    return replace(plan, cell=replace(plan.cell, **changes))  # type: ignore[arg-type]


def fewer_provocations(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """None at all; else one of those that take turns."""
    these = plan.cell.provocations
    if these != (NOTHING,) and any(p.writer or p.executor or p.signal_us for p in these):
        yield f"provocation {plan.cell.provocation}", _with(plan, provocations=(NOTHING,))
    for one in these if len(these) > 1 else ():
        yield f"provocations but {one.name}", _with(plan, provocations=(one,))


def fewer_executors(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One executor; else one fewer."""
    where = plan.cell.placement
    n = len(where.executor_cpus)
    for fewer in dict.fromkeys((1, n - 1)) if n > 1 else ():
        less = replace(where, executor_cpus=where.executor_cpus[:fewer])
        yield f"{n - fewer} of {n} executors", _with(plan, placement=less)


def fewer_images(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Two images that follow each other; else one fewer."""
    images = plan.cell.case.images
    n = len(images)
    for fewer in dict.fromkeys((2, n - 1)) if n > 2 else ():
        for first in range(n - fewer + 1):
            case = replace(plan.cell.case, images=images[first : first + fewer])
            yield f"{n - fewer} of {n} images", _with(plan, case=case)


def fewer_writer_steps(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One writer step fewer, the last first."""
    regime = plan.cell.regime
    for at in reversed(range(len(regime.writer))):
        less = replace(regime, writer=regime.writer[:at] + regime.writer[at + 1 :])
        yield f"writer step `{regime.writer[at].text}`", _with(plan, regime=less)


def fewer_executor_steps(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One executor step fewer, the last first."""
    regime = plan.cell.regime
    for at in reversed(range(len(regime.executor))):
        less = replace(regime, executor=regime.executor[:at] + regime.executor[at + 1 :])
        yield f"executor step `{regime.executor[at].text}`", _with(plan, regime=less)


def _narrowed(plan: Plan, start: int, end: int) -> Plan | None:
    """Only the bytes from `start` to `end` change; None where the images are then no longer all different."""
    case, site = plan.cell.case, plan.cell.site
    first = case.images[0].bytes
    contents = [first[:start] + image.bytes[start:end] + first[end:] for image in case.images]
    if len(set(contents)) < len(contents):
        return None
    images = tuple(replace(i, bytes=content) for i, content in zip(case.images, contents, strict=True))
    front = case.patch + site.front - start if site.boundary else 0
    where = Site(site.boundary, front) if site.boundary else site
    less = replace(case, patch=start, patch_len=end - start, images=images)
    where = where if where.boundary else Site(0, inside=block_of(less))
    return _with(plan, case=less, site=where)


def fewer_bytes(plan: Plan, returns: Returns) -> Iterator[tuple[str, Plan]]:
    """A shorter run of patched bytes, on both sides of the boundary where there is one."""
    case, site = plan.cell.case, plan.cell.site
    point = case.patch + site.front if site.boundary else 0
    runs = [
        (start, end)
        for start in range(case.patch, case.patch + case.patch_len)
        for end in range(start + 2, case.patch + case.patch_len + 1)
        if end - start < case.patch_len and (not site.boundary or start < point < end)
    ]
    for start, end in sorted(runs, key=lambda run: run[1] - run[0]):
        less = _narrowed(plan, start, end)
        found = returns(less) if less else None
        if less and found:
            yield (
                f"{case.patch_len - (end - start)} of {case.patch_len} patched bytes",
                _with(less, case=found),
            )


def simpler_site(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Inside one aligned block; else across the smallest boundary."""
    case, site = plan.cell.case, plan.cell.site
    if not site.boundary:
        return
    yield f"site x{site.boundary}", _with(plan, site=Site(0, inside=block_of(case)))
    for boundary in (b for b in BOUNDARIES if b < site.boundary):
        yield f"site x{site.boundary}, in favour of x{boundary}", _with(plan, site=Site(boundary, site.front))


def simpler_store(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """One plain store."""
    if plan.cell.store != "whole":
        yield f"store {plan.cell.store}", _with(plan, store="whole")


def shorter_pace(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """No pause between patches; else half the range of pauses."""
    for shorter in dict.fromkeys((0, plan.pace_log2 // 2)) if plan.pace_log2 else ():
        yield f"pace 2^{plan.pace_log2}, in favour of 2^{shorter}", replace(plan, pace_log2=shorter)


def fewer_pads(plan: Plan, returns: Returns) -> Iterator[tuple[str, Plan]]:
    """One pad fewer, which no image needs: without it each still returns what it did."""
    pads = plan.cell.case.pads
    for at, pad in enumerate(pads):
        less = replace(plan.cell.case, pads=pads[:at] + pads[at + 1 :])
        without = _with(plan, case=less)
        if returns(without) == less:
            yield f"the pad at {pad.offset:+#x}", without


PUBLISHED: Sequence[Move] = (
    fewer_provocations,
    fewer_executors,
    fewer_writer_steps,
    fewer_executor_steps,
    shorter_pace,
)
"""What may be dropped where code is published: its body and where it lies are the regime's."""
