"""What `list` and `show` print: rows that say what there is, pages that say everything about one thing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stress import listing, showing
from stress.cases import load_cases
from stress.errors import UsageError
from stress.host import Host, read_host
from stress.matrix import Request, build
from stress.promises import load_promises
from stress.regimes import load_provocations, load_regimes
from tests.trees.hosts import PROBE, guest
from tests.trees.machines import plant, regular

CASES = load_cases()
REGIMES = load_regimes()
OPTIONS = {
    key: value
    for key, value in Request().as_dict().items()
    if key
    in ("cases regimes sites stores provoke placements cpus executors case_dir bug_dir regime_files".split())
}


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The recorded guest, which lacks `serialize`, instead of the machine that the test runs on."""
    host = guest(tmp_path / "tree")
    monkeypatch.setattr(listing, "read_host", lambda: host)
    return host


def rows(what: str, **changed: Any) -> listing.Rows:
    return listing.ROWS[what](OPTIONS | changed)


def test_every_case_is_a_row_with_its_source() -> None:
    found = rows("cases")
    assert [row["case"] for row in found] == list(CASES)
    for row in found:
        case = CASES[row["case"]]
        assert (row["kind"], row["images"], row["source"]) == (case.kind, len(case.images), case.source)
        assert row["patch"] == f"{case.patch}+{case.patch_len}"


def test_every_regime_is_a_row_with_what_this_machine_lacks_for_it() -> None:
    found = {row["regime"]: row for row in rows("regimes")}
    assert list(found) == list(REGIMES)
    assert {name: row["lacks"] for name, row in found.items() if row["lacks"]} == {
        "flag+serialize": "serialize"
    }
    assert {row["claims"] for row in found.values()} == {"complete", "nothing"}


def test_every_code_is_findable_and_those_that_nobody_has_say_why() -> None:
    """A case or regime less, and a code that nobody carries any more, is noticed here."""
    promises = load_promises()
    found = {row["code"]: row for row in rows("codes")}
    assert list(found) == [*promises.kinds, *promises.codes]
    assert {code for code, row in found.items() if not row["names"]} == set(promises.absent)
    for code, row in found.items():
        assert row["meaning"] == {**promises.kinds, **promises.codes}[code]
        assert row["source"]
        assert row["used by"] == len(row["names"])
        assert row["absent"] == promises.absent.get(code, "")
    assert "x86-64" in found["R9"]["absent"]


def test_cases_and_regimes_name_between_them_every_code_that_is_not_absent() -> None:
    cases, regimes = rows("cases"), rows("regimes")
    kinds = {kind for row in cases for kind in (row["kind"], *row["also"].split(",")) if kind}
    kinds |= {row["kind"] for row in regimes if row["kind"]}
    promises = load_promises()
    assert kinds == set(promises.kinds) - set(promises.absent)
    assert {row["code"] for row in regimes} == set(promises.codes) - set(promises.absent)
    assert all(row["source"] for row in (*cases, *regimes))


def test_who_carries_a_code_is_named() -> None:
    found = {row["code"]: row["names"] for row in rows("codes")}
    assert {"two-imm8", "two-opcodes"} <= set(found["K11"])
    assert "frame-swap" in found["K20"]
    assert "mov-imm32" in found["K4"]
    assert found["R1m"] == ["flag+mfence"]


def test_every_provocation_is_a_row_with_its_steps() -> None:
    found = {row["provocation"]: row for row in rows("provocations")}
    assert list(found) == list(load_provocations())
    assert found["none"]["steps"] == ""
    assert found["executor-flush-both"]["steps"] == "executor: flush-head, flush-tail"


def test_words_choose_the_rows() -> None:
    assert [row["case"] for row in rows("cases", cases=("mov-imm32,mov-imm64",))] == [
        "mov-imm32",
        "mov-imm64",
    ]
    assert [row["regime"] for row in rows("regimes", regimes=("none,idle",))] == ["idle", "none"]
    for what, changed in (("cases", {"cases": ("nope",)}), ("regimes", {"regimes": ("nope",)})):
        with pytest.raises(UsageError, match="'nope' matches nothing"):
            rows(what, **changed)


def test_cells_are_those_that_a_run_would_run_and_those_that_it_would_skip(host: Host) -> None:
    matrix, found = build(Request(), host), rows("cells")
    assert [row["cell"] for row in found if not row["status"]] == [plan.cell.name for plan in matrix.plans]
    skipped = {row["cell"]: row["reason"] for row in found if row["status"] == "skipped"}
    assert skipped == {skip.cell.name: skip.reason for skip in matrix.skips}
    assert all(skipped.values())


