"""Case files: the shipped ones say what they do, and a broken one is refused in one line that helps."""

from __future__ import annotations

import ctypes
import mmap
import platform
import subprocess
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest

from stress.bugs import load_bugs
from stress.cases import _mixes, find_cases, load_case, load_cases
from stress.errors import CaseError
from stress.model import Case

ISA = "x86_64"
CASES = load_cases(isa=ISA)
PATTERNS = {case.name: case for bug in load_bugs(None, ISA).values() for case in bug.patterns}
EVERY = CASES | PATTERNS
CODE = [
    pytest.param(code, asm, id=f"{case.name}-{n}")
    for case in EVERY.values()
    for n, (code, asm) in enumerate(
        [*((image.bytes, image.asm) for image in case.images), *((pad.bytes, pad.asm) for pad in case.pads)]
    )
]
every_case = pytest.mark.parametrize("case", EVERY.values(), ids=EVERY)

GOOD = """\
kind = "K1"
summary = "the immediate of a mov"
source = "a manual, section 1"

[x86_64]
head = 0
patch = [1, 4]
pads = [{ offset = 100, bytes = "b8 01 00 00 00 c3", asm = "mov $1, %eax; ret" }]

[[x86_64.images]]
bytes = "b8 11 21 31 41 c3"
asm = "mov $0x41312111, %eax; ret"
returns = 0x41312111

[[x86_64.images]]
bytes = "b8 12 22 32 42 c3"
asm = "mov $0x42322212, %eax; ret"
returns = 0x42322212
"""
FIRST, SECOND = '"b8 11 21 31 41 c3"', '"b8 12 22 32 42 c3"'
PAD = 'offset = 100, bytes = "b8 01 00 00 00 c3"'


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("as")


@pytest.mark.parametrize(("code", "asm"), CODE)
def test_bytes_are_what_the_assembler_makes_of_the_text(code: bytes, asm: str, scratch: Path) -> None:
    source = f".text\n{asm}\n".encode()
    subprocess.run(["as", "--64", "-o", scratch / "o", "-"], input=source, check=True, timeout=60)
    dump = ("objcopy", "-O", "binary", "-j", ".text", scratch / "o", scratch / "bin")
    subprocess.run(dump, check=True, timeout=60)
    assert (scratch / "bin").read_bytes().hex(" ") == code.hex(" ")


def run_images(case: Case) -> list[int]:
    """Return what each image that does not trap returns, called as executors call it: zero in rax, ZF set."""
    middle = 32768
    memory = mmap.mmap(-1, 2 * middle, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b"\xcc" * (2 * middle))
    for pad in case.pads:
        memory[middle + pad.offset : middle + pad.offset + len(pad.bytes)] = pad.bytes
    call = (middle + case.entry - 7).to_bytes(4, "little")
    memory[:8] = b"\x31\xc0\xe8" + call + b"\xc3"  # xor %eax, %eax; call; ret
    function = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    values = []
    for image in case.images:
        if not image.traps:
            memory[middle : middle + case.length] = image.bytes
            values.append(function())
    return values


@pytest.mark.skipif(platform.machine() != ISA, reason="runs the images themselves")
@every_case
def test_images_return_what_the_file_says(case: Case) -> None:
    try:
        values = run_images(case)
    except OSError as error:
        pytest.skip(f"no memory that is writable and executable: {error}")
    assert values == [image.returns for image in case.images if not image.traps]


def branch_target(iced: ModuleType, code: bytes, head: int) -> int | None:
    """Return where the instruction at the head of a region branches to, or None where it is no near branch."""
    instruction = iced.Decoder(64, code[head:] + b"\xcc" * 15, ip=1 << 32).decode()
    near = instruction.op0_kind == iced.OpKind.NEAR_BRANCH64
    return instruction.near_branch_target - (1 << 32) + head if near else None


@every_case
def test_a_torn_branch_lands_in_no_pad(case: Case) -> None:
    iced = pytest.importorskip("iced_x86")
    images = {image.bytes for image in case.images}
    pads = [range(pad.offset, pad.offset + len(pad.bytes)) for pad in case.pads]
    # The whole target of an image behind another condition goes where that image goes, as the comment says.
    wanted = {branch_target(iced, image.bytes, case.head) for image in case.images}
    for a, b in combinations(case.images, 2):
        for mix in set(_mixes(a.bytes, b.bytes)) - images:
            target = branch_target(iced, mix, case.head)
            assert target != case.head, f"a branch to itself: {mix.hex(' ')}"
            if target is not None and target not in wanted:
                assert not any(target in pad for pad in pads), mix.hex(" ")


