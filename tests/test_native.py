"""The native core, by what it does: plans whose steps make one thing happen for certain, and short races."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, product
from typing import Any

import pytest
from iced_x86 import Decoder, Instruction, Mnemonic, OpKind, Register

from stress import blackbox, native
from stress._native import lib
from stress.cases import load_cases
from stress.errors import NativeError
from stress.fits import antagonist_cpu
from stress.model import Case, ExecStep, Limits, Placement, Provocation, Regime, Site, Step
from stress.plan import as_dict
from stress.regimes import load_provocations, load_regimes
from stress.sites import FIELDS, HUGE, STORES, middle, misfit, place, sites_of
from tests.support import (
    GADGET,
    MOV,
    ROOT,
    STALE,
    WAIT,
    WRONG,
    Record,
    count,
    gadget_case,
    halves,
    here,
    image,
    make_case,
    make_plan,
    placement,
    regime,
    run_cell,
    run_plan,
)

CASES = load_cases()
SPLITTABLE = [name for name, case in CASES.items() if case.patch_len > 1]
REGIMES = load_regimes()
PROVOCATIONS = load_provocations()
EVERY = tuple(p for p in PROVOCATIONS.values() if not p.antagonist or antagonist_cpu(p, placement()) >= 0)
"""Those that this machine has room for."""
MAPPED = 65536
"""Bytes that are accessible on either side of the middle of the mapping."""

Shown = tuple[str, str, int, int | None]
"""Outcome, signal, PC from the region's first byte, value (None where it is an address)."""


def shown(record: Record) -> set[Shown]:
    """How the wrong executions of a record showed themselves."""
    assert not any(executor["signatures_lost"] for executor in record["executors"])
    return {
        (s["outcome"], s["signal"], s["pc"], None if s["signal"] else s["value"])
        for s in record["signatures"]
    }


class Simulator:
    """A few x86-64 instructions, enough for every case: what one execution of a region's content must show."""

    OFFSET = 1 << 32

    def __init__(self, case: Case, content: bytes, region_at: int) -> None:
        self.region_at, self.at = region_at, case.entry
        self.memory = {pad.offset + i: byte for pad in case.pads for i, byte in enumerate(pad.bytes)}
        self.memory |= dict(enumerate(content))
        self.rax, self.equal = 0, True
        self.returns: list[int] = []

    def run(self) -> Shown | None:
        """What is shown; None where an instruction is met that is not known here."""
        for _ in range(100):
            if not -MAPPED <= self.region_at + self.at < MAPPED:
                return ("fault", "SIGSEGV", self.at, None)
            code = bytes(self.memory.get(self.at + i, 0xCC) for i in range(15))
            it = Decoder(64, code, ip=self.at + self.OFFSET).decode()
            if it.is_invalid or it.mnemonic == Mnemonic.UD2:
                return ("fault", "SIGILL", self.at, None)
            if it.mnemonic == Mnemonic.INT3:
                return ("fault", "SIGTRAP", self.at + 1, None)
            if it.mnemonic == Mnemonic.RET and not self.returns:
                return ("torn", "", 0, self.rax)
            if not (self.branch(it) or self.compute(it)):
                return None
        return ("hang", "watchdog", self.at, None)

    def branch(self, it: Instruction) -> bool:
        """Whether `it` is a branch; it is followed."""
        after, far = it.next_ip - self.OFFSET, it.op0_kind == OpKind.NEAR_BRANCH64
        if it.mnemonic == Mnemonic.RET:
            self.at = self.returns.pop()
            return True
        if it.mnemonic == Mnemonic.CALL and far:
            self.returns.append(after)
        elif it.mnemonic not in (Mnemonic.JMP, Mnemonic.JE, Mnemonic.JNE) or not far:
            return False
        falls = {Mnemonic.JE: not self.equal, Mnemonic.JNE: self.equal}.get(it.mnemonic, False)
        self.at = after if falls else it.near_branch_target - self.OFFSET
        return True

    def compute(self, it: Instruction) -> bool:
        """Whether `it` computes something that is known here; it is executed."""
        self.at = it.next_ip - self.OFFSET
        width = {Register.AL: 8, Register.EAX: 32, Register.RAX: 64}.get(it.op0_register, 0)
        mask = (1 << width) - 1
        if it.mnemonic == Mnemonic.NOP:
            return True
        if it.mnemonic == Mnemonic.BSWAP and width == 32:
            self.rax = int.from_bytes((self.rax & mask).to_bytes(4, "little"), "big")
            return True
        if not width or it.op_count != 2 or it.op1_kind in (OpKind.REGISTER, OpKind.MEMORY):
            return False
        value, given = self.rax & mask, it.immediate(1) & mask
        values = {
            Mnemonic.MOV: given,
            Mnemonic.ADD: value + given,
            Mnemonic.SUB: value - given,
            Mnemonic.XOR: value ^ given,
        }
        if it.mnemonic not in values:
            return False
        value = values[it.mnemonic] & mask
        if it.mnemonic != Mnemonic.MOV:
            self.equal = value == 0
        self.rax = self.rax & ~mask | value if width == 8 else value
        return True


def mixed(old: bytes, new: bytes, where: Iterator[int] | range) -> bytes:
    """`old` with the bytes at `where` taken from `new`."""
    content = bytearray(old)
    for at in where:
        content[at] = new[at]
    return bytes(content)


