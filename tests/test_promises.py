"""The promise tables: complete, cited, as the manuals have them, and as docs/promises.md prints them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from stress.errors import CaseError
from stress.model import Outcome, Phase
from stress.patterns import Way
from stress.promises import FILE, STRENGTH, Level, Promise, load_promises, parse_promises

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "stress" / FILE).read_text()
DATA = tomllib.loads(TEXT)
PROMISES = load_promises()
AMD, INTEL, OTHER = "AuthenticAMD", "GenuineIntel", "CentaurHauls"
VENDORS = (AMD, INTEL, OTHER)
BAD = (Outcome.TORN, Outcome.FAULT, Outcome.STALE, Outcome.HANG)


def look_up(
    kind: str,
    code: str,
    vendor: str,
    outcome: Outcome,
    phase: Phase = Phase.CONCURRENT,
    completes: bool = True,
    ablation: bool = False,
    modified: bool = True,
) -> Promise:
    return PROMISES.look_up(kind, code, vendor, phase, outcome, completes, ablation, modified)


def torn(kind: str, vendor: str, code: str = "R0") -> Level:
    return look_up(kind, code, vendor, Outcome.TORN, completes=code != "R0").level


def stale(code: str, vendor: str, completes: bool = True) -> Level:
    return look_up("K3", code, vendor, Outcome.STALE, Phase.POST, completes).level


def test_every_code_has_a_row_for_every_vendor() -> None:
    assert list(PROMISES.kinds) == [f"K{n}" for n in range(1, 24)]
    assert list(PROMISES.codes) == "R0 R1 R1m R1l R2 R3 R3x R4 R4g R4s R4d R5 R5q R5h R6 R7 R7b R8 R9".split()
    families = {"amd", "intel", "generic"}
    assert set(PROMISES.concurrent) == set(product(PROMISES.kinds, families))
    assert set(PROMISES.post) == set(product(PROMISES.codes, families))


def test_every_row_cites_and_explains_itself_and_no_source_is_idle() -> None:
    rows = [*DATA["concurrent"], *DATA["protocols"], *DATA["post"]]
    mixes = [mix for row in rows for mix in row.get("mixes", {}).values()]
    assert all(mix["why"].strip().endswith(".") for mix in mixes)
    assert all(row["source"] and row["why"].strip().endswith((".", ")")) for row in rows)
    used = {name for row in [*rows, *DATA["rules"].values()] for name in row["source"]}
    assert used == set(DATA["sources"])


def test_no_source_is_a_file_that_does_not_ship() -> None:
    assert not [text for text in DATA["sources"].values() if "rules.md" in text or "/work/" in text]


@pytest.mark.parametrize("kind", ["K1", "K5", "K6", "K7", "K8", "K9", "K10", "K17", "K18", "K19", "K23"])
def test_what_one_aligned_store_does_is_forbidden_on_amd_and_folklore_on_intel(kind: str) -> None:
    assert torn(kind, AMD) == Level.FORBIDDEN
    assert torn(kind, INTEL) == Level.RELIED_ON
    assert torn(kind, OTHER) == Level.RELIED_ON


@pytest.mark.parametrize("kind", ["K2", "K3", "K4", "K14", "K15", "K16", "K20", "K22"])
def test_what_needs_synchronization_may_tear_on_amd_while_in_flight(kind: str) -> None:
    assert torn(kind, AMD) == Level.ALLOWED


def test_intel_forbids_nothing_that_is_asynchronous() -> None:
    forbidden = {
        kind
        for kind, outcome in product(PROMISES.kinds, BAD)
        if PROMISES.concurrent[kind, "intel"][outcome].level is Level.FORBIDDEN
    }
    assert forbidden == {"K21"}  # never executable before, so nothing that is executed is modified


def test_a_store_inside_a_line_is_folklore_on_intel_and_one_across_is_not() -> None:
    assert torn("K2", INTEL) == Level.RELIED_ON
    assert torn("K3", INTEL) == torn("K4", INTEL) == Level.ALLOWED


MIXES = {
    # kind: what the AMD manual says of whole-instruction mixes (volume 2, 7.6.1); every other mix is forbidden
    "K11": {"AB'": "allowed", "A'B": "forbidden"},
    "K12": {"A'X": "forbidden"},
    "K13": {"AX": "allowed"},
    "K18": {"A'B": "forbidden", "A'X": "forbidden"},
}


@pytest.mark.parametrize("kind", DATA["kinds"])
@pytest.mark.parametrize("outcome", [Outcome.TORN, Outcome.FAULT, Outcome.HANG])
def test_whole_instruction_mixes_are_promised_on_amd_kind_by_kind(kind: str, outcome: Outcome) -> None:
    phase = Phase.CONCURRENT
    for pattern in PROMISES.patterns:
        found = PROMISES.look_up(kind, "R0", AMD, phase, outcome, False, False, True, pattern)
        rest = look_up(kind, "R0", AMD, outcome, completes=False)
        named = MIXES.get(kind, {}).get(pattern)
        assert found.level == (named or rest.level), pattern
        assert (found == rest) == (named is None), pattern
        on_intel = PROMISES.look_up(kind, "R0", INTEL, phase, outcome, False, False, True, pattern)
        assert on_intel == look_up(kind, "R0", INTEL, outcome, completes=False)
        other = PROMISES.look_up(kind, "R0", OTHER, phase, outcome, False, False, True, pattern)
        assert STRENGTH[other.level] <= min(STRENGTH[found.level], STRENGTH[on_intel.level])


def test_a_mix_says_nothing_of_old_code() -> None:
    for pattern in PROMISES.patterns:
        stale = PROMISES.look_up(
            "K11", "R3", AMD, Phase.CONCURRENT, Outcome.STALE, True, False, True, pattern
        )
        assert stale == look_up("K11", "R3", AMD, Outcome.STALE)


def test_a_complete_protocol_excludes_every_mix() -> None:
    for pattern, code in product(PROMISES.patterns, ("R4", "R5q")):
        found = PROMISES.look_up("K11", code, AMD, Phase.CONCURRENT, Outcome.TORN, True, False, True, pattern)
        assert found == look_up("K11", code, AMD, Outcome.TORN)


def test_the_way_back_of_one_to_many_is_many_to_one_and_many_to_many_is_neither() -> None:
    assert [PROMISES.kind_of("K12", way) for way in Way] == ["K12", "K13", "K11"]
    assert [PROMISES.kind_of("K13", way) for way in Way] == ["K13", "K12", "K11"]
    assert {PROMISES.kind_of("K11", way) for way in Way} == {"K11"}


@pytest.mark.parametrize(
    ("kind", "level"), [("K11", "forbidden"), ("K12", "forbidden"), ("K13", "forbidden")]
)
def test_a_mix_that_is_no_whole_instructions_is_forbidden_on_amd(kind: str, level: str) -> None:
    assert torn(kind, AMD) == look_up(kind, "R0", AMD, Outcome.FAULT).level == level
    assert torn(kind, INTEL) == Level.ALLOWED


def test_what_a_membarrier_ends_it_ends_in_every_protocol_that_ends_with_it() -> None:
    """R4's last step is R3: where R3 leaves only the new code, R4 does."""
    for vendor, outcome in product(VENDORS, [*BAD, Outcome.TRAP]):
        last = look_up("K3", "R3", vendor, outcome, Phase.POST)
        assert look_up("K3", "R4", vendor, outcome, Phase.POST).level == last.level
        assert "membarrier" in last.source


