"""Statements that do nothing under what is known: calls of empty functions, stores that nobody reads."""

from __future__ import annotations

from tree_sitter import Node

from stress.csource import text_of
from stress.cvalue import Function, arguments, child

_GIVING = ("assignment_expression", "init_declarator")
"""Nodes that give a variable a value."""


def is_idle(f: Function, node: Node) -> bool:
    """Whether a statement does nothing: a call of an empty function, a store that nobody reads."""
    if not node.named_children:
        return False
    inner = node.named_children[0]
    if inner.type == "call_expression":
        name = text_of(child(inner, "function"))
        return name in f.known.empty or (name.startswith("atomic_") and _is_unread_target(f, inner))
    if inner.type == "assignment_expression":
        target = child(inner, "left")
        if target.type == "identifier" and _only_assigned(f, text_of(target)):
            return f.is_pure(child(inner, "right"))
        nothing = f.value(child(inner, "right")) == 0
        if nothing and text_of(child(inner, "operator")) in ("+=", "-=", "|="):
            return True
        zero = nothing and _last_member(target) in f.known.zeros
        return (zero or _last_member(target) in f.known.unread) and f.is_pure(child(inner, "right"))
    if inner.type == "update_expression":
        return _last_member(child(inner, "argument")) in f.known.unread
    return inner.type == "number_literal"


def _only_assigned(f: Function, name: str) -> bool:
    """Whether a local variable is given values that nothing looks at."""
    if name in f.parameters or not any(name == n for n, _ in f.initialised()):
        return False
    mentions = [n for n in f.nodes if n.type == "identifier" and text_of(n) == name]
    given = [n for n in mentions if n.parent is not None and n.parent.type in _GIVING]
    return len(given) == len(mentions) and all(
        n == (n.parent.child_by_field_name("left") or n.parent.child_by_field_name("declarator"))
        for n in given
        if n.parent is not None
    )


def _is_unread_target(f: Function, call: Node) -> bool:
    name, given = text_of(child(call, "function")), arguments(call)
    if not name.startswith(("atomic_store", "atomic_fetch")) or given[0].type != "pointer_expression":
        return False
    return _last_member(child(given[0], "argument")) in f.known.unread


def _last_member(node: Node) -> str:
    while node.type == "subscript_expression":
        node = child(node, "argument")
    return text_of(child(node, "field")) if node.type == "field_expression" else ""
