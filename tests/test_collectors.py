"""What collectors of results make of our formats: each is read back by a reader that was not written here."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped
from tap.parser import Parser

from stress import cli
from stress.formats import FORMATS, format_of, write
from stress.grade import EVENTS
from stress.model import Grade, Outcome
from stress.promises import load_promises
from stress.reading import Listed, Reading, path_of, worst_of
from stress.severity import BY_GRADE, BY_STATUS, FAIL_ON, WORDS, Result, judge
from stress.store import read_records
from tests.support import ROOT, count, shown, stress
from tests.test_formats import RECORDS, RUN, START, record, skipped, torn

PROMISES = load_promises()
SCHEMAS = ROOT / "stress" / "schema"

FORBIDDEN = record(case="bad", outcomes={"concurrent": {"old": 1_000_000, "torn": 7}})
"""AMD forbids a tear inside an aligned quadword."""
ALL = [FORBIDDEN, *RECORDS]

LAVA = re.compile(r"<LAVA_SIGNAL_(\S+) ([^>]+)>")
"""What LAVA's dispatcher looks for, lava_dispatcher/actions/test/shell.py."""
LAVA_NAME = re.compile(r"[a-zA-Z0-9._-]+")
KCIDB_PATH = re.compile(r"^([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?$")
"""kcidb-io, schema/v05_00.py: test_path_re."""

Figures = dict[str, int]


def reading(*records: dict[str, Any], **how: Any) -> Reading:
    return Reading(RUN, Listed(records or ALL), PROMISES, **how)


def results(read: Reading) -> dict[str, str]:
    """What each cell came to, by its path."""
    return {finding.path: finding.result for finding in read.findings}


def signals(text: str) -> Iterator[dict[str, str]]:
    """Yield the test cases that LAVA would take from the console, as its handle_testcase splits them."""
    for name, params in LAVA.findall(text):
        assert name == "TESTCASE"
        data = {}
        for param in params.split():
            parts = param.split("=")
            assert len(parts) == 2, param
            data[parts[0].lower()] = parts[1]
        yield data


def tap(text: str) -> tuple[int, list[Any]]:
    """How many tests were planned, and the results, as tap.py reads them."""
    lines = list(Parser().parse_text(text))
    assert not [line for line in lines if line.category == "bail"]
    (plan,) = (line for line in lines if line.category == "plan")
    return plan.expected_tests, [line for line in lines if line.category == "test"]


def facts(text: str) -> dict[str, str]:
    return dict(line.partition(": ")[::2] for line in text.splitlines())


# ---- one table of severities -----------------------------------------------------------------------------------


def test_every_grade_and_every_status_has_a_result() -> None:
    assert set(BY_GRADE) == set(Grade)
    assert set(WORDS) == set(Result)
    assert {"ok", *BY_STATUS} == {"ok", "skipped", "timeout", "crashed", "error"}


@pytest.mark.parametrize(
    ("status", "grade", "fail_on", "known", "result"),
    [
        ("ok", Grade.CLEAN, FAIL_ON, False, Result.PASS),
        ("ok", Grade.FORBIDDEN, FAIL_ON, False, Result.FAIL),
        ("ok", Grade.FORBIDDEN, FAIL_ON, True, Result.XFAIL),
        ("ok", Grade.FORBIDDEN, {"SURPRISING"}, False, Result.XFAIL),
        ("ok", Grade.INTERESTING, {"INTERESTING"}, False, Result.FAIL),
        ("ok", Grade.UNPROVEN, {"UNPROVEN"}, False, Result.FAIL),
        ("crashed", Grade.UNPROVEN, FAIL_ON, False, Result.ERROR),
        ("crashed", Grade.FORBIDDEN, FAIL_ON, False, Result.FAIL),
        ("skipped", Grade.UNPROVEN, {"UNPROVEN"}, False, Result.SKIP),
        ("of a later version", Grade.CLEAN, FAIL_ON, False, Result.ERROR),
        ("", None, FAIL_ON, False, Result.ERROR),
    ],
)
def test_what_was_seen_decides_then_how_the_cell_ended(
    status: str, grade: Grade | None, fail_on: set[str], known: bool, result: Result
) -> None:
    assert judge(status, grade, fail_on, known) is result


@pytest.mark.parametrize(
    ("grade", "fail_on", "known", "result"),
    [
        (Grade.UNPROVEN, FAIL_ON, False, Result.FAIL),
        (Grade.UNPROVEN, set(), False, Result.XFAIL),
        (Grade.INTERESTING, FAIL_ON, True, Result.FAIL),
        (Grade.FORBIDDEN, FAIL_ON, True, Result.XFAIL),
    ],
)
def test_that_what_is_under_test_died_is_a_finding(
    grade: Grade, fail_on: set[str], known: bool, result: Result
) -> None:
    assert judge("crashed", grade, fail_on, known, died=True) is result