def pairs(case: Case) -> list[tuple[bytes, bytes]]:
    """Every image and the one that follows it."""
    codes = [image.bytes for image in case.images]
    return list(zip(codes, codes[1:] + codes[:1], strict=True))


def must_show(case: Case, site: Site, contents: set[bytes]) -> set[Shown | None]:
    """What the contents that are no image, and do not pass for one, must show."""
    good: set[Shown | None] = {("torn", "", 0, image.returns) for image in case.images if not image.traps}
    good |= {("fault", "SIGTRAP", case.head + 1, None) for image in case.images if image.traps}
    return {Simulator(case, content, place(case, site)).run() for content in contents} - good


def planted(case: Case, site: Site, first: str) -> set[bytes]:
    """The contents between the two stores of `halves`, for every image in turn."""
    front = range(case.patch, case.patch + (site.front or middle(case)))
    back = range(front.stop, case.patch + case.patch_len)
    return {mixed(old, new, front if first == "front" else back) for old, new in pairs(case)}


def bytewise(case: Case) -> set[bytes]:
    """Every content that memory can hold while the bytes are stored one by one, in whatever order."""
    found = set()
    for old, new in pairs(case):
        differ = [at for at in range(len(old)) if old[at] != new[at]]
        for chosen in product((False, True), repeat=len(differ)):
            found.add(mixed(old, new, (at for at, it in zip(differ, chosen, strict=True) if it)))
    return found


def inside(case: Case) -> Site:
    return sites_of(case, "in")[0]


def sites(case: Case) -> list[Site]:
    return [inside(case), *(Site(b, middle(case)) for b in (8, 64, 4096))]


def is_atomic(case: Case, site: Site, store: str) -> bool:
    """Whether each half is one store inside an aligned 8, so that nothing else is in memory for a moment."""
    first = (1 << 16) + place(case, site) + case.patch
    cut = first + (site.front or middle(case))
    halves_fit = first // 8 == (cut - 1) // 8 and cut // 8 == (first + case.patch_len - 1) // 8
    return halves_fit and store in ("whole", "qword", "split")


def test_the_simulator_is_right_about_the_images_that_it_knows() -> None:
    known = 0
    for case in CASES.values():
        for img in case.images:
            wanted = ("fault", "SIGTRAP", case.head + 1, None) if img.traps else ("torn", "", 0, img.returns)
            told = Simulator(case, img.bytes, place(case, inside(case))).run()
            assert told in (wanted, None), case.name
            known += told is not None
    assert known >= 20


def test_the_probe_tells_what_is_here() -> None:
    probe = native.probe()
    assert probe["isa"] == "x86_64"
    assert len(probe["vendor"]) == 12
    assert set(probe["features"]) == {
        name for name in here().features if not name.startswith("membarrier")
    } - {
        "pti",
        "fred-used",
    }
    assert 10**8 < probe["tsc_hz"] < 10**11
    assert probe["line_bytes"] in (32, 64, 128)
    assert probe["step_ops"].bit_count() == lib.XMC_STEP_OPS
    assert bool(probe["exec_ops"] >> lib.XMC_EXEC_SERIALIZE & 1) == ("serialize" in probe["features"])
    assert probe["exec_ops"] >> lib.XMC_EXEC_CPUID & 1
    assert probe["membarrier"] == 0 or probe["membarrier"] & 1


@pytest.mark.hardware
@pytest.mark.parametrize("name", SPLITTABLE)
def test_half_a_patch_is_seen_as_what_its_bytes_must_do(name: str) -> None:
    case, here_or_there = CASES[name], cycle(product(sites(CASES[name]), ("front", "back")))
    for _ in range(SPLITTABLE.index(name) % 7):  # another beginning for each case, so that all are met
        next(here_or_there)
    for store, (site, first) in zip(STORES, here_or_there, strict=False):
        if misfit(case, site, store) or set(STORES[store].needs) - here().features:
            continue
        parts = ("front", "back") if first == "front" else ("back", "front")
        wanted = must_show(case, site, planted(case, site, first))
        record = run_cell(case, halves(*parts), Limits(20.0, patches=len(case.images)), site, store)
        told = f"{store} at {site.name}, {first} first"
        assert (record["status"], record["reason"], record["patches"]) == ("ok", "", len(case.images)), told
        seen = shown(record)
        assert wanted - {None} <= seen, told
        assert count(record, "stale") == 0
        if case.kind not in FIELDS or None in wanted:
            continue  # a thread may stand between the instructions of the others
        if is_atomic(case, site, store):
            assert seen == wanted, told
        elif case.patch_len <= 8:
            possible = must_show(case, site, bytewise(case))
            assert seen <= possible or None in possible, f"{told}: {seen - possible}"


