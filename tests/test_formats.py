"""Formats: every figure where design.md says it is, in 100 columns, and nothing about a run that it did not show."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress.formats import FORMATS
from stress.model import Grade, Outcome
from stress.promises import load_promises
from stress.table import LEGEND, WIDTH, si
from tests.support import aggregate, as_json, shown

PROMISES = load_promises()
RUN = {"schema": 1, "seed": 7, "host": {"model": "A CPU"}}
FIGURES = {
    "executions",
    "patches",
    *Outcome,
    "store_tears",
    "fetch_tears",
    "seconds",
    "upper_bound_95",
    "grade",
}
ANSI = re.compile(r"\033\[[0-9;]*m")


def record(
    case: str = "mov-imm32", site: str = "in8", regime: str = "none", **changes: Any
) -> dict[str, Any]:
    """Return a cell of an AMD machine that saw nothing but good executions, under two provocations."""
    good = {"seconds": 0.25, "patches": 10_000, "outcomes": {"concurrent": {"old": 600_000, "new": 400_000}}}
    whole = {"concurrent": {"old": 1_200_000, "new": 800_000}}
    return {
        "schema": 1,
        "type": "end",
        "id": f"{case}{site}{regime}",
        "cell": f"{case}@{site}/whole:{regime}:l3",
        "case": case,
        "kind": "K1" if site == "in8" else "K3",
        "site": site,
        "store": "whole",
        "regime": regime,
        "code": "R0",
        "completes": False,
        "ablation_of": "",
        "provocation": "auto",
        "placement": "l3",
        "cpus": [0, 1],
        "vendor": "AuthenticAMD",
        "host": "0123456789ab",
        "status": "ok",
        "reason": "",
        "started": "2026-11-22T12:00:00Z",
        "seconds": 0.5,
        "patches": 20_000,
        "outcomes": whole,
        "provocations": {"none": good, "executor-flush-tail": good},
        "signatures": [],
        "plan": None,
        **changes,
    }


def torn(n: int, provoked: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a cell that tore `n` times, and `provoked` times more within the quarter second of a provocation."""
    cell = record(site="x64+2", **changes)
    both = {"none": n, "executor-flush-tail": provoked}
    return cell | {
        "outcomes": {"concurrent": {"old": 1_200_000, "new": 800_000, "torn": n + provoked}},
        "provocations": {
            name: {
                "seconds": 0.25,
                "patches": 10_000,
                "outcomes": {"concurrent": {"old": 1_000_000, "torn": k}},
            }
            for name, k in both.items()
        },
    }


def skipped(reason: str, **changes: Any) -> dict[str, Any]:
    nothing = {"outcomes": {}, "provocations": {}, "patches": 0, "seconds": 0.0}
    return record(**changes) | nothing | {"status": "skipped", "reason": reason}


START = {"schema": 1, "type": "start", "id": "unfinished", "cell": "a@in8/whole:none:l3", "started": ""}
RECORDS = [
    record(),
    torn(5, 90),
    record(regime="alias", status="crashed", reason="the worker died of SIGSEGV"),
    skipped("this machine lacks SERIALIZE", regime="flag+serialize"),
    skipped("this machine lacks SERIALIZE", regime="flag+serialize", case="jmp-rel32"),
    START,
]


def rows(table: str) -> dict[str, list[str]]:
    """Return the table's rows, split, by regime."""
    body = table.split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in body}


# ---- JSON ------------------------------------------------------------------------------------------------------


def test_json_has_exactly_the_documented_keys() -> None:
    result = as_json(RUN, RECORDS, PROMISES)
    assert set(result) == {"schema", "run", "regimes", "cells"}
    assert result["run"] == RUN
    for line in result["regimes"]:
        assert set(line) == {"regime", "cells"} | FIGURES
    names = "id host result cell case site store regime provocation placement cpus status reason promise"
    for cell in result["cells"]:
        assert set(cell) == {*names.split(), "provocations", "bugs"} | FIGURES