def test_a_cell_that_was_begun_and_never_ended_is_an_error() -> None:
    (finding,) = reading(START).findings
    assert (finding.result, finding.status, finding.grade) == (Result.ERROR, "unfinished", "")


NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{0,6}", fullmatch=True)
SITES = st.from_regex(r"x(8|64)\+[1-4]|in8|fresh", fullmatch=True)
CELLS = st.tuples(NAMES, SITES, st.sampled_from(["whole", "sse16"]), NAMES, st.sampled_from(["l3", "smt"]))


@given(CELLS, CELLS)
def test_names_are_legal_everywhere_and_stay_different(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    paths = [path_of("{}@{}/{}:{}:{}".format(*parts)) for parts in (one, other)]
    assert all(KCIDB_PATH.match(path) and LAVA_NAME.fullmatch(path) for path in paths)
    assert (paths[0] == paths[1]) == (one == other)


def test_provocation_repeat_and_host_are_told_apart() -> None:
    cell = record(cell="a@in8/whole:none:l3~writer-own", plan={"repeat": 2})
    here, there = reading(cell, {**cell, "host": "f00"}).findings
    assert here.path == "0123456789ab.a.in8.whole.none.l3.writer-own.R2"
    assert there.path == "f00.a.in8.whole.none.l3.writer-own.R2"


# ---- each format, read back ------------------------------------------------------------------------------------


def test_junit_is_what_junitparser_reads() -> None:
    read = reading()
    document = JUnitXml.fromstring(write("junit", read).encode())
    elements = {Result.FAIL: Failure, Result.ERROR: Error, Result.SKIP: Skipped}
    found = {}
    for suite in document:
        for case in suite:
            found[facts(case.system_out)["path"]] = [type(each) for each in case.result]
    assert found == {p: [elements[Result(r)]] if r in elements else [] for p, r in results(read).items()}
    assert (document.tests, document.failures, document.errors) == (7, 1, 2)


def test_junit_keeps_to_the_schema_of_jenkins() -> None:
    """junit-10.xsd of the xUnit plugin: which elements and attributes may stand where, and how a suite's time looks."""
    counts = {"tests", "failures", "errors"}
    allowed = {
        "testsuites": ({"testsuite"}, {"name", "time", *counts}),
        "testsuite": (
            {"properties", "testcase"},
            {"name", "time", "skipped", "timestamp", "hostname", *counts},
        ),
        "properties": ({"property"}, set()),
        "property": (set(), {"name", "value"}),
        "testcase": ({"skipped", "failure", "error", "system-out"}, {"name", "classname", "time"}),
        **{name: (set(), {"type", "message"}) for name in ("skipped", "failure", "error")},
        "system-out": (set(), set()),
    }
    root = Xml.fromstring(shown("junit", RUN, ALL, PROMISES))
    assert root.tag == "testsuites"
    for element in root.iter():
        children, attributes = allowed[element.tag]
        assert {child.tag for child in element} <= children
        assert set(element.attrib) <= attributes
        if element.tag.startswith("testsuite"):
            assert counts <= set(element.attrib)
            assert re.fullmatch(r"\d+\.\d{3}", element.attrib["time"])


def test_ktap_is_what_a_tap_reader_reads() -> None:
    read = reading()
    planned, lines = tap(write("ktap", read))
    assert planned == len(lines) == len(read)
    assert [line.number for line in lines] == list(range(1, planned + 1))
    for line, finding in zip(lines, read.findings, strict=True):
        assert line.description == finding.path
        assert line.ok == (finding.result not in (Result.FAIL, Result.ERROR))
        assert line.skip == (finding.result is Result.SKIP)
        assert line.directive.text.startswith(WORDS[finding.result].directive)


def test_ktap_keeps_to_the_kernel_s_grammar() -> None:
    """ktap.rst: version, plan, then results and diagnostics; at most one directive, of those that are accepted."""
    version, plan, *lines = shown("ktap", RUN, ALL, PROMISES).splitlines()
    assert version == "KTAP version 1"
    assert re.fullmatch(r"1\.\.\d+", plan)
    form = re.compile(r"(ok|not ok) \d+ [^#]+( # ((SKIP|XFAIL|ERROR|TIMEOUT|FORBIDDEN) )?[^#]*)?")
    assert all(line.startswith("# ") or form.fullmatch(line) for line in lines)


def test_lava_signals_are_what_its_dispatcher_reads() -> None:
    read = reading()
    found = list(signals(write("lava", read)))
    assert [(f["test_case_id"], f["result"]) for f in found] == [
        (finding.path, WORDS[finding.result].lava) for finding in read.findings
    ]
    (tore,) = (f for f in found if f["test_case_id"].startswith("bad."))
    assert tore["units"] == "events/execution"
    assert float(tore["measurement"]) == 7 / 1_000_007


def test_csv_has_every_figure_of_the_records() -> None:
    rows = list(csv.DictReader(io.StringIO(shown("csv", RUN, ALL, PROMISES))))
    cells = [r for r in ALL if r["type"] == "end"]
    assert len(rows) == len(cells) + 1
    for row, cell in zip(rows, cells, strict=False):
        assert (row["cell"], row["status"], row["reason"]) == (cell["cell"], cell["status"], cell["reason"])
        assert [int(row[outcome]) for outcome in Outcome] == [count(cell, outcome) for outcome in Outcome]
        assert int(row["events"]) == count(cell, *EVENTS)
        assert (int(row["patches"]), float(row["seconds"])) == (cell["patches"], cell["seconds"])
    assert (rows[-1]["cell"], rows[-1]["result"], rows[-1]["torn"]) == (START["cell"], "error", "")


def test_markdown_says_what_failed_first_and_fits_a_comment() -> None:
    text = shown("markdown", RUN, ALL, PROMISES)
    assert text.startswith("### stress: failed\n")
    assert shown("markdown", RUN, RECORDS, PROMISES).startswith("### stress: no promise was broken, but")
    assert shown("markdown", RUN, [record()], PROMISES).startswith("### stress: nothing failed\n")
    assert text.index(FORBIDDEN["cell"]) < text.index("| regime |") < 65_536
    many = [torn(n, case=f"case{n}") for n in range(1, 3000)]
    assert len(shown("markdown", RUN, many, PROMISES)) < 65_536


def test_markdown_tables_are_rectangular_and_hold_the_figures() -> None:
    table = [line for line in shown("markdown", RUN, ALL, PROMISES).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert len({len(row) for row in cells}) == 1
    (row,) = (dict(zip(cells[0], row, strict=True)) for row in cells if row[0] == "`none`")
    assert (row["cells"], row["torn"], row["grade"]) == ("3", "102", "FORBIDDEN")


def schema(name: str) -> Any:
    checker = jsonschema.Draft202012Validator
    its = json.loads((SCHEMAS / f"{name}.json").read_text())
    checker.check_schema(its)
    return checker(its)


def test_json_and_records_are_what_their_schemas_say() -> None:
    schema("report").validate(json.loads(shown("json", RUN, ALL, PROMISES)))
    for line in ALL:
        schema("record").validate(line)


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "middle"},
        {"status": "fine"},
        {"outcomes": {"concurrent": {"melted": 1}}},
        {"outcomes": {"concurrent": {"old": -1}}},
        {"seconds": "1"},
        {"schema": 2},
    ],
)
def test_the_schema_of_records_refuses_what_is_none(broken: dict[str, Any]) -> None:
    assert list(schema("record").iter_errors({**record(), **broken}))


