"""The one-file reproducer: what it holds of the core, what it leaves out, and that it shows what it is about."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stress.agent import find_sources
from stress.cases import load_cases
from stress.csource import SourceError
from stress.errors import UsageError
from stress.model import Cell, Limits, Plan, Site
from stress.onefile import one_file
from stress.plan import as_dict
from stress.planned import Subject
from stress.publish import front_of
from stress.regimes import load_provocations, load_regimes
from stress.runner import compile_plan
from stress.sites import sites_of
from tests.support import placement

COMPILERS = ("gcc", "clang")
FLAGS = "-O2 -pthread -Wall -Wextra -Werror -Wunused -Wunused-macros -Wunused-parameter".split()
SMALL = 600
"""Lines that the file for a tear at a page boundary stays under."""


def make_plan(
    case: str,
    site: str,
    regime: str,
    store: str = "whole",
    provocation: str = "none",
    *,
    images: int = 0,
    pace: int = 12,
) -> Plan:
    known = load_cases()[case]
    known = replace(known, images=known.images[:images]) if images else known
    discipline, turn = load_regimes(asked=(regime,))[regime], (load_provocations()[provocation],)
    where = Site(64, front_of(known), address=site) if discipline.publish else sites_of(known, site)[0]
    cpus = replace(placement(), spare_cpu=0, sibling_cpu=0)
    return Plan(Cell(known, where, store, discipline, turn, cpus), Limits(1.0), 7, pace, 50_000)


def make_subject(plan: Plan, **more: Any) -> Subject:
    values: dict[str, Any] = {
        "plan": as_dict(plan),
        "micros": [] if plan.cell.regime.publish else compile_plan(plan),
        "outcome": "torn",
        "post": False,
        "signal": "",
        "code": 0,
        "catches": False,
        "hangs": False,
        "clobbers": False,
        "story": ("made by a test",),
        "what": plan.cell.name,
        "seconds": 5.0,
    }
    return Subject(**{**values, **more})


@cache
def page_tear(images: int = 0, pace: int = 12) -> str:
    plan = make_plan("mov-imm32", "x4096+2", "none", images=images, pace=pace)
    return one_file(make_subject(plan), "x86_64")


def build(text: str, folder: Path, compiler: str, flags: Sequence[str] = FLAGS) -> Path:
    if shutil.which(compiler) is None:
        pytest.fail(f"{compiler} is missing; on Debian: apt install {compiler}")
    source, program = folder / "x.c", folder / f"x-{compiler}"
    source.write_text(text)
    done = subprocess.run(
        [compiler, *flags, "-o", program, source], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return program


def run(program: Path, seconds: float = 5.0) -> subprocess.CompletedProcess[str]:
    cpus = (placement().writer_cpu, *placement().executor_cpus)
    command = [str(program), str(seconds), *map(str, cpus)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 20)


PUBLISHED: dict[str, Any] = {"post": True, "catches": True, "clobbers": True}
PLANS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "value": (("mov-imm32", "x4096+2", "none"), {}),
    "steps": (("mov-imm32", "x64+2", "none", "whole", "executor-flush-tail"), {}),
    "provoked": (("mov-imm32", "x64+2", "none", "whole", "writer-flush-tail"), {}),
    "evicting": (("mov-imm32", "x64+2", "none", "whole", "executor-evict-tlb"), {}),
    "mispredicting": (("mov-imm32", "x64+2", "none", "whole", "executor-mispredict"), {}),
    "poked": (("mov-imm32", "x64+2", "none", "whole", "signals"), {}),
    "bytes": (("mov-imm32", "in8", "none", "bytes"), {}),
    "wide": (("mov-imm64", "x64+4", "none", "sse16"), {}),
    "exchanged": (("mov-imm32", "in8", "none", "cmpxchg16b"), {}),
    "window": (("mov-imm32", "x64+2", "flag"), {"clobbers": True}),
    "window steps": (("mov-imm32", "x64+2", "flag+cpuid"), {"outcome": "stale", "post": True}),
    "traps": (("mov-imm32", "x64+2", "int3+sync-core-without-2-4-6"), {"catches": True, "clobbers": True}),
    "membarrier": (("mov-imm32", "x64+2", "sync-core"), {}),
    "faults": (
        ("nop5-jmp5", "x64+2", "none"),
        {"outcome": "fault", "signal": "SIGSEGV", "code": 2, "catches": True, "clobbers": True},
    ),
    "hangs": (
        ("nop5-jmp5", "x64+2", "none"),
        {"outcome": "hang", "catches": True, "hangs": True, "clobbers": True},
    ),
    "signals": (("mov-imm32", "x64+2", "signal"), {"catches": True, "clobbers": True}),
    "parks": (("mov-imm32", "x64+2", "quiesce"), {"catches": True, "clobbers": True}),
    "alias": (("mov-imm32", "x64+2", "alias"), {}),
    "copied": (("mov-imm32", "x64+2", "procmem"), {}),
    "opened anew": (("mov-imm32", "x64+2", "reopen+sync-core"), {}),
    "without a name": (("mov-imm32", "x64+2", "mremap+sync-core"), {}),
    "attached twice": (("mov-imm32", "x64+2", "shmat+sync-core"), {}),
    "rights": (("mov-imm32", "x64+2", "protect-nx"), {"catches": True, "clobbers": True}),
    "hops": (("mov-imm32", "x64+2", "hop"), {}),
    "forks": (("mov-imm32", "x64+2", "process"), {}),
    "forks and signals": (("mov-imm32", "x64+2", "process+int3+signal"), {"catches": True, "clobbers": True}),
    "traces": (("mov-imm32", "x64+2", "ptrace"), {}),
    "huge": (("mov-imm32", "x2m+2", "huge"), {}),
    "huge traps": (("mov-imm32", "x64+2", "huge+int3+sync-core"), {"catches": True, "clobbers": True}),
    "lines": (("mov-imm32", "x64+2", "none", "whole", "antagonist-lines"), {}),
    "sibling": (("mov-imm32", "x64+2", "none", "whole", "antagonist-smt"), {}),
    "alias by publication": (("publish-mov", "fresh", "jit-text"), PUBLISHED),
    "by another mm": (("publish-mov", "fresh", "jit-text-mm"), PUBLISHED),
    "installed": (
        ("publish-mov", "fresh", "jit-text-install"),
        {**PUBLISHED, "outcome": "fault", "signal": "SIGSEGV"},
    ),
    "in place": (("publish-mov", "fresh", "mmap-protect", "", "executor-evict-tlb"), PUBLISHED),
    "acquired with steps": (("publish-mov", "int3", "bpf-pack+cpuid"), PUBLISHED),
    "guessed": (("publish-mov", "int3", "bpf-pack", "", "executor-guess"), PUBLISHED),
    "guessed late": (("publish-mov", "int3", "bpf-pack+sync", "", "executor-guess-slow"), PUBLISHED),
    "reused": (("publish-mov", "reused", "reuse-nodrain", "", "writer-flush-tail"), PUBLISHED),
    "swapped": (("publish-mov", "reused", "frame-swap", "", "signals"), {**PUBLISHED, "hangs": True}),
    "branched to": (("publish-mov", "reused", "code-branch+sync-core", "", "executor-flush-tail"), PUBLISHED),
}
"""A plan for each branch that the slicer takes, and what is special about the event."""


@pytest.mark.parametrize("name", PLANS)
def test_both_compilers_build_every_sort_of_plan_without_a_warning(name: str, tmp_path: Path) -> None:
    words, more = PLANS[name]
    text = one_file(make_subject(make_plan(*words), **more), "x86_64")
    for compiler in COMPILERS:
        build(text, tmp_path, compiler)


def test_the_file_for_a_page_boundary_is_short() -> None:
    assert page_tear().count("\n") < SMALL
    assert page_tear(2, 0).count("\n") < SMALL - 40


def test_it_names_nothing_that_its_plan_does_not_need() -> None:
    """A value loop whose mixes can only return has no window, signal, step, pad or pause."""
    text = re.sub(r"/\*.*?\*/", "", page_tear(2, 0), flags=re.DOTALL)
    for word in (
        "published",
        "sigaction",
        "begun",
        "membarrier",
        "pads",
        "next_random",
        "F_BEFORE",
        "flush",
        "memfd",
    ):
        assert word not in text


def test_nothing_is_defined_that_is_not_used() -> None:
    """Every macro, constant, type, member, function and variable is mentioned a second time."""
    text = re.sub(r"/\*.*?\*/", "", page_tear(), flags=re.DOTALL)
    defined = re.findall(r"^#define (\w+)", text, re.MULTILINE)
    defined += re.findall(r"^static [^=;{]*?(\w+)(?:\[.*?\])*(?:\(| =|;)", text, re.MULTILINE)
    defined += re.findall(
        r"^\t[\w ]*?\*?(\w+)(?:\[\w+\])*;",
        "".join(re.findall(r"(?s)struct \w+ \{.*?\n\};", text)),
        re.MULTILINE,
    )
    sentinels = {"XMC_OLD", "XMC_CONCURRENT", "XMC_PROTECT_RW"}  # what is zero stays
    unused = [
        n
        for n in defined
        if n not in sentinels | {"_GNU_SOURCE"} and len(re.findall(rf"(?i)\b(F_)?{n}\b", text)) < 2
    ]
    assert not unused


HOT = ("arch/x86_64/loops.S", "arch/x86_64/frame.inc")


def instructions(text: str) -> list[str]:
    """Every instruction, without labels, comments and layout."""
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    parts = (part for line in bare.splitlines() for part in re.sub(r"^\d+:", "", line).split(";"))
    return [" ".join(part.split()) for part in parts if part.strip()]


def test_the_loop_is_the_cores_own_instruction_by_instruction() -> None:
    (block,) = re.findall(r"__asm__\(\n(.*?)\n\);", page_tear(), re.DOTALL)
    quoted = "\n".join(re.findall(r'"(.*?)\\n"', block)).replace("\\\\", "\\")
    core = set().union(*(instructions((find_sources() / name).read_text()) for name in HOT))
    ours = [i for i in instructions(quoted) if not i.startswith(".set")]
    assert [i for i in ours if i not in core] == []
    assert sum(i.startswith("call *F_ENTRY") for i in ours) == 1


def test_the_hot_c_is_the_cores_own_line_by_line() -> None:
    """Store, fault capture, recovery: what is not the plan's constant stands so in the core."""
    words, more = PLANS["faults"]
    text = one_file(make_subject(make_plan(*words), **more), "x86_64")
    for name, file in (
        ("leave_region", "fault.c"),
        ("xmc_arch_recover", "arch/x86_64/arch.c"),
    ):
        ours = re.search(rf"(?ms)^static [^\n]*\b{name}\(.*?^\}}", text)
        assert ours, name
        core = (find_sources() / file).read_text()
        lines = [line for line in ours[0].splitlines()[1:] if line.strip()]
        missing = [line for line in lines if line not in core]
        assert not missing, name
    assert '"movl %k1, (%0)"' in text or '"movq %1, (%0)"' in text