def test_cells_are_listed_however_long_running_them_would_take() -> None:
    assert len(rows("cells", cases=("mov-imm32",), sites=("all",), stores=("all",))) > 3000


def test_every_cpu_is_a_row_that_says_how_near_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = regular(packages=2, cores=2, threads=2)
    server = read_host(plant(tmp_path / "server", files), PROBE)
    monkeypatch.setattr(listing, "read_host", lambda: server)
    found = rows("cpus")
    assert [row["cpu"] for row in found] == list(server.topology.numbers)
    near = [row["to cpu 0"] for row in found]
    assert near[0] == ""
    assert set(near[1:]) == {"smt", "l3", "cross"}
    allowed = replace(server, allowed=frozenset({1, 3}))
    monkeypatch.setattr(listing, "read_host", lambda: allowed)
    assert [row["cpu"] for row in rows("cpus")] == [1, 3]


@pytest.mark.parametrize("what", listing.ROWS)
def test_rows_become_aligned_columns(what: str) -> None:
    found = rows(what)
    head, *lines = listing.as_text(found).splitlines()
    assert len(lines) == len(found)
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S(?:\S| (?! ))*", head)]
    for line in lines:
        for start in starts[1:]:
            assert line[start - 2 : start].strip() == "", line
    assert "source" not in head.split()
    assert all(line == line.rstrip() for line in (head, *lines))


def test_empty_columns_are_left_out() -> None:
    found: listing.Rows = [
        {"a": 1, "b": "", "c": -1, "source": "x"},
        {"a": 22, "b": "", "c": -1, "source": "y"},
    ]
    assert listing.as_text(found) == "a\n1\n22"


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_shown_with_every_byte_and_what_every_image_does(name: str) -> None:
    case, text = CASES[name], showing.show_case(name, "")
    lines = text.splitlines()
    assert lines[0] == f"{name} ({case.kind}): {case.summary}"
    assert lines[1] == f"source: {case.source}"
    assert lines[2].startswith(f"patched: {case.patch_len} bytes at offset {case.patch}; ")
    for number, image in enumerate(case.images):
        does = "traps at its head" if image.traps else f"returns {image.returns:#x}"
        at = lines.index(f"image {number}: {does}")
        shown = []
        for line in lines[at + 1 :]:
            match = re.match(r"    +(?:[0-9a-f]{1,2}  )?((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: |$)", line)
            if not match:
                break
            shown.append(match[1])
        assert bytes.fromhex(" ".join(shown)) == image.bytes
        for statement in image.asm.split(";"):
            assert statement.strip() in text
    for pad in case.pads:
        assert f"pad at {pad.offset:+#x}" in text
        assert pad.bytes.hex(" ") in text


@pytest.mark.parametrize("name", REGIMES)
def test_a_regime_is_shown_with_every_step_and_what_it_claims(name: str) -> None:
    regime, text = REGIMES[name], showing.show_regime(name, ())
    assert text.startswith(f"{name} ({regime.code}): {regime.summary}\nsource: {regime.source}\n")
    for number, step in enumerate(regime.writer, 1):
        assert f"    {number}. {step.text}" in text
    for number, exec_step in enumerate(regime.executor, len(regime.writer) + 1):
        assert f"    {number}. {exec_step.text}" in text
    assert f"via: {regime.via}" in text
    assert ("after the last step no executor may run old code" in text) == regime.completes
    assert ("breaks on purpose: " in text) == bool(regime.ablation_of)
    assert all(need in text for need in regime.needs)


@pytest.mark.parametrize("name", ["nope", ""])
def test_what_is_not_there_cannot_be_shown(name: str) -> None:
    with pytest.raises(UsageError, match="matches nothing; there are: "):
        showing.show_case(name, "")
    with pytest.raises(UsageError, match="matches nothing; there are: "):
        showing.show_regime(name, ())


@pytest.mark.parametrize("word", ["all", "mov*"])
def test_a_word_that_names_several_is_not_cut_to_one_in_silence(word: str) -> None:
    try:
        text = showing.show_case(word, "")
    except UsageError:
        return
    assert "mov-imm32 (K1)" in text
    assert "mov-imm64 (K1)" in text
