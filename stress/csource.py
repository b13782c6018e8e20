"""C in the house's layout as items: functions, types, tables, macros, assembly, each with its comment and its names.

An item is what stands at the top level of a file. Which items others need is read from the syntax tree
(tree-sitter), never from where they stand in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from tree_sitter import Language, Node, Parser, Tree
from tree_sitter_c import language

from stress.errors import StressError

WORD = re.compile(r"[A-Za-z_]\w*")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
GUARD = "XMC_"


class SourceError(StressError):
    """A native source does not look as the slicer expects; the text names file and item."""


@cache
def _parser() -> Parser:
    return Parser(Language(language()))


@lru_cache(maxsize=8192)
def parse(text: str) -> Tree:
    """The syntax tree of C `text`; offsets are bytes, so `text` must be ASCII.

    Raises SourceError where it is not.
    """
    if not text.isascii():
        raise SourceError(f"not ASCII: {next(line for line in text.splitlines() if not line.isascii())}")
    return _parser().parse(text.encode())


@lru_cache(maxsize=8192)
def nodes_of(text: str) -> tuple[Node, ...]:
    """Every node of the syntax tree of `text`, in the order of the text."""
    return tuple(walk(parse(text).root_node))


def text_of(node: Node) -> str:
    """The source text of `node`."""
    assert node.text is not None
    return node.text.decode()


def walk(node: Node) -> Iterator[Node]:
    """Yield `node` and everything below it, in the order of the text."""
    yield node
    for child in node.children:
        yield from walk(child)


@dataclass(slots=True)
class Item:
    """One thing of a file's top level.

    `kind`: function, type, enum, macro, data, prototype or asm. `name`: with `struct ` in front for a tag.
    `text`: the code without the comment above it, which is `comment` ("" where there is none).
    """

    file: str
    kind: str
    name: str
    text: str
    comment: str = ""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the text's syntax tree; they mean nothing for a macro or assembly."""
        return nodes_of(self.text)


def uses(item: Item) -> frozenset[str]:
    """Names that `item` mentions and that are not its own locals: `struct x` for a tag, else a word."""
    return _uses(item.kind, item.name, item.text)


@lru_cache(maxsize=8192)
def _uses(kind: str, name: str, text: str) -> frozenset[str]:
    if kind in ("macro", "asm"):
        return frozenset(WORD.findall(COMMENT.sub("", text))) - {name}
    found, own = set[str](), {name} | locals_of(nodes_of(text))
    for node in nodes_of(text):
        if node.type == "identifier" or (node.type == "type_identifier" and not _tag(node)):
            found.add(text_of(node))
        elif node.type == "type_identifier":
            found.add(f"struct {text_of(node)}")
    return frozenset(found - own)


def _tag(node: Node) -> bool:
    return node.parent is not None and node.parent.type in ("struct_specifier", "enum_specifier")


def declared(declarator: Node) -> str:
    """The name that a declarator declares."""
    return next((text_of(n) for n in walk(declarator) if n.type in ("identifier", "type_identifier")), "")


def locals_of(nodes: Iterable[Node]) -> set[str]:
    """Names of the parameters and local variables among `nodes`."""
    found = set[str]()
    for node in nodes:
        if node.type == "parameter_declaration" or (node.type == "declaration" and _inside(node)):
            found |= {declared(d) for d in node.children_by_field_name("declarator")}
    return found


def _inside(node: Node) -> bool:
    while node.parent is not None:
        node = node.parent
        if node.type == "compound_statement":
            return True
    return False


def _kind(node: Node) -> tuple[str, str] | None:
    """Kind and name of a top-level node that is an item; None for what is none."""
    match node.type:
        case "function_definition":
            return "function", declared(_need(node, "declarator"))
        case "preproc_def" | "preproc_function_def":
            return "macro", text_of(_need(node, "name"))
        case "struct_specifier" | "enum_specifier" if node.child_by_field_name("body"):
            name = node.child_by_field_name("name")
            word = "struct" if node.type == "struct_specifier" else "enum"
            return ("type" if word == "struct" else "enum"), f"{word} {text_of(name) if name else ''}"
        case "type_definition":
            return "type", declared(_need(node, "declarator"))
        case "declaration":
            declarator = _need(node, "declarator")
            inner = [n.type for n in walk(declarator)]
            if inner[0] == "function_declarator" or (
                inner[:2] == ["pointer_declarator", "*"] and ("function_declarator" in inner)
            ):
                return "prototype", declared(declarator)
            extern = any(
                c.type == "storage_class_specifier" and text_of(c) == "extern" for c in node.children
            )
            return None if extern else ("data", declared(declarator))
    return None