@pytest.mark.parametrize(
    ("code", "amd", "intel"),
    [
        ("R0", "allowed", "allowed"),
        ("R1", "allowed", "allowed"),
        ("R1m", "forbidden", "allowed"),
        ("R1l", "allowed", "allowed"),
        ("R2", "forbidden", "forbidden"),
        ("R3", "forbidden", "forbidden"),
        ("R3x", "allowed", "allowed"),
        ("R4", "forbidden", "forbidden"),
        ("R5", "relied-on", "relied-on"),
        ("R6", "relied-on", "relied-on"),
        ("R7", "forbidden", "forbidden"),
        ("R7b", "relied-on", "relied-on"),
        ("R8", "allowed", "allowed"),
        ("R9", "allowed", "allowed"),
    ],
)
def test_what_completion_promises_of_old_code(code: str, amd: str, intel: str) -> None:
    assert (stale(code, AMD), stale(code, INTEL)) == (amd, intel)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("code", DATA["codes"])
def test_a_regime_that_claims_nothing_may_leave_old_code(code: str, vendor: str) -> None:
    assert stale(code, vendor, completes=False) == Level.ALLOWED


def test_after_completion_a_kind_is_held_to_what_it_was_held_to_in_flight() -> None:
    unsynchronized = look_up("K1", "R0", AMD, Outcome.TORN, Phase.POST, completes=False)
    assert unsynchronized.level == Level.FORBIDDEN
    assert look_up("K3", "R0", AMD, Outcome.TORN, Phase.POST, completes=False).level == Level.ALLOWED
    assert look_up("K3", "R3", AMD, Outcome.TORN, Phase.POST).level == Level.FORBIDDEN