@every_case
def test_images_trap_or_return_something_of_their_own(case: Case) -> None:
    assert len({(image.traps, image.returns) for image in case.images}) == len(case.images)


def test_every_mix_of_two_immediates_is_met_once() -> None:
    a, b = b"\xb8\x11\x21\x31\x41\xc3", b"\xb8\x12\x22\x32\x42\xc3"
    mixes = list(_mixes(a, b))
    assert len(set(mixes)) == len(mixes) == 2**4
    assert {a, b} <= set(mixes)


def test_beyond_eight_differing_bytes_mixes_are_torn_at_one_point() -> None:
    mixes = list(_mixes(bytes(9), b"\x01" * 9))
    assert len(set(mixes)) == len(mixes) == 18
    assert all(len(mix.strip(mix[:1])) < 9 and mix.hex(" ").count("00 01") <= 1 for mix in mixes)


def test_cases_come_sorted_by_name_from_the_checkout() -> None:
    assert list(CASES) == sorted(path.stem for path in find_cases().glob("*.toml"))
    assert len({case.kind for case in CASES.values()}) >= 4


def test_a_case_without_a_table_for_the_isa_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(GOOD)
    (tmp_path / "two.toml").write_text(GOOD.replace("x86_64", "riscv64"))
    assert load_case(tmp_path / "two.toml", ISA) is None
    assert list(load_cases(tmp_path, ISA)) == ["one"]
    assert list(load_cases(tmp_path, "riscv64")) == ["two"]


