"""Published code in the one-file reproducer: its constants, and the writer's steps one after the other.

What a step does is taken from the switches over all of them in native/publish.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tree_sitter import Node

from stress.cedit import outdent
from stress.csource import Item, SourceError, text_of

SWITCHES = ("run_step", "run_mapping_step")

FORKING = ("process", "ptrace")
"""Ways to the bytes for which the writer has a process of its own."""

WAITING = ("meet", "drain")
"""Steps that come before the publication is announced: they are about the last one."""

Steps = Sequence[Sequence[Any]]
"""Each `[op, part, value]`, as a resolved plan has them."""


def word(prefix: str, name: str) -> str:
    """The constant of xmc.h that `name` is in enum `prefix`."""
    return f"XMC_{prefix}_{name.upper().replace('-', '_')}"


def in_place(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """`plan` as the core runs it: of published code the region is a branch that executors may go by, and no step is of
    the other shape; `publish` then has `steps`.
    """
    if not plan["publish"]:
        return plan
    region = {**plan["region"], "images": plan["region"]["images"][:1]}
    publish = {**plan["publish"], "steps": plan["writer"]}
    return {**plan, "via": "alias", "writer": [], "region": region, "publish": publish}


def constants(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The constants that a plan which publishes has beside the others; none where it does not."""
    publish = plan["publish"]
    if not publish:
        return {}
    return {
        "PUBLISH_REACH": word("REACH", publish["reach"]),
        "PUBLISH_ADDRESS": word("ADDRESS", publish["address"]),
        "PUBLISH_FILL_VIA": word("FILL", publish["via"]),
        "PUBLISH_N_SLOTS": publish["slots"],
        "PUBLISH_FRONT": publish["front"],
        "REPRO_LOOP": _loop(plan),
        "REPRO_BATCH": 1024 if _loop(plan) == "xmc_arch_loop_publish" else 64,
    }


def _loop(plan: Mapping[str, Any]) -> str:
    publish, (provocation,) = plan["publish"], plan["provocations"]
    steps = "_steps" if plan["executor"] or provocation["executor"] else ""
    if publish["reach"] == "mapping":
        return "xmc_arch_loop_value"
    if publish["reach"] == "branch":
        return f"xmc_arch_loop_window{steps}"
    if provocation["name"] in publish["guesses"]:
        return "xmc_arch_loop_guess" + ("_flush" if provocation["name"] in publish["guesses_flushed"] else "")
    return f"xmc_arch_loop_publish{steps}"


def registrations(plan: Mapping[str, Any]) -> list[str]:
    """The membarrier commands that register for those that the steps use, and that make addresses new again."""
    publish = plan["publish"]
    used = {part for op, part, _ in publish["steps"] if op == "membarrier"} - {"global"}
    used |= {"sync-core"} if publish["address"] != "reused" else set()
    return [f"{word('MEMBARRIER', command)} << 1" for command in sorted(used)]


def has_step(plan: Mapping[str, Any], name: str) -> bool:
    """Whether it publishes by step `name`, however that is spelled."""
    steps = plan["publish"]["steps"] if plan["publish"] else ()
    return any(word("PUB", op) == word("PUB", name) for op, *_ in steps)


def publisher(plan: Mapping[str, Any], sources: Sequence[Item]) -> list[Item]:
    """The functions `publish_once` and `provoke` for the steps that there are: the core's own are for any.

    Raises:
        SourceError: native/publish.c does not do every step in a case of its own.
    """
    publish, cases = plan["publish"], _cases(sources)
    lines = [] if publish["address"] == "reused" else _checked("renew(core, generation)")
    announced = False
    for op, part, value in publish["steps"]:
        if not announced and op not in WAITING:
            lines += ["\tprovoke(core, generation);", "\tannounce(core, generation);"]
            announced = True
        label = word("PUB", op)
        if label not in cases:
            raise SourceError(f"native/publish.c: no case {label} in {' or '.join(SWITCHES)}")
        lines += _step(cases[label], op, part, value)
    head = "static int publish_once(struct core *core, uint64_t generation)\n{\n\tint rc;\n\n"
    once = Item(
        "plan", "function", "publish_once", "\n".join([head + lines[0], *lines[1:], "\treturn 0;\n}"])
    )
    return [once, _provoke(plan)]


def _cases(sources: Sequence[Item]) -> dict[str, list[Node]]:
    """The statements of each case, and the comments among them, by label."""
    found = {}
    for item in sources:
        if item.file == "publish.c" and item.name in SWITCHES:
            for node in item.nodes:
                label = node.child_by_field_name("value") if node.type == "case_statement" else None
                if label is not None:
                    found[text_of(label)] = [n for n in node.named_children if n != label]
    return found


def _checked(call: str) -> list[str]:
    return [f"\trc = {call};", "\tif (rc)", "\t\treturn rc;"]


def _step(statements: Sequence[Node], op: str, part: str, value: Any) -> Iterator[str]:
    """What one step does, with the plan's words for its part and value."""
    rights = op in ("map", "protect")
    given = {
        "s->part": word("MEMBARRIER" if op == "membarrier" else "PART", part) if part else "",
        "s->value": word("RIGHTS", part) if rights else str(value),
    }
    for node in statements:
        text = re.sub(r"s->(part|value)", lambda found: given[found[0]], text_of(node))
        if node.type != "return_statement":
            yield "\t" + outdent(text)
        elif text != "return 0;":
            yield from _checked(text.removeprefix("return ").removesuffix(";"))


def _provoke(plan: Mapping[str, Any]) -> Item:
    """What the provocation does to the lines that are about to be filled."""
    (provocation,) = plan["provocations"]
    lines = []
    for op, part, _ in provocation["writer"]:
        if part != "back":
            lines.append(f"\ttouch_line({word('STEP', op)}, head);")
        if part not in ("first", "front"):
            lines.append(f"\ttouch_line({word('STEP', op)}, head + PUBLISH_FRONT);")
    head = "static void provoke(struct core *core, uint64_t generation)\n{\n"
    if not lines:
        return Item("plan", "function", "provoke", f"{head}\t(void)core, (void)generation;\n}}")
    lines = ["\tuint64_t head = slot_head(generation);", "", "\t(void)core;", *lines]
    comment = "/* What the provocation does to the lines that are about to be filled. */"
    return Item("plan", "function", "provoke", head + "\n".join(lines) + "\n}", comment)
