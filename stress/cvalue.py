"""The value that a C expression has under what is known of a program; None where it may have several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tree_sitter import Node

from stress.csource import SourceError, declared, nodes_of, parse, text_of, walk

OWNERS = {"plan": "PLAN", "publish": "PUBLISH"}
"""The last word of what is followed by a member of the plan, as in `core->plan->window`, and what begins its name."""


NOTHING = "void nothing(void)\n{\n}"
"""A function in which nothing is known but what is known everywhere."""


@dataclass(frozen=True)
class Known:
    """What is known of a program. `constants`: names with values; `zeros`: members that nobody sets; `calls`: functions
    that yield a known value of their arguments' texts; `unread`: members whose value nobody reads; `empty`: functions
    that do nothing; `pure`: functions without an effect; `arrays`: members of the plan that are no
    constants, and what stands for them.
    """

    constants: Mapping[str, int]
    arrays: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, Callable[[list[str]], int | None]] = field(default_factory=dict)
    zeros: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    pure: frozenset[str] = frozenset()
    switched: Mapping[tuple[str, str], frozenset[int]] = field(default_factory=dict)
    """(function, what it switches on) -> the values that can be."""
    members: Mapping[str, int] = field(default_factory=dict)
    """Members that only ever have this value."""
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Constant tables: the text of each entry by the name of its index."""
    zero_names: Mapping[str, str] = field(default_factory=dict)
    """What 0 is called as the value of a member."""
    never: frozenset[str] = frozenset()
    """Constants that nothing is ever equal to."""
    _functions: dict[str, Function] = field(default_factory=dict, init=False, repr=False, compare=False)

    def function(self, text: str) -> Function:
        """The function `text` under what is known here, not to be folded: it may be asked for again."""
        if text not in self._functions:
            self._functions[text] = Function(text, self)
        return self._functions[text]


_BINARY: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b),
    ">": lambda a, b: int(a > b),
    "<=": lambda a, b: int(a <= b),
    ">=": lambda a, b: int(a >= b),
}

_LOADS = ("atomic_load", "atomic_load_explicit")


def child(node: Node, name: str) -> Node:
    """The child of `node` that the grammar calls `name`."""
    found = node.child_by_field_name(name)
    assert found is not None, (node.type, name)
    return found


def planned(node: Node) -> str:
    """What a member of the plan, or of what it says of publishing, is called as a constant; "" for anything else."""
    if node.type != "field_expression":
        return ""
    owner = OWNERS.get(text_of(child(node, "argument")).rpartition(">")[2].rpartition(".")[2])
    return f"{owner}_{text_of(child(node, 'field')).upper()}" if owner else ""


def plan_name(member: str) -> str:
    """What a scalar member of the plan is called where the plan is constants."""
    return f"{OWNERS['plan']}_{member.upper()}"


def arguments(call: Node) -> list[Node]:
    """The arguments of a call."""
    return child(call, "arguments").named_children


class Function:
    """One function under what is known; `local`: what is known of its parameters."""

    def __init__(self, text: str, known: Known, local: Mapping[str, int] | None = None) -> None:
        self.text, self.known, self.parameters = text, known, dict(local or {})
        self.look()

    def look(self) -> None:
        """Read the text anew."""
        self.root = parse(self.text).root_node
        self.nodes = nodes_of(self.text)
        bodies = [n for n in self.nodes if n.type == "compound_statement"]
        if not bodies or self.root.has_error:
            raise SourceError(f"what is left of a function is no C: {self.text}")
        self.body = bodies[0]
        self.local = dict(self.parameters)
        changed = self._changed()
        for name, init in self.initialised():
            if name not in changed and (value := self.value(init)) is not None:
                self.local[name] = value

    def initialised(self) -> Iterator[tuple[str, Node]]:
        """Yield the local variables that are initialised, each with its first value."""
        for node in self.nodes:
            if node.type == "init_declarator" and child(node, "declarator").type == "identifier":
                yield text_of(child(node, "declarator")), child(node, "value")

    def _changed(self) -> set[str]:
        """Locals that are assigned to, counted or whose address is taken."""
        found = set[str]()
        for node in self.nodes:
            if node.type == "assignment_expression":
                found.add(text_of(child(node, "left")))
            elif node.type in ("update_expression", "pointer_expression"):
                found.add(text_of(child(node, "argument")))
        return found

    @property
    def parameter_nodes(self) -> list[Node]:
        """The function's parameters; none for `void`."""
        listed = next(n for n in self.nodes if n.type == "parameter_list").named_children
        return [
            n for n in listed if n.type == "parameter_declaration" and n.child_by_field_name("declarator")
        ]

    @property
    def name(self) -> str:
        """The function's name."""
        return declared(next(n for n in walk(self.root) if n.type == "function_declarator"))

    def value(self, node: Node) -> int | None:
        """The value of an expression, None where it is not known."""
        match node.type:
            case "number_literal":
                whole = re.fullmatch(r"(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*", text_of(node))
                return int(whole[1], 0) if whole else None
            case "false" | "true":
                return int(node.type == "true")
            case "identifier":
                return self.local.get(text_of(node), self.known.constants.get(text_of(node)))
            case "parenthesized_expression":
                return self.value(node.named_children[0])
            case "field_expression":
                return self._member(node)
            case "call_expression":
                return self._call(node)
            case "cast_expression":
                return self.value(child(node, "value"))
            case "unary_expression":
                operand, operator = self.value(child(node, "argument")), text_of(child(node, "operator"))
                if operand is None:
                    return None
                return {"!": int(not operand), "-": -operand, "~": ~operand, "+": operand}[operator]
            case "binary_expression":
                return self._binary(node)
            case "conditional_expression":
                test = self.value(child(node, "condition"))
                return (
                    None
                    if test is None
                    else self.value(child(node, "consequence" if test else "alternative"))
                )
        return None

    def _member(self, node: Node) -> int | None:
        member = text_of(child(node, "field"))
        if name := planned(node):
            return self.known.constants.get(name)
        return 0 if member in self.known.zeros else self.known.members.get(member)

    def _call(self, node: Node) -> int | None:
        name, given = text_of(child(node, "function")), arguments(node)
        if name in _LOADS and given[0].type == "pointer_expression":
            return self.value(child(given[0], "argument"))
        known = self.known.calls.get(name)
        if known is None:
            return None
        values = [self.value(g) for g in given]
        return known([text_of(g) if v is None else str(v) for g, v in zip(given, values, strict=True)])

    def _binary(self, node: Node) -> int | None:
        operator = text_of(child(node, "operator"))
        left, right = self.value(child(node, "left")), self.value(child(node, "right"))
        if (
            operator in ("==", "!=")
            and {text_of(child(node, s)) for s in ("left", "right")} & self.known.never
        ):
            return int(operator == "!=")
        if operator in ("&&", "||"):
            decides = operator == "||"
            if left is not None and bool(left) == decides:
                return int(decides)
            if right is not None and bool(right) == decides and self.is_pure(child(node, "left")):
                return int(decides)
            return None if left is None or right is None else int(not decides)
        return None if left is None or right is None else _BINARY[operator](left, right)

    def is_pure(self, node: Node) -> bool:
        """Whether evaluating `node` changes nothing."""
        for inner in walk(node):
            if inner.type in ("assignment_expression", "update_expression"):
                return False
            if inner.type == "call_expression":
                name = text_of(child(inner, "function"))
                if name not in self.known.pure and name not in _LOADS and name not in self.known.calls:
                    return False
        return True
