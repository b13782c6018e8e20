"""What a plan makes of the one-file reproducer: its constants, its tables, the core's limits as wide as it needs."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stress.csource import COMMENT, Item, SourceError, text_of, walk
from stress.ctables import byte_list, program, table, unwrapped
from stress.cvalue import child, plan_name
from stress.unrolled import FORKING, constants, has_step, registrations, word


@dataclass(frozen=True, slots=True)
class Subject:
    """What a file is about.

    `plan`: resolved, with one provocation; `micros`: its compiled steps, as `runner.compile_plan` yields them.
    `outcome`, `post`, `signal`, `code`: the event. `catches`, `hangs`, `clobbers`: whether its byte mixes can raise a
    signal, never end, or change a register that the loop needs. `story`: the lines of the opening comment. `what`:
    what the program says first. `seconds`: how long it runs unless told otherwise.
    """

    plan: Mapping[str, Any]
    micros: Sequence[Mapping[str, Any]]
    outcome: str
    post: bool
    signal: str
    code: int
    catches: bool
    hangs: bool
    clobbers: bool
    story: tuple[str, ...]
    what: str
    seconds: float


def per_image(subject: Subject) -> list[list[Mapping[str, Any]]]:
    """The compiled steps that take the region to each image, and, last, those of the provocation."""
    images = len(subject.plan["region"]["images"])
    return [[m for m in subject.micros if m["program"] == i] for i in range(images + 1)]


def _lists(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """The executor's lists of steps, as the frame has them: without a window there is only one place for all."""
    provoked = [_step_code(op) for op, _ in plan["provocations"][0]["executor"]]
    steps = [(_step_code(op), change) for op, change in plan["executor"]]
    if not plan["window"]:
        return {
            "before": [*provoked, *(code for code, change in steps if not change)],
            "on_change": [],
            "always": [],
        }
    return {
        "before": provoked,
        "on_change": [code for code, change in steps if change],
        "always": [code for code, change in steps if not change],
    }


def _step_code(op: str) -> str:
    return f"xmc_arch_step_{op.replace('-', '_')}"


