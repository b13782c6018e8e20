"""`stress explain`: one page that tells promise, citation, counts, bound and bytes, and fits a terminal."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stress.cases import load_cases
from stress.errors import StoreError, UsageError
from stress.explain import MIXES_SHOWN, WIDTH, explain, find, latest_run
from stress.mixes import decode_text, mixes_of
from stress.model import Cell, Grade, Placement, Site
from stress.promises import load_promises
from stress.regimes import load_regimes
from stress.stats import poisson_interval
from stress.store import RunFolder
from stress.table import LEGEND
from tests.support import Record, command, image, is_one_line, make_case
from tests.test_evidence import cell, control, ended, torn, witness, wrong

CASES = load_cases()
PROMISES = load_promises()
INSIDE = Site(0)


def page(records: list[Record], of: Record | None = None, vendor: str = "", isa: str = "x86_64") -> str:
    """The page about `of`, by default the first of the records."""
    return explain(records, (of or records[0])["cell"], PROMISES, isa, vendor)


def flat(text: str) -> str:
    """As it reads, wherever the lines were broken."""
    return " ".join(text.split())


def is_breakable(line: str) -> bool:
    """Whether a space could have been a line's end: one between two words, behind the indent and its dash."""
    return " " in line.strip().removeprefix("- ").strip()


def too_wide(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > WIDTH and is_breakable(line)]


FORBIDDEN = torn(cell(site=INSIDE))
STALE = ended(cell(regime="sync-core"), outcomes={"post": {"new": 10_000_000, "stale": 3}})
CELLS = {
    # grade: the record, the vendor asked for, the promise that decides, a word of its citation
    Grade.FORBIDDEN: (FORBIDDEN, "", "forbidden", "7.6.1"),
    Grade.SURPRISING: (FORBIDDEN, "GenuineIntel", "relied-on, by inference", "fd4363fff3d9"),
    Grade.INTERESTING: (torn(cell()), "", "allowed", "jump-table-assembler.h"),
    Grade.UNPROVEN: (ended(cell(regime="sync-core"), patches=3), "", "forbidden", "membarrier(2)"),
    Grade.CLEAN: (ended(cell(regime="sync-core")), "", "forbidden", "membarrier(2)"),
}


@pytest.mark.parametrize("grade", Grade)
def test_every_grade_is_told_with_promise_citation_counts_and_bound(grade: Grade) -> None:
    record, vendor, level, cited = CELLS[grade]
    text = page([record, control(cell(), 3)], record, vendor)
    kind, code = record["kind"], record["code"]
    assert text.startswith(f"{record['cell']}\n  kind {kind}: {PROMISES.kinds[kind]}\n  regime {code}: ")
    assert f"\n  held to the promises of {vendor or 'AuthenticAMD'}\n{grade}: {LEGEND[grade]}.\n" in text
    assert f"{level}. " in flat(text)
    assert cited in text
    assert f"20.0M executions, {record['patches'] if grade == Grade.UNPROVEN else '20.0k'} patches:" in text
    assert "    concurrent 6.00M old, 4.00M new" in text
    assert "    post       6.00M old, 4.00M new" in text
    assert too_wide(text) == []
    if grade in (Grade.FORBIDDEN, Grade.SURPRISING, Grade.INTERESTING):
        low, high = poisson_interval(95, 0.5)
        assert f"95 events: between {low:.0f} and {high:.0f} a second (95 %" in text
        assert "     95  1100  mov $0x41312212,%eax; ret\n" in text
        assert "95 of 20,000,095 executions ran torn code with a patch in flight" in flat(text)
    else:
        assert "events: between" not in text
        assert "What ran" not in text


@pytest.mark.parametrize(
    ("confidence", "told"),
    [("H", "forbidden. "), ("M", "forbidden, by inference. "), ("U", "forbidden, unconfirmed. ")],
)
def test_a_promise_that_rests_on_inference_says_so(confidence: str, told: str) -> None:
    row = PROMISES.concurrent["K1", "amd"]
    changed = {outcome: replace(promise, confidence=confidence) for outcome, promise in row.items()}
    promises = replace(PROMISES, concurrent={**PROMISES.concurrent, ("K1", "amd"): changed})
    assert told in flat(explain([FORBIDDEN], FORBIDDEN["cell"], promises, "x86_64"))


