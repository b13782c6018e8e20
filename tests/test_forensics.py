"""The page about one event, on events made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from stress.errors import UsageError
from stress.forensics import list_events, show_event, states

IMAGES = ("b811213141c3", "b812223242c3")


def plan(
    window: bool = True, writer: tuple[tuple[str, str, str], ...] = (("store", "all", "new"),)
) -> dict[str, Any]:
    images = [{"bytes": code, "returns": n, "traps": False} for n, code in enumerate(IMAGES)]
    region = {"images": images, "patch": 1, "patch_len": 4, "head": 0, "entry": 0}
    return {"region": region, "window": window, "writer": [list(step) for step in writer], "publish": None}


def micro(program: int, step: int, offset: int, value: int, width: int, **more: Any) -> dict[str, Any]:
    return {
        "program": program, "op": "XMC_STEP_STORE", "form": "", "width": width, "step": step,
        "offset": offset, "value": value, "operand": "", **more,
    }  # fmt: skip


HALVES = [
    micro(0, 0, 1, 0x2111, 2),
    micro(0, 1, 3, 0x4131, 2),
    micro(1, 0, 1, 0x2212, 2),
    micro(1, 1, 3, 0x4232, 2),
]
TWO_STEPS = (("store", "front", "new"), ("store", "back", "new"))


def event(**more: Any) -> dict[str, Any]:
    return {
        "id": "x", "tsc": 1, "done": 4, "begun": 5, "outcome": "torn", "phase": "concurrent", "provocation": "none",
        "signal": "", "code": 0, "pc": 0, "value": 0x41312212, "bytes": "b812223141c3cccccccccccccccccccc", **more,
    }  # fmt: skip


def record(the_plan: dict[str, Any], mixes: tuple[str, ...] = ("1100",)) -> dict[str, Any]:
    signature = {**event(), "mixes": list(mixes), "count": 1}
    return {"cell": "made", "id": "x", "plan": the_plan, "signatures": [signature]}


def test_the_states_of_a_patch_are_what_its_stores_leave() -> None:
    found = list(states(plan(), HALVES, 1))
    assert [(step, content.hex()) for step, content in found] == [
        (-1, "b811213141c3"),
        (0, "b812223141c3"),
        (1, "b812223242c3"),
    ]


def test_a_form_of_its_own_stores_its_operand() -> None:
    whole = micro(1, 0, 0, 0, 6, form="XMC_STORE_SSE16", operand=IMAGES[1])
    assert [content.hex() for _, content in states(plan(), [whole], 1)] == [*IMAGES]


def test_the_page_tells_what_ran_and_where_the_writer_stood() -> None:
    page = show_event(record(plan(writer=TWO_STEPS)), [event()], 1, "x86_64", HALVES)
    assert "torn (concurrent), returns 0x41312212" in page
    assert "patch 4 was complete before it, 5 begun" in page
    assert "old        b8 11 21 31 41 c3" in page
    assert "new        b8 12 22 32 42 c3" in page
    assert "memory     b8 12 22 31 41 c3" in page
    assert "ran 1100   b8 12 22 31 41 c3" in page
    assert "patch 5 behind step 1 of 2, `store front new`" in page
    assert "registers: recorded at faults only" in page


def test_memory_that_no_step_leaves_is_said_to_be_half_a_store() -> None:
    page = show_event(record(plan()), [event(bytes="b811223141c3" + "cc" * 10)], 1, "x86_64", HALVES)
    assert "a store was seen half way" in page


def test_what_is_not_known_is_said_so() -> None:
    page = show_event(record(plan(window=False), ()), [event()], 1, "x86_64", [])
    assert "no window" in page
    assert "the writer's step: not known" in page
    assert "no mix of two images shows itself so" in page


def test_registers_that_are_as_on_entry_are_told_together() -> None:
    registers = {"rax": 0x1234, "rcx": 7, "rdx": 7, "rsi": 7, "rdi": 7, "rflags": 0x246}
    page = show_event(record(plan()), [event(signal="SIGSEGV", registers=registers)], 1, "x86_64", HALVES)
    assert "as on entry (0x7): rcx rdx rsi rdi" in page
    assert "registers: rax 0x1234, rflags 0x246" in page


def test_a_stale_one_has_an_age() -> None:
    aged = event(outcome="stale", phase="post", begun=4, stale_by=2, stale_ticks=900)
    assert "age: 2 generations; 900 ticks" in show_event(record(plan()), [aged], 1, "x86_64", [])
    unknown = event(outcome="stale", phase="post", begun=4, stale_by=70, stale_ticks=0)
    assert "ticks not known" in show_event(record(plan()), [unknown], 1, "x86_64", [])


def test_there_is_a_list_and_a_remedy() -> None:
    assert list_events(record(plan()), [event(), event()]).count("torn") == 2
    with pytest.raises(UsageError, match="no event was kept"):
        list_events(record(plan()), [])
    with pytest.raises(UsageError, match="has 1 events; there is no 2"):
        show_event(record(plan()), [event()], 2, "x86_64", [])
