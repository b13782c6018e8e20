"""Edits of C text: statements taken out together with their comments and lines, blocks a level further out."""

from __future__ import annotations

import re

from tree_sitter import Node

from stress.csource import text_of
from stress.cvalue import child

Edit = tuple[int, int, str]
"""Replace these bytes by this text."""


def without(text: str, node: Node) -> Edit:
    """Take a statement out, with the comment above it, its line, and an `if` or `else` that it was all of."""
    parent = node.parent
    if parent is not None and parent.type == "else_clause":
        start = parent.start_byte
        while text[start - 1] in " \t\n":
            start -= 1
        return start, parent.end_byte, ""
    if parent is not None and parent.type in ("if_statement", "for_statement", "while_statement"):
        other = parent.child_by_field_name("alternative")
        if other is None:
            return without(text, parent)
        test = text_of(child(parent, "condition"))[1:-1]
        test = f"!{test}" if re.fullmatch(r"\w+", test) else f"!({test})"
        kept = other.named_children[-1]
        return parent.start_byte, parent.end_byte, f"if ({test})\n\t\t{text_of(kept)}"
    if parent is not None and parent.type == "compound_statement" and parent.parent is not None:
        alone = len([c for c in parent.named_children if c.type != "comment"]) == 1
        if alone and parent.parent.type in ("if_statement", "else_clause", "for_statement"):
            return without(text, parent)
    return _whole_lines(text, node)


def _whole_lines(text: str, node: Node) -> Edit:
    start, end = node.start_byte, node.end_byte
    above = node.prev_named_sibling
    while (
        above is not None
        and above.type == "comment"
        and _own_line(text, above)
        and (above.end_point.row == _row(text, start) - 1)
    ):
        start, above = above.start_byte, above.prev_named_sibling
    after = node.next_named_sibling
    if after is not None and after.type == "comment" and after.start_point.row == node.end_point.row:
        end = after.end_byte
    line = text.rfind("\n", 0, start) + 1
    if not text[line:start].strip():
        start = line
        end = end + 1 if text[end : end + 1] == "\n" else end
    return start, end, ""


def _row(text: str, at: int) -> int:
    """The number of the line, from 0, that offset `at` lies on."""
    return text.count("\n", 0, at)


def _own_line(text: str, node: Node) -> bool:
    return not text[text.rfind("\n", 0, node.start_byte) + 1 : node.start_byte].strip()


def outdent(text: str) -> str:
    """`text` with one tab less in front of every line but a first that has none."""
    return "\n".join(line.removeprefix("\t") for line in text.split("\n"))


def apply(text: str, edits: list[Edit]) -> str:
    """`text` with the edits made; of two that overlap the one that begins first, which may make the other needless."""
    made: list[Edit] = []
    for edit in sorted(edits, key=lambda e: (e[0], -e[1])):
        if not made or edit[0] >= made[-1][1]:
            made.append(edit)
    for start, end, new in reversed(made):
        text = text[:start] + new + text[end:]
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"\{\n\n", "{\n", text))
