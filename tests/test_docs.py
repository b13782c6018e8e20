"""The documents: their examples run, their links lead somewhere, their tables and commands are the code's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stress import showing
from stress.cases import find_cases, load_case
from stress.cli import cli
from stress.compare import WORSE, Change
from stress.config import PROFILES, load
from stress.formats import FORMATS
from stress.host import read_host
from stress.model import Case, Grade, Status
from stress.regimes import load_regimes
from stress.severity import BY_GRADE, BY_STATUS, WORDS, Result
from stress.steps import parse_exec_step, parse_step
from stress.tables import read_toml
from tests.test_house import IMPORTS, PYTHON

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")


def blocks(page: Path, info: str) -> list[str]:
    """Return the fenced blocks of `page` that are introduced by `info`."""
    return [text for found, text in FENCED.findall(page.read_text()) if found == info]


def example(page: str, name: str, folder: Path) -> Path:
    """Write the one TOML example `name` of `page` into `folder`, and return it."""
    (text,) = blocks(DOCS / page, f"toml {name}")
    path = folder / name
    path.write_text(text)
    return path


def anchors(page: Path) -> set[str]:
    """Return what a link may name of the headings of `page`, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below `heading`, without its head."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", (DOCS / page).read_text(), re.M | re.S)
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [
        [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]
    ]


