"""Patterns: what a byte mix is in whole instructions, as the manuals speak of them.

Of a change from an old image to a new one, A and B are instructions of the old, A' and B' of the new, and X is what a
decoder finds that begins inside an instruction. A pattern needs the *way*: which of two images was the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache

from stress.mixes import boundaries, instruction_starts, newer


class Pattern(StrEnum):
    """How a mix divides into whole instructions. What each means in words is in `promises.toml`."""

    OLD_NEW = "AB'"
    NEW_OLD = "A'B"
    OLD_INSIDE = "AX"
    NEW_INSIDE = "A'X"
    PART = "part"


class Way(StrEnum):
    """How a change of image goes, beside the case's own from its first image to its second.

    Forth: as many instructions become more or fewer. Back: the other way, as from many to one where the case goes from
    one to many. Level: as many as before, where the case's own number changes.
    """

    FORTH = "forth"
    BACK = "back"
    LEVEL = "level"


Reading = frozenset[tuple[Way, Pattern]]
"""What a mix may be: a pattern for each way that the images may have been changing."""


def distance(label: str, images: tuple[bytes, ...], patch: int) -> int:
    """Return how many images of the rotation the back of a mix is ahead of its front; 0 where it is no mix of two."""
    changes = boundaries(label, images, patch)
    if not changes:
        return 0
    front, back = label[changes[0][0]], label[changes[0][-1] + 1]
    return (int(back, 16) - int(front, 16)) % len(images)


@lru_cache(maxsize=4096)
def read(label: str, images: tuple[bytes, ...], patch: int, head: int, late: bool = False) -> Reading:
    """Return what the mix `label` may be; several readings where nothing tells them apart, none where it is no mix.

    Two neighbours in a rotation of three or more tell the way. `late`: unless the execution took so long between two
    instructions, and so many patches came in between, that the newer image passes for the older.
    """
    changes = boundaries(label, images, patch)
    if not changes:
        return frozenset()
    ends = label[changes[0][0]], label[changes[0][-1] + 1]
    front, back = (int(digit, 16) for digit in ends)
    starts = [instruction_starts(image, head) for image in images]
    side = 0 if late else newer(*ends, len(images))
    return frozenset(
        (_way(_grows(starts, old, new), _grows(starts, 0, 1)), pattern)
        for old, new, front_is_old in ((front, back, True), (back, front, False))
        if side != (-1 if front_is_old else 1)
        for pattern in _patterns(changes, patch, starts[front], starts[back], front_is_old)
    )


def _way(grows: int, own: int) -> Way:
    return Way.FORTH if grows == own else Way.BACK if grows else Way.LEVEL


def _grows(starts: Sequence[frozenset[int]], old: int, new: int) -> int:
    """Return 1 where the new image has more instructions than the old one, -1 where it has fewer, else 0."""
    more = len(starts[new]) - len(starts[old])
    return (more > 0) - (more < 0)


def _patterns(
    changes: Sequence[Sequence[int]],
    patch: int,
    front: frozenset[int],
    back: frozenset[int],
    front_is_old: bool,
) -> Iterator[Pattern]:
    """Yield what the changes of image are.

    `front`, `back`: where the instructions begin of the image that comes first and of the other one.
    """
    offsets = [[patch + place + 1 for place in places] for places in changes]
    if len(changes) > 1:  # somewhere an old instruction follows a new one
        whole = all(any(at in front & back for at in places) for places in offsets)
        yield Pattern.NEW_OLD if whole else Pattern.PART
        return
    whole_front = [at for at in offsets[0] if at in front]
    for at in whole_front:
        if front_is_old:
            yield Pattern.OLD_NEW if at in back else Pattern.OLD_INSIDE
        else:
            yield Pattern.NEW_OLD if at in back else Pattern.NEW_INSIDE
    if not whole_front:
        yield Pattern.PART
