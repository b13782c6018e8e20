"""The house rules of docs/design.md, read from the sources: layers, sizes, and where an ISA may be named."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

import stress

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sorted((ROOT / "stress").glob("*.py"))
CORE = sorted((ROOT / "native").glob("*.[ch]"))
CASES = sorted((ROOT / "cases").glob("*.toml"))

# Top to bottom. A module imports only from layers strictly below its own.
LAYERS = (
    {"__main__"},
    {"cli", "pytest_plugin"},
    {"config", "showing", "again"},
    {"session", "listing"},
    {"fleet", "live", "progress"},
    {"campaign", "doctor", "selftest", "repro"},
    {"survive"},
    {"runner"},
    {"story"},
    {"matrix", "replay"},
    {"recipes"},
    {"plan"},
    {"worker"},
    {"page"},
    {"view"},
    {"cellview"},
    {"charts"},
    {"formats", "explain", "forensics", "onefile"},
    {"atomicity", "gallery"},
    {"changes", "junit", "ktap", "lava", "markdown", "sheet", "shrink", "studies", "summary"},
    {"compare", "table"},
    {"reading"},
    {"aggregate"},
    {"grade"},
    {"charges"},
    {"promises", "evidence", "event", "bugs", "archive"},
    {"witness", "simpler"},
    {"cases", "regimes", "host", "store", "under"},
    {"publish", "fits"},
    {"checks", "steps", "patterns", "ablations"},
    {"mixes", "native", "topology", "stats", "sites", "tables", "durable"},
    {"blackbox", "agent"},
    {"severity"},
    {"amalgam", "planned"},
    {"ccalls", "cuse", "cfold"},
    {"ctables", "unrolled"},
    {"cparts"},
    {"cedit", "cidle"},
    {"cvalue"},
    {"csource"},
    {"errors", "model", "_native", "__init__"},
)
# (importer, imported) that may disregard the layers, and why.
LAYER_EXCEPTIONS: dict[tuple[str, str], str] = {}

# Who may import the native binding: everything else goes through a worker process or the host's facts.
MAY_IMPORT = {
    "native": {"worker", "host"},
    "blackbox": {"worker", "native"},
    "_native": {"native", "blackbox"},
}

MAY_NAME_AN_ISA = {"host", "showing", "plan", "cases", "mixes", "promises"}
ISA_NAME = re.compile(r"x86|amd64|i[3-6]86|aarch64|arm64|riscv|rv64|ppc64|s390", re.IGNORECASE)
ISA_MACRO = re.compile(r"__(x86_64|amd64|i386|aarch64|arm|riscv|powerpc\w*|s390x?)\w*")
MAY_NAME_DATA = {"selftest", "plan"}

# Lines, a smell to look into; a test fails beyond SLACK times these.
SLACK = 1.2
PYTHON_MODULE, PYTHON_FUNCTION, C_FILE, C_FUNCTION, CASE = 250, 40, 300, 60, 40
# "file" or "file:function" that may be longer, and why.
MAY_BE_LONG: dict[str, str] = {
    "stress/cli.py": "one function a command, and declarations of their options",
    "native/xmc.h": "the whole public interface, and the cdef as it stands",
    "stress/model.py": "every noun of the design, and nothing but nouns",
}


class Import(NamedTuple):
    """`importer` imports module `imported` of the package: the module itself, or `names` out of it."""

    importer: str
    imported: str
    names: tuple[str, ...]


def module_imports(path: Path) -> Iterator[Import]:
    """Yield the imports of other modules of the package, wherever in the file they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package, _, module = alias.name.partition(".")
                if package == "stress":
                    yield Import(path.stem, module or "__init__", ())
        elif isinstance(node, ast.ImportFrom):
            parent = "stress." if node.level else ""
            package, _, module = f"{parent}{node.module or ''}".strip(".").partition(".")
            if package == "stress" and module:
                yield Import(path.stem, module, tuple(alias.name for alias in node.names))
            elif package == "stress":
                for alias in node.names:
                    known = any(alias.name in layer for layer in LAYERS)
                    is_module = known or (path.parent / f"{alias.name}.py").exists()
                    yield Import(path.stem, alias.name if is_module else "__init__", ())


IMPORTS = list(chain.from_iterable(map(module_imports, PYTHON)))


def layer_of(module: str) -> int:
    """Return the layer's place from the top, or -1."""
    return next((n for n, layer in enumerate(LAYERS) if module in layer), -1)


def code_words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every name and string literal; no comments, no docstrings."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield node.lineno, text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text) | ast.alias(name=text):
                yield node.lineno, text
            case ast.FunctionDef(name=text) | ast.ClassDef(name=text) | ast.keyword(arg=str(text)):
                yield node.lineno, text


