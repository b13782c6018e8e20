"""Regimes and provocations: the shipped ones are the design's, and a broken one is refused with help."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from stress.ablations import WITHOUT
from stress.errors import CaseError
from stress.matrix import choose_regimes
from stress.model import ExecStep, Step
from stress.promises import load_promises
from stress.regimes import ANTAGONISTS, PROVOCATION_STEPS_MAX, load_provocations, load_regimes
from stress.steps import FENCES, MEMBARRIERS, PARTS, RIGHTS, parse_exec_step, parse_step

EVERY = load_regimes()
REGIMES = {name: regime for name, regime in EVERY.items() if not regime.publish}  # tests/test_publish.py
PROVOCATIONS = load_provocations()

STEPS = {
    **{
        f"store {part} {value}": Step("store", part, value)
        for part in PARTS
        for value in ("new", "trap", "guard")
    },
    **{f"flush {part}": Step("flush", part) for part in PARTS},
    **{f"fence {fence}": Step(fence) for fence in FENCES},
    **{f"membarrier {command}": Step("membarrier", command) for command in MEMBARRIERS},
    **{op: Step(op) for op in ("serialize", "signal", "quiesce", "release", "hop", "remap", "publish")},
    **{f"protect {rights}": Step("protect", rights) for rights in RIGHTS},
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
        ("store", "give `store all|first|rest|front|back new|trap|guard`"),
        ("store tail new", "give `store all|first|rest|front|back new|trap|guard`"),
        ("store all old", "give `store all|first|rest|front|back new|trap|guard`"),
        ("store all new now", "give `store all|first|rest|front|back new|trap|guard`"),
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


CODES = {
    "R0": "idle none alias huge tail-head",
    "R1": "flag",
    "R1m": "flag+mfence",
    "R1l": "flag+lfence flag+lock flag+syscall",
    "R2": "flag+cpuid flag+serialize flag+iret alias+flag+cpuid",
    "R3": "sync-core huge+sync-core alias+sync-core reopen+sync-core mremap+sync-core shmat+sync-core "
    "procmem+sync-core vmwritev+sync-core",
    "R3x": "private global global-expedited rseq",
    "R4": "int3+sync-core huge+int3+sync-core alias+int3+sync-core procmem+int3+sync-core vmwritev+int3+sync-core "
    "trap-halves",
    "R4g": "guard+sync-core",
    "R4s": "int3+signal process+int3+signal process+int3+sync-core ptrace+int3+signal ptrace+int3+sync-core",
    "R4d": "int3+delay-2000 int3+delay-3000",
    "R5": "signal process+signal",
    "R5q": "quiesce quiesce-early alias+quiesce",
    "R5h": "hop",
    "R6": "protect protect-nx protect-nx-early alias+protect-nx remap",
    "R8": "process procmem vmwritev ptrace",
}
PUBLISH_ONLY = {"R7", "R7b", "R9"}
"""Codes that no regime here has: two belong to another shape, and R9 to other ISAs."""


def test_regimes_are_those_of_the_design() -> None:
    codes = {name: code for code, names in CODES.items() for name in names.split()}
    derived = {name for name in REGIMES if WITHOUT in name}
    assert {name: regime.code for name, regime in REGIMES.items() if name not in derived} == codes
    assert {REGIMES[name].code for name in derived} == {"R4", "R4g", "R4s"}
    assert set(load_promises().codes) - set(CODES) == PUBLISH_ONLY
    assert [name for name, regime in REGIMES.items() if not regime.patches] == ["idle"]
    silent = {name for name, regime in REGIMES.items() if not regime.completes}
    ways = {"alias", "huge", "process", "procmem", "vmwritev", "ptrace"}
    assert silent == {"idle", "none", "flag", "tail-head", "trap-halves", *ways}


SYNCS = ("2", "4", "6", "2-4", "2-6", "4-6", "2-4-6")


@pytest.mark.parametrize(
    ("protocol", "sync"),
    [
        ("int3+sync-core", Step("membarrier", "sync-core")),
        ("int3+signal", Step("signal")),
        ("guard+sync-core", Step("membarrier", "sync-core")),
    ],
)
def test_each_sync_and_each_pair_is_left_out_once(protocol: str, sync: Step) -> None:
    complete = REGIMES[protocol]
    assert [n for n, step in enumerate(complete.writer, 1) if step == sync] == [2, 4, 6]
    for numbers in SYNCS:
        gone = {int(number) for number in numbers.split("-")}
        regime = REGIMES[f"{protocol}-without-{numbers}"]
        assert regime.writer == tuple(step for n, step in enumerate(complete.writer, 1) if n not in gone)
        assert (regime.ablation_of, regime.completes, regime.via) == (protocol, True, complete.via)
        assert all(f"step {n} ({sync.text})" in regime.summary for n in gone)


def test_every_ablation_has_the_steps_of_its_protocol_less_some_or_in_another_order() -> None:
    ablations = [regime for regime in REGIMES.values() if regime.ablation_of]
    assert len(ablations) == 30
    for regime in ablations:
        complete = REGIMES[regime.ablation_of]
        assert regime.writer != complete.writer
        more = Counter(regime.writer) - Counter(complete.writer)
        # The one exception: a sync that is there and reaches nobody.
        assert not more or set(more) == {Step("membarrier", "sync-core")}, regime.name


def without(*words: str) -> dict[str, str]:
    """The regimes that are there only because they were asked for, and what each breaks."""
    found = load_regimes(asked=words)
    return {name: found[name].ablation_of for name in found if name not in EVERY}


def test_any_step_is_left_out_where_that_is_asked_for() -> None:
    assert without("int3+signal-without-1") == {"int3+signal-without-1": "int3+signal"}
    assert without("none, flag+cpuid-without-3") == {"flag+cpuid-without-3": "flag+cpuid"}
    (regime,) = choose_regimes(["flag+cpuid-without-3"], ())
    assert (regime.writer, regime.executor) == (REGIMES["flag"].writer, ())
    assert regime.summary == "flag+cpuid without step 3 (cpuid on-change)"


def test_a_template_has_ablations_too() -> None:
    found = without("int3+delay-77-without-2")
    assert found == {"int3+delay-77": "", "int3+delay-77-without-2": "int3+delay-77"}


def test_a_glob_means_every_step_and_every_pair_that_makes_sense() -> None:
    protocol = REGIMES["int3+sync-core"]
    found = {regime.name for regime in choose_regimes(["int3+sync-core-without-*"], ())}
    numbers = [str(n) for n in (1, 2, 4, 6)] + [f"{a}-{b}" for a, b in combinations((1, 2, 4, 6), 2)]
    assert len(protocol.writer) == 7
    assert found == {f"int3+sync-core-without-{n}" for n in [*numbers, "2-4-6"]}  # the last is listed
    assert set(without("quiesce-without-*")) == {"quiesce-without-1-3"}


def test_an_ablation_of_a_published_protocol_obeys_the_rules_of_publishing() -> None:
    found = without("jit-text-without-*")
    assert "jit-text-without-4" in found  # the fence
    assert not any(name.endswith(("-3", "-7")) for name in found)  # the fill, the flag


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("int3+signal-without-8", "'8' are no steps of int3+signal; give numbers from 1 to 7, in order, as"),
        ("int3+signal-without-4-2", "'4-2' are no steps of int3+signal; give numbers from 1 to 7, in order"),
        ("int3+signal-without-2-2", "'2-2' are no steps of int3+signal"),
        ("int3+signal-without-3", "without-3.writer: the stores of new bytes leave some old; store all,"),
        (
            "int3+signal-without-7",
            "without-7.completes: nothing says when the change is complete; end writer",
        ),
    ],
)
def test_an_ablation_that_cannot_be_is_refused_in_one_line(word: str, told: str) -> None:
    with pytest.raises(CaseError) as caught:
        load_regimes(asked=[word])
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_ablation_has_no_ablations(tmp_path: Path) -> None:
    assert without("quiesce-early-without-*", "none-without-1") == {}


def test_steps_that_a_table_lists_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + 'without = ["1"]\n')
    assert load_regimes(path)["mine-without-1"].ablation_of == "mine"
    path.write_text(GOOD + 'without = ["9"]\n')
    with pytest.raises(CaseError, match=r"regimes.mine.without: '9' are no steps of mine; give numbers from"):
        load_regimes(path)
    path.write_text(GOOD + 'without = ["2"]\n')
    with pytest.raises(CaseError, match=r"regimes.mine-without-2.writer: the stores of new bytes leave some"):
        load_regimes(path)


def test_a_template_is_a_regime_for_every_number() -> None:
    for number in (1, 77, 2000, 2**64 - 1):
        regime = load_regimes(asked=["none,int3-*", f"idle, int3+delay-{number}"])[f"int3+delay-{number}"]
        assert [step.value for step in regime.writer if step.op == "delay"] == [number] * 3
        assert f" {number} ticks " in regime.summary
        assert [step for step in regime.writer if step.op != "delay"] == list(
            REGIMES["int3+sync-core-without-2-4-6"].writer
        )
    assert list(load_regimes(asked=["int3+delay-007", "int3+delay-x", "int3+delay-"])) == list(EVERY)
    assert choose_regimes(["int3+delay-5"], ())[0].name == "int3+delay-5"


@pytest.mark.parametrize("number", [0, 2**64])
def test_a_number_that_does_not_fit_is_refused_in_one_line(number: int) -> None:
    with pytest.raises(
        CaseError, match=r"templates.int3\+delay-\d+.writer\[1\]: .*, NUMBER from 1 to 18446744073709551615$"
    ):
        load_regimes(asked=[f"int3+delay-{number}"])


TEMPLATE = """\
[templates.wait]
numbers = [5]
code = "R0"
summary = "wait N ticks"
source = "section N"
writer = ["store all new", "delay N"]
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("numbers = [5]", "", "templates.wait.numbers: missing; give the numbers that are listed without"),
        ("[5]", "[-1]", "templates.wait.numbers[0]: -1 is out of range; give 0 to 18446744073709551615"),
        ("[5]", "[0]", "templates.wait-0.writer[1]: 'delay 0' is not a step; give `delay NUMBER`, NUMBER"),
        (
            "templates.wait",
            'templates."my wait"',
            "templates: the name 'my wait' does not fit; give lower-case",
        ),
        (
            '["store all new", "delay N"]',
            '"N"',
            "templates.wait.writer: 'N' has the wrong type; give the writer's",
        ),
    ],
)
def test_a_broken_template_is_refused_in_one_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEMPLATE)
    assert load_regimes(path, asked=["wait-6"]).keys() - EVERY.keys() == {"wait-5", "wait-6"}
    assert load_regimes(path)["wait-5"].source == "section N"
    path.write_text(TEMPLATE.replace(old, new, 1))
    with pytest.raises(CaseError) as caught:
        load_regimes(path)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert str(caught.value).isprintable()


