"""Case files: read, checked, and refused in one line that names the file, the key and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import combinations, product
from pathlib import Path
from typing import Any

from stress.model import Case, Image, Pad
from stress.tables import LINE, NAME, Field, matching, read_table, read_toml, refuse, show, within

ISAS = ("x86_64", "aarch64", "riscv64")

# enum xmc_limit of native/xmc.h
IMAGES_MAX = 16
IMAGE_BYTES_MAX = 64
PADS_MAX = 8
PAD_BYTES_MAX = 16
PAD_REACH = 32768 - 1024  # the site moves the region off the middle of the mapping, and its pads with it

TRAP_BYTES = {"x86_64": b"\xcc"}
MIXED_BYTES_MAX = 8
"""Differing bytes up to which every mix is tried; beyond, those that are torn at one point."""


def _hex(text: str) -> bytes:
    try:
        code = bytes.fromhex(text)
    except ValueError:
        code = b""
    if not code:
        raise ValueError(f'{show(text)} is not bytes in hex; give two digits a byte, as in "b8 11 c3"')
    return code


def _pair(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) != 2:
        raise ValueError(f"{len(values)} numbers; give [offset, length] inside the image")
    return values


def _two_or_none(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(values) not in (0, 2):
        raise ValueError(f"{len(values)} numbers; give the offsets of two 8-byte fields")
    return values


_KIND = matching(r"K([1-9]|1\d|2[0-3])", "K1 to K23")
_BYTE = within(0, IMAGE_BYTES_MAX)
_BYTES = Field(str, 'hex, as in "b8 11 c3"', convert=_hex)
_ASM = Field(str, "the same bytes in AT&T syntax, statements separated by ;", convert=LINE)
_IMAGE = {
    "bytes": _BYTES,
    "asm": _ASM,
    "returns": Field(int, "the number that the region returns", None, convert=within(0, 2**64 - 1)),
    "traps": Field(bool, "true where the image is a breakpoint", False),
}
_PAD = {"offset": Field(int, "an offset from the region's first byte"), "bytes": _BYTES, "asm": _ASM}
_NUMBER = Field(int, "a number", convert=_BYTE)
_PATCH = Field(list, "[offset, length] inside the image", each=_NUMBER, convert=_pair)
_IMAGES = Field(list, "tables of bytes, asm and returns", each=Field(dict, "a table", fields=_IMAGE))
_PADS = Field(list, "tables of offset, bytes and asm", (), each=Field(dict, "a table", fields=_PAD))
_ISA = {
    "head": Field(int, "the offset of the patched instruction's first byte", 0, convert=_BYTE),
    "entry": Field(int, "the offset that the executor calls", 0, convert=_BYTE),
    "patch": _PATCH,
    "images": _IMAGES,
    "pads": _PADS,
    "ambiguous": Field(str, "why a mix may return what a third image does", "", convert=LINE),
    "fields": Field(list, "[offset, offset] of two 8-byte fields", (), each=_NUMBER, convert=_two_or_none),
}
_CASE = {
    "kind": Field(str, "a modification kind, K1 to K23", convert=_KIND),
    "summary": Field(str, "one line that says what is patched", convert=LINE),
    "source": Field(str, "the manual section or thread that the case comes from", convert=LINE),
    **{isa: Field(dict, f"a table [{isa}]", None) for isa in ISAS},
}

Complaints = Iterator[tuple[str, str]]
"""Of one check: keys, and what is wrong with them and what to do. Only the first is reported."""


def _check_sizes(case: Case) -> Complaints:
    length, end = case.length, case.patch + case.patch_len
    for n, image in enumerate(case.images):
        if len(image.bytes) != length:
            text = f"{len(image.bytes)} bytes where images[0] has {length}; give the whole region in each"
            yield f"images[{n}].bytes", text
    if length > IMAGE_BYTES_MAX:
        yield "images[0].bytes", f"the region has {length} bytes; give at most {IMAGE_BYTES_MAX}"
    if case.patch_len < 1:
        yield "patch", "a length of 0 patches nothing; give [offset, length] with a length of at least 1"
    if end > length:
        text = f"{case.patch}..{end} reaches past the region's {length} bytes"
        yield "patch", f"{text}; give [offset, length] inside the image"
    if case.head >= end:
        yield "head", f"{case.head} lies behind the patched bytes; give 0 to {end - 1}"
    if case.entry >= length:
        yield "entry", f"{case.entry} lies outside the region; give 0 to {length - 1}"


def _check_fields(case: Case) -> Complaints:
    for n, at in enumerate(case.fields):
        if not case.patch <= at <= case.patch + case.patch_len - 8:
            yield f"fields[{n}]", f"8 bytes at {at} are not inside the patch; give an offset inside it"
    if case.fields and case.fields[1] < case.fields[0] + 8:
        yield "fields", "they overlap, or are not in order; give the lower one first"


def _check_images(case: Case) -> Complaints:
    end = case.patch + case.patch_len
    fixed = [at for at in range(case.length) if not case.patch <= at < end]
    for (m, a), (n, b) in combinations(enumerate(case.images), 2):
        for at in fixed:
            if a.bytes[at] != b.bytes[at]:
                text = f"byte {at} differs from images[{m}] outside the patch; widen patch or keep the byte"
                yield f"images[{n}].bytes", text
        if a.bytes == b.bytes:
            yield f"images[{n}].bytes", f"the same bytes as images[{m}]; give each image once"
        if (a.returns, a.traps) == (b.returns, b.traps):
            yield f"images[{n}]", f"shows what images[{m}] shows; make every image return something else"


def _check_traps(case: Case) -> Complaints:
    trap = TRAP_BYTES.get(case.isa, b"")
    if case.images[0].traps:
        yield "images[0].traps", "what runs where nobody patches may not trap; give another image first"
    for n, image in enumerate(case.images):
        planted = bool(trap) and image.bytes.startswith(trap, case.head)
        if image.traps and case.head != case.patch:
            yield f"images[{n}].traps", f"the head, {case.head}, is not patched; start patch at the head"
        if trap and image.traps and not planted:
            yield f"images[{n}].traps", f"no breakpoint at the head; give {trap.hex()} there, or returns"
        if planted and not image.traps:
            yield f"images[{n}].bytes", "a breakpoint at the head; say traps = true instead of returns"


def _check_pads(case: Case) -> Complaints:
    if len(case.pads) > PADS_MAX:
        yield "pads", f"there are {len(case.pads)}; give at most {PADS_MAX}"
    taken = [(0, case.length, "the region")]
    for n, pad in enumerate(case.pads):
        end = pad.offset + len(pad.bytes)
        if len(pad.bytes) > PAD_BYTES_MAX:
            yield f"pads[{n}].bytes", f"{len(pad.bytes)} bytes; give at most {PAD_BYTES_MAX}"
        if pad.offset < -PAD_REACH or end > PAD_REACH:
            yield f"pads[{n}].offset", f"{pad.offset} is out of reach; give {-PAD_REACH} to {PAD_REACH}"
        for low, high, what in taken:
            if pad.offset < high and low < end:
                yield f"pads[{n}].offset", f"{pad.offset} overlaps {what}; move it"
        taken.append((pad.offset, end, f"pads[{n}]"))


def _mixes(a: bytes, b: bytes) -> Iterator[bytes]:
    """Yield what can be fetched while `a` and `b` replace each other, the two themselves included."""
    where = [at for at in range(len(a)) if a[at] != b[at]]
    choices: Iterable[tuple[bool, ...]] = product((False, True), repeat=len(where))
    if len(where) > MIXED_BYTES_MAX:
        choices = (
            (front,) * cut + (not front,) * (len(where) - cut)
            for front in (False, True)
            for cut in range(len(where))
        )
    for choice in choices:
        mix = bytearray(a)
        for at, other in zip(where, choice, strict=True):
            mix[at] = b[at] if other else a[at]
        yield bytes(mix)


def _find_x86_system_call(code: bytes, starts: Iterable[int]) -> str:
    """Return the system call or software interrupt that running `code` from `starts` can meet, or ""."""
    # Every encoding of one holds its opcode's bytes side by side; decoding all mixes takes a tenth of a second.
    if not any(opcode in code for opcode in (b"\x0f\x05", b"\x0f\x34", b"\xcd")):
        return ""
    try:
        from iced_x86 import Decoder, FlowControl, Mnemonic, OpKind
    except ImportError:  # there is none for this machine, so it is no x86 and will not run the case
        return ""

    runs_on = (
        FlowControl.NEXT,
        FlowControl.CONDITIONAL_BRANCH,
        FlowControl.CALL,
        FlowControl.INDIRECT_CALL,
        FlowControl.XBEGIN_XABORT_XEND,
    )
    memory = code + b"\xcc" * 15  # what surrounds the region can be the end of its last instruction
    todo, seen = list(starts), set[int]()
    while todo:
        at = todo.pop()
        if at in seen or not 0 <= at < len(code):
            continue
        seen.add(at)
        instruction = Decoder(64, memory[at:], ip=at).decode()
        if instruction.mnemonic in (Mnemonic.SYSCALL, Mnemonic.SYSENTER, Mnemonic.INT):
            return f"{instruction} at byte {at}"
        if instruction.op0_kind == OpKind.NEAR_BRANCH64:
            todo.append(instruction.near_branch_target)
        if instruction.flow_control in runs_on:
            todo.append(instruction.next_ip)
    return ""


_FIND_SYSTEM_CALL = {"x86_64": _find_x86_system_call}


def _check_mixes(case: Case) -> Complaints:
    find = _FIND_SYSTEM_CALL.get(case.isa)
    if find is None:
        return
    for (m, a), (n, b) in combinations(enumerate(case.images), 2):
        for mix in _mixes(a.bytes, b.bytes):
            if found := find(mix, (case.entry, case.head)):
                text = f"{m} and {n} can mix to {mix.hex(' ')}, which runs {found}"
                yield "images", f"{text}; choose bytes that mix to no system call or interrupt"


_CHECKS = (_check_sizes, _check_fields, _check_images, _check_traps, _check_pads, _check_mixes)


def _make_image(path: Path, key: str, values: dict[str, Any]) -> Image:
    returns, traps = values["returns"], values["traps"]
    if returns is None and not traps:
        raise refuse(path, f"{key}.returns", "missing; give the number that it returns, or traps = true")
    if returns is not None and traps:
        raise refuse(path, f"{key}.returns", "an image that traps returns nothing; leave it out")
    return Image(values["bytes"], values["asm"], returns or 0, traps)


def load_case(path: Path, isa: str = "x86_64") -> Case | None:
    """Return the case in the file `path` as its table for `isa` has it, or None where it has no such table.

    The case is named as the file. Raises CaseError where the file is not a well-made case.
    """
    try:
        name = NAME(path.stem)
    except ValueError as error:
        raise refuse(path, "file", f"its name, {error}") from None
    return read_case(path, "", name, read_toml(path), isa)


def read_case(path: Path, key: str, name: str, table: dict[str, Any], isa: str) -> Case | None:
    """Return the case `name` that `table`, found at `key` of the file `path`, is for `isa`, or None as `load_case`."""
    prefix = f"{key}." if key else ""
    top = read_table(path, key, table, _CASE)
    if all(top[known] is None for known in ISAS):
        raise refuse(path, prefix + ISAS[0], f"missing; give a table for one of {', '.join(ISAS)}")
    if top.get(isa) is None:
        return None
    at = prefix + isa
    here = read_table(path, at, top[isa], _ISA)
    if not 2 <= len(here["images"]) <= IMAGES_MAX:
        raise refuse(path, f"{at}.images", f"there are {len(here['images'])}; give 2 to {IMAGES_MAX}")
    images = [_make_image(path, f"{at}.images[{n}]", image) for n, image in enumerate(here["images"])]
    case = Case(
        name=name,
        kind=top["kind"],
        summary=top["summary"],
        source=top["source"],
        isa=isa,
        entry=here["entry"],
        head=here["head"],
        patch=here["patch"][0],
        patch_len=here["patch"][1],
        images=tuple(images),
        pads=tuple(Pad(**pad) for pad in here["pads"]),
        fields=here["fields"],
        ambiguous=here["ambiguous"],
    )
    for check in _CHECKS:
        for wrong, text in check(case):
            raise refuse(path, f"{at}.{wrong}", text)
    return case


def find_cases() -> Path:
    """Return the directory of the package's own cases: inside it where it is installed, else beside it."""
    packaged = Path(str(resources.files("stress").joinpath("cases")))
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "cases"


def load_cases(directory: Path | None = None, isa: str = "x86_64") -> dict[str, Case]:
    """Return the cases of `directory` (the package's own where it is None) that `isa` has, sorted by name.

    Raises CaseError at the first file that is not a well-made case, and where there is none at all.
    """
    directory = directory or find_cases()
    paths = sorted(directory.glob("*.toml"))
    if not paths:
        raise refuse(directory, "cases", "there is no *.toml file; give a directory of case files")
    loaded = (load_case(path, isa) for path in paths)
    return {case.name: case for case in loaded if case}