def words(cell: str) -> list[str]:
    """Return what stands in backquotes in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def refusal(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(ValueError, match="; ") as caught:
        parse(text)
    return str(caught.value)


def steps(parse: Callable[[str], object]) -> list[str]:
    """Return the names of the steps, as the loader tells them to who gives a wrong one."""
    return refusal(parse, "?").partition("the steps are ")[2].split(", ")


def enumerators(prefix: str, end: str) -> set[str]:
    """Return the names behind `prefix` in native/xmc.h, without the one that counts them."""
    header = (ROOT / "native" / "xmc.h").read_text()
    return set(re.findall(rf"^\t{prefix}(\w+),", header, re.MULTILINE)) - {end}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if re.match(r"\w+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_index_names_every_page() -> None:
    linked = {(DOCS / link).resolve() for link in LINK.findall((DOCS / "README.md").read_text())}
    assert set(DOCS.rglob("*.md")) - linked == {DOCS / "README.md"}


@every_page
def test_commands_in_examples_exist(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            if not line.startswith("stress "):
                continue
            _, name, *arguments = shlex.split(line, comments=True)
            command = cli.commands[name]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert {word for word in arguments if word.startswith("-")} <= known, line


def test_every_module_stands_in_the_layers_above_those_it_imports() -> None:
    (picture,) = blocks(DOCS / "design.md", "layers")
    lines = [line.partition("|")[0].split() for line in picture.splitlines()]
    place = {module: n for n, line in enumerate(lines) for module in line}
    assert sorted(module for line in lines for module in line) == sorted(path.stem for path in PYTHON)
    wrong = [i for i in IMPORTS if i.imported in place and place[i.importer] >= place[i.imported]]
    assert not wrong


def test_writer_steps_are_those_of_the_loader_and_of_the_core() -> None:
    rows = table("write-a-regime.md", "Writer steps")
    forms = {words(row[0])[0] for row in rows}
    expected = {refusal(parse_step, f"{op} ?").split("`")[1] for op in steps(parse_step)}
    assert forms == expected
    assert {word for row in rows for word in words(row[1])} == enumerators("XMC_STEP_", "OPS")


def test_ways_to_the_bytes_are_those_of_the_core() -> None:
    rows = table("write-a-regime.md", "Ways to the bytes")
    assert {words(row[0])[0].upper() for row in rows} == enumerators("XMC_VIA_", "S")


def test_executor_steps_are_those_of_the_loader_and_of_the_core() -> None:
    rows = table("write-a-regime.md", "Executor steps")
    assert [words(row[0]) for row in rows] == [[op] for op in steps(parse_exec_step)]
    in_core = [op.upper().replace("-", "_") for op in steps(parse_exec_step)]
    assert [words(row[1]) for row in rows] == [[op] for op in in_core]
    assert set(in_core) == enumerators("XMC_EXEC_", "OPS")


def test_the_contract_of_a_port_is_complete() -> None:
    arch = ROOT / "native" / "arch"
    texts = [(arch / name).read_text() for name in ("arch.h", "x86_64/isa.h")]
    code = re.sub(r"/\*.*?\*/", "", "".join(texts), flags=re.DOTALL)
    declared = set(re.findall(r"\b(xmc_arch_\w+)(?=[\[(;])", code))
    assert {word for row in table("write-a-port.md", "The contract") for word in words(row[0])} == declared


def load_example_case(folder: Path) -> Case:
    case = load_case(example("write-a-case.md", "lea-disp32.toml", folder), read_host().isa)
    if case is None:
        pytest.skip("the example has no table for this ISA")
    return case


def test_the_example_case_is_new_and_loads(tmp_path: Path) -> None:
    case = load_example_case(tmp_path)
    assert not (find_cases() / f"{case.name}.toml").exists()
    shown = showing.show_case(case.name, str(tmp_path))
    assert shown.startswith(f"{case.name} ({case.kind}): {case.summary}\n")
    assert all(f"returns {image.returns:#x}" in shown for image in case.images)


def test_the_example_case_is_what_the_assembler_makes_of_its_text(tmp_path: Path) -> None:
    for image in load_example_case(tmp_path).images:
        source = f".text\n{image.asm}\n".encode()
        subprocess.run(["as", "--64", "-o", tmp_path / "o", "-"], input=source, check=True, timeout=60)
        dump = ("objcopy", "-O", "binary", "-j", ".text", tmp_path / "o", tmp_path / "bin")
        subprocess.run(dump, check=True, timeout=60)
        assert (tmp_path / "bin").read_bytes() == image.bytes


def test_the_example_regime_is_new_and_loads(tmp_path: Path) -> None:
    path = example("write-a-regime.md", "my-jit.toml", tmp_path)
    (name,) = load_regimes(path).keys() - load_regimes().keys()
    shown = showing.show_regime(name, (str(path),))
    assert all(f". {step}\n" in shown for step in ("store all new", "mfence", "publish", "lfence on-change"))


def test_the_example_template_is_a_regime_for_every_number(tmp_path: Path) -> None:
    path = example("write-a-regime.md", "my-wait.toml", tmp_path)
    found = load_regimes(path, asked=["flag+wait-250"]).keys() - load_regimes().keys()
    assert found == {"flag+wait-1000", "flag+wait-250"}


def run_cells(folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Run cells of a third of a second, and return them by name; all must have ended well."""
    command = [
        sys.executable,
        "-m",
        "stress",
        "run",
        *options,
        "--seconds",
        "0.3",
        "--out",
        str(folder / "out"),
    ]
    command += ["--format", "json", "--fail-on", "never", "--quiet"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    cells = {cell["cell"]: cell for cell in json.loads(run.stdout)["cells"]}
    assert {cell["status"] for cell in cells.values()} == {"ok"}, cells
    return cells


def of_regime(cells: dict[str, dict[str, Any]], regime: str) -> list[dict[str, Any]]:
    return [cell for cell in cells.values() if cell["regime"] == regime]


@pytest.mark.hardware
def test_the_example_case_runs(tmp_path: Path) -> None:
    case = load_example_case(tmp_path)
    choice = ("--cases", case.name, "--regimes", "idle,none", "--sites", "in8,x64")
    cells = run_cells(tmp_path, "--case-dir", str(tmp_path), *choice)
    assert len(of_regime(cells, "idle")) == len(of_regime(cells, "none")) == 2
    for cell in of_regime(cells, "idle"):
        assert cell["executions"] == cell["old"] > 0
    for cell in of_regime(cells, "none"):
        assert cell["new"] > 0
    # Were one of its values wrong, every execution of that image would count as torn.
    (whole,) = (cell for cell in of_regime(cells, "none") if cell["site"] == "in8")
    assert whole["torn"] + whole["fault"] < whole["executions"] / len(case.images) / 2


@pytest.mark.hardware
def test_the_example_regime_runs(tmp_path: Path) -> None:
    path = example("write-a-regime.md", "my-jit.toml", tmp_path)
    choice = ("--regimes", "my-jit,idle", "--cases", "mov-imm32,nop5-jmp5", "--sites", "in8,x64")
    cells = run_cells(tmp_path, "--regime-file", str(path), *choice)
    assert len(of_regime(cells, "my-jit")) == 4
    for cell in of_regime(cells, "my-jit"):
        assert cell["patches"] > 0
        assert cell["old"] > 0
        assert cell["new"] > 0


def test_severities_are_those_of_the_code() -> None:
    rows = table("formats.md", "Severity")
    assert [words(row[1]) for row in rows] == [[result] for result in Result]
    for row, result in zip(rows, Result, strict=True):
        spelled = WORDS[result]
        expected = [[spelled.junit], [spelled.ktap, spelled.directive], [spelled.lava]]
        assert [words(cell) for cell in row[2:]] == [[word for word in cell if word] for cell in expected]
        said = set(words(row[0]))
        assert {grade for grade, its in BY_GRADE.items() if its is result} == said & set(Grade)
        assert {status for status, its in BY_STATUS.items() if its is result} == said & set(Status)


def test_formats_are_those_of_the_code() -> None:
    head = (DOCS / "formats.md").read_text().partition("## Severity")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in head.splitlines() if "| `" in line]
    assert {words(row[0])[0]: "".join(words(row[1])) for row in rows} == {
        k: v.suffix for k, v in FORMATS.items()
    }


def test_changes_are_those_of_the_code() -> None:
    text = (DOCS / "compare.md").read_text().partition("## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "| `" in line]
    assert [(words(row[0])[0], row[2] == "yes") for row in rows] == [
        (change, change in WORSE) for change in Change if change is not Change.SAME
    ]


def test_profiles_are_those_of_the_package() -> None:
    assert [words(row[0])[0] for row in table("config.md", "Profiles")] == list(
        read_toml(PROFILES)["profiles"]
    )


def test_the_example_configuration_is_read(tmp_path: Path) -> None:
    file = example("config.md", "stress.toml", tmp_path)
    config = load(file, cli)
    assert config.defaults["compare"] == {"factor": 20}
    assert config.choose("nightly", "run")["budget"] == "2h"
