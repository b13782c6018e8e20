"""The records of finished runs as readers want them: each once, in order, read from the disk whenever asked for.

Of a record only its place in its file is kept, in 22 bytes, so that a million take little more memory than a few.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from stress.durable import reporting
from stress.store import RECORDS, Heading, Line, decode, read_headings


class _Region(TypedDict, total=False):
    images: list[dict[str, Any]]
    patch: int
    patch_len: int
    head: int


class _Plan(TypedDict, total=False):
    region: _Region
    writer: list[list[Any]]
    executor: list[list[Any]]
    via: str
    pages: str
    repeat: int


class _Ran(TypedDict, total=False):
    """Which parts of a companion's record are read: what is not named here is passed over, not made and thrown away."""

    schema: int
    type: str
    id: str
    cell: str
    case: str
    kind: str
    site: str
    store: str
    role: str
    shape: str
    regime: str
    code: str
    completes: bool
    ablation_of: str
    provocation: str
    placement: str
    cpus: list[int]
    plan: _Plan | None
    started: str
    seconds: float
    patches: int
    outcomes: dict[str, dict[str, int]]
    pairs: list[Any]
    status: str
    reason: str
    died: bool
    vendor: str
    host: str


class _Cell(_Ran, total=False):
    """Of a cell's, likewise: not how its provocations were made, nor in what turns they came."""

    bugs: list[str]
    executors: list[dict[str, Any]]
    provocations: dict[str, Any]
    signatures: list[dict[str, Any]]


_DECODERS = {True: msgspec.json.Decoder(_Cell).decode, False: msgspec.json.Decoder(_Ran).decode}
"""By whether it is a cell's."""

Place = tuple[int, str, str]
"""Records that stand together: the rank of their regime, their cell's name, their role."""


def _key(record: str, host: str) -> int:
    """What the records of one plan on one machine have in common: the same plan on two machines is two records."""
    return hash((record, host))


class _Spots:
    """Where the lines of some records lie, in step: folder, offset and length, and whose they are."""

    def __init__(self) -> None:
        self.folders, self.offsets, self.lengths = array("H"), array("Q"), array("I")
        self.keys = array("q")

    def add(self, folder: int, offset: int, length: int, key: int) -> None:
        self.folders.append(folder)
        self.offsets.append(offset)
        self.lengths.append(length)
        self.keys.append(key)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.folders, self.offsets, self.lengths, strict=True)

    def each_once(self) -> _Spots:
        """Return the first spot of each key."""
        if len(set(self.keys)) == len(self.keys):
            return self
        kept, seen = _Spots(), set[int]()
        for spot, key in zip(self, self.keys, strict=True):
            if key not in seen:
                seen.add(key)
                kept.add(*spot, key)
        return kept


class Archive:
    """The records of one or more run folders, each plan on each machine once: of several the first.

    They come in the order of `rank`, a number for the name of a regime, then of their cells' names, then as they were
    stored. `names`: how many end records of cells have each name; `hosts`: the machines that records are of, where
    they say; `begun`: start records of cells that no folder has the end of, oldest first.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]], rank: Callable[[str], int]) -> None:
        """Go through the folders once.

        Raises:
            StoreError: a complete line is no record; the text names file and line.
        """
        self._folders = [str(folder) for folder in folders]
        self._files = [Path(folder) / RECORDS for folder in folders]
        self.hosts: set[str] = set()
        found: dict[Place, _Spots] = {}
        begun: dict[int, tuple[Heading, bytes]] = {}
        for n, folder in enumerate(folders):
            for heading, offset, line in read_headings(folder):
                key = _key(heading.id, heading.host)
                if heading.type == "start":
                    begun.setdefault(key, (heading, line))
                    continue
                begun.pop(key, None)
                place = (rank(heading.regime), heading.cell, heading.role)
                if place not in found:
                    found[place] = _Spots()
                found[place].add(n, offset, len(line), key)
                if heading.host:
                    self.hosts.add(heading.host)
        # An end may stand in front of its start: in another folder, from a run that was resumed elsewhere.
        open_cells = {heading.cell for heading, _ in begun.values()}
        ended = {key for (_, cell, _), spots in found.items() if cell in open_cells for key in spots.keys}
        self.begun = tuple(decode(line, RECORDS) for key, (_, line) in begun.items() if key not in ended)
        self._places = {place: found[place].each_once() for place in sorted(found)}
        self.names: Counter[str] = Counter()
        for (_, cell, role), spots in self._places.items():
            if role == "cell":
                self.names[cell] += len(spots.keys)

    @property
    def cells(self) -> Iterable[Line]:
        """The end records of cells, without what only a repetition needs; read anew by whoever iterates."""
        return _Again(lambda: self._read(True))

    @property
    def companions(self) -> Iterable[Line]:
        """The end records of what ran beside cells, controls and witnesses, likewise."""
        return _Again(lambda: self._read(False))

    def _read(self, cells: bool) -> Iterator[Line]:
        several = len(self._files) > 1
        with ExitStack() as stack:
            files = [stack.enter_context(file.open("rb")).fileno() for file in self._files]
            for (_, _, role), spots in self._places.items():
                if (role == "cell") is not cells:
                    continue
                for n, offset, length in spots:
                    with reporting(self._files[n], "cannot read"):
                        line = os.pread(files[n], length, offset)
                    record = decode(line, self._files[n], _DECODERS[cells])
                    if several:
                        record["home"] = self._folders[n]
                    yield record


class _Again:
    """What can be iterated any number of times, made anew each time."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()
