"""Byte mixes: what may be fetched while one image replaces another, what each does, and which one it was.

A mix is named by the image that each patched byte comes from: `0011` took its first two bytes from image 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any

FULL = 8
"""Differing bytes up to which every subset is a mix; beyond, only contiguous splits are."""

Signature = tuple[str, int, int, int]
"""How an execution shows itself: signal ("" where it returned), si_code, PC from the region's start, value."""


@dataclass(frozen=True, slots=True)
class Mix:
    """One content of the region. `label`: an image's index for each patched byte."""

    label: str
    bytes: bytes


def _digit(image: int) -> str:
    return "0123456789abcdef"[image]


def _subsets(n: int) -> Iterator[int]:
    """Bit masks over `n` differing bytes, each neither empty nor full."""
    if n <= FULL:
        yield from range(1, (1 << n) - 1)
        return
    for cut in range(1, n):
        front = (1 << cut) - 1
        yield front
        yield front ^ ((1 << n) - 1)


def _contents(images: Sequence[bytes], patch: int, patch_len: int) -> dict[bytes, Mix]:
    """Every mix of every two images by its content; bytes in which they agree are the lower-numbered image's."""
    found: dict[bytes, Mix] = {}
    for a, b in combinations(range(len(images)), 2):
        differing = [i for i in range(patch, patch + patch_len) if images[a][i] != images[b][i]]
        for mask in _subsets(len(differing)):
            content = bytearray(images[a])
            label = [_digit(a)] * patch_len
            for bit, at in enumerate(differing):
                if mask >> bit & 1:
                    content[at] = images[b][at]
                    label[at - patch] = _digit(b)
            found.setdefault(bytes(content), Mix("".join(label), bytes(content)))
    return found


def mixes_of(images: Sequence[bytes], patch: int, patch_len: int) -> list[Mix]:
    """Every mix of every two images that is not itself an image; equal contents once.

    Bytes in which the two agree are labelled as the lower-numbered image's.
    """
    return [mix for mix in _contents(images, patch, patch_len).values() if mix.bytes not in images]


def thirds(images: Sequence[bytes], patch: int, patch_len: int) -> dict[str, int]:
    """The mixes of two images that are, byte for byte, a third one: label -> that image."""
    found = _contents(images, patch, patch_len).values()
    return {mix.label: images.index(mix.bytes) for mix in found if mix.bytes in images}


def images_of(region: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The contents of a resolved plan's images."""
    return tuple(bytes.fromhex(image["bytes"]) for image in region["images"])


def of_plan(plan: Mapping[str, Any]) -> list[Mix]:
    """The mixes of a resolved plan."""
    region = plan["region"]
    images = images_of(region)
    return mixes_of(images, region["patch"], region["patch_len"])


def table(mixes: Sequence[Mix], signatures: Iterable[Signature]) -> dict[Signature, list[Mix]]:
    """Which mixes show themselves by each signature."""
    found: dict[Signature, list[Mix]] = {}
    for mix, signature in zip(mixes, signatures, strict=True):
        found.setdefault(signature, []).append(mix)
    return found


def strangers(
    mixes: Sequence[Mix], signatures: Sequence[Signature], images: Sequence[Signature]
) -> dict[str, int]:
    """The mixes of two images that pass for a third one, and are not it (`thirds`): label -> that image.

    Such an execution cannot be told from one of older, or younger, code: a case must say why it has any.
    `signatures`, `images`: how the mixes and the images show themselves.
    """
    return {
        mix.label: n
        for mix, signature in zip(mixes, signatures, strict=True)
        for n, image in enumerate(images)
        if image == signature and _digit(n) not in mix.label
    }


def attribute(signatures: Iterable[dict[str, Any]], known: Mapping[Signature, Sequence[Mix]]) -> None:
    """Add to each signature of a record `mixes`: the labels that it may have been, none where it is none of them."""
    for s in signatures:
        key = (s["signal"], s["code"], s["pc"], s["value"])
        s["mixes"] = [mix.label for mix in known.get(key, ())]


@lru_cache(maxsize=4096)
def boundaries(label: str, images: tuple[bytes, ...], patch: int) -> list[tuple[int, ...]]:
    """Where a mix changes from one image to the other: for each change the places at which it may be.

    Place i is between bytes i and i + 1 of the patch. A change has one; more where bytes in between agree in both
    images, and so may have come from either.
    """
    sources = sorted(set(label))
    if len(sources) != 2:
        return []
    a, b = (images[int(source, 16)] for source in sources)
    at = [i for i in range(len(label)) if a[patch + i] != b[patch + i]]
    return [tuple(range(left, right)) for left, right in pairwise(at) if label[left] != label[right]]


def newer(first: str, second: str, n: int) -> int:
    """1 where image `second` follows `first` of `n`, -1 where it precedes it, 0 where the digits cannot tell."""
    step = (int(second, 16) - int(first, 16)) % n
    return 0 if n == 2 else 1 if step == 1 else -1 if step == n - 1 else 0


@lru_cache(maxsize=4096)
def instruction_starts(code: bytes, at: int) -> frozenset[int]:
    """Where the instructions of x86 code begin that lie one behind the other from `at` on, and where the last ends."""
    from iced_x86 import Decoder

    starts = [instruction.ip for instruction in Decoder(64, code[at:], ip=at)]
    return frozenset((*starts, len(code)))


def is_split(mix: Mix, images: Sequence[bytes], patch: int) -> bool:
    """Whether the mix changes from one image to the other only once."""
    return len(boundaries(mix.label, tuple(images), patch)) == 1


def look_alikes(
    mixes: Sequence[Mix], signatures: Sequence[Signature], images: Sequence[Signature]
) -> list[list[str]]:
    """For each mix what shows itself as it does: `image N` for an image, the label for another mix.

    `signatures`, `images`: how the mixes and the images show themselves.
    """
    known = table(mixes, signatures)
    return [
        [f"image {n}" for n, image in enumerate(images) if image == signature]
        + [other.label for other in known[signature] if other is not mix]
        for mix, signature in zip(mixes, signatures, strict=True)
    ]


def signature_text(signature: Signature) -> str:
    """What an execution did, in words: `returns 0x2a`, or `SIGSEGV at +0x5 on 0x1000`, offsets from the region."""
    signal, _, pc, value = signature
    if not signal:
        return f"returns {value:#x}"
    if signal == "watchdog":
        return f"hangs at {pc:+#x}"
    return f"{signal} at {pc:+#x}" + (f" on {value:#x}" if value else "")


def decode_text(code: bytes, entry: int, isa: str) -> str:
    """What a decoder makes of `code` from `entry` on: instructions joined by `; `, "" where there is no decoder.

    Decoded as valid is not executable here: the executed table decides, this explains.
    """
    if isa != "x86_64":
        return ""
    from iced_x86 import Decoder, Formatter, FormatterSyntax

    formatter = Formatter(FormatterSyntax.GAS)
    texts = []
    for instruction in Decoder(64, code[entry:], ip=entry):
        texts.append(formatter.format(instruction) if instruction else "(bad)")
        if not instruction or texts[-1].startswith(("ret", "jmp")):
            break
    return "; ".join(texts)
