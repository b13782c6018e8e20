"""What becomes of the members of a program's structs: which are only ever zero, and which nobody reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from tree_sitter import Node

from stress.cparts import fields
from stress.csource import COMMENT, WORD, Item, nodes_of, text_of, walk
from stress.cvalue import NOTHING, Function, Known, child


@dataclass(frozen=True, slots=True)
class Members:
    """`zeros`: members that are only ever set to 0; `unread`: those whose value nobody uses."""

    zeros: frozenset[str]
    unread: frozenset[str]


def members(chosen: list[Item], known: Known, kept: frozenset[str]) -> Members:
    """What becomes of the members of the chosen structs, as the chosen functions, tables and assembly use them.

    A member is taken for zero until something sets it to what is not zero even if all others taken for zero are.
    """
    own = frozenset(name for item in chosen if item.kind == "type" for name, _ in fields(item))
    zeros = own - kept
    while True:
        read, written = _read_and_written(chosen, replace(known, zeros=zeros))
        if not zeros & written:
            return Members(zeros, own - read - kept)
        zeros -= written


def _read_and_written(chosen: list[Item], known: Known) -> tuple[set[str], set[str]]:
    read, written = set[str](), set[str]()
    for item in chosen:
        if item.kind == "asm":
            names = {
                word[2:].lower() for word in WORD.findall(COMMENT.sub("", item.text)) if word.startswith("F_")
            }
            if not item.text.startswith("\t.set"):
                read |= names
                written |= names
        elif item.kind == "macro":
            read |= set(WORD.findall(COMMENT.sub("", item.text)))
        elif item.kind in ("function", "data"):
            function = known.function(item.text if item.kind == "function" else NOTHING)
            for node in item.nodes:
                _note(node, function, read, written, chosen)
    return read, written


def _note(node: Node, function: Function, read: set[str], written: set[str], chosen: list[Item]) -> None:
    """What one node of the tree does to members."""
    if node.type == "field_designator":
        name = text_of(node)[1:]
        above = node.parent
        value = above.child_by_field_name("value") if above else None
        if value is None or function.value(value) != 0:
            written.add(name)
    elif node.type == "initializer_list" and not any("designator" in n.type for n in _designators(node)):
        written.update(_positional(node, chosen))
    if node.type != "field_expression":
        return
    name, top = text_of(child(node, "field")), node
    while (
        top.parent is not None
        and top.parent.type == "subscript_expression"
        and top.parent.named_children[0] == top
    ):
        top = top.parent
    above = top.parent
    if above is None:
        return
    if above.type == "field_expression":
        if text_of(child(above, "operator")) == "->":
            read.add(name)
        return
    alone = above.parent is not None and above.parent.type == "expression_statement"
    if above.type == "assignment_expression" and child(above, "left") == top:
        number = function.value(child(above, "right"))
        if number != 0 or text_of(child(above, "operator")) not in ("=", "|=", "+="):
            written.add(name)
        if not alone:
            read.add(name)
    elif above.type == "update_expression":
        written.add(name)
        if not alone:
            read.add(name)
    elif above.type == "pointer_expression" and text_of(above).startswith("&"):
        _note_address(name, above, function, read, written)
    else:
        read.add(name)
        if (
            top is node and above.type == "argument_list" and _is_array(name, chosen)
        ):  # handed to who may fill it
            written.add(name)


def _is_array(name: str, chosen: list[Item]) -> bool:
    return any(name in _arrays(item.text) for item in chosen if item.kind == "type")


@lru_cache(maxsize=1024)
def _arrays(text: str) -> frozenset[str]:
    """Members of a struct that are arrays."""
    found = (n for n in nodes_of(text) if n.type == "array_declarator")
    return frozenset(text_of(m) for n in found for m in walk(n) if m.type == "field_identifier")


def _note_address(name: str, node: Node, function: Function, read: set[str], written: set[str]) -> None:
    call = node.parent.parent if node.parent is not None else None
    callee = text_of(child(call, "function")) if call is not None and call.type == "call_expression" else ""
    if callee.startswith("atomic_load"):
        read.add(name)
        return
    given = child(call, "arguments").named_children if call is not None and callee else []
    if callee.startswith("atomic_store"):
        if function.value(given[1]) != 0:
            written.add(name)
        return
    written.add(name)
    alone = call is not None and call.parent is not None and call.parent.type == "expression_statement"
    if not (callee.startswith("atomic_fetch") and alone):
        read.add(name)


def _designators(node: Node) -> Iterator[Node]:
    for pair in node.named_children:
        if pair.type == "initializer_pair":
            yield from pair.children


def _positional(node: Node, chosen: list[Item]) -> Iterator[str]:
    """All members of the struct that is initialised without naming them."""
    if all(n.type in ("initializer_list", "initializer_pair") for n in node.named_children):
        return  # an array of what is looked at by itself
    above: Node | None = node
    while above is not None and above.type not in ("compound_literal_expression", "declaration"):
        if above.type == "initializer_pair":
            return
        above = above.parent
    if above is None or re.fullmatch(r"\{\s*0?\s*\}", text_of(node)):
        return
    kind = re.search(r"struct \w+", text_of(child(above, "type")))
    for item in chosen:
        if kind and item.name == kind[0]:
            yield from (name for name, _ in fields(item))