def test_what_a_case_file_says_is_what_the_case_holds(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(GOOD)
    case = load_case(path, ISA)
    assert case is not None
    assert (case.name, case.kind, case.isa, case.summary) == ("one", "K1", ISA, "the immediate of a mov")
    assert (case.entry, case.head, case.patch, case.patch_len, case.length) == (0, 0, 1, 4, 6)
    assert case.images[1].bytes == bytes.fromhex("b8 12 22 32 42 c3")
    assert case.images[1].returns == 0x42322212
    assert case.pads[0].offset == 100


BROKEN = {
    "unknown top key": (
        "kind",
        "kinds",
        "kinds: unknown key; the keys here are kind, summary, source, x86_64, aarch64, riscv64",
    ),
    "unknown image key": (
        "returns",
        "return",
        "x86_64.images[0].return: unknown key; the keys here are bytes, asm, returns, traps",
    ),
    "missing source": (
        'source = "a manual, section 1"',
        "",
        "source: missing; give the manual section or thread that the case comes from",
    ),
    "missing patch": ("patch = [1, 4]", "", "x86_64.patch: missing; give [offset, length] inside the image"),
    "missing returns": (
        "returns = 0x41312111",
        "",
        "x86_64.images[0].returns: missing; give the number that it returns, or traps = true",
    ),
    "no table": (
        "[x86_64]",
        "[riscv]",
        "riscv: unknown key; the keys here are kind, summary, source, x86_64, aarch64, riscv64",
    ),
    "kind": ('"K1"', '"K24"', "kind: 'K24' does not fit; give K1 to K23"),
    "summary of two lines": (
        'mov"',
        'mov\\nand more"',
        "summary: 'the immediate of a mov\\nand more' does not fit; give one line of text",
    ),
    "type": (
        "head = 0",
        'head = "0"',
        "x86_64.head: '0' has the wrong type; give the offset of the patched instruction's first byte",
    ),
    "true is no number": (
        "head = 0",
        "head = true",
        "x86_64.head: True has the wrong type; give the offset of the patched instruction's first byte",
    ),
    "huge number": (
        "head = 0",
        "head = 0x" + "f" * 5000,
        "x86_64.head: a number that long is out of range; give 0 to 64",
    ),
    "patch of one": ("[1, 4]", "[1]", "x86_64.patch: 1 numbers; give [offset, length] inside the image"),
    "patch too far": (
        "[1, 4]",
        "[1, 8]",
        "x86_64.patch: 1..9 reaches past the region's 6 bytes; give [offset, length] inside the image",
    ),
    "patch negative": ("[1, 4]", "[-1, 4]", "x86_64.patch[0]: -1 is out of range; give 0 to 64"),
    "patch empty": (
        "[1, 4]",
        "[1, 0]",
        "x86_64.patch: a length of 0 patches nothing; give [offset, length] with a length of at least 1",
    ),
    "head behind patch": (
        "head = 0",
        "head = 5",
        "x86_64.head: 5 lies behind the patched bytes; give 0 to 4",
    ),
    "entry": ("head = 0", "entry = 6", "x86_64.entry: 6 lies outside the region; give 0 to 5"),
    "hex": (
        FIRST,
        '"b8 1"',
        "x86_64.images[0].bytes: 'b8 1' is not bytes in hex; give two digits a byte, as in \"b8 11 c3\"",
    ),
    "no bytes": (
        FIRST,
        '""',
        "x86_64.images[0].bytes: '' is not bytes in hex; give two digits a byte, as in \"b8 11 c3\"",
    ),
    "unequal lengths": (
        SECOND,
        '"b8 12 22 32 42 90 c3"',
        "x86_64.images[1].bytes: 7 bytes where images[0] has 6; give the whole region in each",
    ),
    "difference outside": (
        SECOND,
        '"b8 12 22 32 42 cb"',
        "x86_64.images[1].bytes: byte 5 differs from images[0] "
        "outside the patch; widen patch or keep the byte",
    ),
    "duplicate": (SECOND, FIRST, "x86_64.images[1].bytes: the same bytes as images[0]; give each image once"),
    "same observation": (
        "returns = 0x42322212",
        "returns = 0x41312111",
        "x86_64.images[1]: shows what images[0] shows; make every image return something else",
    ),
    "too large a number": (
        "returns = 0x42322212",
        "returns = 0x10000000000000000",
        "x86_64.images[1].returns: 18446744073709551616 is out of range; give 0 to 18446744073709551615",
    ),
    "trap and value": (
        "returns = 0x42322212",
        "returns = 1\ntraps = true",
        "x86_64.images[1].returns: an image that traps returns nothing; leave it out",
    ),
    "trap outside patch": (
        "returns = 0x42322212",
        "traps = true",
        "x86_64.images[1].traps: the head, 0, is not patched; start patch at the head",
    ),
    "pad over the region": (
        "offset = 100",
        "offset = 5",
        "x86_64.pads[0].offset: 5 overlaps the region; move it",
    ),
    "pad out of reach": (
        "offset = 100",
        "offset = -32768",
        "x86_64.pads[0].offset: -32768 is out of reach; give -31744 to 31744",
    ),
    "pad too long": (
        PAD,
        f'offset = 100, bytes = "{"90 " * 17}"',
        "x86_64.pads[0].bytes: 17 bytes; give at most 16",
    ),
    "pads overlap": (
        "pads = [",
        f'pads = [{{ {PAD}, asm = "x" }}, ',
        "x86_64.pads[1].offset: 100 overlaps pads[0]; move it",
    ),
    "syntax": (
        "patch = [1, 4]",
        "patch = [1, 4",
        "toml: Unclosed array (at line 8, column 1); correct the syntax",
    ),
    "nesting": (
        "patch = [1, 4]",
        "patch = " + "[" * 9999,
        "toml: maximum recursion depth exceeded; correct the syntax",
    ),
    "newline in a key": (
        "head = 0",
        '"he\\nad" = 0',
        "x86_64.he ad: unknown key; the keys here are head, entry, patch, images, pads, ambiguous, fields",
    ),
}


def refusal(path: Path) -> str:
    """Return the error's text without the file, having checked that it is one line with a remedy."""
    with pytest.raises(CaseError) as caught:
        load_case(path, ISA)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert "; " in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(("old", "new", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_case_is_refused_in_one_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in GOOD
    path = tmp_path / "broken.toml"
    path.write_text(GOOD.replace(old, new, 1))
    assert refusal(path) == expected


def two_images(tmp_path: Path, first: str, second: str, patch: str, extra: str = "") -> Path:
    """Write a case of two images of which the second has `extra` (a value where it is left out)."""
    path = tmp_path / "broken.toml"
    text = GOOD.replace(FIRST, f'"{first}"').replace(SECOND, f'"{second}"').replace("[1, 4]", patch)
    path.write_text(text.replace("returns = 0x42322212", extra) if extra else text)
    return path


@pytest.mark.parametrize(
    ("first", "second", "patch", "expected"),
    [
        ("0f 1f c0 c3", "eb 05 90 c3", "[0, 3]", "0f 05 c0 c3, which runs syscall at byte 0"),
        ("0f 1f c0 c3", "eb 34 90 c3", "[0, 3]", "0f 34 c0 c3, which runs sysenter at byte 0"),
        ("cd 80 c3", "90 80 c3", "[0, 1]", "cd 80 c3, which runs int 80h at byte 0"),
        (
            "b8 00 0f 05 00 c3",
            "3c 00 0f 05 00 c3",
            "[0, 1]",
            "3c 00 0f 05 00 c3, which runs syscall at byte 2",
        ),
        (
            "eb 01 b8 0f 05 c3",
            "eb 00 b8 0f 05 c3",
            "[1, 1]",
            "eb 01 b8 0f 05 c3, which runs syscall at byte 3",
        ),
        ("b0 01 c3 cd", "eb 01 c3 cd", "[0, 1]", "eb 01 c3 cd, which runs int 0CCh at byte 3"),
    ],
)
def test_a_mix_that_is_a_system_call_is_refused(
    first: str, second: str, patch: str, expected: str, tmp_path: Path
) -> None:
    pytest.importorskip("iced_x86")
    assert refusal(two_images(tmp_path, first, second, patch)) == (
        f"x86_64.images: 0 and 1 can mix to {expected}; choose bytes that mix to no system call or interrupt"
    )


def test_bytes_of_a_system_call_inside_an_immediate_are_no_system_call(tmp_path: Path) -> None:
    assert load_case(two_images(tmp_path, "b8 0f 05 cd 80 c3", "b8 cd 34 0f 05 c3", "[1, 4]"), ISA)


@pytest.mark.parametrize(
    ("first", "second", "extra", "expected"),
    [
        (
            "b8 01 c3",
            "b0 01 c3",
            "traps = true",
            "images[1].traps: no breakpoint at the head; give cc there, or returns",
        ),
        (
            "b0 01 c3",
            "cc 01 c3",
            "",
            "images[1].bytes: a breakpoint at the head; say traps = true instead of returns",
        ),
    ],
)
def test_a_trap_is_said_and_stands_at_the_head(
    first: str, second: str, extra: str, expected: str, tmp_path: Path
) -> None:
    assert refusal(two_images(tmp_path, first, second, "[0, 1]", extra)) == f"x86_64.{expected}"


def test_the_first_image_may_not_trap(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    text = GOOD.replace(FIRST, '"cc 11 21 31 41 c3"').replace("[1, 4]", "[0, 5]")
    path.write_text(text.replace("returns = 0x41312111", "traps = true"))
    text = "images[0].traps: what runs where nobody patches may not trap; give another image first"
    assert refusal(path) == f"x86_64.{text}"


def test_too_many_images_pads_or_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    first, second = GOOD.index("[[x86_64.images]]"), GOOD.rindex("[[x86_64.images]]")
    path.write_text(GOOD[:second])
    assert refusal(path) == "x86_64.images: there are 1; give 2 to 16"
    path.write_text(GOOD + GOOD[first:second] * 15)
    assert refusal(path) == "x86_64.images: there are 17; give 2 to 16"
    path.write_text(GOOD.replace("pads = [", "pads = [" + f'{{ {PAD}, asm = "x" }}, ' * 8))
    assert refusal(path) == "x86_64.pads: there are 9; give at most 8"
    long = "90 " * 60
    path = two_images(tmp_path, long + "b8 11 21 31 41", long + "b8 12 22 32 42", "[61, 4]")
    assert refusal(path) == "x86_64.images[0].bytes: the region has 65 bytes; give at most 64"


def test_a_file_that_is_no_case_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert refusal(path) == "file: cannot be read (No such file or directory); give a readable file"
    path = tmp_path / "latin.toml"
    path.write_bytes(b'kind = "K\xe4"')
    assert refusal(path) == "file: byte 9 is not UTF-8; save it as UTF-8"
    path = tmp_path / "a:b.toml"
    assert refusal(path) == "file: its name, 'a:b' does not fit; give lower-case letters, digits, +, . and -"
    path = tmp_path / "no-isa.toml"
    path.write_text(GOOD[: GOOD.index("[x86_64]")])
    assert refusal(path) == "x86_64: missing; give a table for one of x86_64, aarch64, riscv64"


def test_a_directory_without_cases_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CaseError) as caught:
            load_cases(directory)
        text = "cases: there is no *.toml file; give a directory of case files"
        assert str(caught.value) == f"{directory}: {text}"