@pytest.mark.hardware
@pytest.mark.parametrize("via", ["same", "alias", "reopen", "mremap", "shmat"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_published_before_it_is_stored_is_stale_by_one_generation(name: str, via: str) -> None:
    case, last = CASES[name], len(CASES[name].images)
    store = "bytes" if misfit(case, inside(case), "whole") else "whole"
    record = run_cell(case, regime(*STALE, via=via), Limits(20.0, patches=last), inside(case), store)
    assert record["status"] == "ok"
    assert set(record["stale_generations"]) == {"1"}
    assert count(record, "stale") == sum(record["stale_generations"].values()) >= last
    assert count(record, "stale") == sum(s["count"] for s in record["signatures"] if s["outcome"] == "stale")
    old = {("stale", "", 0, img.returns) for img in case.images if not img.traps}
    trapped = {("stale", "SIGTRAP", case.head + 1, None) for img in case.images if img.traps}
    assert {it for it in shown(record) if store == "whole" or it[0] == "stale"} == old | trapped
    assert record["outcomes"]["post"]["stale"] > 0


@pytest.mark.hardware
def test_how_old_a_stale_execution_was_is_told_in_ticks_too() -> None:
    record = run_cell(MOV, regime(*STALE), Limits(20.0, patches=20))
    assert 0 < sum(record["stale_ticks"].values()) <= count(record, "stale")
    ages = [2 ** int(bucket) / record["tsc_hz"] for bucket in record["stale_ticks"]]
    assert max(ages) < record["seconds"] * 2 + 1


@pytest.mark.hardware
def test_events_hold_the_bytes_and_generations_of_their_moment() -> None:
    record, events = run_plan(make_plan(MOV, halves("front", "back"), Limits(20.0, patches=1), Site(64, 2)))
    assert 0 < len(events) <= lib.XMC_EVENTS_MAX
    assert record["executors"][0]["events"] == count(record, *WRONG) >= len(events)
    assert 0 <= record["executors"][0]["first_event_seconds"] <= record["seconds"] + 0.1
    planted_bytes = [event for event in events if event["bytes"].startswith("b822221111c3")]
    assert planted_bytes, events
    for event in events:
        assert (event["outcome"], event["value"], event["provocation"]) == ("torn", 0x11112222, "none")
    assert [event["tsc"] for event in events] == sorted(event["tsc"] for event in events)


@pytest.mark.hardware
@pytest.mark.parametrize("name", CASES)
def test_an_idle_writer_is_never_blamed(name: str) -> None:
    record = run_cell(CASES[name], REGIMES["idle"], Limits(60.0, 10**7), inside(CASES[name]))
    assert record["status"] == "ok"
    assert count(record) == count(record, "old") >= 10**7
    assert (record["signatures"], record["patches"]) == ([], 0)


@pytest.mark.hardware
def test_an_idle_writer_is_never_blamed_under_any_provocation() -> None:
    record = run_cell(MOV, REGIMES["idle"], Limits(60.0, 10**6), provocations=EVERY)
    assert count(record) == count(record, "old") >= 10**6


STRADDLING = (CASES["mov-imm32"], REGIMES["none"])


@pytest.mark.hardware
def test_a_straddling_store_without_synchronization_tears_and_ends_the_run_if_asked() -> None:
    plan = make_plan(
        *STRADDLING, Limits(20.0, until_first_event=True), Site(64, 2), provocations=EVERY, pace_log2=12
    )
    record, events = run_plan(plan)
    assert count(record, "torn") >= 1
    assert record["seconds"] < 20
    assert record["executors"][0]["first_event_seconds"] <= record["seconds"]
    # The writer may be some patches further when the second half is fetched: any image may have given any byte.
    columns = list(zip(*(image.bytes[1:5] for image in CASES["mov-imm32"].images), strict=True))
    for outcome, signal_name, _, value in shown(record):
        assert (outcome, signal_name) == ("torn", "")
        assert all(
            byte in column for byte, column in zip((value or 0).to_bytes(4, "little"), columns, strict=True)
        )
    assert {event["outcome"] for event in events} == {"torn"}


@pytest.mark.hardware
def test_a_store_inside_an_aligned_8_does_not_tear() -> None:
    record = run_cell(*STRADDLING, Limits(1.0), Site(0), provocations=EVERY, pace_log2=12)
    assert count(record) == count(record, "old", "new")
    assert record["patches"] > 1000
    assert count(record, "new") > 0


@pytest.mark.hardware
def test_a_store_byte_by_byte_tears_even_inside_an_aligned_8() -> None:
    limits = Limits(20.0, until_first_event=True)
    assert count(run_cell(*STRADDLING, limits, Site(0), "bytes", pace_log2=12), "torn") >= 1


@pytest.mark.hardware
@pytest.mark.parametrize("provocation", EVERY, ids=lambda p: p.name)
def test_the_whole_int3_protocol_holds_under_every_provocation(provocation: Provocation) -> None:
    record = run_cell(
        CASES["mov-imm32"],
        REGIMES["int3+sync-core"],
        Limits(0.6),
        Site(64, 2),
        provocations=(provocation,),
        pace_log2=12,
    )
    assert record["status"] == "ok"
    assert count(record, *WRONG) == 0, record["signatures"]
    assert count(record, "trap") > 0
    assert count(record, "new") > 0


@pytest.mark.hardware
def test_the_int3_protocol_without_its_syncs_tears() -> None:
    for _ in range(10):
        record = run_cell(
            CASES["mov-imm32"],
            REGIMES["int3+sync-core-without-2-4-6"],
            Limits(2.0),
            Site(64, 2),
            provocations=(PROVOCATIONS["executor-flush-both"],),
            pace_log2=12,
        )
        if count(record, "torn"):
            return
    pytest.fail(f"no torn execution in 20 s: {record['outcomes']}")


@pytest.mark.hardware
def test_a_run_ends_by_seconds() -> None:
    record = run_cell(MOV, REGIMES["none"], Limits(0.3))
    assert 0.3 <= record["seconds"] < 1.3


@pytest.mark.hardware
@pytest.mark.parametrize("patches", [1, 2, 1000])
def test_a_run_ends_by_patches_and_makes_exactly_so_many(patches: int) -> None:
    record = run_cell(MOV, REGIMES["none"], Limits(60.0, patches=patches), provocations=EVERY)
    assert record["patches"] == patches
    assert record["seconds"] < 30


@pytest.mark.hardware
def test_a_run_ends_by_executions_and_makes_at_least_so_many() -> None:
    record = run_cell(MOV, REGIMES["none"], Limits(60.0, executions=2 * 10**6))
    assert count(record) >= 2 * 10**6
    assert record["seconds"] < 30


@pytest.mark.hardware
def test_the_first_limit_that_is_met_ends_the_run() -> None:
    record = run_cell(MOV, REGIMES["none"], Limits(0.2, executions=10**15, patches=10**12))
    assert 0.2 <= record["seconds"] < 1.2


@pytest.mark.hardware
def test_every_provocation_has_its_turn_and_they_add_up() -> None:
    record = run_cell(
        *STRADDLING, Limits(1.2), Site(64, 2), "bytes", provocations=EVERY, pace_log2=12, slice_us=15_000
    )
    shares = record["provocations"]
    assert list(shares) == [p.name for p in EVERY]
    assert all(share["seconds"] > 0 for share in shares.values())
    assert sum(share["seconds"] for share in shares.values()) == pytest.approx(record["seconds"], abs=1e-3)
    assert sum(share["patches"] for share in shares.values()) == record["patches"]
    total: dict[str, dict[str, int]] = {}
    for share in shares.values():
        for phase, row in share["outcomes"].items():
            for outcome, n in row.items():
                total.setdefault(phase, {}).setdefault(outcome, 0)
                total[phase][outcome] += n
    assert total == record["outcomes"]
    assert sum(s["count"] for s in record["signatures"]) == count(record, *WRONG) > 0


@pytest.mark.hardware
@pytest.mark.parametrize("swapped", [False, True])
def test_threads_run_on_the_cpus_that_were_asked_for(swapped: bool) -> None:
    near = placement()
    there = Placement(near.relation, near.executor_cpus[0], (near.writer_cpu,)) if swapped else near
    record = run_cell(MOV, REGIMES["none"], Limits(0.1), where=there)
    for thread, cpu in zip((record["writer"], *record["executors"]), there.cpus, strict=True):
        assert (thread["cpu_first"], thread["cpu"]) == (cpu, cpu)
        assert thread["cpu_seconds"] > 0
    assert record["executors"][0]["interrupts"] >= 0


@pytest.mark.hardware
def test_several_executors_are_counted_apart_and_all_wait_for_each_other() -> None:
    near = placement()
    crowd = Placement(near.relation, near.writer_cpu, near.executor_cpus * 3)
    record = run_cell(MOV, halves("front", "back"), Limits(60.0, patches=2), Site(64, 2), where=crowd)
    assert (record["status"], record["patches"], len(record["executors"])) == ("ok", 2, 3)
    assert all(executor["events"] > 0 for executor in record["executors"])
    assert sum(executor["events"] for executor in record["executors"]) == count(record, "torn")


@pytest.mark.hardware
def test_a_cpu_that_is_not_there_ends_the_run_in_an_error() -> None:
    record = run_cell(MOV, REGIMES["none"], Limits(5.0), where=Placement("l3", 900, (901,)))
    assert record["status"] == "error"
    assert "Invalid argument" in record["reason"]


NEW = ["store", "all", "new"]
PLAIN = as_dict(make_plan(MOV, REGIMES["none"], Limits(1.0), where=Placement("l3", 0, (1,))))["provocations"][
    0
]
ENDLESS = {"seconds": 0.0, "executions": 0, "patches": 0, "until_first_event": False}
OLD, FRESH = (
    {"bytes": code, "returns": n, "traps": False} for n, code in ((1, "b811111111c3"), (2, "b822222222c3"))
)
LONG = {"bytes": "90" * 65, "returns": 1, "traps": False}
PADS = [{"offset": 100 * n, "bytes": "c3"} for n in range(1, 10)]
CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "no limit": {"limits": ENDLESS},
    "one image": {"images": [OLD]},
    "too many images": {"images": [OLD, FRESH] * 9},
    "an image that is too long": {"images": [LONG, LONG]},
    "images that differ outside the patch": {"patch_len": 3},
    "a patch of nothing": {"patch_len": 0, "split": 0},
    "a patch past the end": {"patch_len": 6},
    "a patch far away": {"patch": 2**31},
    "a head behind the patch": {"head": 5},
    "a guard past the patch": {"guards": True, "head": 4},
    "large pages of a file": {"pages": "2m", "via": "alias"},
    "an antagonist without a CPU": {"provocations": [PLAIN | {"antagonist": "lines"}]},
    "an entry past the end": {"entry": 6},
    "nothing behind the boundary": {"split": 4},
    "a place on another page": {"place": 5000},
    "a place far away": {"place": -(2**31)},
    "a pad out of reach": {"pads": [{"offset": 40_000, "bytes": "c3"}]},
    "a pad out of reach below": {"pads": [{"offset": -40_000, "bytes": "c3"}]},
    "too many pads": {"pads": PADS},
    "too many steps": {"writer": [NEW] * 33},
    "too many executor steps": {"executor": [["lfence", False]] * 33},
    "too many provocations": {"provocations": [PLAIN] * 17},
    "no provocation": {"provocations": []},
    "a provocation that stores": {"provocations": [PLAIN | {"writer": [NEW]}]},
    "a provocation of too many steps": {"provocations": [PLAIN | {"executor": [["lfence", False]] * 5}]},
    "no executor": {"cpus": {"writer": 0, "executors": []}},
    "half a patch": {"writer": [["store", "front", "new"]]},
    "a trap left behind": {"writer": [NEW, ["store", "first", "trap"]]},
    "too long a pace": {"pace_log2": 41},
    "too many turns": {"turns": [[0, 0, 1]] * 129},
    "a turn of no provocation": {"turns": [[0, 0, 1], [1, 0, 1]]},
    "a turn of no executor": {"turns": [[0, 0, 0]]},
    "a turn of too many executors": {"turns": [[0, 0, 2]]},
    "a turn of too long a pace": {"turns": [[0, 41, 1]]},
}


def contradict(changed: dict[str, Any]) -> dict[str, Any]:
    """A sound plan, resolved, with a few of its values changed wherever they are."""
    plan = as_dict(make_plan(MOV, REGIMES["none"], Limits(1.0), Site(64, 2), where=Placement("l3", 0, (1,))))
    region = {key: changed.get(key, value) for key, value in plan["region"].items()}
    return {key: changed.get(key, value) for key, value in plan.items()} | {"region": region}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_plan_that_contradicts_itself_is_refused(name: str) -> None:
    box = bytearray(blackbox.result_bytes())
    with pytest.raises(NativeError, match=r"^the native core ended with EINVAL: Invalid argument") as caught:
        native.run(contradict(CONTRADICTIONS[name]), box)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.hardware
def test_a_patch_whose_end_wraps_around_is_refused() -> None:
    done = script(
        """
        from tests.test_native import contradict
        try:
            native.run(contradict({"patch": 2**32 - 1, "patch_len": 2, "split": 0}), bytearray(blackbox.result_bytes()))
        except NativeError as error:
            print(error.errno)
        """
    )
    assert (done.stdout, done.returncode) == ("22\n", 0)


@pytest.mark.hardware
def test_a_refused_plan_is_an_error_of_its_cell() -> None:
    record = run_cell(MOV, regime(Step("store", "front", "new")), Limits(1.0))
    assert (record["status"], count(record)) == ("error", 0)
    assert record["reason"] == "the native core ended with EINVAL: Invalid argument"


def test_words_that_the_core_does_not_know_are_refused() -> None:
    box = bytearray(blackbox.result_bytes())
    plan = as_dict(make_plan(MOV, REGIMES["none"], Limits(0.1), where=Placement("l3", 0, (1,))))
    for changed in ({"store": "sideways"}, {"via": "letter"}, {"writer": [["sing", "", ""]]}):
        with pytest.raises(NativeError, match="the native core knows no"):
            native.run(plan | changed, box)


@pytest.mark.hardware
def test_an_executor_step_that_this_cpu_lacks_is_skipped_with_the_reason() -> None:
    steps = regime(Step("store", "all", "new"), Step("publish"), executor=(ExecStep("serialize", True),))
    record = run_cell(MOV, steps, Limits(0.1))
    if "serialize" in here().features:
        assert record["status"] == "ok"
    else:
        assert record["status"] == "skipped"
        assert record["reason"].startswith("refused by this machine: ")


@pytest.mark.hardware
@pytest.mark.parametrize("step", "lfence mfence lock syscall cpuid iret".split())
@pytest.mark.parametrize("on_change", [False, True])
def test_every_executor_step_runs_and_leaves_the_region_alone(step: str, on_change: bool) -> None:
    steps = regime(Step("store", "all", "new"), Step("publish"), executor=(ExecStep(step, on_change),))
    record = run_cell(MOV, steps, Limits(20.0, executions=20_000), Site(0), provocations=EVERY)
    assert record["status"] == "ok"
    assert count(record, "torn", "fault", "hang") == 0, record["signatures"]
    assert count(record) >= 20_000


@pytest.mark.hardware
@pytest.mark.parametrize("step", "mfence sfence lfence serialize signal".split())
def test_every_writer_step_runs(step: str) -> None:
    steps = regime(Step("store", "all", "new"), Step(step), Step("delay", "", 100), Step("publish"))
    record = run_cell(MOV, steps, Limits(20.0, patches=200), Site(0), provocations=EVERY)
    assert (record["status"], record["patches"]) == ("ok", 200)
    assert count(record, "torn", "fault", "hang") == 0, record["signatures"]


@pytest.mark.hardware
@pytest.mark.parametrize("part", ["all", "first", "rest", "front", "back"])
def test_every_part_can_be_flushed(part: str) -> None:
    provocation = Provocation("flush", "", (Step("flush", part),))
    record = run_cell(
        MOV, REGIMES["none"], Limits(20.0, patches=100), Site(64, 2), provocations=(provocation,)
    )
    assert (record["status"], record["patches"]) == ("ok", 100)


@pytest.mark.hardware
def test_a_planted_trap_is_a_trap() -> None:
    over = (Step("store", "rest", "new"), Step("store", "first", "new"), WAIT)
    record = run_cell(MOV, regime(Step("store", "first", "trap"), WAIT, *over), Limits(20.0, patches=4))
    assert (record["status"], record["patches"]) == ("ok", 4)
    assert count(record, "trap") >= 4
    assert count(record, *WRONG) == 0


@pytest.mark.hardware
def test_a_trap_that_stands_when_completion_is_claimed_is_stale() -> None:
    over = (Step("store", "rest", "new"), Step("store", "first", "new"))
    steps = (Step("store", "first", "trap"), Step("publish"), WAIT, *over)
    record = run_cell(MOV, regime(*steps), Limits(20.0, patches=4))
    assert ("stale", "SIGTRAP", 1, None) in shown(record)
    assert count(record, "torn", "fault", "hang") == 0


@pytest.mark.hardware
def test_storing_all_takes_the_trap_off_the_head() -> None:
    steps = (Step("store", "first", "trap"), WAIT, Step("store", "all", "new"), WAIT)
    record = run_cell(MOV, regime(*steps), Limits(20.0, patches=4))
    assert (record["status"], record["reason"], record["patches"]) == ("ok", "", 4)
    assert count(record, "trap") >= 4


@pytest.mark.hardware
def test_who_meets_a_guard_waits_and_does_not_hang() -> None:
    """The guard stands for four times as long as an executor may go without progress."""
    steps = [Step("store", "first", "guard"), Step("delay", "", 10**9), Step("store", "rest", "new")]
    guarded = regime(*steps, Step("store", "first", "new"), WAIT)
    record = run_cell(CASES["mov-imm32"], guarded, Limits(20.0, patches=4), Site(64, 2))
    assert (record["status"], record["reason"], record["patches"]) == ("ok", "", 4)
    assert count(record, *WRONG, "trap") == 0, record["signatures"]
    assert record["hangs_signalled"] == 0
    assert record["guard_waits"] >= 1
    assert count(record, "new") >= 4


@pytest.mark.hardware
def test_a_regime_in_large_pages_lies_in_two_of_them_to_the_end() -> None:
    small = run_cell(MOV, REGIMES["none"], Limits(0.1))
    assert small["huge_pages"] == 0
    for site in (Site(HUGE, 2), Site(4096, 2), Site(64, 2), Site(0)):
        record = run_cell(MOV, REGIMES["huge"], Limits(20.0, patches=1000), site)
        if "huge-pages" in here().features:
            assert (record["status"], record["huge_pages"], record["patches"]) == ("ok", 2, 1000)
        else:
            assert record["status"] == "skipped"
            assert "pages of 2 MiB are not to be had" in record["reason"]


@pytest.mark.hardware
def test_a_refused_step_leaves_nothing_counted_behind() -> None:
    """Where memory may not gain the right to be executed (PR_SET_MDWE), a protect step is refused in mid-run."""
    done = script(
        """
        import ctypes
        if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
            print("not known here")
            sys.exit()
        print("protect-x" in native.probe()["features"])
        steps = (Step("protect", "rw"), Step("protect", "rx"), Step("store", "all", "new"), Step("publish"))
        plan = as_dict(make_plan(MOV, regime(*steps, via="alias"), Limits(5.0)))
        box = mmap.mmap(-1, blackbox.result_bytes())
        try:
            native.run(plan, box)
        except UnsupportedError as error:
            print(error)
        print(blackbox.decode(plan, box)["outcomes"])
        """
    )
    assert done.stderr == ""
    if done.stdout != "not known here\n":
        missing, refused, counted = done.stdout.splitlines()
        assert missing == "False"
        assert refused == "refused by this machine: Permission denied at writer step 2 (protect rx )"
        assert counted == "{}"


# What a torn instruction may do to the thread that runs it. Bytes of code, then the signals it may end in.
SEGV, ILL, FPE, TRAP, SYS = "SIGSEGV", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"
FAULTS: dict[str, tuple[str, set[str]]] = {
    "ud2": ("0f0b", {ILL}),
    "divide by zero": ("31c9f7f1c3", {FPE}),
    "breakpoint": ("ccc3", {TRAP}),
    "hlt": ("f4", {SEGV}),
    "port": ("ecc3", {SEGV}),
    "load through a register": ("488b01c3", {SEGV}),
    "store through a register": ("488901c3", {SEGV}),
    "jump through a register": ("ffe1", {SEGV}),
    "pop and return": ("58c3", {SEGV}),
    "pop eight times and return": ("58" * 8 + "c3", {SEGV}),
    "push and return": ("50c3", {SEGV}),
    "push a register and return": ("51c3", {SEGV}),
    "far return": ("cb", {SEGV}),
    "interrupt return": ("48cf", {SEGV}),
    "leave": ("c9c3", {SEGV}),
    "stack pointer into the desert": ("4889ccc3", {SEGV}),
    "stack pointer to nowhere": ("31e4c3", {SEGV}),
    "trap flag": ("9c810c24000100009dc3", {TRAP}),
}
HARMLESS = {
    "direction flag": "fdc3",
    "nested task flag": "9c810c24004000009dc3",
    "alignment check flag": "9c810c24000004009dc3",
    "unmasked float exceptions": "68000000000fae142458c3",
    "x87 stack": "d9e8d9e8d9e8d9e8d9e8d9e831c0c3",
}
# A wrong value in every register that the loop relies on, behind the value that is right.
CLOBBERS = {
    "rbp": "bd99000000b010c3",
    "r12": "41bc99000000b010c3",
    "r13": "41bd99000000b010c3",
    "r14": "41be99000000b010c3",
    "r15": "41bf99000000b010c3",
    "rsp by 8": "b010c20800",
    "rsp by 16": "b010c21000",
    "rsp by 64": "b010c24000",
    "rsp by 256": "b010c20001",
}


def planted_regime(window: bool) -> Regime:
    """The mix of a gadget case, run for a while; with or without the window of a published generation."""
    both = halves("front", "back")
    return replace(both, writer=(*both.writer, Step("publish"))) if window else both


def plausible(record: Record) -> bool:
    """Whether no more executions are claimed than the executors' CPU time has room for."""
    busy: float = sum(executor["cpu_seconds"] for executor in record["executors"])
    return count(record) < 2e9 * busy + 100_000


@pytest.mark.hardware
@pytest.mark.parametrize("window", [False, True], ids=["value", "window"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_torn_instruction_that_faults_is_recovered_from(name: str, window: bool) -> None:
    code, signals = FAULTS[name]
    record = run_cell(gadget_case(code), planted_regime(window), Limits(20.0, patches=6), provocations=EVERY)
    assert (record["status"], record["reason"], record["patches"]) == ("ok", "", 6)
    assert count(record, "fault") >= 3
    assert {s["signal"] for s in record["signatures"]} <= signals
    assert {s["outcome"] for s in record["signatures"]} == {"fault"}
    assert count(record, "new") >= 2, "it goes on as before"
    assert plausible(record)


@pytest.mark.hardware
@pytest.mark.parametrize("code", ["0f05c3", "cd80c3"], ids=["syscall", "int 0x80"])
def test_a_torn_system_call_is_stopped(code: str) -> None:
    record = run_cell(gadget_case(code), planted_regime(False), Limits(20.0, patches=6))
    assert (record["status"], record["patches"]) == ("ok", 6)
    assert record["syscalls_contained"] == ("syscall-dispatch" in here().features)
    if record["syscalls_contained"]:
        wanted = {SYS} if code == "0f05c3" else {SYS, SEGV}  # kernels without 32-bit calls have no such gate
        assert {s["signal"] for s in record["signatures"]} <= wanted
        assert count(record, "fault") >= 3


@pytest.mark.hardware
@pytest.mark.parametrize("window", [False, True], ids=["value", "window"])
@pytest.mark.parametrize("name", HARMLESS)
def test_torn_flags_do_not_outlive_the_region(name: str, window: bool) -> None:
    record = run_cell(gadget_case(HARMLESS[name]), planted_regime(window), Limits(20.0, patches=6))
    assert (record["status"], record["reason"], record["patches"]) == ("ok", "", 6)
    assert count(record, "torn", "stale", "hang") == 0
    assert count(record, "new") >= 2


@pytest.mark.hardware
@pytest.mark.parametrize("window", [False, True], ids=["value", "window"])
@pytest.mark.parametrize("register", CLOBBERS)
def test_a_register_that_was_clobbered_behind_a_right_value_is_noticed(register: str, window: bool) -> None:
    case = gadget_case(CLOBBERS[register])
    record = run_cell(case, planted_regime(window), Limits(20.0, patches=6), provocations=EVERY)
    assert (record["status"], record["reason"], record["patches"]) == ("ok", "", 6)
    clobbered = sum(s["count"] for s in record["signatures"] if (s["outcome"], s["code"]) == ("torn", -1))
    assert clobbered + count(record, "fault") >= 3
    assert sum(executor["clobbers"] for executor in record["executors"]) == clobbered
    assert count(record, "new") >= 2, "it goes on as before"
    assert plausible(record)


@pytest.mark.hardware
@pytest.mark.parametrize("window", [False, True], ids=["value", "window"])
@pytest.mark.parametrize("value", [0, 0x10, 0x77])
@pytest.mark.parametrize("left", [1, 5, 2**31 - 1])
def test_a_clobbered_loop_counter_makes_no_executions_up(left: int, value: int, window: bool) -> None:
    # mov $left, %ebx; mov $value, %al; ret: for 5 ms, so that what is made up shows.
    case = gadget_case("bb" + left.to_bytes(4, "little").hex() + "b0" + f"{value:02x}" + "c3")
    both = regime(Step("store", "front", "new"), Step("delay", "", 10**7), Step("store", "back", "new"), WAIT)
    steps = replace(both, writer=(*both.writer, Step("publish"))) if window else both
    record = run_cell(case, steps, Limits(20.0, patches=2))
    assert (record["status"], record["patches"]) == ("ok", 2)
    assert plausible(record), (record["outcomes"], record["executors"][0]["cpu_seconds"])


@pytest.mark.hardware
def test_a_torn_branch_to_itself_is_a_hang_and_the_run_goes_on() -> None:
    record = run_cell(gadget_case("ebfe"), planted_regime(False), Limits(20.0, patches=2))
    assert (record["status"], record["patches"]) == ("ok", 2)
    assert shown(record) == {("hang", "watchdog", GADGET + 2, None)}
    assert record["hangs_signalled"] >= count(record, "hang") >= 1


@pytest.mark.hardware
@pytest.mark.parametrize("distance", [-(2**31), -(2**30), -70_000, 70_000, 2**30, 2**31 - 1])
def test_a_wild_branch_faults_at_a_known_pc_however_far_it_goes(distance: int) -> None:
    code = "e9" + distance.to_bytes(4, "little", signed=True).hex()
    record = run_cell(gadget_case(code), planted_regime(False), Limits(20.0, patches=2))
    assert record["status"] == "ok"
    assert shown(record) == {("fault", "SIGSEGV", GADGET + 2 + 5 + distance, None)}


PREAMBLE = """
import faulthandler, hashlib, json, math, mmap, os, signal, subprocess, sys, threading, time
from stress import blackbox, native
from stress.errors import NativeError, UnsupportedError
from stress.model import Limits, Step
from stress.plan import as_dict
from tests.support import *

def go(*args, **kwargs):
    plan = as_dict(make_plan(*args, **kwargs))
    box = mmap.mmap(-1, blackbox.result_bytes())
    native.run(plan, box)
    return blackbox.decode(plan, box)
"""


def script(body: str) -> subprocess.CompletedProcess[str]:
    """Run `body` in a process of its own, the core in that process."""
    text = PREAMBLE + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


@pytest.mark.hardware
def test_runs_follow_each_other_in_one_process() -> None:
    done = script(
        """
        for case, wanted in ((MOV, "torn"), (gadget_case("0f0b"), "fault"), (gadget_case("31edb010c3"), "torn")) * 3:
            result = go(case, halves("front", "back"), Limits(20.0, patches=4))
            assert result["patches"] == 4 and count(result, wanted) >= 2, result
        print("done")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.hardware
def test_the_process_is_as_it_was_after_every_kind_of_fault() -> None:
    codes = [code for code, _ in FAULTS.values()] + list(CLOBBERS.values())
    done = script(
        f"""
        def work():
            digest = hashlib.sha256(b"x" * 10**6).hexdigest()
            roots = sum(math.sqrt(i) for i in range(10**5))
            child = subprocess.run(["echo", "here"], capture_output=True, text=True).stdout
            said = []
            thread = threading.Thread(target=lambda: said.append(sorted(range(10**5), key=lambda i: -i)[0]))
            thread.start(); thread.join()
            return digest, roots, child, said, 1e308 * 10, sys.getrecursionlimit()

        before, mask = work(), signal.pthread_sigmask(signal.SIG_BLOCK, [])
        cpus, threads = os.sched_getaffinity(0), threading.active_count()
        for code in {codes}:
            go(gadget_case(code), halves("front", "back"), Limits(20.0, patches=2))
            assert work() == before
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        assert os.sched_getaffinity(0) == cpus and threading.active_count() == threads
        assert until(lambda: len(os.listdir("/proc/self/task")) == 1, 2)
        print("done")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.hardware
@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSYS, signal.SIGRTMIN + 4, signal.SIGRTMIN + 5])
def test_signals_are_handled_as_before_after_a_run(number: int) -> None:
    done = script(
        f"""
        go(gadget_case("0f0b"), halves("front", "back"), Limits(20.0, patches=2))
        os.kill(os.getpid(), {int(number)})
        """
    )
    assert done.returncode == -number


@pytest.mark.hardware
def test_a_handler_that_was_there_before_is_put_back() -> None:
    done = script(
        """
        faulthandler.enable()
        go(gadget_case("488b01c3"), halves("front", "back"), Limits(20.0, patches=2))
        os.kill(os.getpid(), signal.SIGSEGV)
        """
    )
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


@pytest.mark.hardware
def test_one_run_at_a_time_and_whoever_sets_stop_ends_it() -> None:
    done = script(
        """
        plan = as_dict(make_plan(MOV, regime(Step("store", "all", "new")), Limits(50.0)))
        box, other = (mmap.mmap(-1, blackbox.result_bytes()) for _ in range(2))
        thread = threading.Thread(target=native.run, args=(plan, box))
        thread.start()
        while int.from_bytes(box[:4], "little") != 1:
            time.sleep(0.01)
        try:
            native.run(plan, other)
        except NativeError as error:
            print(error.errno, error)
        box[4:8] = (1).to_bytes(4, "little")
        begun = time.monotonic()
        thread.join()
        print(time.monotonic() - begun < 2, int.from_bytes(box[:4], "little"))
        """
    )
    assert done.stderr == ""
    busy, ended = done.stdout.splitlines()
    assert busy == "16 the native core ended with EBUSY: Device or resource busy"
    assert ended == "True 2"


def test_a_store_that_the_part_does_not_fit_is_told_at_planning() -> None:
    assert misfit(make_case(image("90" * 40), image("91" * 40), patch=(0, 40)), Site(64, 8), "whole")
