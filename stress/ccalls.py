"""Functions and their callers: parameters that tell nothing, and functions that only pass on what they are given."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial

from tree_sitter import Node

from stress.cedit import apply
from stress.csource import WORD, Item, declared, nodes_of, text_of, walk
from stress.cvalue import NOTHING, Function, Known, arguments, child


def drop_parameters(chosen: list[Item], known: Known, entry: str) -> None:
    """Take parameters out that nothing uses, or that every caller gives the same constant for."""
    for item in chosen:
        if item.kind == "function" and item.name != entry:
            _drop_parameter(item, chosen, known)


def _drop_parameter(item: Item, chosen: list[Item], known: Known) -> None:
    """Take out one parameter that nothing in `item` uses, or that every caller gives the same constant for."""
    sites = list(_call_sites(item.name, chosen))
    mentions = sum(_mentions(item.name, other) for other in chosen if other.kind != "prototype")
    if mentions != len(sites) or not sites:
        return
    function = known.function(item.text)
    parameters = function.parameter_nodes
    names = [name_of(p) for p in parameters]
    for at, name in enumerate(names):
        given = {_constant(arguments(call)[at], caller, known) for caller, call in sites}
        value = given.pop() if len(given) == 1 else None
        used = _used(function.body, name)
        pure = all(known.function(c.text).is_pure(arguments(call)[at]) for c, call in sites)
        changed = any(name == n for n in _assigned(function.body))
        if not pure or changed or (used and value is None):
            continue
        _remove(item, parameters, at, name, value)
        for caller in {id(c): c for c, _ in sites}.values():
            _remove_argument(caller, item.name, at)
        return


def _given(given: Mapping[str, str], word: re.Match[str]) -> str:
    return given.get(word[0], word[0])


def forward(chosen: list[Item], entry: str) -> None:
    """Where a function does nothing but call another one or compare, do that where it is called."""
    for item in chosen:
        if item.kind != "function" or item.name == entry or not _call_sites_only(item, chosen):
            continue
        function = Function(item.text, Known({}))
        statements = function.body.named_children
        call = (
            statements[0].named_children[0] if len(statements) == 1 and statements[0].named_children else None
        )
        if call is None or statements[0].type not in ("return_statement", "expression_statement"):
            continue
        names = [name_of(p) for p in function.parameter_nodes]
        calls = call.type == "call_expression" and any(
            i.name == text_of(child(call, "function")) and i.kind == "function" for i in chosen
        )
        compares = (
            call.type == "binary_expression" and text_of(child(call, "operator")) == "==" and not item.comment
        )
        if not (calls or compares):
            continue
        for caller in chosen:
            while sites := list(_call_sites(item.name, [caller])):
                site = sites[0][1]
                given = dict(zip(names, map(text_of, arguments(site)), strict=True))
                instead = re.sub(r"\w+", partial(_given, given), text_of(call))
                caller.text = apply(caller.text, [(site.start_byte, site.end_byte, instead)])
        return


def _call_sites_only(item: Item, chosen: list[Item]) -> bool:
    sites = len(list(_call_sites(item.name, chosen)))
    return bool(sites) and sites == sum(
        _mentions(item.name, other) for other in chosen if other.kind != "prototype"
    )


def name_of(parameter: Node) -> str:
    """The name of a parameter; "" where it has none."""
    declarator = parameter.child_by_field_name("declarator")
    return declared(declarator) if declarator else ""


def _call_sites(name: str, chosen: Iterable[Item]) -> Iterator[tuple[Item, Node]]:
    for item in chosen:
        if item.kind == "function":
            for node in _calls(item.text).get(name, ()):
                yield item, node


@lru_cache(maxsize=8192)
def _calls(text: str) -> Mapping[str, list[Node]]:
    """The calls in a function, by the name of what is called."""
    found: dict[str, list[Node]] = {}
    for node in nodes_of(text):
        if node.type == "call_expression":
            found.setdefault(text_of(child(node, "function")), []).append(node)
    return found


def _mentions(name: str, item: Item) -> int:
    """How often `item` mentions `name` other than by defining it."""
    if item.kind in ("macro", "asm"):
        return WORD.findall(item.text).count(name)
    return _identifiers(item.text)[name] - (item.name == name)


@lru_cache(maxsize=8192)
def _identifiers(text: str) -> Counter[str]:
    return Counter(text_of(node) for node in nodes_of(text) if node.type == "identifier")


def _used(body: Node, name: str) -> bool:
    """Whether the body does more with `name` than to say that it does not use it."""
    for node in walk(body):
        if node.type == "identifier" and text_of(node) == name:
            above = node.parent
            if above is None or above.type != "cast_expression" or not text_of(above).startswith("(void)"):
                return True
    return False


def _assigned(body: Node) -> Iterator[str]:
    for node in walk(body):
        if node.type == "assignment_expression":
            yield text_of(child(node, "left"))
        elif node.type in ("update_expression", "pointer_expression"):
            yield text_of(child(node, "argument"))


def _constant(node: Node, caller: Item, known: Known) -> str | None:
    """The text of an argument that is the same wherever it stands; None where it is not."""
    text = text_of(node)
    if text == "NULL":
        return text
    if known.function(NOTHING).value(node) is not None:
        return text
    value = known.function(caller.text).local.get(text)
    return None if value is None else str(value)


def _remove(item: Item, parameters: list[Node], at: int, name: str, value: str | None) -> None:
    item.text = re.sub(rf"(?m)^\t\(void\){name};\n", "", item.text)
    item.text = re.sub(rf"(?m)^\t\(void\){name}, ", "\t", item.text)
    item.text = re.sub(rf", \(void\){name}\b", "", item.text)
    if value is not None:
        body = Function(item.text, Known({})).body
        item.text = apply(
            item.text,
            [
                (n.start_byte, n.end_byte, value)
                for n in walk(body)
                if n.type == "identifier" and text_of(n) == name
            ],
        )
    item.text = _without(item.text, parameters, at, "void")
    item.text = item.text.replace("{\n\n", "{\n")


def _remove_argument(caller: Item, name: str, at: int) -> None:
    calls = [call for _, call in _call_sites(name, [caller])]
    for call in sorted(calls, key=lambda c: -c.start_byte):
        caller.text = _without(caller.text, arguments(call), at, "")


def _without(text: str, nodes: list[Node], at: int, none: str) -> str:
    """`text` without the `at`-th of nodes that commas separate; `none`: what stands there when none is left."""
    if len(nodes) == 1:
        return text[: nodes[0].start_byte] + none + text[nodes[0].end_byte :]
    if at == 0:
        return text[: nodes[0].start_byte] + text[nodes[1].start_byte :]
    return text[: nodes[at - 1].end_byte] + text[nodes[at].end_byte :]