def test_json_figures_are_the_records_own() -> None:
    result = as_json(RUN, RECORDS, PROMISES)
    cell = result["cells"][1]
    assert cell["cell"] == "mov-imm32@x64+2/whole:none:l3"
    assert (cell["torn"], cell["old"], cell["executions"], cell["patches"]) == (
        95,
        1_200_000,
        2_000_095,
        20_000,
    )
    assert (cell["grade"], cell["promise"], cell["status"]) == ("INTERESTING", "allowed", "ok")
    assert cell["provocations"]["executor-flush-tail"]["torn"] == 90
    assert cell["store_tears"] is cell["fetch_tears"] is None
    regime = result["regimes"][0]
    assert (regime["regime"], regime["cells"], regime["executions"]) == ("none", 2, 4_000_095)


def test_json_keeps_skipped_cells_and_drops_start_records() -> None:
    cells = as_json(RUN, RECORDS, PROMISES)["cells"]
    assert len(cells) == len(RECORDS) - 1
    assert [cell["reason"] for cell in cells if cell["status"] == "skipped"] == [
        "this machine lacks SERIALIZE"
    ] * 2


def test_json_text_is_strict_json_and_never_coloured() -> None:
    text = shown("json", RUN, RECORDS, PROMISES, colour=True)
    assert json.loads(text) == as_json(RUN, RECORDS, PROMISES)
    assert text.endswith("}\n")
    assert "\033" not in text


# ---- table -----------------------------------------------------------------------------------------------------


def test_table_shows_one_row_a_regime_with_human_numbers() -> None:
    table = rows(shown("table", RUN, RECORDS, PROMISES))
    assert table["none"] == "2 4.00M 40.0k 2.40M 1.60M 95 0 0 0 0 4.7e-5 INTERESTING".split()
    assert table["alias"] == "1 2.00M 20.0k 1.20M 800k 0 0 0 0 0 <1.5e-6 UNPROVEN".split()
    assert "flag+serialize" not in table  # nothing of it ran: the reason stands below the table


def test_table_names_every_column() -> None:
    heads = "regime cells execs patch old new torn stale fault trap hang rate grade".split()
    assert shown("table", RUN, RECORDS, PROMISES).splitlines()[0].split() == heads


def test_columns_stand_under_their_heads() -> None:
    head, *lines = shown("table", RUN, RECORDS, PROMISES).split("\n\n")[0].splitlines()
    for line in lines:
        assert [m.end() for m in re.finditer(r"\S+", line)][1:-1] == [
            m.end() for m in re.finditer(r"\S+", head)
        ][1:-1]


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            torn,
            st.integers(0, 10**9),
            st.integers(0, 10**9),
            regime=st.sampled_from(
                ["none", "alias+int3+sync-core", "a-regime-of-the-users-with-a-long-name"]
            ),
        ),
        max_size=12,
    )
)
def test_table_never_exceeds_its_width(records: list[dict[str, Any]]) -> None:
    for line in shown("table", RUN, records, PROMISES).splitlines():
        assert len(line) <= WIDTH


@pytest.mark.parametrize("width", [99, 80, 60, 45])
def test_on_a_narrow_terminal_columns_are_left_out_and_lines_folded(width: int) -> None:
    whole, narrow = (
        shown("table", RUN, RECORDS, PROMISES),
        shown("table", RUN, RECORDS, PROMISES, width=width),
    )
    head, *body = narrow.split("\n\n")[0].splitlines()
    assert max(map(len, (head, *body))) <= width
    assert {"regime", "rate", "grade"} <= set(head.split()) < set(whole.split("\n")[0].split())
    assert [row.split()[-2:] for row in body] == [row[-2:] for row in rows(whole).values()]
    words = max(map(len, narrow.split()))
    assert max(map(len, narrow.splitlines())) <= max(width, words + 20)
    assert set(narrow.split()) <= set(whole.split())


def test_a_long_regime_name_is_never_cut() -> None:
    name = "a-regime-of-the-users-with-a-long-name"
    table = shown("table", RUN, [record(regime=name)], PROMISES).splitlines()
    assert table[1] == name
    assert table[2].split()[:2] == ["1", "2.00M"]


def test_the_worst_cells_are_named_with_their_rate_under_what_provoked_them_best() -> None:
    text = shown("table", RUN, RECORDS, PROMISES)
    assert "mov-imm32@x64+2/whole:none:l3\n              95 torn; 360/s under executor-flush-tail\n" in text


