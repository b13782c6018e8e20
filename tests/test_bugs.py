"""Known bugs: recipes that load, both sides as cells of a run, and pages that say which side is which."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from stress import listing, recipes
from stress.bugs import SIDES, find_bugs, load_bug, load_bugs, split_words
from stress.errors import CaseError, UsageError
from stress.gallery import bug_lines
from stress.grade import EVENTS, counts_of, total
from stress.host import Host
from stress.matrix import Request, build
from stress.model import Grade
from stress.promises import load_promises
from stress.reading import Listed, Reading
from stress.store import read_records
from tests.support import ROOT, is_one_line, stress
from tests.trees.hosts import guest

ISA = "x86_64"
BUGS = load_bugs(None, ISA)
PAGE = (ROOT / "docs" / "gallery.md").read_text()
every_bug = pytest.mark.parametrize("name", BUGS)

GOOD = """\
title = "a made-up bug"
year = 2026
source = ["nowhere"]
summary = "It was patched."
fix = "It is not patched any more."
promised = "Nothing."

[wrong]
does = "a store across a line"
case = "mov"
sites = ["x64+2"]
regimes = ["none"]

[right]
does = "a store inside a quadword"
case = "mov"
sites = ["in8"]
regimes = ["none"]

[patterns.mov]
kind = "K1"
summary = "the immediate of a mov"
source = "a manual, section 1"

[patterns.mov.x86_64]
patch = [1, 4]

[[patterns.mov.x86_64.images]]
bytes = "b8 11 21 31 41 c3"
asm = "mov $0x41312111, %eax; ret"
returns = 0x41312111

[[patterns.mov.x86_64.images]]
bytes = "b8 12 22 32 42 c3"
asm = "mov $0x42322212, %eax; ret"
returns = 0x42322212
"""
PUBLISHED = 'case = "publish-mov"\nregimes = ["bpf-pack"]'
WRONG = 'case = "mov"\nsites = ["x64+2"]\nregimes = ["none"]'


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The recorded guest, instead of the machine that the test runs on."""
    host = guest(tmp_path / "tree")
    monkeypatch.setattr(recipes, "read_host", lambda: host)
    return host


def written(folder: Path, text: str, name: str = "made-up") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


# ---- the files -------------------------------------------------------------------------------------------------


def test_there_are_a_dozen_and_each_is_named_as_its_file() -> None:
    assert list(BUGS) == sorted(path.stem for path in find_bugs().glob("*.toml"))
    assert len(BUGS) >= 12


@every_bug
def test_the_sides_of_a_bug_differ_and_say_what_they_do(name: str) -> None:
    bug = BUGS[name]
    assert [side.label for side in bug.sides] == [f"{name}:{side}" for side in SIDES]
    assert bug.wrong.does != bug.right.does
    assert any(re.search(r"\d", source) for source in bug.source)  # an id, a section or a date
    assert all((bug.title, bug.summary, bug.fix, bug.promised))


def test_everything_that_a_bug_asks_for_can_be_run_on_a_guest_that_has_it(host: Host) -> None:
    matrix = build(Request(cases=("bug:*",)), host)
    assert not matrix.skips
    labels = set(chain.from_iterable(plan.cell.bugs for plan in matrix.plans))
    assert labels == {side.label for bug in BUGS.values() for side in bug.sides}