# ---- what every failure carries --------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["junit", "ktap", "lava", "markdown"])
def test_every_failure_carries_the_command_that_shows_it_again(style: str) -> None:
    text = write(style, reading(folders=("a folder",)))
    expected = shlex.join(["stress", "explain", FORBIDDEN["cell"], "--run", "a folder"])
    assert expected in (Xml.fromstring(text).find(".//failure").text if style == "junit" else text)  # type: ignore[union-attr, operator]


def test_a_cell_that_ran_more_than_once_is_named_by_its_id() -> None:
    first, second = reading({**FORBIDDEN, "id": "aa"}, {**FORBIDDEN, "id": "bb"}).findings
    assert (first.again[0], second.again[0]) == ("stress explain aa", "stress explain bb")


def test_of_several_folders_the_one_that_holds_the_cell_is_named() -> None:
    (finding,) = reading({**FORBIDDEN, "home": "there"}, folders=("here", "there")).findings
    assert finding.again[1].endswith("--run there")


# ---- baselines -------------------------------------------------------------------------------------------------


def test_a_known_finding_does_not_fail_and_a_new_or_worse_one_does() -> None:
    known = worst_of(reading(FORBIDDEN).findings)
    assert not reading(FORBIDDEN, known=known).failed
    assert reading(FORBIDDEN, {**FORBIDDEN, "cell": "new@in8/whole:none:l3"}, known=known).failed
    assert reading(FORBIDDEN, known={FORBIDDEN["cell"]: Grade.INTERESTING}).failed
    assert reading(FORBIDDEN, known={FORBIDDEN["cell"]: Grade.SURPRISING}).failed