def test_an_image_older_than_the_last_complete_one_takes_both_tables_to_forbid() -> None:
    assert look_up("K1", "R3", AMD, Outcome.STALE).level == Level.FORBIDDEN
    assert look_up("K1", "R1", AMD, Outcome.STALE).level == Level.ALLOWED
    assert look_up("K3", "R3", AMD, Outcome.STALE).level == Level.ALLOWED
    assert look_up("K1", "R3", INTEL, Outcome.STALE).level == Level.RELIED_ON


@pytest.mark.parametrize("kind", DATA["kinds"])
def test_a_complete_breakpoint_protocol_may_not_tear_at_any_site(kind: str) -> None:
    assert torn(kind, AMD, "R4") == Level.FORBIDDEN
    assert torn(kind, INTEL, "R4") == Level.RELIED_ON
    for vendor in (AMD, INTEL):
        assert look_up(kind, "R4", vendor, Outcome.TRAP).level == Level.ALLOWED


def test_a_breakpoint_protocol_that_does_not_complete_is_several_stores() -> None:
    incomplete = look_up("K1", "R4", AMD, Outcome.TORN, completes=False)
    assert incomplete == look_up("K15", "R0", AMD, Outcome.TORN, completes=False)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("outcome", BAD)
@pytest.mark.parametrize("phase", Phase)
def test_an_ablation_claims_nothing(phase: Phase, outcome: Outcome, vendor: str) -> None:
    assert look_up("K1", "R4", vendor, outcome, phase, ablation=True).level == Level.ALLOWED


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("outcome", [*BAD, Outcome.TRAP])
@pytest.mark.parametrize("phase", Phase)
def test_idle_forbids_all_but_whole_executions(phase: Phase, outcome: Outcome, vendor: str) -> None:
    idle = look_up("K3", "R0", vendor, outcome, phase, completes=False, modified=False)
    assert idle.level == Level.FORBIDDEN


@pytest.mark.parametrize("phase", [Phase.INTERIOR, Phase.RESUMED])
@pytest.mark.parametrize("kind", DATA["kinds"])
def test_interior_and_resumed_executions_prove_nothing(kind: str, phase: Phase) -> None:
    for code, outcome in product(DATA["codes"], BAD):
        promise = look_up(kind, code, AMD, outcome, phase)
        assert promise.level == Level.ALLOWED
        assert promise.why


@pytest.mark.parametrize("kind", DATA["kinds"])
def test_other_vendors_are_held_to_the_weaker_promise(kind: str) -> None:
    phases = (Phase.CONCURRENT, Phase.POST)
    for code, phase, outcome, completes in product(DATA["codes"], phases, BAD, (False, True)):
        amd, intel, other = (look_up(kind, code, v, outcome, phase, completes).level for v in VENDORS)
        assert STRENGTH[other] <= min(STRENGTH[amd], STRENGTH[intel])


@pytest.mark.parametrize("kind", DATA["kinds"])
def test_whole_executions_are_always_allowed(kind: str) -> None:
    outcomes = (Outcome.OLD, Outcome.NEW)
    for code, vendor, phase, outcome in product(DATA["codes"], VENDORS, Phase, outcomes):
        assert look_up(kind, code, vendor, outcome, phase).level == Level.ALLOWED