def test_a_made_up_bug_is_read(tmp_path: Path) -> None:
    bug = load_bug(written(tmp_path, GOOD), ISA)
    assert bug
    assert (bug.name, bug.wrong.case.name, bug.wrong.stores) == ("made-up", "made-up.mov", ("whole",))
    assert load_bug(written(tmp_path, GOOD), "aarch64") is None


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ("year = 2026", "year = 1066", "year", "give 1970 to 2100"),
        ('summary = "It was patched."', 'summary = " "', "summary", "say it in a sentence"),
        ('source = ["nowhere"]', "source = []", "source", "give each name once"),
        ("promised", "promises", "promises", "the keys here are"),
        (WRONG, WRONG.replace('"mov"', '"move"'), "wrong.case", "give mov of this file, or one that"),
        (
            WRONG,
            WRONG.replace('["none"]', '["nine"]'),
            "wrong.regimes",
            "give one that `stress list regimes` names",
        ),
        (WRONG, WRONG.replace('["x64+2"]', '["x64+4"]'), "wrong.sites", "give another site or store"),
        (WRONG, WRONG.replace('["x64+2"]', '["x65"]'), "wrong.sites", "give in, in8"),
        (WRONG, WRONG.replace('sites = ["x64+2"]', ""), "wrong.sites", 'as in ["in8"]'),
        (WRONG, WRONG + '\nstores = ["hole"]', "wrong.stores", "give some of whole"),
        (WRONG, WRONG.replace("x64+2", "in8"), "right", "give another case, site, store or regime"),
        (WRONG, PUBLISHED + '\nsites = ["in8"]', "wrong.regimes", "leave out sites, stores"),
        (WRONG, PUBLISHED.replace("publish-mov", "mov-imm32"), "wrong.case", "give a case that is published"),
        (
            "b8 12 22 32 42 c3",
            "b8 12 22 32 42",
            "patterns.mov.x86_64.images[1].bytes",
            "give the whole region",
        ),
        ('kind = "K1"', 'kind = "K99"', "patterns.mov.kind", "give K1 to K23"),
        ('case = "mov"', 'case = "mov-imm32"', "patterns.mov", "name it as a case, or leave it out"),
        ("[wrong]", "[wrong", "toml", "correct the syntax"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, key: str, remedy: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(CaseError) as refused:
        load_bug(path, ISA)
    text = str(refused.value)
    assert text.startswith(f"{path}: {key}: ")
    assert remedy in text
    assert "\n" not in text


def test_the_command_line_refuses_a_bad_file_and_words_that_name_nothing(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace("2026", "1066"))
    for args, text in (
        (("list", "bugs", "--bug-dir", tmp_path), "made-up.toml: year: 1066"),
        (("list", "bugs", "--bug-dir", tmp_path / "no"), "give a directory of bug files"),
        (("run", "--cases", "bug:no-such"), "'bug:no-such' matches nothing; there are: bug:bpf-pack"),
        (("list", "bugs", "--cases", "mov-imm32"), "'mov-imm32' matches nothing"),
        (("show", "bug", "no-such"), "'bug:no-such' matches nothing"),
        (("show", "bug", "hotspot-*"), "give one name: hotspot-"),
    ):
        done = stress(*args)
        assert done.returncode == 2
        assert is_one_line(done.stderr)
        assert text in done.stderr


# ---- cells of a run --------------------------------------------------------------------------------------------


def cells_of(host: Host, *words: str, **more: Any) -> dict[str, tuple[str, ...]]:
    """The cells that the words mean, without their companions, and the sides that each is."""
    matrix = build(Request(cases=words, **more), host)
    return {p.cell.name: p.cell.bugs for p in matrix.plans if p.cell.regime.role == "cell"}


def test_a_bug_is_run_as_its_two_sides(host: Host) -> None:
    assert cells_of(host, "bug:hotspot-half-oop") == {
        "mov-imm64@x64+4/whole:none:l3": ("hotspot-half-oop:wrong",),
        "mov-imm64@x4096+4/whole:none:l3": ("hotspot-half-oop:wrong",),
        "mov-imm64@x64+4/whole:quiesce:l3": ("hotspot-half-oop:right",),
        "mov-imm64@x4096+4/whole:quiesce:l3": ("hotspot-half-oop:right",),
    }


def test_what_two_bugs_and_a_case_have_in_common_is_run_once_for_all(host: Host) -> None:
    found = cells_of(
        host, "bug:ftrace*,bug:liteinst-nops", "nop5-jmp5", regimes=("none",), sites=("in8,x64",)
    )
    assert found["nop5-jmp5@in8/whole:none:l3"] == ("ftrace-two-part-nop:right", "liteinst-nops:right")
    assert found["nop5-jmp5@x64+2/whole:none:l3"] == ()
    assert len(found) == 2 + 2 + 2 + 1


@pytest.mark.parametrize("option", ["regimes", "sites", "stores"])
def test_what_a_bug_brings_itself_cannot_be_chosen_as_well(host: Host, option: str) -> None:
    chosen: dict[str, Any] = {option: ("none",) if option == "regimes" else ("all",)}
    with pytest.raises(UsageError, match=f"--{option}: a known bug brings its own"):
        build(Request(cases=("bug:v8*",), **chosen), host)


def test_words_are_split_by_their_prefix() -> None:
    assert split_words(("mov*,bug:a", " bug:b* ")) == (["mov*"], ["bug:a", "bug:b*"])


@pytest.mark.hardware
def test_the_wrong_side_goes_red_and_the_right_one_stays_clean(tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = ("chimera-splice", "hotpatch-backedge")
    words = ",".join(f"bug:{name}" for name in names)
    done = stress("run", "--cases", words, "--seconds", "0.4", "--out", run, "--fail-on", "never", "--quiet")
    assert done.returncode == 0, done.stderr
    lines = bug_lines(Reading({}, Listed(read_records(run)), load_promises()))
    assert [(line.bug, line.side) for line in lines] == [(name, side) for name in names for side in SIDES]
    for line in lines:
        assert bool(line.events) is (line.side == "wrong"), line
        assert line.executions > 100_000
        assert line.grade is not Grade.FORBIDDEN
    assert {line.grade for line in lines if line.side == "right"} == {Grade.CLEAN}
    block = done.stdout.partition("Known bugs (stress show bug NAME):\n")[2]
    assert re.search(r"chimera-splice +wrong INTERESTING .* of .*/s under \S+\n", block)
    assert re.search(r"chimera-splice +right CLEAN +0 of \S+, <\S+\n", block)


@pytest.mark.hardware
def test_records_json_and_pages_say_which_side_a_cell_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    args = ("--seconds", "0.1", "--out", run, "--fail-on", "never", "--format", "json")
    shown = json.loads(
        stress("run", "--cases", "bug:chimera-splice,mov-imm32", "--regimes", "idle", *args).stdout
    )
    sides = {cell["cell"].partition(":")[0]: cell["bugs"] for cell in shown["cells"]}
    assert sides["nop5-jmp5@in8/bytes"] == ["chimera-splice:wrong"]
    assert sides["jmp-rel32@in8/whole"] == ["chimera-splice:right"]
    assert sides["mov-imm32@in8/whole"] == []
    ends = {r["cell"]: r for r in read_records(run) if r["type"] == "end" and r["role"] == "cell"}
    (wrong,) = (cell for cell, r in ends.items() if r["bugs"] == ["chimera-splice:wrong"])
    assert total(counts_of(ends[wrong]), *EVENTS)
    page = stress("explain", wrong, "--run", run).stdout
    assert "the wrong side of a known bug: stress show bug chimera-splice" in page
    rows = stress("report", run, "--format", "gallery").stdout.splitlines()
    assert rows[0] == "| bug | wrong | right |"
    assert rows[2].startswith("| `chimera-splice` | INTERESTING: ")


# ---- what is printed and documented ----------------------------------------------------------------------------


def test_every_bug_is_a_row_of_the_list_and_has_a_page(host: Host) -> None:
    rows = json.loads(stress("list", "bugs", "--format", "json").stdout)
    assert [row["bug"] for row in rows] == list(BUGS)
    assert [row["bug"] for row in listing.ROWS["bugs"]({"cases": ("bug:v8*",), "bug_dir": ""})] == [
        "v8-jump-table"
    ]
    (row,) = (row for row in rows if row["bug"] == "chimera-splice")
    assert row["wrong"] == "nop5-jmp5@in8/bytes:none"
    assert "pull request 63" in row["source"]


@every_bug
def test_the_page_of_a_bug_says_both_protocols_and_what_was_changed(name: str, host: Host) -> None:
    page, bug = recipes.show_bug(name, ""), BUGS[name]
    together = " ".join(page.split())
    assert all(text in together for text in (bug.title, bug.summary, bug.fix, bug.promised, *bug.source))
    for side in bug.sides:
        assert all(f"{regime.name} ({regime.code}, via {regime.via})" in page for regime in side.regimes)
        assert side.does in page
    assert max(map(len, page.splitlines())) <= 130


def test_the_gallery_has_a_row_and_a_section_for_every_bug() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert rows == list(BUGS)
    assert re.findall(r"^### `([^`]+)`", PAGE, re.MULTILINE) == list(BUGS)
