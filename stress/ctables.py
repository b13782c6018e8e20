"""Tables of a plan as C text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stress.csource import Item


def byte_list(code: str) -> str:
    """Hex digits as an initialiser."""
    return "{ " + ", ".join(f"0x{code[i : i + 2]}" for i in range(0, len(code), 2)) + " }"


def table(kind: str, declarator: str, lines: Sequence[str], comment: str, const: bool = True) -> Item:
    """A table of `lines`."""
    text = "\n".join([f"static {'const ' if const else ''}{kind} {declarator} = {{", *lines, "};"])
    name = declarator.partition("[")[0]
    return Item("plan", "data", name, text, f"/* {comment} */" if comment else "")


def program(micros: Sequence[Mapping[str, Any]], tab: str) -> list[str]:
    """One `struct program` as lines."""
    lines, operands = [], ""
    for m in micros:
        value = len(operands) // 2 if m["form"] else m["value"]
        operands += m["operand"]
        address = m["offset"] if m["op"] != "XMC_STEP_MEMBARRIER" else 0
        lines.append(
            f"{tab}\t\t{{ .op = {m['op']}, .width = {m['rights'] or m['width']}, .address = {_address(address)}, "
            f".value = {value:#x}, .form = {m['form'] or 0} }},"
        )
    if not operands and len(lines) < 2:
        inner = "".join(lines).strip().rstrip(",")
        return [f"{tab}{{ .n = {len(micros)}, .micro = {{ {inner} }} }},"]
    tail = [f"{tab}\t.operands = {byte_list(operands)},"] if operands else []
    return [
        f"{tab}{{",
        f"{tab}\t.n = {len(micros)},",
        f"{tab}\t.micro = {{",
        *lines,
        f"{tab}\t}},",
        *tail,
        f"{tab}}},",
    ]


def unwrapped(lines: list[str]) -> list[str]:
    """The inside of the braces that `lines` are."""
    return lines[1:-1] if len(lines) > 1 else ["\t" + lines[0].strip()[2:-3].strip() + ","]


def _address(offset: int) -> str:
    return f"(uint64_t){offset}" if offset < 0 else str(offset)