def too_long(rows: Iterator[tuple[str, int, int]]) -> list[str]:
    """Return a line for each (name, lines, budget) beyond the slack that is not excused."""
    return [
        f"{name}: {lines} lines, budget {budget}"
        for name, lines, budget in rows
        if lines > SLACK * budget and name not in MAY_BE_LONG
    ]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_module_has_a_layer() -> None:
    homeless = {path.stem for path in PYTHON} - set().union(*LAYERS)
    assert not homeless, f"place in LAYERS of {name_of(Path(__file__))}: {sorted(homeless)}"


def test_imports_go_down_only() -> None:
    wrong = [
        f"{i.importer} imports {i.imported}"
        for i in IMPORTS
        if layer_of(i.importer) >= layer_of(i.imported) and (i.importer, i.imported) not in LAYER_EXCEPTIONS
    ]
    assert not wrong


def test_binding_is_imported_by_few() -> None:
    wrong = [i for i in IMPORTS if i.importer not in MAY_IMPORT.get(i.imported, {i.importer})]
    assert not wrong


def test_worker_is_only_the_target_of_a_process() -> None:
    """`worker` runs on the far side of a process boundary: `runner` names a function of it and calls none."""
    assert {i.importer for i in IMPORTS if i.imported == "worker"} <= {"runner"}
    ours = {"worker", *chain.from_iterable(i.names for i in IMPORTS if i[:2] == ("runner", "worker"))}
    runner = ROOT / "stress" / "runner.py"
    tree = ast.parse(runner.read_text() if runner.exists() else "")
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if call.split(".")[0] in ours]


@pytest.mark.parametrize("path", [p for p in PYTHON if p.stem not in MAY_NAME_AN_ISA], ids=lambda p: p.stem)
def test_isa_is_not_named(path: Path) -> None:
    words = code_words(ast.parse(path.read_text()))
    wrong = [f"{name_of(path)}:{line}: {text}" for line, text in words if ISA_NAME.search(text)]
    assert not wrong


def test_common_c_asks_for_no_isa() -> None:
    wrong = [
        f"{name_of(path)}:{number}: {line}"
        for path in CORE
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\s*#\s*(el)?if", line) and ISA_MACRO.search(line)
    ]
    assert not wrong


def test_cases_and_regimes_are_not_named_in_code() -> None:
    """A new case or regime is data and nothing else; of names that are words of other things, none can tell."""
    regimes = tomllib.loads((ROOT / "stress" / "regimes.toml").read_text())["regimes"]
    words = {word for regime in regimes.values() for step in regime["writer"] for word in step.split()}
    named = {path.stem for path in CASES} | {name for name in regimes.keys() - words if not name.isalpha()}
    wrong = [
        f"{name_of(path)}:{line}: {text}"
        for path in PYTHON
        if path.stem not in MAY_NAME_DATA
        for line, text in code_words(ast.parse(path.read_text()))
        if text in named
    ]
    assert not wrong


def test_python_is_short() -> None:
    def rows() -> Iterator[tuple[str, int, int]]:
        for path in PYTHON:
            yield name_of(path), lines_of(path), PYTHON_MODULE
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    yield f"{name_of(path)}:{node.name}", lines, PYTHON_FUNCTION

    assert not too_long(rows())


def test_c_is_short() -> None:
    """A function is what stands between a `{` and a `}` in the first column, with the name in front of it."""

    def rows() -> Iterator[tuple[str, int, int]]:
        for path in sorted((ROOT / "native").rglob("*.[chS]")):
            text = path.read_text()
            yield name_of(path), lines_of(path), C_FILE
            for found in re.finditer(r"(\w+)\([^;{}]*\)\s*^\{$.*?^\}$", text, re.MULTILINE | re.DOTALL):
                yield f"{name_of(path)}:{found[1]}", found[0].count("\n") + 1, C_FUNCTION

    assert not too_long(rows())


def test_cases_are_short() -> None:
    assert not too_long((name_of(path), lines_of(path), CASE) for path in CASES)


def test_no_loose_ends() -> None:
    folders = ("stress", "native", "cases", "tests", "tools", "benchmarks", "docs")
    paths = chain.from_iterable((ROOT / folder).rglob("*") for folder in folders)
    files = [path for path in paths if path.is_file() and path.suffix != ".pyc"]
    marks = re.compile(r"\b(TO[D]O|FIX[M]E)\b")
    assert not [name_of(path) for path in files if marks.search(path.read_text(errors="replace"))]


def test_changelog_covers_the_version() -> None:
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {"Unreleased", stress.__version__} & set(sections)


def test_binding_types_match_the_header() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "tools" / "native_stub.py", "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr
