"""Regimes and provocations: the shipped ones are the design's, and a broken one is refused with help."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress.errors import CaseError
from stress.model import ExecStep, Step
from stress.regimes import (
    FENCES,
    MEMBARRIERS,
    PARTS,
    PROVOCATION_STEPS_MAX,
    load_provocations,
    load_regimes,
    parse_exec_step,
    parse_step,
)

REGIMES = load_regimes()
PROVOCATIONS = load_provocations()
COMPLETE = REGIMES["int3+sync-core"]

STEPS = {
    **{f"store {part} {value}": Step("store", part, value) for part in PARTS for value in ("new", "trap")},
    **{f"flush {part}": Step("flush", part) for part in PARTS},
    **{f"fence {fence}": Step(fence) for fence in FENCES},
    **{f"membarrier {command}": Step("membarrier", command) for command in MEMBARRIERS},
    **{op: Step(op) for op in ("serialize", "signal", "publish")},
    "delay 250": Step("delay", "", 250),
    "await 1": Step("await", "", 1),
    "die 9": Step("die", "", 9),
}
EXEC_OPS = (
    "lfence", "mfence", "lock", "syscall", "cpuid", "serialize", "iret", "flush-head", "flush-tail",
)  # fmt: skip

GOOD = """\
[regimes.mine]
code = "R3"
summary = "what my JIT does"
source = "a manual, section 1"
writer = ["store first trap", "store rest new", "store first new", "publish"]
executor = ["cpuid on-change"]
completes = true
min_patch = 2
"""
STORES = '["store first trap", "store rest new", "store first new", "publish"]'


@pytest.mark.parametrize(("text", "step"), STEPS.items())
def test_every_writer_step_is_read_and_spelled_again(text: str, step: Step) -> None:
    assert parse_step(text) == step
    assert parse_step(f"  {text.replace(' ', '   ')} ") == step
    assert parse_step(step.text) == step


@pytest.mark.parametrize("op", EXEC_OPS)
def test_every_executor_step_is_read_and_spelled_again(op: str) -> None:
    for text, step in ((op, ExecStep(op)), (f"{op} on-change", ExecStep(op, on_change=True))):
        assert parse_exec_step(text) == step
        assert step.text == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "the steps are store, fence,"),
        ("stroe all new", "the steps are store, fence,"),
        ("store", "give `store all|first|rest|front|back new|trap`"),
        ("store tail new", "give `store all|first|rest|front|back new|trap`"),
        ("store all old", "give `store all|first|rest|front|back new|trap`"),
        ("store all new now", "give `store all|first|rest|front|back new|trap`"),
        ("fence", "give `fence mfence|sfence|lfence`"),
        ("publish now", "give `publish`"),
        ("membarrier", "give `membarrier sync-core|private|global|global-expedited|rseq`"),
        ("delay -1", "give `delay NUMBER`, NUMBER from 1 to 18446744073709551615"),
        ("delay 18446744073709551616", "give `delay NUMBER`, NUMBER from 1 to 18446744073709551615"),
        ("delay ٣", "give `delay NUMBER`, NUMBER from 1 to 18446744073709551615"),
        ("die 65", "give `die NUMBER`, NUMBER from 1 to 64"),
    ],
)
def test_a_step_that_is_none_is_refused_with_its_form(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (writer )?step; ") as caught:
        parse_step(text)
    assert remedy in str(caught.value)


def test_regimes_are_those_of_the_design() -> None:
    codes = {name: regime.code for name, regime in REGIMES.items()}
    assert codes == {
        "idle": "R0", "none": "R0", "flag": "R1",
        "flag+cpuid": "R2", "flag+serialize": "R2", "flag+iret": "R2", "flag+mfence": "R1m",
        "sync-core": "R3", "int3+sync-core": "R4",
        "int3-nosync": "R4", "int3-nofirst": "R4", "int3-nomid": "R4", "int3-nolast": "R4",
        "signal": "R5", "alias": "R0", "alias+int3+sync-core": "R4",
    }  # fmt: skip
    assert [name for name, regime in REGIMES.items() if not regime.patches] == ["idle"]
    assert {name for name, regime in REGIMES.items() if not regime.completes} == {
        "idle",
        "none",
        "flag",
        "alias",
    }


def test_an_ablation_is_the_complete_protocol_less_its_syncs() -> None:
    sync = Step("membarrier", "sync-core")
    places = [n for n, step in enumerate(COMPLETE.writer) if step == sync]
    left_out = dict(
        zip(("int3-nofirst", "int3-nomid", "int3-nolast"), ([place] for place in places), strict=True)
    )
    left_out["int3-nosync"] = places
    ablations = [name for name, regime in REGIMES.items() if regime.ablation_of]
    assert sorted(ablations) == sorted(left_out)
    for name, missing in left_out.items():
        regime = REGIMES[name]
        assert regime.ablation_of == COMPLETE.name
        assert regime.writer == tuple(step for n, step in enumerate(COMPLETE.writer) if n not in missing)
        assert (regime.executor, regime.completes, regime.via) == ((), True, "same")


def test_a_name_says_executor_steps_last() -> None:
    for name in ("cpuid", "serialize", "iret", "mfence"):
        assert REGIMES[f"flag+{name}"].executor == (ExecStep(name, on_change=True),)
        assert REGIMES[f"flag+{name}"].writer == REGIMES["flag"].writer


def test_needs_follow_from_the_steps() -> None:
    assert REGIMES["none"].needs == ("rwx",)
    assert REGIMES["alias"].needs == ("alias",)
    assert REGIMES["flag+serialize"].needs == ("rwx", "serialize")
    assert REGIMES["flag+mfence"].needs == ("rwx", "mfence-serializes")
    assert REGIMES["int3-nosync"].needs == ("rwx",)
    assert REGIMES["alias+int3+sync-core"].needs == ("alias", "membarrier-sync-core")


def test_provocations_are_those_of_the_design_and_change_nothing_that_is_promised() -> None:
    assert [name for name, provocation in PROVOCATIONS.items() if provocation.turns] == [
        "none", "writer-flush-tail", "writer-flush-head", "executor-flush-tail", "executor-flush-both",
    ]  # fmt: skip
    harmless = {"flush-head", "flush-tail", "evict-tlb", "cold-branches", "mispredict"}
    for provocation in PROVOCATIONS.values():
        assert {step.op for step in provocation.writer} <= {"flush", "own", "share"}
        assert {step.op for step in provocation.executor} <= harmless


def test_users_regimes_come_after_the_packages_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    regimes = load_regimes(path)
    assert list(regimes) == [*REGIMES, "mine"]
    assert regimes["mine"].traps
    assert [step.text for step in regimes["mine"].writer] == [
        "store first trap", "store rest new", "store first new", "publish",
    ]  # fmt: skip


BROKEN = {
    "unknown table": ("[regimes.mine]", "[regime.mine]", "regime: unknown key; the keys here are regimes"),
    "unknown key": (
        "completes",
        "complete",
        "regimes.mine.complete: unknown key; the keys here are code, summary, "
        "source, writer, executor, via, completes, needs, min_patch, ablation_of",
    ),
    "no table": ("[regimes.mine]", "[regimes]", "regimes.code: 'R3' has the wrong type; give a table"),
    "name": (
        "regimes.mine",
        'regimes."my jit"',
        "regimes: the name 'my jit' does not fit; give lower-case letters, digits, +, . and -",
    ),
    "missing": ('code = "R3"', "", "regimes.mine.code: missing; give a code, R0 to R9"),
    "code": (
        '"R3"',
        '"K3"',
        "regimes.mine.code: 'K3' does not fit; give R0 to R9, with a letter for a variant, as in R1m",
    ),
    "writer of a string": (
        STORES,
        '"publish"',
        "regimes.mine.writer: 'publish' has the wrong type; "
        "give the writer's steps for one patch, [] for none",
    ),
    "step of a number": (
        STORES,
        "[1]",
        "regimes.mine.writer[0]: 1 has the wrong type; give a step, as in `store all new`",
    ),
    "executor step": (
        "cpuid on-change",
        "cpuid on change",
        "regimes.mine.executor[0]: 'cpuid on change' is not a step; give `cpuid` or `cpuid on-change`",
    ),
    "unknown executor step": (
        "cpuid on-change",
        "isb",
        "regimes.mine.executor[0]: 'isb' is not an executor step; "
        "the steps are lfence, mfence, lock, syscall, cpuid, serialize, iret, "
        "flush-head, flush-tail, evict-tlb, cold-branches, mispredict",
    ),
    "via": (
        "completes = true",
        'via = "ptrace"',
        "regimes.mine.via: 'ptrace' is not a way to the bytes; give one of same, alias",
    ),
    "needs": (
        "completes = true",
        'needs = ["fred"]',
        "regimes.mine.needs[0]: 'fred' is not a feature; "
        "give one of serialize, mfence-serializes, membarrier-sync-core, rwx, alias",
    ),
    "publish too early": (
        STORES,
        '["publish", "store all new"]',
        "regimes.mine.writer[0]: publish is not the last step; give it once, at the end",
    ),
    "publish twice": (
        STORES,
        '["store all new", "publish", "publish"]',
        "regimes.mine.writer[1]: publish is not the last step; give it once, at the end",
    ),
    "completes unpublished": (
        STORES,
        '["store all new"]',
        "regimes.mine.completes: nothing says when the change is complete; end writer with publish",
    ),
    "on-change unpublished": (
        STORES + '\nexecutor = ["cpuid on-change"]\ncompletes = true',
        '["store all new"]\nexecutor = ["iret on-change"]',
        "regimes.mine.executor[0]: nothing changes without publish; end writer with it, or drop on-change",
    ),
    "trap that stays": (
        STORES,
        '["store all new", "store first trap", "publish"]',
        "regimes.mine.writer[1]: the trap stays; follow it with `store first new`",
    ),
    "half a patch": (
        STORES,
        '["store front new", "publish"]',
        "regimes.mine.writer: the stores of new bytes leave "
        "some old; store all, first and rest, or front and back",
    ),
    "no patch": (
        STORES,
        '["publish"]',
        "regimes.mine.writer: the stores of new bytes leave "
        "some old; store all, first and rest, or front and back",
    ),
    "too many steps": (
        STORES,
        str(["store all new"] * 33),
        "regimes.mine.writer: there are 33 steps; give at most 32",
    ),
    "min_patch": (
        "min_patch = 2",
        "min_patch = 0",
        "regimes.mine.min_patch: 0 is out of range; give 1 to 64",
    ),
    "rest of one byte": (
        "min_patch = 2",
        "",
        "regimes.mine.min_patch: one byte has no rest; give at least 2",
    ),
    "ablation of nothing": (
        "min_patch = 2",
        'min_patch = 2\nablation_of = "all"',
        "regimes.mine.ablation_of: 'all' "
        "is not a complete protocol; name a regime that is no ablation itself",
    ),
    "ablation of itself": (
        "min_patch = 2",
        'min_patch = 2\nablation_of = "mine"',
        "regimes.mine.ablation_of: 'mine' "
        "is not a complete protocol; name a regime that is no ablation itself",
    ),
    "syntax": (
        "completes = true",
        "completes = True",
        "toml: Invalid value (at line 7, column 13); correct the syntax",
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_regime_is_refused_in_one_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(CaseError) as caught:
        load_regimes(path)
    assert str(caught.value) == f"{path}: {expected}"
    assert str(caught.value).isprintable()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(GOOD)
    second.write_text(GOOD)
    with pytest.raises(CaseError) as caught:
        load_regimes(first, second)
    text = f"already defined in {first}; choose another name"
    assert str(caught.value) == f"{second}: regimes.mine: {text}"
    first.write_text(GOOD.replace("mine", "none"))
    with pytest.raises(
        CaseError, match=r"first.toml: regimes.none: already defined in \S*regimes.toml; choose"
    ):
        load_regimes(first)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            'writer = ["store all new"]',
            "writer[0]: `store all new` can change what is promised; give flush, own, share steps only",
        ),
        (
            'executor = ["cpuid"]',
            "executor[0]: `cpuid` can change what is promised; "
            "give flush-head or flush-tail or evict-tlb or cold-branches or mispredict",
        ),
        (
            'executor = ["flush-head on-change"]',
            "executor[0]: `flush-head on-change` can change what is promised; "
            "give flush-head or flush-tail or evict-tlb or cold-branches or mispredict",
        ),
        (
            f"writer = {['flush all'] * (PROVOCATION_STEPS_MAX + 1)}",
            "writer: there are 5 steps; give at most 4",
        ),
        ("via = 1", "via: unknown key; the keys here are summary, writer, executor, signal_us, turns"),
    ],
)
def test_a_provocation_that_does_more_than_flush_is_refused(
    steps: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'[provocations.loud]\nsummary = "more than it may"\n{steps}\n')
    with pytest.raises(CaseError) as caught:
        load_provocations(path)
    assert str(caught.value) == f"{path}: provocations.loud.{expected}"


def test_too_many_provocations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("".join(f'[provocations.n{n}]\nsummary = "one of many"\n' for n in range(17)))
    with pytest.raises(CaseError, match=r"provocations: there are 17; give at most 16$"):
        load_provocations(path)