def test_a_first_execution_at_a_fresh_address_is_promised_by_inference() -> None:
    """No manual names the case (docs/promises.md, K21 and R7)."""
    for kind, code in (("K21", "R0"), ("K3", "R7")):
        seen = {"post": {"new": 10_000_000, "torn": 3}}
        text = flat(page([ended(cell(), outcomes=seen, kind=kind, code=code, completes=code == "R7")]))
        assert ": forbidden, by inference. " in text


def test_a_clean_cell_tells_its_bound_and_what_its_control_saw() -> None:
    clean = ended(cell(regime="sync-core"))
    bound = "none of 20,000,000 executions showed anything: less than 1.5e-7 each, one-sided 95 %"
    assert bound in page([clean])
    assert "no positive control was part of the run, so nothing says that it could have" in flat(
        page([clean])
    )
    seeing = "its positive control, a store known to tear, on the same CPUs and site, saw events"
    assert seeing in page([clean, control(cell(), 3)])


def test_an_unproven_cell_tells_what_it_lacked() -> None:
    clean = ended(cell(regime="sync-core"))
    blind = page([clean, control(cell(), 0)])
    assert "UNPROVEN" in blind
    assert "its positive control, on the same CPUs and site, saw nothing either" in flat(blind)
    few = ended(cell(regime="sync-core"), patches=3)
    assert "too few patches: 3, where 1,000 are needed" in flat(page([few]))


def test_stale_executions_are_told_by_their_phase_and_run_no_mix() -> None:
    text = page([STALE])
    told = "3 of 10,000,003 executions ran stale code when the change had been declared complete: forbidden. "
    assert told in flat(text)
    assert "What ran" not in text


def test_the_page_says_what_was_done_where_and_for_how_long() -> None:
    text = flat(page([torn(cell(regime="int3+sync-core"))]))
    assert "CPU 0 patched 4 bytes, 2 bytes before a boundary: store first trap, membarrier sync-core," in text
    assert "CPU 1 executed, for 0.50 s." in text
    assert "inside an aligned block" in page([FORBIDDEN])
    assert "CPU 1 executed after cpuid on-change, for 0.50 s." in page([ended(cell(regime="flag+cpuid"))])
    assert "inside an aligned block: nothing." in page([ended(cell(regime="idle", site=INSIDE), patches=0)])


# ---- which bytes -----------------------------------------------------------------------------------------------


def test_store_tears_and_fetch_tears_are_told_where_a_witness_ran() -> None:
    here = torn(cell())
    assert "No data witness ran beside it" in page([here])
    seen = flat(page([here, witness(cell(), front=7)]))
    assert "95 store tears (data readers saw memory hold such bytes), 0 fetch tears" in seen
    unseen = flat(page([here, witness(cell())]))
    assert "0 store tears (data readers saw memory hold such bytes), 95 fetch tears" in unseen
    assert "95 not attributed" in flat(page([here, witness(cell(), planted=1)]))


def test_the_same_mix_by_several_signatures_is_told_once_and_the_most_frequent_first() -> None:
    seen = [wrong("1100", 5), wrong("0011", 1000), wrong("1100", 7, "fault"), wrong("0022", 9, "hang")]
    text = page([ended(cell(), {"torn": 1005, "fault": 7, "hang": 9}, signatures=seen)])
    told = [line.split()[:2] for line in text.splitlines() if line.endswith("%eax; ret")]
    assert told == [["1.00k", "0011"], ["12", "1100"], ["9", "0022"]]


def test_what_could_have_been_several_mixes_or_none_says_so() -> None:
    two = wrong("1100", 5) | {"mixes": ["1100", "0011", "2200"]}
    unknown = wrong("", 3) | {"mixes": []}
    old = wrong("", 2)
    del old["mixes"]
    text = page([ended(cell(), {"torn": 10}, signatures=[two, unknown, old])])
    assert "5  1100 or 2 more that look the same  mov $0x41312212,%eax; ret" in text
    assert "5  ?  no mix of two images" in text


def test_only_the_most_frequent_mixes_are_told() -> None:
    case = CASES["mov-imm32"]
    labels = [mix.label for mix in mixes_of([i.bytes for i in case.images], case.patch, case.patch_len)]
    seen = [wrong(label, n + 1) for n, label in enumerate(labels)]
    text = page([ended(cell(), {"torn": sum(s["count"] for s in seen)}, signatures=seen)])
    told = [line.split()[1] for line in text.splitlines() if "mov $" in line]
    assert told == labels[: -MIXES_SHOWN - 1 : -1]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.patch_len > 1])