def test_a_name_says_executor_steps_last() -> None:
    for name in ("cpuid", "serialize", "iret", "mfence", "lfence", "lock", "syscall"):
        assert REGIMES[f"flag+{name}"].executor == (ExecStep(name, on_change=True),)
        assert REGIMES[f"flag+{name}"].writer == REGIMES["flag"].writer


def test_needs_follow_from_the_steps() -> None:
    assert REGIMES["none"].needs == ("rwx",)
    assert REGIMES["alias"].needs == ("alias",)
    assert REGIMES["flag+serialize"].needs == ("rwx", "serialize")
    assert REGIMES["flag+mfence"].needs == ("rwx", "mfence-serializes")
    assert REGIMES["int3+sync-core-without-2-4-6"].needs == ("rwx",)
    assert REGIMES["alias+int3+sync-core"].needs == ("alias", "membarrier-sync-core")
    assert REGIMES["rseq"].needs == ("rwx", "membarrier-rseq")
    assert REGIMES["process"].needs == ("alias",)
    assert REGIMES["procmem"].needs == ("procmem", "alias")
    assert REGIMES["vmwritev"].needs == ("rwx", "vmwritev")
    assert REGIMES["ptrace"].needs == ("rwx", "alias", "ptrace")
    assert REGIMES["protect-nx-early"].needs == ("alias", "protect-x")
    assert REGIMES["huge"].needs == ("rwx", "huge-pages")
    assert REGIMES["guard+sync-core"].needs == ("rwx", "membarrier-sync-core")


