#!/usr/bin/env python3
"""Write what native/xmc.h decides alone: the binding's types and the agent's names; with --check only compare.

`stress/_native.pyi` has the types of the cffi binding, `native/agent/names.inc` the words that plans and records use
for the constants of each enum. The binding finds those by itself; C cannot.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from pycparser import c_ast, c_parser

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "native" / "xmc.h"
STUB = ROOT / "stress" / "_native.pyi"
NAMES = ROOT / "native" / "agent" / "names.inc"
STDINT = "".join(f"typedef int {sign}int{bits}_t;\n" for sign in ("", "u") for bits in (8, 16, 32, 64))
OPENING = '''\
"""The native binding's types. Made from native/xmc.h by tools/native_stub.py; do not edit."""

from typing import Protocol

from _cffi_backend import FFI

class Lib(Protocol):
'''


def python_type(node: c_ast.Node) -> str:
    """Return how cffi shows a value of this C type: None, an int, or a cdata object."""
    if isinstance(node, c_ast.PtrDecl):
        return "FFI.CData"
    names = node.type.names if isinstance(node.type, c_ast.IdentifierType) else []
    return "None" if names == ["void"] else "int"


def declarations(header: str) -> Iterator[c_ast.Node]:
    """Yield what `header` declares, in its order."""
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", header, flags=re.DOTALL | re.MULTILINE)
    for node in c_parser.CParser().parse(STDINT + text).ext:
        yield node.type


def members(header: str) -> Iterator[str]:
    """Yield one line a constant or function of `header`, in its order."""
    for node in declarations(header):
        if isinstance(node, c_ast.Enum):
            yield from (f"{constant.name}: int" for constant in node.values.enumerators)
        elif isinstance(node, c_ast.FuncDecl):
            parameters = node.args.params if node.args else []
            named = [f"{p.name}: {python_type(p.type)}" for p in parameters if p.name]
            signature = ", ".join(["self", *named, "/"])
            yield f"def {function_name(node)}({signature}) -> {python_type(node.type)}: ..."


def function_name(node: c_ast.FuncDecl) -> str:
    """Return the name of a declared function, which stands at its innermost type."""
    inner = node.type
    while not isinstance(inner, c_ast.TypeDecl):
        inner = inner.type
    return str(inner.declname)


def words(header: str) -> Iterator[str]:
    """Yield one row of names.inc a constant: its enum, the word, the constant. How many there are is no word."""
    for node in declarations(header):
        if not isinstance(node, c_ast.Enum) or node.name == "xmc_limit":
            continue
        counts = f"{node.name.upper()}S"
        names = [constant.name for constant in node.values.enumerators if constant.name != counts]
        columns = takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
        prefix = "".join(column[0] for column in columns).rpartition("_")[0] + "_"
        for name in names:
            word = name.removeprefix(prefix).lower().replace("_", "-")
            yield f'{{ "{node.name.removeprefix("xmc_")}", "{word}", {name} }},'


def stub(header: str) -> str:
    """Return the whole stub for the text of the header."""
    body = "".join(f"    {line}\n" for line in members(header))
    return f"{OPENING}{body}\nffi: FFI\nlib: Lib\n"


def names(header: str) -> str:
    """Return the rows of the agent's table of words for the text of the header."""
    opening = "/* The words of plans and records. Made from xmc.h by tools/native_stub.py; do not edit. */\n"
    return opening + "".join(f"{row}\n" for row in words(header))


def main(arguments: list[str]) -> int:
    """Write both files, or with --check return 1 where one differs from what the header says."""
    header = HEADER.read_text()
    stale = 0
    for file, wanted in ((STUB, stub(header)), (NAMES, names(header))):
        if "--check" not in arguments:
            file.write_text(wanted)
        elif not file.exists() or file.read_text() != wanted:
            print(f"{file.relative_to(ROOT)} does not say what native/xmc.h says; run tools/native_stub.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
