"""The parts of C types: which members and constants a program still mentions, and the frame that assembly knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from tree_sitter import Node

from stress.cedit import apply
from stress.csource import COMMENT, WORD, Item, SourceError, declared, nodes_of, text_of, walk
from stress.cvalue import child

FRAME = "struct xmc_frame"
SIZES = {"uint64_t": 8, "xmc_code": 8, "int32_t": 4, "uint32_t": 4}
"""Bytes of what the frame's members are."""


def enumerators(item: Item) -> list[str]:
    """The constants of an enum."""
    return [text_of(child(n, "name")) for n in item.nodes if n.type == "enumerator"]


def enum_values(items: Iterable[Item]) -> dict[str, int]:
    """The value of every constant of the enums and of every macro that is a number."""
    values: dict[str, int] = {}
    for item in items:
        if item.kind == "enum":
            after = 0
            for node in item.nodes:
                if node.type == "enumerator":
                    given = node.child_by_field_name("value")
                    after = int(text_of(given), 0) if given else after
                    values[text_of(child(node, "name"))] = after
                    after += 1
        elif item.kind == "macro" and (
            found := re.search(r"#define \w+ +(0x[0-9a-f]+|\d+)[ul]*\b", item.text)
        ):
            values[item.name] = int(found[1], 0)
    return values


def fields(item: Item) -> Iterator[tuple[str, Node]]:
    """Name and node of each member of a struct, in order."""
    for node in item.nodes:
        if node.type == "field_declaration":
            name = next(n for n in walk(child(node, "declarator")) if n.type == "field_identifier")
            yield text_of(name), node


def prune(chosen: list[Item], kept: frozenset[str], unread: frozenset[str]) -> None:
    """Take members and constants out of types, and entries out of tables, that nothing else mentions.

    `unread`: members that nobody reads: a table does not set them.
    """
    for item in chosen:
        if item.kind == "data":
            item.text = _without_unread(item, unread)
    members, constants = set[tuple[str, str]](), set[str]()
    types = Types(chosen)
    for item in chosen:
        _mentioned(item, types, members, constants)
    anywhere = {name for struct, name in members if not struct} | kept
    for item in chosen:
        if item.kind == "type":
            used = anywhere | {name for struct, name in members if struct == item.name}
            item.text = _without_lines(item.text, [n for name, n in fields(item) if name not in used])
        elif item.kind == "enum":
            item.text = _pruned_enum(item, constants)
        elif item.kind in ("data", "function"):
            item.text = _without_entries(item, constants)


class Types:
    """Which struct an expression is, as far as declarations say; "" where they do not."""

    def __init__(self, chosen: list[Item]) -> None:
        self._members = {
            (item.name, name): _struct(child(node, "type"))
            for item in chosen
            if item.kind == "type"
            for name, node in fields(item)
        }
        self._globals = {item.name: _declared_struct(item.nodes) for item in chosen if item.kind == "data"}

    def of(self, node: Node, local: Mapping[str, str]) -> str:
        """The struct that `node` is, or points to, or has elements of."""
        match node.type:
            case "identifier":
                name = text_of(node)
                return local.get(name, self._globals.get(name, ""))
            case "field_expression":
                owner = self.of(child(node, "argument"), local)
                return self._members.get((owner, text_of(child(node, "field"))), "")
            case "subscript_expression" | "pointer_expression":
                return self.of(child(node, "argument"), local)
            case "parenthesized_expression":
                return self.of(node.named_children[0], local)
        return ""


def _struct(node: Node) -> str:
    name = node.child_by_field_name("name") if node.type == "struct_specifier" else None
    return f"struct {text_of(name)}" if name else ""


def _declared_struct(nodes: tuple[Node, ...]) -> str:
    return next((_struct(child(n, "type")) for n in nodes if n.type == "declaration"), "")


@lru_cache(maxsize=4096)
def _locals(text: str) -> Mapping[str, str]:
    """The struct of each parameter and local variable of a function."""
    found = {}
    for node in nodes_of(text):
        if node.type in ("declaration", "parameter_declaration"):
            for declarator in node.children_by_field_name("declarator"):
                found[declared(declarator)] = _struct(child(node, "type"))
    return found


def _initialised(node: Node, item: Item, types: Types) -> str:
    """The struct whose member a designator names; "" where that is not plain."""
    depth, above = [], node.parent
    while above is not None and above.type not in ("declaration", "compound_literal_expression"):
        if above.type == "initializer_pair" and above.children[0] != node:
            depth.append(above.children[0])
        above = above.parent
    if above is None:
        return ""
    kind = child(above, "type")
    struct = _struct(kind) or next((_struct(n) for n in walk(kind) if n.type == "struct_specifier"), "")
    for designator in reversed(depth):
        if designator.type == "field_designator":
            struct = types._members.get((struct, text_of(designator)[1:]), "")
    return struct


def _pruned_enum(item: Item, constants: set[str]) -> str:
    """Without the constants that nobody mentions; but what is 0 stays: memory that nobody set holds it."""
    nodes = [n for n in item.nodes if n.type == "enumerator"]
    first = [] if nodes[0].child_by_field_name("value") else nodes[:1]
    gone = [n for n in nodes if text_of(child(n, "name")) not in constants and n not in first]
    text = _without_lines(item.text, gone)
    return text if "\n" in text else re.sub(r" {2,}", " ", text)