def test_a_cell_that_took_no_time_has_no_rate() -> None:
    instant = {"seconds": 0.0, "patches": 0, "outcomes": {"concurrent": {"torn": 3}}}
    text = shown("table", RUN, [torn(3) | {"provocations": {"none": instant}}], PROMISES)
    assert "3 torn; 0/s under none" in text


def test_worse_grades_come_first_whatever_their_rate() -> None:
    forbidden = record(case="bad", outcomes={"concurrent": {"old": 1_000_000, "torn": 1}})
    cells = [
        line.split()
        for line in shown("table", RUN, [torn(10**6), forbidden], PROMISES).splitlines()
        if "@" in line
    ]
    assert cells == [["FORBIDDEN", forbidden["cell"]], ["INTERESTING", "mov-imm32@x64+2/whole:none:l3"]]


def test_at_most_ten_cells_are_named_and_the_rest_counted() -> None:
    text = shown("table", RUN, [torn(n, case=f"case{n}") for n in range(1, 14)], PROMISES)
    assert len(re.findall(r"@x64", text)) == 10
    assert "case13@" in text
    assert "case3@" not in text
    assert "and 3 more" in text


def test_a_run_without_events_names_no_cell() -> None:
    assert "look at" not in shown("table", RUN, [record()], PROMISES)


def test_what_did_not_run_is_counted_by_reason() -> None:
    lines = shown("table", RUN, RECORDS, PROMISES).splitlines()
    assert "skipped 2: this machine lacks SERIALIZE (flag+serialize)" in lines
    assert "crashed 1: the worker died of SIGSEGV (alias)" in lines
    assert "begun and not finished 1: --resume goes on with them" in lines


def test_the_legend_explains_the_grades_that_occur_and_no_others() -> None:
    legend = shown("table", RUN, [record()], PROMISES).split("\n\n")[-1]
    assert LEGEND[Grade.CLEAN] in legend
    assert not [text for grade, text in LEGEND.items() if grade != Grade.CLEAN and text in legend]


def test_colour_changes_nothing_but_the_grade_words() -> None:
    plain = shown("table", RUN, RECORDS, PROMISES)
    coloured = shown("table", RUN, RECORDS, PROMISES, colour=True)
    assert "\033" not in plain
    assert ANSI.sub("", coloured) == plain
    painted = re.findall(r"\033\[[0-9;]+m(.*?)\033\[0m", coloured)
    assert {word.strip() for word in painted} == {"INTERESTING", "UNPROVEN"}


def test_the_vendor_asked_for_decides() -> None:
    tear = record(outcomes={"concurrent": {"old": 1_000_000, "torn": 1}})
    assert rows(shown("table", RUN, [tear], PROMISES))["none"][-1] == "FORBIDDEN"
    assert rows(shown("table", RUN, [tear], PROMISES, vendor="intel"))["none"][-1] == "SURPRISING"
    assert as_json(RUN, [tear], PROMISES, vendor="intel")["cells"][0]["promise"] == "relied-on"
    assert (
        json.loads(shown("json", RUN, [tear], PROMISES, vendor="intel"))["regimes"][0]["grade"]
        == "SURPRISING"
    )


@pytest.mark.parametrize("style", list(FORMATS))
def test_an_empty_run_prints_something_valid(style: str) -> None:
    assert shown(style, RUN, [], PROMISES).endswith("\n")


def test_both_formats_show_the_same_grades() -> None:
    grades = {regime: cells[-1] for regime, cells in rows(shown("table", RUN, RECORDS, PROMISES)).items()}
    assert grades == {line.regime: line.grade for line in aggregate(RECORDS, PROMISES) if line.cells}


# ---- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (9_994, "9.99k"),
        (9_995, "10.0k"),
        (99_949, "99.9k"),
        (99_950, "100k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (12_345_678, "12.3M"),
        (10**13, "10.0T"),
    ],
)
def test_counts_have_three_digits_and_a_suffix(n: int, text: str) -> None:
    assert si(n) == text


@given(st.integers(0, 10**18))
def test_counts_fit_five_characters_and_are_right_to_half_a_percent(n: int) -> None:
    text = si(n)
    assert len(text) <= 5
    factor = 1000 ** ("kMGTPE".index(text[-1]) + 1) if text[-1].isalpha() else 1
    assert float(text.rstrip("kMGTPE")) * factor == pytest.approx(n, rel=0.0051)
