#!/usr/bin/env python3
"""Write stress/_native.pyi, the types of the cffi binding, from native/xmc.h; with --check only compare."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pycparser import c_ast, c_parser

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "native" / "xmc.h"
STUB = ROOT / "stress" / "_native.pyi"
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


def members(header: str) -> Iterator[str]:
    """Yield one line a constant or function of `header`, in its order."""
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", header, flags=re.DOTALL | re.MULTILINE)
    for node in c_parser.CParser().parse(STDINT + text).ext:
        if isinstance(node.type, c_ast.Enum):
            yield from (f"{constant.name}: int" for constant in node.type.values.enumerators)
        elif isinstance(node.type, c_ast.FuncDecl):
            parameters = node.type.args.params if node.type.args else []
            named = [f"{p.name}: {python_type(p.type)}" for p in parameters if p.name]
            signature = ", ".join(["self", *named, "/"])
            yield f"def {node.name}({signature}) -> {python_type(node.type.type)}: ..."


def stub(header: str) -> str:
    """Return the whole stub for the text of the header."""
    body = "".join(f"    {line}\n" for line in members(header))
    return f"{OPENING}{body}\nffi: FFI\nlib: Lib\n"


def main(arguments: list[str]) -> int:
    """Write the stub, or with --check return 1 where it differs from the header."""
    wanted = stub(HEADER.read_text())
    if "--check" not in arguments:
        STUB.write_text(wanted)
    elif not STUB.exists() or STUB.read_text() != wanted:
        print("stress/_native.pyi does not say what native/xmc.h says; run tools/native_stub.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
