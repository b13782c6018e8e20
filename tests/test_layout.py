"""What one CPU counts lies on no line that another writes: the black box's layout. native/core.h asserts its own."""

from __future__ import annotations

from typing import Any

import pytest

from stress._native import ffi

PAIR = 128
"""Bytes that prefetchers may fetch together: two lines."""

RESULT: Any = ffi.typeof("struct xmc_result")


def span(type_name: str, *where: str | int) -> tuple[int, int]:
    """First byte and end of a member of the black box."""
    begin = int(ffi.offsetof(RESULT, *where))
    return begin, begin + int(ffi.sizeof(type_name))


HOT = {
    "the watchdog's clock": span("uint64_t", "elapsed_ns"),
    "the watchdog's slices": span("uint64_t[16]", "slice_ns"),
    "the watchdog's choices": (int(ffi.offsetof(RESULT, "n_choices")), int(ffi.offsetof(RESULT, "crash"))),
    "the writer's counts": (
        int(ffi.offsetof(RESULT, "writer")),
        int(ffi.offsetof(RESULT, "writer")) + int(ffi.sizeof("struct xmc_writer_result")),
    ),
    **{
        f"executor {n}'s counts": (
            int(ffi.offsetof(RESULT, "executors", n)),
            # What is hot begins with the structure and ends with its last member but the padding.
            int(ffi.offsetof(RESULT, "executors", n))
            + int(ffi.offsetof("struct xmc_executor_result", "apart")),
        )
        for n in (0, 1, 63)
    },
}

WATCHDOG = tuple(name for name in HOT if name.startswith("the watchdog"))


@pytest.mark.parametrize("one", HOT)
@pytest.mark.parametrize("other", HOT)
def test_no_line_is_written_by_two_cpus(one: str, other: str) -> None:
    if one == other or (one in WATCHDOG and other in WATCHDOG):
        return
    (a, a_end), (b, b_end) = HOT[one], HOT[other]
    assert (a_end - 1) // PAIR < b // PAIR or (b_end - 1) // PAIR < a // PAIR
