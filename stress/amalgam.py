"""Out of many C files the one that a plan needs: the items that `main` reaches, folded by what is known, and no more.

Taking items in, folding them, dropping parameters, members and constants that nothing mentions any more: each makes the
others possible, so all are repeated until nothing changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from stress import ccalls, cparts, cuse
from stress.cfold import fold
from stress.csource import Item, SourceError, falls_through, text_of, uses
from stress.cvalue import Function, Known

Evaluator = Callable[[list[str]], int | None]

ROUNDS = 40
"""More than any program has needed; one that still changes then is a bug here."""


@dataclass(slots=True)
class Amalgam:
    """A program on its way. `items`: all there are, the more special first; `kept`: members that stay whatever reads
    them; `known`: what is known from the beginning.
    """

    items: list[Item]
    known: Known
    kept: frozenset[str]
    entry: str = "main"

    def run(self) -> list[Item]:
        """The items that are left, those of one kind in the order in which they must stand.

        Raises SourceError where the sources do not fit together, or do not settle.
        """
        for _ in range(ROUNDS):
            chosen = self.closure()
            before = [item.text for item in chosen]
            known = self._learn(chosen)
            for item in chosen:
                if item.kind == "function":
                    item.text = fold(item.text, known)
            ccalls.drop_parameters(chosen, known, self.entry)
            ccalls.forward(chosen, self.entry)
            if [item.text for item in chosen] == before:
                cparts.prune(chosen, self.kept, known.unread)
                cparts.lay_out(chosen)
                if [item.text for item in chosen] == before:
                    return self._ordered(chosen)
        raise SourceError("the sources do not settle: a bug in stress.amalgam")

    def closure(self) -> list[Item]:
        """Every item that the entry reaches, in the order of the items."""
        index: dict[str, list[Item]] = {}
        for item in self.items:
            index.setdefault(item.name, []).append(item)
            if item.kind == "enum":
                for name in cparts.enumerators(item):
                    index.setdefault(name, []).append(item)
        found: list[Item] = []
        pending = list(self._resolve(self.entry, "", index))
        if not pending:
            raise SourceError(f"native/repro: no {self.entry}()")
        while pending:
            item = pending.pop()
            if any(item is other for other in found):
                continue
            found.append(item)
            for name in uses(item):
                pending += self._resolve(name, item.file, index)
            if (
                item.kind == "asm"
                and falls_through(item, self.items)
                and not item.text.startswith(("\t.set", "\t.macro"))
            ):
                pending.append(self.items[self.items.index(item) + 1])
        return [item for item in self.items if any(item is other for other in found)]

    def _resolve(self, name: str, file: str, index: Mapping[str, list[Item]]) -> Iterator[Item]:
        """The definitions of `name` as `file` sees it: the most special one, its own one, or the only one."""
        here = index.get(name, [])
        real = [i for i in here if i.kind not in ("prototype", "asm")]
        if real:
            special = [i for i in real if i.file == self.items[0].file or i.file.startswith("repro/")]
            yield (special or [i for i in real if i.file == file] or real)[0]
            return
        code = [i for i in here if i.kind == "asm"]
        yield from code[:1]
        if code:  # what is written in assembly needs its prototype
            yield from [i for i in here if i.kind == "prototype"][:1]

    def _learn(self, chosen: list[Item]) -> Known:
        """What the chosen items tell beyond what was known from the beginning."""
        known = self.known
        for _ in range(3):  # each round may make the next one see more
            members = cuse.members(chosen, known, self.kept)
            known = replace(known, zeros=members.zeros, unread=members.unread, tables=cparts.tables(chosen))
            functions = [i for i in chosen if i.kind == "function"]
            known = replace(known, empty=frozenset(i.name for i in functions if _is_empty(i)))
            known = replace(known, calls={**self.known.calls, **_one_liners(functions, known)})
        return known

    def _ordered(self, chosen: list[Item]) -> list[Item]:
        """Definitions before their uses: no prototypes are needed then."""
        first = [i for i in chosen if i.kind in ("macro", "enum", "type", "prototype", "asm")]
        rest = [i for i in chosen if i.kind in ("data", "function")]
        by_name = {i.name: i for i in rest}
        done: list[Item] = []

        def visit(item: Item) -> None:
            if any(item is other for other in done):
                return
            for name in sorted(uses(item), key=lambda n: item.text.find(n)):
                if name in by_name and by_name[name] is not item:
                    visit(by_name[name])
            done.append(item)

        visit(by_name[self.entry])
        return first + done


def _is_empty(item: Item) -> bool:
    body = Function(item.text, Known({})).body
    return all(re.fullmatch(r"\(void\)[\w, ()]+;", text_of(s)) for s in body.named_children)


def _one_liners(functions: Iterable[Item], known: Known) -> dict[str, Evaluator]:
    """Functions of one return statement, to be evaluated where their arguments are known."""
    found: dict[str, Evaluator] = {}
    for item in functions:
        function = known.function(item.text)
        statements = function.body.named_children
        if (
            len(statements) != 1
            or statements[0].type != "return_statement"
            or not statements[0].named_children
        ):
            continue
        if function.is_pure(statements[0].named_children[0]):
            found[item.name] = _evaluator(item.text, known)
    return found


def _evaluator(text: str, known: Known) -> Evaluator:
    function = known.function(text)
    names = [ccalls.name_of(p) for p in function.parameter_nodes]

    def evaluate(given: list[str]) -> int | None:
        values = {n: int(g) for n, g in zip(names, given, strict=False) if re.fullmatch(r"-?\d+", g)}
        inner = Function(text, known, values)
        return inner.value(inner.body.named_children[0].named_children[0])

    return evaluate