def test_provocations_are_those_of_the_design_and_change_nothing_that_is_promised() -> None:
    assert [name for name, provocation in PROVOCATIONS.items() if provocation.turns] == [
        "contend-tail", "executor-flush-tail", "executor-flush-both", "writer-flush-tail", "writer-flush-head", "none",
        "executor-guess", "executor-guess-slow",
    ]  # fmt: skip
    assert {provocation.antagonist for provocation in PROVOCATIONS.values()} == {"", *ANTAGONISTS}
    harmless = {"flush-head", "flush-tail", "evict-tlb", "cold-branches", "mispredict"}
    for provocation in PROVOCATIONS.values():
        assert {step.op for step in provocation.writer} <= {"flush", "own", "share"}
        assert {step.op for step in provocation.executor} <= harmless


def test_users_regimes_come_after_the_packages_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    regimes = load_regimes(path)
    assert [name for name, regime in regimes.items() if not regime.publish] == [*REGIMES, "mine"]
    assert regimes["mine"].traps
    assert [step.text for step in regimes["mine"].writer] == [
        "store first trap", "store rest new", "store first new", "publish",
    ]  # fmt: skip


BROKEN = {
    "unknown table": (
        "[regimes.mine]",
        "[regime.mine]",
        "regime: unknown key; the keys here are regimes, templates",
    ),
    "unknown key": (
        "completes",
        "complete",
        "regimes.mine.complete: unknown key; the keys here are code, summary, "
        "source, writer, executor, via, pages, completes, needs, min_patch, ablation_of, without",
    ),
    "guard of a short patch": (
        '"store first trap"',
        '"store first guard"',
        "regimes.mine.min_patch: a guard takes two bytes, and leaves a rest of one; give at least 3",
    ),
    "trap and guard": (
        '"store first trap"',
        '"store first trap", "store first guard"',
        "regimes.mine.writer: the head is as long as a trap or as a guard; plant one of the two",
    ),
    "guard over all": (
        STORES,
        '["store all guard", "store all new", "publish"]',
        "regimes.mine.writer[0]: a guard stands over the head; give `store first guard`",
    ),
    "guard that stays": (
        STORES,
        '["store first new", "store rest new", "store first guard", "publish"]',
        "regimes.mine.writer[2]: the guard stays; follow it with `store first new`",
    ),
    "large pages of a file": (
        "min_patch = 2",
        'min_patch = 2\npages = "2m"\nvia = "alias"',
        "regimes.mine.pages: a file in memory is rarely had in large pages; "
        'give via = "same", or leave pages out',
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
        'via = "mail"',
        "regimes.mine.via: 'mail' is not a way to the bytes; "
        "give one of same, alias, reopen, mremap, shmat, process, procmem, vmwritev, ptrace",
    ),
    "needs": (
        "completes = true",
        'needs = ["fred"]',
        "regimes.mine.needs[0]: 'fred' is not a feature; "
        "give one of serialize, mfence-serializes, membarrier-sync-core, membarrier-private, membarrier-global, "
        "membarrier-global-expedited, membarrier-rseq, rwx, alias, procmem, vmwritev, ptrace, "
        "protect-x, huge-pages",
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
    "nothing at all": (GOOD, "", "regimes: missing; give tables [regimes.NAME]"),
    "parked twice": (
        STORES,
        '["quiesce", "store all new", "quiesce", "release", "publish"]',
        "regimes.mine.writer[2]: the executors are parked already; put release in front",
    ),
    "nobody parked": (
        STORES,
        '["store all new", "release", "publish"]',
        "regimes.mine.writer[1]: nobody is parked; put quiesce in front",
    ),
    "parked for ever": (
        STORES + '\nexecutor = ["cpuid on-change"]\ncompletes = true',
        '["quiesce", "store all new"]',
        "regimes.mine.writer: the executors stay parked; end with release",
    ),
    "parked and asked": (
        STORES,
        '["quiesce", "store all new", "signal", "release", "publish"]',
        "regimes.mine.writer[2]: parked executors do not answer; put release in front of signal",
    ),
    "rights left away": (
        STORES,
        '["protect rw", "store all new", "publish"]',
        "regimes.mine.writer[0]: nothing could be executed any more; follow it with `protect rx`",
    ),
    "no right to store": (
        STORES,
        '["protect rw", "protect rx", "store all new", "publish"]',
        "regimes.mine.writer[2]: the page is not writable here; put `protect rw` or `protect rwx` in front",
    ),
    "no right left to store": (
        STORES,
        '["store all new", "protect rw", "protect rx", "publish"]',
        "regimes.mine.writer[0]: the page is not writable here; put `protect rw` or `protect rwx` in front",
    ),
    "rights of others": (
        STORES,
        '["store all new", "protect rx", "publish"]\nvia = "process"',
        "regimes.mine.writer[1]: no process changes another one's mappings; "
        "give via same, alias, procmem or vmwritev",
    ),
    "remap of the unshared": (
        STORES,
        '["store all new", "remap", "publish"]',
        'regimes.mine.writer[1]: only a shared file can be mapped over itself; give via = "alias"',
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
        (
            "via = 1",
            "via: unknown key; the keys here are summary, cost, writer, executor, signal_us, antagonist, turns, "
            "guess, flush_pointer",
        ),
    ],
)
def test_a_provocation_that_does_more_than_flush_is_refused(
    steps: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'[provocations.loud]\nsummary = "more than it may"\ncost = "all"\n{steps}\n')
    with pytest.raises(CaseError) as caught:
        load_provocations(path)
    assert str(caught.value) == f"{path}: provocations.loud.{expected}"


def test_too_many_provocations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "".join(f'[provocations.n{n}]\nsummary = "one of many"\ncost = "none"\n' for n in range(17))
    )
    with pytest.raises(CaseError, match=r"provocations: there are 17; give at most 16$"):
        load_provocations(path)
