"""The publish shape: code is prepared where nobody can reach it, then made reachable (docs/publish.md).

Its regimes are tables like any other, with a table `publish` inside; here is what is special about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stress.model import Case, Cell, Publishing, Regime, Step
from stress.steps import FENCES, WRITER_STEPS, Arguments
from stress.tables import LINE, Field, matching, one_of, within

ADDRESSES = ("fresh", "int3", "reused")
REACHES = ("pointer", "branch", "mapping")
VIAS = ("same", "alias", "process")
PROTECTIONS = ("rx", "rw", "rwx")
FILL_PARTS = ("all", "front", "back")

SLOTS = {"fresh": 1 << 18, "int3": 4096, "reused": 4096}
"""Addresses that take turns where a regime does not say: a power of two."""

SLOTS_MIN = 1024
"""Fewest that can be made new again, block by block, while others are in use."""

STEPS_MAX = 32

_SHARED_STEPS = ("fence", *FENCES, "serialize", "membarrier", "delay", "await", "publish")

PUBLISH_STEPS: Mapping[str, Arguments] = {
    "fill": (FILL_PARTS,),
    **{op: WRITER_STEPS[op] for op in _SHARED_STEPS},
    "alias": (),
    "drop-alias": (),
    "map": (PROTECTIONS,),
    "protect": (PROTECTIONS,),
    "unmap": (),
    "meet": (),
    "drain": (),
    "branch": (),
}
"""Writer steps of this shape, and the words that each takes."""

PUBLISHING = {
    "kind": Field(str, "a modification kind", convert=matching(r"K([1-9]|1\d|2[0-3])", "K1 to K23")),
    "address": Field(str, "what stood there", convert=one_of(ADDRESSES, "state of an address")),
    "reach": Field(str, "how executors get there", "pointer", convert=one_of(REACHES, "way to get there")),
    "slots": Field(int, "a power of two", 0, convert=within(0, 1 << 18)),
    "today": Field(str, "what serializes executors by accident", convert=LINE),
    "fred": Field(str, "what FRED changes of that", convert=LINE),
}
"""Keys of the table `publish` of a regime."""


def make_regime(name: str, values: Mapping[str, Any]) -> Regime:
    """Return the regime that the checked `values` of a table are, of either shape."""
    publish = values.get("publish")
    return Regime(name=name, **{**values, "publish": Publishing(**publish) if publish else None})


def slots_of(publish: Publishing) -> int:
    """Return how many addresses take turns."""
    return publish.slots or SLOTS[publish.address]


def check_publishing(regime: Regime) -> Iterator[tuple[str, str]]:
    """Yield the keys of a publish regime that are wrong, and what is wrong with them and what to do."""
    assert regime.publish
    publish, ops = regime.publish, [step.op for step in regime.writer]
    slots, maps = slots_of(publish), "map" in ops
    parts = {step.part for step in regime.writer if step.op == "fill"}
    if len(ops) > STEPS_MAX:
        yield "writer", f"there are {len(ops)} steps; give at most {STEPS_MAX}"
    if "all" not in parts and not {"front", "back"} <= parts:
        yield "writer", "the body is left unfilled; fill all, or front and back"
    if ops.count("publish") != 1:
        yield "writer", f"it publishes {ops.count('publish')} times; give publish once"
    if maps is {"fresh": False, "int3": True}.get(publish.address):
        text = "a fresh address is mapped in steps, one full of INT3 never is"
        yield "publish.address", f"{publish.address} does not go with the steps; {text}"
    if slots & (slots - 1) or (publish.address != "reused" and slots < SLOTS_MIN):
        yield "publish.slots", f"{slots} does not fit; give a power of two, {SLOTS_MIN} or more unless reused"
    needed = {"branch": "branch", "mapping": "map"}.get(publish.reach)
    if needed and needed not in ops:
        yield "publish.reach", f"nobody can get there; add the step {needed}"
    if "alias" in ops and "drop-alias" not in ops[ops.index("alias") :]:
        yield "writer", "the alias stays; follow it with drop-alias, or leave both out"
    if regime.via == "same" and not any(step.part in ("rw", "rwx") for step in regime.writer):
        yield "via", "nobody can write there; map rw or rwx first, or write via alias or process"


def front_of(case: Case) -> int:
    """Return how many bytes of a body lie in front of the line boundary: up to the middle of its second field."""
    return (case.fields[1] + 4) & ~7


def publishing(cell: Cell) -> dict[str, Any] | None:
    """Return what a resolved plan says of the shape, ready for JSON: None where the code alternates in place."""
    publish = cell.regime.publish
    if publish is None:
        return None
    return {
        "address": publish.address,
        "reach": publish.reach,
        "slots": slots_of(publish),
        "fields": list(cell.case.fields),
        "front": cell.site.front,
        "via": cell.regime.via,
        "guesses": [p.name for p in cell.provocations if p.guess],
        "guesses_flushed": [p.name for p in cell.provocations if p.guess and p.flush_pointer],
    }


def control_of(address: str) -> Regime:
    """Return the positive control at such an address: published first, the second line filled half a microsecond later.

    What it needs of the machine is what every regime at that address needs.
    """
    fill = (Step("fill", "front"), Step("publish"), Step("delay", "", 1000), Step("fill", "back"))
    before = {"fresh": (Step("map", "rx"),), "int3": (), "reused": (Step("drain"),)}[address]
    return Regime(
        name="control",
        code="R0",
        summary="publish, and fill the second line of the body after it: the positive control",
        source="none: nobody promises anything",
        writer=(Step("meet"), *before, *fill),
        via="alias",
        role="control",
        publish=Publishing("K15", address, slots=2 if address == "reused" else 0),
    )