def limits(subject: Subject) -> dict[str, int]:
    """The core's limits, exactly as wide as this plan."""
    region, plan = subject.plan["region"], subject.plan
    programs = per_image(subject)
    return {
        "XMC_IMAGES_MAX": len(region["images"]),
        "XMC_IMAGE_BYTES_MAX": len(region["images"][0]["bytes"]) // 2,
        "XMC_PAD_BYTES_MAX": max((len(p["bytes"]) // 2 for p in region["pads"]), default=1),
        "XMC_PROVOCATIONS_MAX": 1,
        "XMC_EXECUTORS_MAX": len(plan["cpus"]["executors"]),
        "XMC_EVENTS_MAX": 1,
        "XMC_MICRO_MAX": max(1, *(len(p) for p in programs)),
        "XMC_OPERAND_BYTES": max(1, *(sum(len(m["operand"]) // 2 for m in p) for p in programs)),
        "XMC_FRAME_VALUES": len(region["images"]),
        "XMC_FRAME_STEPS": max(len(steps) for steps in _lists(plan).values()) + 1,
    }


def _scalars(subject: Subject) -> dict[str, str]:
    """Every constant of the plan, and what follows from it, as C text."""
    of_all = _of_plan(subject) | _of_event(subject) | constants(subject.plan)
    return {name: str(value) for name, value in of_all.items()}


def _of_plan(subject: Subject) -> dict[str, Any]:
    plan, region = subject.plan, subject.plan["region"]
    found: dict[str, Any] = {plan_name(k): v for k, v in region.items() if isinstance(v, int)}
    found |= {
        "PLAN_REGION_LEN": len(region["images"][0]["bytes"]) // 2,
        "PLAN_N_IMAGES": len(region["images"]),
        "PLAN_N_PADS": len(region["pads"]),
        "PLAN_N_EXECUTORS": len(plan["cpus"]["executors"]),
        "PLAN_N_STEPS": len(plan["writer"]),
        "PLAN_N_PROVOCATIONS": 1,
        "PLAN_VIA": word("VIA", plan["via"]),
        "PLAN_WINDOW": int(plan["window"]),
        "PLAN_OBSERVE": 0,
        "PLAN_TRAP_IS_OURS": int(plan["traps"]),
        "PLAN_FAULT_IS_OURS": int(plan["faults"]),
        "PLAN_GUARD_IS_OURS": int(plan["guards"]),
        "PLAN_HUGE_PAGES": int(plan["pages"] == "2m"),
        "PLAN_PACE_LOG2": plan["pace_log2"],
        "PLAN_HANG_MS": plan["hang_ms"],
        "PLAN_SEED": f"{plan['seed']}ull",
    }
    return found


def _of_event(subject: Subject) -> dict[str, Any]:
    plan, region, lists = subject.plan, subject.plan["region"], _lists(subject.plan)
    ops = {m["op"] for m in subject.micros}
    sends = {"XMC_STEP_SIGNAL", "XMC_STEP_QUIESCE"} & ops
    (provocation,) = plan["provocations"]
    poke, antagonist = provocation["signal_us"], provocation["antagonist"]
    waits = "XMC_STEP_AWAIT" in ops or has_step(plan, "await")
    stepping = any(lists.values())
    cpus = [
        plan["cpus"]["writer"],
        *plan["cpus"]["executors"],
        *([provocation["antagonist_cpu"]] if antagonist else []),
    ]
    loop = "xmc_arch_loop_" + ("window" if plan["window"] else "value") + ("_steps" if stepping else "")
    return {
        "REPRO_OUTCOME": word("", subject.outcome).replace("__", "_"),
        "REPRO_POST": int(subject.post),
        "REPRO_SIGNAL": subject.signal or 0,
        "REPRO_CODE": f"({subject.code})" if subject.code < 0 else subject.code,
        "REPRO_OTHERS": int(subject.catches or subject.hangs or subject.clobbers or plan["window"]),
        "REPRO_FIRST_TRAPS": int(region["images"][0]["traps"]),
        **{f"REPRO_{name.upper()}": len(steps) for name, steps in lists.items()},
        "REPRO_CATCHES": int(subject.catches),
        "REPRO_KICKS": int(bool(sends)),
        "REPRO_HANGS": int(subject.hangs),
        "REPRO_POKES": poke,
        "REPRO_HANDLES": int(bool(subject.catches or sends or subject.hangs or poke)),
        "REPRO_PROGRESS": int(subject.hangs or waits),
        "REPRO_PUBLISHES": int(bool(plan["publish"])),
        "REPRO_FORKS": int(plan["via"] in FORKING),
        "REPRO_TRACES": int(plan["via"] == "ptrace"),
        "REPRO_ANTAGONIST": word("ANTAGONIST", antagonist or "none"),
        "REPRO_STEPS": _length(subject),
        "REPRO_PROVOKES": int(bool(provocation["writer"])),
        "REPRO_PARKS": int("XMC_STEP_QUIESCE" in ops),
        "REPRO_REGISTRATIONS": len(_registrations(subject)),
        "REPRO_BATCH": 256 if stepping else 4096,
        "REPRO_SECONDS": f"{subject.seconds:g}",
        "REPRO_LOOP": loop,
        "REPRO_WHAT": '"' + subject.what.replace('"', "'") + '"',
        "REPRO_CPUS": "{ " + ", ".join(map(str, cpus)) + " }",
        "REPRO_N_CPUS": len(cpus),
        "REPRO_USAGE": '"[SECONDS [WRITER_CPU EXECUTOR_CPU...'
        + (" ANTAGONIST_CPU" if antagonist else "")
        + ']]"',
    }


def _length(subject: Subject) -> int:
    """How many compiled steps every patch has; 0 where they have different numbers."""
    lengths = {len(program) for program in per_image(subject)[:-1]}
    return lengths.pop() if len(lengths) == 1 else 0


def _registrations(subject: Subject) -> list[Any]:
    """Each expedited command's registration lies one bit up (membarrier(2)); GLOBAL, 1, needs none."""
    if subject.plan["publish"]:
        return registrations(subject.plan)
    commands = {m["width"] for m in subject.micros if m["op"] == "XMC_STEP_MEMBARRIER"}
    return sorted(command << 1 for command in commands if command > 1)


def _comments(sources: Iterable[Item]) -> dict[str, str]:
    """What the core says of each member of the plan, and native/repro of what follows from it."""
    plan = next(item for item in sources if item.name == "struct xmc_plan")
    found: dict[str, str] = {}
    for node in plan.nodes:
        after = node.next_named_sibling
        if node.type == "field_declaration" and after is not None and after.type == "comment":
            name = next(text_of(n) for n in walk(child(node, "declarator")) if n.type == "field_identifier")
            found[plan_name(name)] = " ".join(text_of(after)[2:-2].split())
    return found


def made(subject: Subject, sources: Sequence[Item]) -> list[Item]:
    """The items that the plan makes: constants and tables."""
    comments = _comments(sources)
    items = []
    for name, text in _scalars(subject).items():
        note = f" /* {comments[name]} */" if name in comments else ""
        items.append(Item("plan", "macro", name, f"#define {name:22} {text:3}{note}".rstrip()))
    return items + _tables(subject)


def resolved(made: Iterable[Item], values: Mapping[str, int]) -> dict[str, int]:
    """The values of those made constants that are named after another one, or are negative."""
    found = {}
    for item in made:
        if item.kind == "macro":
            text = COMMENT.sub("", item.text).split(None, 2)[2].strip().strip("()")
            if text in values:
                found[item.name] = values[text]
            elif re.fullmatch(r"-?\d+", text):
                found[item.name] = int(text)
            elif hasattr(signal, text) and text.startswith("SIG"):
                found[item.name] = int(getattr(signal, text))
    return found


def _tables(subject: Subject) -> list[Item]:
    region, plan = subject.plan["region"], subject.plan
    images = [
        f"\t{{ .bytes = {byte_list(i['bytes'])}, .value = {i['returns']:#x}, .traps = {int(i['traps'])} }},"
        for i in region["images"]
    ]
    pads = [
        f"\t{{ .offset = {p['offset']}, .len = {len(p['bytes']) // 2}, .bytes = {byte_list(p['bytes'])} }},"
        for p in region["pads"]
    ]
    *programs, provoking = per_image(subject)
    found = [
        table(
            "struct xmc_image",
            "images[PLAN_N_IMAGES]",
            images,
            "What the region holds in turn, and what it then returns.",
        ),
        table("struct xmc_pad", "pads[PLAN_N_PADS]", pads, "Fixed code that the images branch to."),
        table(
            "struct program",
            "programs[PLAN_N_IMAGES]",
            [line for one in programs for line in program(one, "\t")],
            "The writer's steps to each image, compiled; addresses count from the region's first byte.",
            const=False,
        ),
        table(
            "struct program",
            "provocation",
            unwrapped(program(provoking, "")),
            "What the writer does before every patch.",
            const=False,
        ),
        table(
            "int", "registrations[]", [f"\t{c}," for c in _registrations(subject)], "membarrier(2) commands."
        ),
    ]
    if plan["publish"]:
        fields = [f"\t{offset}," for offset in plan["publish"]["fields"]]
        text = "Where in the body the two words lie that a publication's number is coded into."
        found.append(table("uint32_t", "fields[2]", fields, text))
    for name, steps in _lists(plan).items():
        found.append(table("xmc_code", f"steps_{name}[]", [f"\t{s}," for s in steps], ""))
    return found


def dispatcher(subject: Subject, sources: Sequence[Item]) -> Item:
    """`step_run` for the steps that there are: the core's own table is of all."""
    table = next((item for item in sources if item.name == "STEPS" and item.kind == "macro"), None)
    if table is None:
        raise SourceError("native/steps.c: no table STEPS of every step and its function")
    names = {f"XMC_STEP_{op}": f"step_{name}" for op, name in re.findall(r"X\((\w+), (\w+)\)", table.text)}
    ops = list(dict.fromkeys(m["op"] for m in subject.micros))
    head = "static int step_run(struct core *core, const struct micro *m, uint64_t generation)\n{\n"
    lines = [f"\tcase {op}:\n\t\treturn {names[op]}(core, m, generation);" for op in ops[:-1]]
    last = f"{names[ops[-1]]}(core, m, generation);"
    if not lines:
        return Item("plan", "function", "step_run", f"{head}\treturn {last}\n}}")
    body = "\n".join(["\tswitch (m->op) {", *lines, f"\tdefault:\n\t\treturn {last}", "\t}"])
    return Item("plan", "function", "step_run", f"{head}{body}\n}}")