def test_each_mix_of_each_case_is_told_as_its_own_bytes(name: str) -> None:
    case = CASES[name]
    for mix in mixes_of([i.bytes for i in case.images], case.patch, case.patch_len)[::97]:
        text = page([torn(cell(name, site=INSIDE), label=mix.label)])
        assert flat(f"95 {mix.label} {decode_text(mix.bytes, case.entry, 'x86_64')}") in flat(text)


def test_a_machine_without_a_decoder_is_told_the_bytes_alone() -> None:
    assert "     95  1100" in page([torn(cell())], isa="riscv64")


# ---- width and words -------------------------------------------------------------------------------------------


def long_winded() -> list[Cell]:
    """Cells whose names and steps are as long as they come."""
    regime = load_regimes()["alias+int3+sync-core"]
    where = Placement("package", 100, tuple(range(101, 133)))
    slow = replace(cell().provocations[0], name="executor-flush-both")
    sites = [Site(4096, 1), Site(64, 1), INSIDE]
    return [
        Cell(case, site, "whole", regime, (slow,), where)
        for case in CASES.values()
        for site in sites[: 3 if 1 < case.patch_len <= 8 else 0]
    ]


def test_no_page_is_wider_than_a_terminal() -> None:
    for of in long_winded():
        codes = [i.bytes for i in of.case.images]
        mixes = mixes_of(codes, of.case.patch, of.case.patch_len)
        longest = sorted(mixes, key=lambda mix: -len(decode_text(mix.bytes, of.case.entry, "x86_64")))
        for outcome in ("torn", "fault", "hang"):
            seen = [
                wrong("", 999_000 + n, outcome) | {"mixes": [mix.label] * 100}
                for n, mix in enumerate(longest[:MIXES_SHOWN])
            ]
            counts = dict.fromkeys(("torn", "stale", "fault", "trap", "hang"), 1_234_567)
            text = page([ended(of, counts, signatures=seen), witness(of, front=10**9)])
            assert too_wide(text) == []


def test_a_mix_that_is_many_instructions_is_no_wider_either() -> None:
    """Eight one-byte instructions and what follows them, as a store of several instructions makes them."""
    steps = "48ffc048ffc848ffc148ffc948ffc248ffcac3"
    made = make_case(image(f"90{steps}", 1), image(f"66{steps}", 2), patch=(0, 4))
    of = replace(cell(), case=made)
    seen = wrong("0000", 5) | {"mixes": ["0000"] * 12}
    assert too_wide(page([ended(of, {"torn": 5}, signatures=[seen])])) == []


def test_a_citation_can_be_copied_whole() -> None:
    """A path or a name is never broken in its middle, so what is searched for is found."""
    for record, vendor, _, _ in CELLS.values():
        text = flat(page([record], vendor=vendor))
        cited = [s.strip() for s in text.split("[")[1].split("]")[0].split(";")]
        known = " ".join(PROMISES.sources.values())
        assert cited
        for source in cited:
            assert source in known, source


# ---- which cell ------------------------------------------------------------------------------------------------


def test_a_cell_is_found_by_name_or_id_and_the_last_of_several_counts() -> None:
    first, second = ended(cell(), patches=1), ended(cell(), patches=2)
    start = {"type": "start", "id": "0123", "cell": cell().name}
    records = [first, start, second, ended(cell("mov-imm64"))]
    assert find(records, cell().name) is second
    assert find(records, first["id"]) is second


@pytest.mark.parametrize("name", ["", "mov-imm32", "mov-imm32@x64+2/whole:none:l3~", "0123", "\n"])
def test_an_unknown_or_unfinished_cell_is_refused_in_one_line(name: str) -> None:
    start = {"type": "start", "id": "0123", "cell": cell().name}
    with pytest.raises(UsageError) as refused:
        find([start, ended(cell("mov-imm64"))], name)
    assert "no finished cell" in str(refused.value)
    with pytest.raises(UsageError):
        explain([], name, PROMISES, "x86_64")


def test_a_skipped_cell_says_why_and_nothing_else() -> None:
    skipped = ended(cell(), status="skipped", reason="this machine lacks serialize", plan=None, outcomes={})
    assert page([skipped]) == f"{cell().name} was skipped: this machine lacks serialize"