LUCK = re.compile(r"^\t+return;$")
"""A batch that ended without news: a run that sees its event at once may have had none."""

ERROR_EXIT = re.compile(
    r"cannot\(|return -|return rc;|exit\(2\)|fprintf\(stderr|reservation = NULL|return false;"
)


@pytest.mark.hardware
@pytest.mark.parametrize(("images", "pace"), [(0, 12), (2, 0)])
def test_a_run_executes_every_line_but_error_exits(images: int, pace: int, tmp_path: Path) -> None:
    program = build(page_tear(images, pace), tmp_path, "gcc", ["-O0", "--coverage", "-pthread"])
    for _ in range(5):
        assert run(program).returncode == 1
    told = subprocess.run(
        ["gcov", "-t", "x-gcc-x.gcda"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    missed = [line.split(":", 2)[2] for line in told.stdout.splitlines() if line.lstrip().startswith("#####")]
    assert [line for line in missed if not ERROR_EXIT.search(line) and not LUCK.match(line)] == []


@pytest.mark.hardware
def test_it_exits_2_where_it_cannot_run(tmp_path: Path) -> None:
    program = build(page_tear(), tmp_path, "gcc")
    done = subprocess.run(
        [program, "1", "0", "4000"], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cannot run here: an executor's CPU")


@pytest.mark.hardware
def test_it_exits_0_where_it_sees_nothing(tmp_path: Path) -> None:
    """Inside one aligned 8 bytes a store is one event."""
    plan = make_plan("mov-imm32", "in8", "none")
    done = run(build(one_file(make_subject(plan), "x86_64"), tmp_path, "gcc"), 0.3)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("not seen\n")


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    plan = make_plan("mov-imm32", "x64+2", "none")
    resolved = as_dict(plan)
    for change, word in (({"observe": True}, "witness"),):
        subject = replace(make_subject(plan), plan={**resolved, **change})
        with pytest.raises(UsageError, match=word):
            one_file(subject, "x86_64")
    with pytest.raises(UsageError, match="no port"):
        one_file(make_subject(plan), "none")


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("steps.c", ("#define STEPS(X)", "#define PACES(X)"), "no table STEPS"),
        (
            "writer.c",
            ("static int run_program(", "static int run_program(("),
            "writer.c:.*cannot read this C",
        ),
        ("fault.c", None, "fault.c: missing"),
        ("repro/main.c", ("int main(", "int start("), r"no main\(\)"),
        ("arch/arch.h", ("uint64_t poison;", "struct odd poison;"), "of no size"),
    ],
)
def test_sources_that_do_not_fit_are_named(
    file: str, change: tuple[str, str] | None, complaint: str, tmp_path: Path
) -> None:
    native = tmp_path / "native"
    shutil.copytree(find_sources(), native)
    if change is None:
        (native / file).unlink()
    else:
        text = (native / file).read_text()
        assert change[0] in text
        (native / file).write_text(text.replace(*change))
    with pytest.raises(SourceError, match=complaint):
        one_file(make_subject(make_plan("mov-imm32", "x64+2", "none")), "x86_64", native)
