"""The baselines: C that uses nothing of the core's, compiled here and now with `cc -O2`, and loaded with ctypes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, byref, c_int32, c_uint8, c_uint32, c_uint64
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = ("bare.c", "calls.c", "naive.c")
FLAGS = (
    "-O2",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fcf-protection=none",
)
MIDDLE = 0x10000
"""Offset, in the mapping that `map_code` makes, of the page boundary that places are counted from."""


class Naive(Structure):
    """`struct naive` of naive.c."""

    _fields_ = (
        *((name, c_uint64) for name in ("entry", "head", "patch")),
        *((name, c_uint32) for name in ("width", "images")),
        ("bytes", c_uint64 * 16),
        ("value", c_uint64 * 16),
        *((name, c_uint32) for name in ("trap", "protocol", "syncs", "until_first")),
        *((name, c_uint64) for name in ("delay", "pause", "limit_ns")),
        *((name, c_int32) for name in ("writer_cpu", "executor_cpu")),
        ("before", c_uint64 * 16),
        ("patches", c_uint64),
        ("behind", c_uint64 * 16),
        *((name, c_uint64) for name in ("executions", "torn", "changes", "first_ns", "ns")),
    )


@cache
def library() -> Any:
    """Compile the sources and load them. CalledProcessError where the compiler refuses."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bare.so"
        compiler = os.environ.get("CC", "cc").split()
        subprocess.run([*compiler, *FLAGS, *(str(HERE / s) for s in SOURCES), "-o", str(target)], check=True)
        found = ctypes.CDLL(str(target))
    found.map_code.restype = POINTER(c_uint8)
    return found


@contextmanager
def region(plan: dict[str, Any]) -> Iterator[int]:
    """The address of the plan's region, image 0 and pads, placed against page and line as the core places it."""
    code = library().map_code()
    if not code:
        raise OSError("no writable and executable mapping: the baselines need one")
    where = ctypes.cast(code, ctypes.c_void_p).value or 0
    first = where + MIDDLE + plan["region"]["place"]
    for pad in plan["region"]["pads"]:
        data = bytes.fromhex(pad["bytes"])
        ctypes.memmove(first + pad["offset"], data, len(data))
    data = bytes.fromhex(plan["region"]["images"][0]["bytes"])
    ctypes.memmove(first, data, len(data))
    try:
        yield first
    finally:
        library().unmap_code(code)


def rate(name: str, *args: Any, seconds: float) -> float:
    """What the baseline `name` did a second; the arguments that say how long are ours."""
    ns = c_uint64()
    function = getattr(library(), name)
    function.restype = c_uint64
    n = function(*args, c_uint64(int(seconds * 1e9)), byref(ns))
    if not n:
        raise RuntimeError(f"the baseline {name} counted nothing: its region did not do what it should")
    return float(n) * 1e9 / float(ns.value)


def patches_of(plan: dict[str, Any]) -> list[int]:
    """What a store of each image's patched bytes stores."""
    start, length = plan["region"]["patch"], plan["region"]["patch_len"]
    images = plan["region"]["images"]
    return [int.from_bytes(bytes.fromhex(i["bytes"])[start : start + length], "little") for i in images]