@pytest.mark.parametrize("status", ["crashed", "timeout", "error"])
def test_a_cell_that_did_not_end_well_is_told_as_far_as_it_came(status: str) -> None:
    died = "the worker died of SIGSEGV"
    text = flat(page([ended(cell(regime="sync-core"), status=status, reason=died)]))
    assert f"UNPROVEN: {LEGEND[Grade.UNPROVEN]}. - {status}: {died}; graded on what it had" in text
    empty: dict[str, Any] = {"outcomes": {}, "provocations": {}, "patches": 0, "seconds": 0.0}
    assert "0 executions, 0 patches" in page([ended(cell(), status=status, reason=died, **empty)])


def test_of_several_starts_it_is_told_how_many_showed_events() -> None:
    """Trials within one start are correlated: what one start showed ten times was seen once."""
    starts = [
        ended(cell()),
        torn(cell()),
        torn(cell()),
        torn(cell(), status="crashed"),
        torn(cell("mov-imm64")),
    ]
    assert "This is one of 3 starts of the cell; 2 of them showed events." in page(starts)
    assert "starts of the cell" not in page([torn(cell()), torn(cell("mov-imm64"))])


def test_what_disturbed_the_executors_is_told() -> None:
    noise = {"cpu": 1, "interrupts": 12, "switches_forced": 3, "switches_voluntary": 4, "stolen_ticks": 5}
    quiet, moved = noise | {"cpu_first": 1}, noise | {"cpu_first": 0}
    text = page([ended(cell(), executors=[quiet, moved])])
    assert "  executor on CPU 1: 12 interrupts, 7 switches, 5 stolen ticks\n" in text
    assert text.endswith(
        "  executor on CPU 1: 12 interrupts, 7 switches, 5 stolen ticks, moved there from CPU 0"
    )


def test_events_in_no_time_have_no_rate() -> None:
    assert "a second" not in page([torn(cell(), seconds=0.0)])


# ---- the command -----------------------------------------------------------------------------------------------


def run_folder(path: Path, *records: Record) -> Path:
    header = {"run": "r", "request": {"regime_files": []}, "host": {"isa": "x86_64"}}
    folder = RunFolder.create(path, header)
    for record in records:
        folder.append_record(record)
    folder.close()
    return path


def test_the_youngest_run_is_meant_where_none_is_named(tmp_path: Path) -> None:
    for name in ("20261122T120000Z-b", "20261122T110000Z-c", "20261121T235959Z-d"):
        run_folder(tmp_path / name)
    (tmp_path / "20991231T000000Z-e").mkdir()  # holds no run
    assert latest_run(tmp_path).name == "20261122T120000Z-b"
    for nothing in (tmp_path / "20991231T000000Z-e", tmp_path / "absent"):
        with pytest.raises(StoreError, match="holds no run"):
            latest_run(nothing)


def test_the_command_prints_the_page_of_a_stored_cell(tmp_path: Path) -> None:
    records = [torn(cell()), control(cell(), 3), witness(cell(), front=7)]
    folder = run_folder(tmp_path / "run", *records)
    assert told_in(tmp_path, cell().name, "--run", folder) == (0, page(records) + "\n", "")
    asked = told_in(tmp_path, records[0]["id"], "--run", folder, "--vendor", "intel")
    assert asked == (0, page(records, vendor="GenuineIntel") + "\n", "")


def told_in(folder: Path, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, output and complaints of `stress explain` in a working directory."""
    done = subprocess.run(
        command("explain", *arguments), cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_takes_the_youngest_run_below_the_working_directory(tmp_path: Path) -> None:
    run_folder(tmp_path / "stress-runs" / "1", ended(cell()))
    run_folder(tmp_path / "stress-runs" / "2", torn(cell()))
    assert told_in(tmp_path, cell().name) == (0, page([torn(cell())]) + "\n", "")


def test_the_command_refuses_what_is_not_there_in_one_line(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", ended(cell()))
    for arguments, wanted in (
        (["no-such-cell", "--run", folder], 2),
        ([cell().name, "--run", tmp_path / "absent"], 2),
        ([cell().name], 3),
        ([], 2),
    ):
        status, output, complaint = told_in(tmp_path, *arguments)
        assert (status, output) == (wanted, ""), arguments
        assert is_one_line(complaint), complaint