def _mentioned(item: Item, types: Types, members: set[tuple[str, str]], constants: set[str]) -> None:
    """Add what `item` uses. Of a table's designators and of a type's own members nothing is a use."""
    if item.kind in ("macro", "asm"):
        for word in WORD.findall(COMMENT.sub("", item.text)) if not item.text.startswith("\t.set") else []:
            constants.add(word)
            if word.startswith("F_"):
                members.add((FRAME, word[2:].lower()))
        return
    for node in item.nodes if item.kind != "enum" else ():
        if node.type == "field_expression":
            owner = types.of(child(node, "argument"), _locals(item.text))
            members.add((owner, text_of(child(node, "field"))))
        elif node.type == "field_designator":
            members.add((_initialised(node, item, types), text_of(node)[1:]))
        elif node.type == "identifier" and not (node.parent and node.parent.type == "subscript_designator"):
            constants.add(text_of(node))


def _without_entries(item: Item, constants: set[str]) -> str:
    edits = []
    for node in item.nodes:
        if node.type == "initializer_pair" and node.children[0].type == "subscript_designator":
            name = node.children[0].named_children[0]
            if name.type == "identifier" and name.text is not None and text_of(name) not in constants:
                end = node.end_byte
                while item.text[end : end + 1] in (",", " ", "\t"):
                    end += 1
                start = node.start_byte
                line = item.text.rfind("\n", 0, start) + 1
                if item.text[end : end + 1] == "\n" and not item.text[line:start].strip():
                    start, end = line, end + 1
                edits.append((start, end, ""))
    return apply(item.text, edits) if edits else item.text


def _without_unread(item: Item, unread: frozenset[str]) -> str:
    edits = []
    for node in item.nodes:
        named = node.type == "initializer_pair" and node.children[0].type == "field_designator"
        if named and text_of(node.children[0])[1:] in unread:
            end, after = node.end_byte, node.next_sibling
            if after is not None and after.type == ",":
                end = after.end_byte + (item.text[after.end_byte : after.end_byte + 1] == " ")
            edits.append((node.start_byte, end, ""))
    return re.sub(r",? +\}", " }", apply(item.text, edits)) if edits else item.text


def _without_lines(text: str, gone: list[Node]) -> str:
    """`text` without the lines of these nodes, and the comments that stand behind them on the same line."""
    edits = []
    for node in gone:
        end, after = node.end_byte, node.next_sibling
        while (
            after is not None
            and after.type in (",", "comment")
            and after.start_point.row == node.end_point.row
        ):
            end, after = after.end_byte, after.next_sibling
        start, above = node.start_byte, node.prev_sibling
        line = text.rfind("\n", 0, start) + 1
        while (
            above is not None
            and above.type == "comment"
            and not text[line:start].strip()
            and (not text[(line := text.rfind("\n", 0, above.start_byte) + 1) : above.start_byte].strip())
        ):
            start, above = above.start_byte, above.prev_sibling
        line = text.rfind("\n", 0, start) + 1
        if text[end : end + 1] == "\n" and not text[line:start].strip():
            edits.append((line, end + 1, ""))
        else:
            edits.append((node.start_byte, end, ""))
    return apply(text, edits) if edits else text


def lay_out(chosen: list[Item]) -> None:
    """Give the assembly's names of frame offsets the values that the pruned frame has.

    Raises SourceError where a member is of a size that is not known here.
    """
    frame = next((i for i in chosen if i.name == FRAME), None)
    if frame is None:
        return
    offsets, at = dict[str, int](), 0
    limits = {i.name: v for i in chosen if (v := enum_values([i]).get(i.name)) is not None}
    for name, node in fields(frame):
        kind, dimension = text_of(child(node, "type")), re.search(r"\[(\w+)\]", text_of(node))
        if kind not in SIZES:
            raise SourceError(f"{frame.file}: {FRAME}.{name}: {kind} is of no size that the slicer knows")
        count = (
            1 if dimension is None else int(dimension[1]) if dimension[1].isdigit() else limits[dimension[1]]
        )
        at = -(-at // SIZES[kind]) * SIZES[kind]
        offsets[name], at = at, at + SIZES[kind] * count
    for item in chosen:
        if found := re.match(r"\t\.set\tF_(\w+), \d+", item.text):
            item.text = f"\t.set\tF_{found[1]}, {offsets[found[1].lower()]}"


def tables(chosen: Iterable[Item]) -> dict[str, dict[str, str]]:
    """The entries of the constant tables of integers: their texts by the names of their indices."""
    found: dict[str, dict[str, str]] = {}
    for item in chosen:
        if item.kind == "data" and item.text.startswith("static const int"):
            for node in item.nodes:
                if node.type == "initializer_pair" and node.children[0].type == "subscript_designator":
                    index = text_of(node.children[0].named_children[0])
                    found.setdefault(item.name, {})[index] = text_of(child(node, "value"))
    return found