def test_skipped_cells_are_no_baseline() -> None:
    assert worst_of(reading(skipped("no")).findings) == {}


# ---- the command line ------------------------------------------------------------------------------------------


def folder(path: Path, *records: dict[str, Any]) -> Path:
    """A run folder that holds `records`."""
    path.mkdir()
    (path / "run.json").write_text(json.dumps(RUN))
    (path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    return path


def test_files_are_written_in_the_format_of_their_suffix(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", *ALL)
    files = [tmp_path / f"report{its.suffix}" for its in FORMATS.values() if its.suffix]
    told = stress("report", run, *(word for file in files for word in ("-o", file)))
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    for file in files:
        its = stress("report", run, "--format", format_of(str(file))).stdout
        assert file.read_text() == its


@pytest.mark.parametrize("name", ["report", "report.pdf"])
def test_an_unknown_suffix_is_one_line(tmp_path: Path, name: str) -> None:
    told = stress("report", folder(tmp_path / "run", *ALL), "-o", tmp_path / name)
    assert told.returncode == cli.USAGE
    assert told.stderr.count("\n") == 1
    assert ".xml" in told.stderr


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], cli.CLEAN),
        (["--fail-on", "forbidden"], cli.FOUND),
        (["--fail-on", "surprising"], cli.CLEAN),
        (["--baseline", "same"], cli.CLEAN),
        (["--baseline", "other"], cli.FOUND),
    ],
)
def test_a_report_fails_where_it_is_asked_to(tmp_path: Path, options: list[str], status: int) -> None:
    run = folder(tmp_path / "run", *ALL)
    folder(tmp_path / "same", *ALL)
    folder(tmp_path / "other", *RECORDS)
    paths = [tmp_path / word if (tmp_path / word).is_dir() else word for word in options]
    assert stress("report", run, *paths).returncode == status


def test_help_imports_no_format() -> None:
    script = (
        "import sys; from stress.cli import cli; print(*(m for m in sys.modules if m.startswith('stress')))"
    )
    loaded = subprocess.run(
        [*_python(), "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert not {f"stress.{its.module}" for its in FORMATS.values()} & set(loaded.stdout.split())


def _python() -> list[str]:
    import sys

    return [sys.executable]


@cache
def a_run(path: str) -> tuple[Any, list[dict[str, Any]]]:
    """A run of a few cells, printed in KTAP while it went on, and its records."""
    told = stress(
        *("run", "--cases", "mov-imm32,opcode-byte", "--regimes", "idle,none,flag,int3+sync-core"),
        *("--seconds", "0.1", "--out", path, "--format", "ktap", "--fail-on", "never"),
    )
    assert told.returncode == 0, told.stderr
    return told, list(read_records(path))


@pytest.mark.hardware
def test_one_run_in_each_format_has_the_figures_of_its_records(tmp_path: Path) -> None:
    told, records = a_run(str(tmp_path / "run"))
    for line in records:
        schema("record").validate(line)
    cells = {r["id"]: r for r in records if r["type"] == "end" and r["role"] == "cell"}
    events = {name: count(r, *EVENTS) for name, r in cells.items()}
    assert any(events.values())

    def report(style: str) -> str:
        return stress("report", tmp_path / "run", "--format", style).stdout

    document = json.loads(report("json"))
    schema("report").validate(document)
    assert {c["id"]: sum(c[e] for e in EVENTS) for c in document["cells"]} == events
    results = {c["id"]: c["result"] for c in document["cells"]}

    rows = list(csv.DictReader(io.StringIO(report("csv"))))
    assert {row["id"]: int(row["events"]) for row in rows} == events
    assert {row["id"]: int(row["executions"]) for row in rows} == {n: count(r) for n, r in cells.items()}

    said = [
        facts(case.system_out) for suite in JUnitXml.fromstring(report("junit").encode()) for case in suite
    ]
    assert {fact["id"]: int(fact.get("events", 0)) for fact in said} == events
    paths = {fact["path"]: fact["id"] for fact in said}

    after = list(signals(report("lava")))
    for signal in after:
        cell = cells[paths[signal["test_case_id"]]]
        if executions := count(cell):
            assert float(signal["measurement"]) == count(cell, *EVENTS) / executions
        assert signal["result"] == WORDS[Result(results[cell["id"]])].lava

    planned, lines = tap(report("ktap"))
    ok = {line.description: line.ok for line in lines}
    assert planned == len(cells)
    assert ok == {p: results[n] not in ("fail", "error") for p, n in paths.items()}
    live, at_once = tap(told.stdout)
    assert live == planned
    assert {(x.description, x.ok, x.skip) for x in at_once} == {(x.description, x.ok, x.skip) for x in lines}