def test_a_vendor_may_be_named_by_its_family() -> None:
    for family, vendor in (("amd", AMD), ("amd", "HygonGenuine"), ("intel", INTEL)):
        assert look_up("K1", "R3", family, Outcome.TORN) == look_up("K1", "R3", vendor, Outcome.TORN)
    assert look_up("K1", "R3", "generic", Outcome.TORN) == look_up("K1", "R3", OTHER, Outcome.TORN)


def test_a_spinning_guard_may_hang_and_other_hangs_are_torn() -> None:
    assert look_up("K23", "R0", AMD, Outcome.HANG).level == Level.ALLOWED
    assert look_up("K1", "R0", AMD, Outcome.HANG).level == Level.FORBIDDEN


@pytest.mark.parametrize(("kind", "code"), [("K24", "R0"), ("K1", "R10"), ("", "R0")])
def test_unknown_codes_are_refused_in_one_line(kind: str, code: str) -> None:
    with pytest.raises(CaseError, match=r"unknown .*; give ") as caught:
        look_up(kind, code, AMD, Outcome.TORN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('kinds = ["K12"]', 'kinds = ["K11"]', "K11: two rows for amd"),
        ('kinds = ["K12"]', "kinds = []", r"rows missing.*\('K12', 'amd'\)"),
        ('kinds = ["K12"]', 'kinds = ["K99"]', "K99"),
        ('torn = "forbidden"', 'torn = "never"', "never"),
        ('torn = "forbidden"\n', "", "torn: missing"),
        ('trap = "allowed"\n', "", "trap: missing"),
        ('source = ["APM-ASYNC"]', 'source = ["APM-NONE"]', "APM-NONE: missing"),
        ('confidence = "M"', 'confidence = "X"', "confidence: one of H, M, U"),
        ("[kinds]", "[[kinds]", "promises.toml"),
        ("mixes.AX]", "mixes.AY]", "'AY' is not a valid Pattern"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(old: str, new: str, told: str) -> None:
    assert old in TEXT
    with pytest.raises(CaseError, match=told) as caught:
        parse_promises(TEXT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


# ---- docs/promises.md
# ------------------------------------------------------------------------------------------


def levels(row: dict[str, Any], outcomes: Iterable[str]) -> str:
    by_level = {level: [o for o in outcomes if row.get(o) == level] for level in Level}
    said = [f"{', '.join(names)} {level}" for level, names in by_level.items() if names]
    said += [f"mix {name} {mix['level']}" for name, mix in row.get("mixes", {}).items()]
    return f"{'; '.join(said)} ({row['confidence']})"


def doc_rows(table: str, key: str, names: dict[str, str], outcomes: tuple[str, ...]) -> Iterator[str]:
    rows = {(code, row["vendor"]): row for row in DATA[table] for code in row[key]}
    for code, meaning in names.items():
        amd, intel = rows[code, "amd"], rows[code, "intel"]
        cited = ", ".join(dict.fromkeys([*amd["source"], *intel["source"]]))
        yield f"| {code} | {meaning} | {levels(amd, outcomes)} | {levels(intel, outcomes)} | {cited} |"


PROTOCOLS = {code: text for code, text in DATA["codes"].items() if code in PROMISES.otherwise}


def doc_lines() -> Iterator[str]:
    """Yield every line that docs/promises.md takes from the data."""
    yield from doc_rows("concurrent", "kinds", DATA["kinds"], ("torn", "fault", "stale", "hang"))
    yield from doc_rows("protocols", "codes", PROTOCOLS, ("torn", "fault", "stale"))
    yield from doc_rows("post", "codes", DATA["codes"], ("stale", "torn", "fault", "trap"))
    for key in ("patterns", "sources"):
        yield from (f"| {name} | {text} |" for name, text in DATA[key].items())


def test_the_documentation_prints_the_tables_as_they_are() -> None:
    document = (ROOT / "docs" / "promises.md").read_text().splitlines()
    assert [line for line in doc_lines() if line not in document] == []
    rows = [line for line in document if line.startswith(("| K", "| R"))]
    assert [line for line in rows if line not in set(doc_lines())] == []
