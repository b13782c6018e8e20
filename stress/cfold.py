"""Take out of a C function what known values decide: a partial evaluator over the syntax tree, text in, text out.

What is left is the source's own lines, comments and layout; only conditions, branches and statements that can do
nothing under the known values are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from stress.cedit import Edit, apply, outdent, without
from stress.cidle import is_idle
from stress.csource import declared, text_of, walk
from stress.cvalue import Function, Known, child, planned


def fold(text: str, known: Known) -> str:
    """The text of a function without what is decided by what is known."""
    return _Fold(text, known).fold()


class _Fold(Function):
    """One function while it is folded."""

    def fold(self) -> str:
        """The function's text without what the known values decide."""
        while edits := list(self._edits(self.body)):
            self.text = apply(self.text, edits)
            self.look()
        return re.sub(r"\tif \((\w+)\)\n\t\treturn \1;\n\treturn 0;\n\}$", r"\treturn \1;\n}", self.text)

    def _edits(self, node: Node) -> Iterator[Edit]:
        made = self._edit(node)
        if made is not None:
            yield made
            return
        for inner in node.children:
            yield from self._edits(inner)

    def _edit(self, node: Node) -> Edit | None:
        match node.type:
            case "field_expression" if name := planned(node):
                member = text_of(child(node, "field"))
                if member in self.known.arrays:
                    return node.start_byte, node.end_byte, self.known.arrays[member]
                if name in self.known.constants:
                    return node.start_byte, node.end_byte, name
            case "field_expression" if text_of(child(node, "field")) in self.known.zeros:
                return self._zero(node)
            case "if_statement":
                test = self.value(child(node, "condition"))
                if test is not None:
                    return self._branch(node, bool(test))
                if self._returned(node):
                    return without(self.text, node)
            case "conditional_expression":
                test = self.value(child(node, "condition"))
                if test is not None:
                    return self._become(node, child(node, "consequence" if test else "alternative"))
            case "binary_expression" if text_of(child(node, "operator")) in ("&&", "||"):
                return self._short(node)
            case "binary_expression" if text_of(node).endswith((" + 0", " - 0")):
                return self._become(node, child(node, "left"))
            case "switch_statement":
                return self._switch(node)
            case "for_statement":
                return self._loop(node)
            case "compound_statement":
                return self._bare(node)
            case "while_statement" if self.value(child(node, "condition")) == 0:
                return without(self.text, node)
            case "expression_statement":
                return without(self.text, node) if is_idle(self, node) else None
            case "declaration":
                return self._declaration(node)
            case "unary_expression" if text_of(child(node, "operator")) == "!":
                value = self.value(node)
                return None if value is None else (node.start_byte, node.end_byte, str(value))
            case "identifier":
                return self._substitute(node)
            case "subscript_expression":
                return self._entry(node)
            case "initializer_pair" if node.children[0].type == "field_designator":
                return self._initializer(node)
            case "return_statement" | "break_statement":
                return self._behind(node)
        return None

    def _returned(self, node: Node) -> bool:
        """Whether the statement in front has returned where this one's condition holds."""
        above, test = node.prev_named_sibling, child(node, "condition")
        if above is None or above.type != "if_statement" or above.child_by_field_name("alternative"):
            return False
        same = text_of(child(above, "condition")) == text_of(test) and self.is_pure(test)
        return same and child(above, "consequence").type == "return_statement"

    def _substitute(self, node: Node) -> Edit | None:
        """The value of a local that never has another, in its place."""
        name, above = text_of(node), node.parent
        if name not in self.local or name in self.parameters or above is None:
            return None
        if above.type in ("init_declarator", "parameter_declaration") and above.named_children[0] == node:
            return None
        init = next(text_of(value) for n, value in self.initialised() if n == name)
        if re.fullmatch(r"[A-Z_0-9]+", init):
            return node.start_byte, node.end_byte, init
        simple = re.fullmatch(r"\w+((->|\.)\w+)*", init)  # anything else is still being folded
        return (node.start_byte, node.end_byte, str(self.local[name])) if simple else None

    def _entry(self, node: Node) -> Edit | None:
        """An entry of a table that is constant, where it is an argument of its own."""
        table = self.known.tables.get(text_of(node.named_children[0]))
        if table is None or node.parent is None or node.parent.type != "argument_list":
            return None
        entry = table.get(text_of(node.named_children[1]))
        return (node.start_byte, node.end_byte, entry) if entry else None

    def _zero(self, node: Node) -> Edit | None:
        """A member that is never anything but 0, where its value is used."""
        above = node.parent
        if above is None or above.type not in ("subscript_expression", "argument_list", "binary_expression"):
            return None
        if above.type == "subscript_expression" and above.named_children[0] == node:
            return None
        return node.start_byte, node.end_byte, self.known.zero_names.get(text_of(child(node, "field")), "0")

    def _initializer(self, node: Node) -> Edit | None:
        """What is initialised and never read."""
        if text_of(node.children[0])[1:] not in self.known.unread or not self.is_pure(child(node, "value")):
            return None
        end, after = node.end_byte, node.next_sibling
        if after is not None and after.type == ",":
            end = after.end_byte
            while self.text[end] in " \t\n":
                end += 1
        return node.start_byte, end, ""

    def _become(self, node: Node, other: Node) -> Edit:
        return node.start_byte, node.end_byte, text_of(other)

    def _short(self, node: Node) -> Edit | None:
        left, right = child(node, "left"), child(node, "right")
        value = self.value(node)
        if value is not None:
            return None if text_of(node) in ("0", "1") else (node.start_byte, node.end_byte, str(value))
        if self.value(left) is not None:
            return self._become(node, right)
        if self.value(right) is not None:
            return self._become(node, left)
        return None

    def _branch(self, node: Node, test: bool) -> Edit:
        kept = child(node, "consequence") if test else node.child_by_field_name("alternative")
        if kept is None:
            return without(self.text, node)
        if kept.type == "else_clause":
            kept = kept.named_children[-1]
        end, after = node.end_byte, node.next_named_sibling
        beside = after is not None and after.type == "comment" and after.start_point.row == node.end_point.row
        if after is not None and beside and test and kept.end_byte < end:  # it was about the branch that goes
            end = after.end_byte
        if _has_room(node) or kept.type == "if_statement":
            return node.start_byte, end, self._unwrapped(kept)
        if kept.type == "compound_statement":
            return node.start_byte, end, text_of(kept)
        line = self.text[self.text.rfind("\n", 0, node.start_byte) + 1 : node.start_byte]
        indent = line[: len(line) - len(line.lstrip("\t"))]
        else_ = node.parent is not None and node.parent.type == "else_clause"
        return (
            (node.start_byte - 1, end, f"\n{indent}\t{text_of(kept)}") if else_ else self._become(node, kept)
        )

    def _unwrapped(self, node: Node) -> str:
        """The statement, or the statements of a block, a level further out."""
        if node.type != "compound_statement":
            return outdent(text_of(node)) if node.type != "if_statement" else text_of(node)
        lines = text_of(node)[1:-1].strip("\n").rstrip()
        return outdent(lines).lstrip("\t")

    def _loop(self, node: Node) -> Edit | None:
        """A loop that counts from 0 to nothing, or to one."""
        test, start = node.child_by_field_name("condition"), node.child_by_field_name("initializer")
        if test is None or start is None or test.type != "binary_expression":
            return None
        starts = start.type == "declaration" and re.search(r"\b(\w+) = 0;$", text_of(start))
        if not starts or text_of(child(test, "left")) != starts[1] or text_of(child(test, "operator")) != "<":
            return None
        times = self.value(child(test, "right"))
        if times == 0:
            return without(self.text, node)
        return self._once(node, starts[1]) if times == 1 else None

    def _once(self, node: Node, counter: str) -> Edit | None:
        body = child(node, "body")
        if not _has_room(node) or any(
            n.type in ("break_statement", "continue_statement") for n in walk(body)
        ):
            return None
        # What the body declares moves a level out, where nothing else may be called so.
        inner = [declared(d) for n in walk(body) if n.type == "declaration" for d in _declarators(n)]
        every = [declared(d) for n in self.nodes if n.type == "declaration" for d in _declarators(n)]
        if any(every.count(name) > 1 for name in inner):
            return None
        return node.start_byte, node.end_byte, re.sub(rf"\b{counter}\b", "0", self._unwrapped(body))

    def _bare(self, node: Node) -> Edit | None:
        """A block of one short statement needs no braces; one that has become so looks as if it had been so."""
        above, inside = node.parent, node.named_children
        if above is None or above.type not in ("if_statement", "for_statement", "while_statement"):
            return None
        if len(inside) != 1 or inside[0].type not in ("expression_statement", "return_statement"):
            return None
        if "\n" in text_of(inside[0]) or above.child_by_field_name("alternative"):
            return None
        line = self.text[self.text.rfind("\n", 0, above.start_byte) + 1 : above.start_byte]
        indent = line[: len(line) - len(line.lstrip("\t"))]
        return node.start_byte - 1, node.end_byte, f"\n{indent}\t{text_of(inside[0])}"

    def _switch(self, node: Node) -> Edit | None:
        subject = child(node, "condition").named_children[0]
        value = self.value(subject)
        cases = [c for c in child(node, "body").named_children if c.type == "case_statement"]
        labels = [self.value(v) if (v := c.child_by_field_name("value")) else None for c in cases]
        possible = self.known.switched.get((self.name, text_of(subject)))
        if value is None and possible is not None and len(possible) == 1:
            (value,) = possible
        if value is None and possible is not None:
            return self._narrowed(cases, labels, possible)
        if value is None:
            return None
        at = labels.index(value) if value in labels else labels.index(None) if None in labels else -1
        if at < 0:
            return without(self.text, node)
        if not _has_room(node):
            return None
        found = next((c for c in cases[at:] if len(_statements(c))), None)
        kept = [s for s in _statements(found) if s.type != "break_statement"] if found else []
        if not kept:
            return without(self.text, node)
        text = self.text.encode()[kept[0].start_byte : kept[-1].end_byte].decode()
        return node.start_byte, node.end_byte, outdent(text)

    def _narrowed(self, cases: list[Node], labels: list[int | None], possible: frozenset[int]) -> Edit | None:
        for case, label in zip(cases, labels, strict=True):
            if label is not None and label not in possible and len(_statements(case)):
                return without(self.text, case)
        return None

    def _behind(self, node: Node) -> Edit | None:
        """What follows a return in the same block is never reached."""
        after = node.next_named_sibling
        if after is None or node.parent is None or node.parent.type != "compound_statement":
            return None
        return without(self.text, after) if after.type != "comment" else None

    def _declaration(self, node: Node) -> Edit | None:
        """Without the variables that nothing mentions any more."""
        names = [text_of(n) for n in walk(self.body) if n.type == "identifier"]
        declarators = node.children_by_field_name("declarator")
        kept = [
            d
            for d in declarators
            if names.count(declared(d)) > 1
            or (d.type == "init_declarator" and not self.is_pure(child(d, "value")))
            or declared(d) in self.parameters
        ]
        if len(kept) == len(declarators):
            return None
        if not kept:
            return without(self.text, node)
        head = self.text.encode()[node.start_byte : declarators[0].start_byte].decode()
        return node.start_byte, node.end_byte, head + ", ".join(text_of(d) for d in kept) + ";"


def _has_room(node: Node) -> bool:
    """Whether several statements may stand where `node` does."""
    return node.parent is not None and node.parent.type in ("compound_statement", "case_statement")


def _declarators(declaration: Node) -> list[Node]:
    return declaration.children_by_field_name("declarator")


def _statements(case: Node) -> list[Node]:
    value = case.child_by_field_name("value")
    return [c for c in case.named_children if c != value and c.type != "comment"]
