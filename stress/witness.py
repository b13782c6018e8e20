"""The data witness: whether memory really held what was fetched.

A torn execution ran a mix of two images. If data readers beside the same store at the same site see the store arrive
in two steps exactly where the mix changes from one image to the other, memory held that mix for a moment: a *store
tear*. If many data readers never saw that, only the fetch was not atomic: a *fetch tear*. Anything else is not
attributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stress.mixes import boundaries, images_of, newer
from stress.model import KERNEL_VIAS, Cell, Image, Regime, Step
from stress.sites import misfit

GENERATIONS = 15
"""Images of a witness: a byte tells its generation modulo this, so it must exceed what can pass between two reads; a
multiple of three, because the real store and two controls take turns."""

ENOUGH_CONTROLS = 10
"""Tears of the control, a store that is two events for certain, in the same run, bytes and order, from which "the
real store, of which none was seen, is one event" is concluded."""

ENOUGH_TEARS = 3
"""Tears of the real store from which "it is two events" is concluded. One may be a reader that was stopped between its
two reads until the generations had gone round (seen once, among 78,006 pairs of reads)."""

REGIME = Regime(
    name="witness",
    code="R0",
    summary="store as ever; executors read the patched bytes as data, two neighbours at a time, in both orders",
    source="Loads are not reordered with other loads (Intel SDM volume 3A, Memory Ordering in P6 and More "
    "Recent Processor Families; AMD APM volume 2, 7.2)",
    # The pause keeps fewer stores between two reads than a generation counter of four bits can tell apart.
    writer=(Step("store", "all", "new"), Step("delay", "", 150)),
    role="witness",
)


def _counting(cell: Cell) -> tuple[Image, ...]:
    """Images that hold their own index in every patched byte."""
    case, first = cell.case, cell.case.images[0].bytes
    head, tail = first[: case.patch], first[case.patch + case.patch_len :]
    return tuple(Image(head + bytes([i] * case.patch_len) + tail, "", i + 1) for i in range(GENERATIONS))


def path_of(via: str, pages: str = "4k") -> str:
    """What `via` and `pages` mean for a store: "" where the writer's own instruction stores to a small page.

    Else who copies the bytes for it, or the size of the page.
    """
    return via if via in KERNEL_VIAS else "" if pages == "4k" else pages


def witnesses(cells: Iterable[Cell]) -> list[Cell]:
    """One witness for each case, site, store, placement and path that patches more than one byte in `cells`."""
    found: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        path = path_of(cell.regime.via, cell.regime.pages)
        key = (cell.case.name, cell.site, cell.store, cell.placement, path)
        if cell.regime.patches and cell.case.patch_len > 1 and not misfit(cell.case, cell.site, cell.store):
            name = f"{REGIME.name}-{path}" if path else REGIME.name
            regime = replace(REGIME, name=name, via=cell.regime.via, pages=cell.regime.pages)
            case = replace(cell.case, images=_counting(cell))
            found.setdefault(key, replace(cell, case=case, regime=regime))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Tears:
    """Torn, faulting and hanging executions of a cell by what was not atomic."""

    store: int = 0
    fetch: int = 0
    unattributed: int = 0

    def __add__(self, other: Tears) -> Tears:
        """Both together."""
        return Tears(
            self.store + other.store, self.fetch + other.fetch, self.unattributed + other.unattributed
        )


def _cut(pairs: Sequence[Mapping[str, Any]], cut: int, side: int) -> str:
    """What the witness says of a change of image between bytes `cut` and `cut + 1`.

    `side`: -1 the lower byte is the newer one (memory held that if reading it first ever came out newer), 1 the
    higher, 0 not known (then both ways must have been seen, or neither).
    """
    orders = {-1: (0,), 1: (1,), 0: (0, 1)}[side]
    ends = pairs[-1]["tears"]
    if all(pairs[cut]["tears"][order][0] >= ENOUGH_TEARS for order in orders):
        return "store"
    if all(
        not pairs[cut]["tears"][order][0] and not ends[order][0] and ends[order][1 + order] >= ENOUGH_CONTROLS
        for order in orders
    ):
        return "fetch"
    return "unattributed"


def _verdict(label: str, images: tuple[bytes, ...], patch: int, pairs: Sequence[Mapping[str, Any]]) -> str:
    changes = boundaries(label, images, patch)
    found = {
        _change(pairs, cuts, newer(label[cuts[0]], label[cuts[-1] + 1], len(images))) for cuts in changes
    }
    if "fetch" in found:
        return "fetch"
    return "store" if found == {"store"} else "unattributed"


def _change(pairs: Sequence[Mapping[str, Any]], cuts: Sequence[int], side: int) -> str:
    """The verdict on a change at one of `cuts`: a store tear if it may be one, a fetch tear if it must."""
    found = {_cut(pairs, cut, side) for cut in cuts}
    if "store" in found:
        return "store"
    return "fetch" if found == {"fetch"} else "unattributed"


def tears_of(record: Mapping[str, Any], witness: Mapping[str, Any] | None) -> Tears:
    """How many of a record's wrong executions were store tears and how many fetch tears, as `witness` says.

    A discipline of several stores is never attributed by this witness, which watched one store of the whole patch.
    """
    ran = ("torn", "fault", "hang")
    wrong = [s for s in record["signatures"] if s["outcome"] in ran]
    counted = sum(row.get(outcome, 0) for row in record.get("outcomes", {}).values() for outcome in ran)
    # The core keeps so many signatures and no more: what it had no room for is counted all the same.
    lost = max(0, counted - sum(s["count"] for s in wrong))
    plan = record["plan"]
    single = plan and sum(op == "store" for op, *_ in plan["writer"]) == 1
    if witness is None or not single or not witness["pairs"]:
        return Tears(unattributed=lost + sum(s["count"] for s in wrong))
    images = images_of(plan["region"])
    patch = plan["region"]["patch"]
    counts = {"store": 0, "fetch": 0, "unattributed": lost}
    for s in wrong:
        verdicts = {_verdict(label, images, patch, witness["pairs"]) for label in s.get("mixes", ())}
        counts[verdicts.pop() if len(verdicts) == 1 else "unattributed"] += s["count"]
    return Tears(**counts)