def _need(node: Node, field: str) -> Node:
    child = node.child_by_field_name(field)
    if child is None:
        raise SourceError(f"unexpected C: no {field} in `{text_of(node).splitlines()[0]}`")
    return child


_STATED = re.compile(r"(?m)^[A-Z][A-Z_]*\(.*\);$")
"""A macro that is a statement of its own at the top level: an assertion, of which no grammar knows what it takes."""


def read_c(path: Path, name: str) -> list[Item]:
    """The items of the C file at `path`, which messages call `name`.

    Raises SourceError where the file is no C that the grammar knows.
    """
    text = _STATED.sub("", path.read_text())
    root = parse(text).root_node
    broken = next((n for n in walk(root) if n.is_missing or n.type == "ERROR"), None)
    if broken is not None:
        raise SourceError(f"{name}:{broken.start_point.row + 1}: the slicer cannot read this C")
    return list(_items(root.children, text.splitlines(), name))


def _items(nodes: Iterable[Node], lines: list[str], file: str) -> Iterator[Item]:
    comments: list[Node] = []
    for node in nodes:
        if node.type == "comment":
            comments = [node] if not comments or _gap(comments[-1], node) else [*comments, node]
        elif node.type in ("preproc_ifdef", "preproc_if"):
            names = [text_of(_need(n, "name")) for n in node.children if n.type == "preproc_def"]
            plain = all(n.type in ("#ifndef", "identifier", "preproc_def", "#endif") for n in node.children)
            if plain and names and not names[0].startswith(GUARD):
                yield Item(file, "macro", names[0], _lines(lines, node))
                for other in names[1:]:
                    yield Item(file, "macro", other, _lines(lines, node))
            else:
                yield from _items(node.children, lines, file)
        elif kind := _kind(node):
            above = comments if comments and not _gap(comments[-1], node) else []
            comment = "\n".join(_lines(lines, c) for c in above)
            yield Item(file, *kind, _lines(lines, node), comment)
            comments = []
        elif node.type not in (";", "preproc_include"):
            comments = []


def _gap(above: Node, below: Node) -> bool:
    return below.start_point.row > above.end_point.row + 1


def _lines(lines: list[str], node: Node) -> str:
    last = node.end_point.row - (
        node.end_point.column == 0
    )  # a preprocessor line ends at the next one's beginning
    return "\n".join(lines[node.start_point.row : last + 1])


_STARTS = re.compile(r"^(?:\t\.globl\t|\tstep\t|\t\.macro\t|\t\.set\t|(?=[A-Za-z_]\w*:))([A-Za-z_]\w*)")
_SKIPPED = re.compile(r"^(\t\.(text|section)\b|#|\s*$)")


def read_asm(path: Path, name: str) -> list[Item]:
    """The items of an assembly file: `.set`, macros, and runs of lines that begin at a label or its directives.

    The run of `step NAME` is called as that macro calls it. One that does not end in a jump or return uses the next.
    """
    items: list[Item] = []
    comment: list[str] = []
    in_comment = False
    for line in path.read_text().splitlines():
        in_macro = (
            bool(items) and items[-1].text.startswith("\t.macro") and not items[-1].text.endswith(".endm")
        )
        start = None if in_macro else _STARTS.match(line)
        if in_comment or (line.startswith("/*") and not in_macro):
            comment = [*comment, line] if in_comment else [line]
            in_comment = not line.endswith("*/")
        elif start and not (items and items[-1].name == start[1]):
            symbol = f"xmc_arch_step_{start[1]}" if line.startswith("\tstep") else start[1]
            items.append(Item(name, "asm", symbol, line, "\n".join(comment)))
            comment = []
        elif items and not _SKIPPED.match(line):
            items[-1].text += f"\n{line}"
    return items


def falls_through(item: Item, items: Iterable[Item]) -> bool:
    """Whether control reaches the end of a run of assembly, and so the item behind it; `items` has the macros."""
    bare = [re.sub(r"^\d+:", "", line) for line in item.text.splitlines()]
    code = [line for line in bare if re.match(r"\t[^.]", line)]
    last = code[-1].split()[0] if code else ""
    macro = next((i for i in items if i.kind == "asm" and i.name == last and i is not item), None)
    return falls_through(macro, items) if macro else last not in ("ret", "jmp")
