"""One C file that shows an event: the native core's own lines, as far as one plan needs them, and that plan.

What is special to the file stands in native/repro/; everything else is taken from the core's files by `amalgam`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

from stress.agent import find_sources
from stress.amalgam import Amalgam
from stress.cparts import enum_values
from stress.csource import COMMENT, WORD, Item, SourceError, read_asm, read_c
from stress.cvalue import Known
from stress.errors import UsageError
from stress.planned import Subject, dispatcher, limits, made, per_image, resolved
from stress.unrolled import FORKING, has_step, in_place, publisher, word

COMMON = (
    "arch/arch.h core.h publish.h threads.c region.c fault.c classify.c steps.c writer.c via.c watch.c program.c "
    "antagonist.c process.c slots.c publish.c adopt.c helper.c"
).split()
PORT = "isa.h arch.c".split()
ASSEMBLY = "frame.inc publish.S loops.S".split()
OWN_C, OWN_ASSEMBLY = ("repro/repro.c", "repro/main.c"), "repro/value.inc"
"""What is special to a reproducer: it goes before what the core has of the same name."""

PURE = frozenset(
    "own_tid now_ns current_cpu getpid xmc_arch_ticks thread_cpu_ns executor_here xmc_arch_pc add_up".split()
)
"""Functions without an effect: where nobody wants their value they need not be called."""


HEADERS = {
    "errno.h": r"errno|\bE[A-Z]{3,}\b",
    "linux/futex.h": r"\bFUTEX_",
    "fcntl.h": r"\bopen\(|\bO_[A-Z]+",
    "pthread.h": r"pthread_",
    "sched.h": r"cpu_set_t|sched_|CPU_SET",
    "signal.h": r"\bSIG[A-Z]+\b|sig(info_t|action|fillset|altstack|nal\()|SEGV_",
    "stdatomic.h": r"_Atomic|atomic_|memory_order",
    "stdbool.h": r"\bbool\b|\btrue\b|\bfalse\b",
    "stddef.h": r"offsetof",
    "stdint.h": r"\bu?int\d+_t|uintptr_t",
    "stdio.h": r"printf|setvbuf|\bFILE\b",
    "stdlib.h": r"\bexit\(|strtod|atoi",
    "string.h": r"\bmem(cpy|set|cmp)\(|\bstr(error|cpy|cmp)\(",
    "sys/mman.h": r"\bm(un)?map\(|memfd_create|mprotect|MAP_|PROT_",
    "sys/shm.h": r"\bshmget\(",
    "sys/prctl.h": r"\bprctl\(",
    "sys/ptrace.h": r"\bptrace\(",
    "sys/syscall.h": r"\bSYS_",
    "sys/uio.h": r"\biovec\b",
    "sys/wait.h": r"\bwaitpid\(",
    "time.h": r"timespec|clock_",
    "ucontext.h": r"ucontext_t|greg_t",
    "unistd.h": r"\bsyscall\(|getp?pid|ftruncate|\bclose\(|pwrite|\bfork\(|_exit\(",
}
"""Header -> what of it a program can use; nothing that Debian 12 does not have."""


def one_file(subject: Subject, isa: str, native: Path | None = None) -> str:
    """The text of the C file.

    Raises:
        UsageError: plans of this sort cannot be put into one file.
        SourceError: the native sources are not as the slicer expects them.
    """
    refuse(subject.plan, isa)
    subject = replace(subject, plan=in_place(subject.plan))
    native = native or find_sources()
    sources = _read(native, isa)
    values = enum_values(sources)
    special = made(subject, sources)
    values |= enum_values(special) | resolved(special, values)
    special += publisher(subject.plan, sources) if subject.plan["publish"] else [dispatcher(subject, sources)]
    if subject.plan["via"] not in FORKING:  # nothing is shared page by page then
        for item in sources:
            item.text = item.text.replace("_Alignas(XMC_PAGE) ", "")
    for name, size in limits(subject).items():
        _specialise(sources, name, size)
        values[name] = size
    if not subject.plan["window"] and not subject.catches and not subject.hangs:
        values["XMC_PHASES"] = 1  # everything is concurrent then
    known = Known(
        constants=values,
        arrays={
            **{name: name for name in ("images", "pads", "fields")},
            "executor_cpu": "(cpus + 1)",
            "writer_cpu": "cpus[0]",
        },
        calls=_calls(subject, values),
        pure=PURE,
        switched=_switched(subject, values),
        members=_members(subject, values),
        zero_names={"phase": "XMC_CONCURRENT"},
        never=_never(subject, values),
    )
    kept = {"stack", "above", "guards"} if subject.catches or subject.hangs else {"stack"}
    items = Amalgam([*special, *sources], known, frozenset(kept)).run()
    return _text(subject, items)


def refuse(plan: Mapping[str, Any], isa: str) -> None:
    """Say in one line why a plan cannot be put into one file; UsageError."""
    if plan["observe"]:
        raise UsageError("a witness executes nothing; name the cell that it watches")
    if not isa or not (find_sources() / "arch" / isa / ASSEMBLY[-1]).is_file():
        raise UsageError(f"{isa or 'an unknown ISA'}: has no port whose lines a C file could be made of")


def _read(native: Path, isa: str) -> list[Item]:
    port = f"arch/{isa}"
    order = ["xmc.h", *(f"{port}/{n}" for n in PORT[:1]), *COMMON, f"{port}/{PORT[1]}", *OWN_C]
    try:
        items = [item for name in order for item in read_c(native / name, name)]
        own = read_asm(native / OWN_ASSEMBLY, OWN_ASSEMBLY)
        return items + own + [i for n in ASSEMBLY for i in read_asm(native / port / n, f"{port}/{n}")]
    except FileNotFoundError as error:
        raise SourceError(
            f"{error.filename}: missing; the one-file reproducer takes its lines from it"
        ) from error


def _wants(plan: Mapping[str, Any], values: Mapping[str, int], op: str) -> bool:
    wanted = next((n for n, v in values.items() if n.startswith("XMC_EXEC_") and str(v) == op), "")
    return any(word("EXEC", step) == wanted for p in plan["provocations"] for step, _ in p["executor"])


def _specialise(sources: list[Item], name: str, size: int) -> None:
    for item in sources:
        if item.kind == "macro" and item.name == name:
            item.text = re.sub(r"(#define \w+\s+)\w+", rf"\g<1>{size}", item.text)
        elif item.kind == "enum":
            item.text = re.sub(rf"\b{name} = \w+", f"{name} = {size}", item.text)


def _switched(subject: Subject, values: Mapping[str, int]) -> dict[tuple[str, str], frozenset[int]]:
    stores = [m for m in subject.micros if m["op"] == "XMC_STEP_STORE"]
    return {
        ("xmc_arch_store", "width"): frozenset(m["width"] for m in stores if not m["form"]) or frozenset({8}),
        ("xmc_arch_store_form", "form"): frozenset(values[m["form"]] for m in stores if m["form"]),
        ("map_for", "via"): frozenset({values[word("VIA", subject.plan["via"])]}),
    }


def _members(subject: Subject, values: Mapping[str, int]) -> dict[str, int]:
    """What every compiled step has in common."""
    ops = {values[m["op"]] for m in subject.micros}
    lengths = {len(program) for program in per_image(subject) if program}
    found = {"op": ops, "n": lengths}
    same = {name: value.pop() for name, value in found.items() if len(value) == 1}
    same["paged"] = int(has_step(subject.plan, "map"))
    return same if subject.clobbers else {**same, "clobbered": 0}


def _calls(subject: Subject, values: Mapping[str, int]) -> dict[str, Callable[[list[str]], int | None]]:
    """Functions whose value the plan decides. Where nothing changes a register of the loop its counts always agree."""
    antagonist = values[word("ANTAGONIST", subject.plan["provocations"][0]["antagonist"] or "none")]
    steps = {
        str(value): name.removeprefix("XMC_PUB_")
        for name, value in values.items()
        if name.startswith("XMC_PUB_")
    }
    agreeing: dict[str, Callable[[list[str]], int | None]] = {"counts_agree": lambda _: 1}
    return {
        "wants": lambda given: int(_wants(subject.plan, values, given[-1])),
        "wants_antagonist": lambda given: int(str(antagonist) == given[-1]),
        "has_step": lambda given: (
            int(has_step(subject.plan, steps[given[-1]])) if given[-1] in steps else None
        ),
        **({} if subject.clobbers else agreeing),
    }


def _never(subject: Subject, values: Mapping[str, int]) -> frozenset[str]:
    """Outcomes and steps that this plan does not have."""
    plan = subject.plan
    traps = plan["traps"] or plan["faults"] or any(i["traps"] for i in plan["region"]["images"])
    traps = traps or plan["publish"]  # what a slot is full of before its body
    can = {"STALE": plan["window"], "FAULT": subject.catches, "HANG": subject.hangs, "TRAP": traps}
    ops = {m["op"] for m in subject.micros}
    steps = {n for n in values if n.startswith("XMC_STEP_") and n not in ops}
    return frozenset({f"XMC_{name}" for name, possible in can.items() if not possible} | steps)


def _assembly(items: Sequence[Item], mentioned: set[str]) -> str:
    """Assembly items as one statement of C: without what only a linker needs, like instructions side by side."""
    lines: list[str] = []
    for item in items:
        if item.text.startswith("\t.macro") and _single(item, items):
            continue
        if item.comment and not re.search(r"\* \S+\.\w+ - ", item.comment):  # not what is about a whole file
            lines += ["", *(f"\t{line}" for line in item.comment.splitlines())]
        lines = [line for line in lines if line != f'\t"  jmp {item.name}\\n"' or line is not lines[-1]]
        for line in _expanded(item.text, items):
            note, code = COMMENT.search(line), COMMENT.sub("", line).rstrip()
            label = re.fullmatch(r"([a-z]\w+):", code)
            if note and not code.strip():
                lines.append(f"\t{note[0]}")
            elif code.strip() and not _LINKING.match(code) and not (label and label[1] not in mentioned):
                code = re.sub(r"^\s+", "  ", code).replace("\t", " ").replace("\\", "\\\\")
                _add_instruction(lines, code, f" {note[0]}" if note else "")
    return "\n".join(["__asm__(", '\t"  .text\\n"', *lines, ");"])


def _single(macro: Item, items: Sequence[Item]) -> bool:
    """Whether a macro is used once: then it stands where it is used."""
    return sum(len(re.findall(rf"(?m)^(?:\d+:)?\t{macro.name}\b", item.text)) for item in items) == 1


def _expanded(text: str, items: Sequence[Item]) -> Iterator[str]:
    """The lines of `text`, with those of a macro, and its comment, in the place of its only use."""
    macros = {i.name: i for i in items if i.text.startswith("\t.macro") and _single(i, items)}
    for line in text.splitlines():
        use = re.fullmatch(r"(\d+:)?\t(\w+)(?:\s+([\w ]+))?", line)
        macro = macros.get(use[2]) if use else None
        if use is None or macro is None:
            yield line
            continue
        if macro.comment and not re.search(r"\* \S+\.\w+ - ", macro.comment):
            words = " ".join(
                re.sub(r"^[/ ]\*+/?|\*/$", "", row).strip() for row in macro.comment.splitlines()
            )
            yield from (f"\t/* {text} */" for text in wrap(words, 106))
        first, *body, _ = macro.text.splitlines()
        for name, given in zip(first.split()[2:], (use[3] or "").split(), strict=True):
            body = [re.sub(rf"\\{name}\b", given, row) for row in body]
        whole = _IF.sub(lambda found: found[2] if found[1] == "1" else "", "\n".join(body))
        yield from _expanded((use[1] or "") + whole, items)


_IF = re.compile(r"\t\.if\t([01])\n(.*?)\t\.endif\n", re.DOTALL)
_LINKING = re.compile(r"\s*\.(globl|hidden|type|size)\b")
_ALIKE = ("push", "pop", "mov", "xor", "or", ".set")


def _add_instruction(lines: list[str], code: str, note: str) -> None:
    word = code.split()[0]
    last = lines[-1] if lines else ""
    joined = f'{last[:-3]}; {code.strip()}\\n"'
    alike = word in _ALIKE and last.startswith(f'\t"  {word} ') and last.endswith('\\n"')
    if alike and not note and len(joined) < 100:
        lines[-1] = joined
    else:
        lines.append(f'\t"{code}\\n"{note}')


def _text(subject: Subject, items: Sequence[Item]) -> str:
    """The whole file: the story, headers, constants, types, assembly, then every definition before its first use."""
    story = "\n".join(["/*", *(f" * {line}".rstrip() for line in subject.story), " */"])
    macros = [i for i in items if i.kind == "macro" and i.name != "_GNU_SOURCE"]
    types = [_define(i) for i in items if i.kind in ("enum", "type")]
    prototypes = [i.text for i in items if i.kind == "prototype"]
    linked = re.compile(rf"(?m)^{_LINKING.pattern}.*$")
    words = [w for i in items for w in WORD.findall(linked.sub("", _uncommented(i)))]
    mentioned = {w for w in words if words.count(w) > 1} if prototypes else set()
    code = _assembly([i for i in items if i.kind == "asm"], mentioned)
    definitions = [_define(i) for i in items if i.kind in ("data", "function")]
    # Variables of one line stand together.
    rest = "\n\n".join(definitions)
    rest = re.sub(r"(?m)^(static [^\n{]*;[^\n]*)\n\n(?=static [^\n{]*;)", r"\1\n", rest)
    body = "\n\n".join(["\n".join(map(_commented, macros)), *types, "\n".join(prototypes), code, rest])
    used = COMMENT.sub("", body)
    includes = [f"#include <{h}>" for h, pattern in HEADERS.items() if re.search(pattern, used)]
    return (
        re.sub(r"\n{3,}", "\n\n", "\n\n".join([story, "\n".join(["#define _GNU_SOURCE", *includes]), body]))
        + "\n"
    )


def _uncommented(item: Item) -> str:
    return COMMENT.sub("", item.text)


def _commented(item: Item) -> str:
    return f"{item.comment}\n{item.text}" if item.comment else item.text


def _define(item: Item) -> str:
    """An item as it stands in the file; what was shared between files is static here."""
    public = item.kind in ("function", "data") and not item.text.startswith("static") and item.name != "main"
    text = f"static {item.text}" if public else item.text
    return f"{item.comment}\n{text}" if item.comment else text
