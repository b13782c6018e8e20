"""Regimes and provocations: little programs in TOML, read and checked as cases are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from stress.ablations import ablate, asked_for, stem_of
from stress.checks import CHECKS, Complaints
from stress.model import Provocation, Regime
from stress.publish import PUBLISH_STEPS, PUBLISHING, VIAS, check_publishing, make_regime
from stress.steps import LINE_STEPS, MEMBARRIERS, PROVOKING, RIGHTS, parse_exec_step, parse_step
from stress.tables import LINE, NAME, Field, matching, one_of, read_table, read_toml, refuse, within

# enum xmc_limit of native/xmc.h, and the arrays of struct xmc_provocation
PROVOCATIONS_MAX = 16
PROVOCATION_STEPS_MAX = 4

ANTAGONISTS = ("lines", "smt")
"""What a thread beside the race may do: hammer the patched lines, or compete for an executor's core."""

_NEEDED_BY_VIA = {
    "same": ("rwx",),
    "alias": ("alias",),
    "reopen": ("alias",),
    # Byte mixes are executed through an alias, whichever way the writer takes.
    "mremap": ("alias",),
    "shmat": ("alias",),
    "process": ("alias",),
    "procmem": ("procmem", "alias"),
    "vmwritev": ("rwx", "vmwritev"),
    "ptrace": ("rwx", "alias", "ptrace"),
}
_MEMBARRIERS = {f"membarrier {command}": f"membarrier-{command}" for command in MEMBARRIERS}
# Not every machine gives execution back to a page that could be written: prctl(PR_SET_MDWE), SELinux execmod.
_NEEDED_BY_STEP = _MEMBARRIERS | {f"protect {rights}": "protect-x" for rights in RIGHTS if "x" in rights}
_NEEDED_BY_PAGES: dict[str, tuple[str, ...]] = {"4k": (), "2m": ("huge-pages",)}
_NEEDED_BY_EXECUTOR = {"serialize": "serialize"}

FEATURES = (
    "serialize", "mfence-serializes", *_MEMBARRIERS.values(), "rwx", "alias", "procmem", "vmwritev", "ptrace",
    "protect-x", "huge-pages",
)  # fmt: skip
"""What `needs` may name."""

_NUMBER = Field(int, "a number", convert=within(0, 2**64 - 1))
_CODE = matching(r"R\d[a-z]?", "R0 to R9, with a letter for a variant, as in R1m")
_SUMMARY = Field(str, "one line that says what is done", convert=LINE)
_WRITER = Field(str, "a step, as in `store all new`", convert=parse_step)
_EXECUTOR = Field(str, "a step, as in `cpuid on-change`", convert=parse_exec_step)
_REGIME = {
    "code": Field(str, "a code, R0 to R9", convert=_CODE),
    "summary": _SUMMARY,
    "source": Field(str, "the manual section or file that it comes from", convert=LINE),
    "writer": Field(list, "the writer's steps for one patch, [] for none", each=_WRITER),
    "executor": Field(list, "the executor's steps before each execution", (), each=_EXECUTOR),
    "via": Field(
        str, "a way to the bytes", "same", convert=one_of(tuple(_NEEDED_BY_VIA), "way to the bytes")
    ),
    "pages": Field(str, "4k or 2m", "4k", convert=one_of(tuple(_NEEDED_BY_PAGES), "size of page")),
    "completes": Field(bool, "true if no executor may run old code after the last step", False),
    "needs": Field(list, "features", (), each=Field(str, "a feature", convert=one_of(FEATURES, "feature"))),
    "min_patch": Field(int, "a number of bytes", 1, convert=within(1, 64)),
    "ablation_of": Field(str, "the name of the complete protocol", ""),
    "without": Field(list, "lists of steps", (), each=Field(str, "step numbers, as in `2-4`")),
}
_PUBLISH_REGIME = {
    **{key: field for key, field in _REGIME.items() if key != "pages"},
    "writer": Field(
        list,
        "the writer's steps for one publication",
        each=Field(str, "a step, as in `fill all`", convert=lambda text: parse_step(text, PUBLISH_STEPS)),
    ),
    "via": Field(str, " or ".join(VIAS), "alias", convert=one_of(VIAS, "way to the bytes")),
    "publish": Field(dict, "a table", fields=PUBLISHING),
}
# Of a template only the numbers are read as they stand: the rest is, once N is a number.
_TEMPLATE = {
    **{key: Field(field.type, field.give, field.default) for key, field in _REGIME.items()},
    "numbers": Field(list, "the numbers that are listed without being asked for", each=_NUMBER),
}
_PROVOCATION = {
    "summary": _SUMMARY,
    "cost": Field(str, "what it costs, and what else it does", convert=LINE),
    "writer": Field(list, "the writer's flushes before each patch", (), each=_WRITER),
    "executor": Field(list, "the executor's flushes before each execution", (), each=_EXECUTOR),
    "signal_us": Field(int, "mean microseconds between signals", 0, convert=within(0, 10**6)),
    "antagonist": Field(str, "what a further thread does", "", convert=one_of(ANTAGONISTS, "antagonist")),
    "turns": Field(bool, "whether `auto` includes it", True),
    "guess": Field(bool, "true if executors guess what is published next", False),
    "flush_pointer": Field(bool, "true if they flush the pointer's line as well", False),
}


def _read_named(path: Path, key: str, fields: Mapping[str, Field]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and checked values of the tables `[key.NAME]` of the TOML file `path`."""
    tables = read_table(path, "", read_toml(path), {key: Field(dict, f"tables [{key}.NAME]")})[key]
    for name, table in tables.items():
        yield name, _read_one(path, key, name, table, fields)


def _read_one(path: Path, key: str, name: str, table: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    try:
        NAME(name)
    except ValueError as error:
        raise refuse(path, key, f"the name {error}") from None
    published = fields is _REGIME and isinstance(table, dict) and "publish" in table
    chosen = _PUBLISH_REGIME if published else fields
    values: dict[str, Any] = read_table(
        path, key, {name: table}, {name: Field(dict, "a table", fields=chosen)}
    )
    return values[name]  # type: ignore[no-any-return]


def _needs(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the features that a regime needs: those its steps and `via` imply, then those it names."""
    implied = [*_NEEDED_BY_VIA[values["via"]], *_NEEDED_BY_PAGES[values.get("pages", "4k")]]
    if values.get("publish"):
        # Its memory is always mapped twice; addresses become new again with a membarrier.
        renewed = values["publish"]["address"] != "reused"
        implied = ["alias", "membarrier-sync-core"] if renewed else ["alias"]
    implied += [_NEEDED_BY_STEP[step.text] for step in values["writer"] if step.text in _NEEDED_BY_STEP]
    implied += [_NEEDED_BY_EXECUTOR[step.op] for step in values["executor"] if step.op in _NEEDED_BY_EXECUTOR]
    return tuple(dict.fromkeys((*implied, *values["needs"])))


def _package_file(name: str) -> Path:
    return Path(str(resources.files("stress").joinpath(name)))


def _with_number(value: Any, number: int) -> Any:
    """Return `value` with N, where it stands alone in a text, replaced."""
    if isinstance(value, list):
        return [_with_number(item, number) for item in value]
    return re.sub(r"\bN\b", str(number), value) if isinstance(value, str) else value


def _instances(
    path: Path, templates: Mapping[str, Any], asked: Iterable[str]
) -> Iterator[tuple[str, str, Any]]:
    """Yield key, name and table of each regime that `templates` make: with the numbers listed, and those asked for."""
    words = [stem_of(word) for word in asked]
    for stem, table in templates.items():
        listed = _read_one(path, "templates", stem, table, _TEMPLATE)["numbers"]
        given = (re.fullmatch(rf"{re.escape(stem)}-(0|[1-9][0-9]{{0,19}})", word) for word in words)
        numbers = dict.fromkeys((*listed, *(int(match[1]) for match in given if match)))
        body = {key: value for key, value in table.items() if key != "numbers"}
        for number in numbers:
            filled = {key: _with_number(value, number) for key, value in body.items() if key != "source"}
            yield "templates", f"{stem}-{number}", body | filled


def _tables(path: Path, asked: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and values of the regimes in one file, those of its templates last."""
    keys = {"regimes": Field(dict, "tables [regimes.NAME]", {}), "templates": Field(dict, "tables", {})}
    top = read_table(path, "", read_toml(path), keys)
    if not any(top.values()):
        raise refuse(path, "regimes", "missing; give tables [regimes.NAME]")
    for name, table in top["regimes"].items():
        yield name, _read_one(path, "regimes", name, table, _REGIME)
    for key, name, table in _instances(path, top["templates"], asked):
        yield name, _read_one(path, key, name, table, _REGIME)


def load_regimes(*files: Path, asked: Iterable[str] = ()) -> dict[str, Regime]:
    """Return the package's own regimes and then those of `files`, in the order of the files, by name.

    `asked`: words of a command line; a NAME-NUMBER of which a file has the template `[templates.NAME]` is a regime too.

    Raises CaseError at the first regime that is wrong, or has the name of another.
    """
    asked = [word.strip() for chunk in asked for word in chunk.split(",")]
    regimes: dict[str, Regime] = {}
    origins: dict[str, Path] = {}
    for path in (_package_file("regimes.toml"), _package_file("publish.toml"), *files):
        for name, values in _tables(path, asked):
            if name in regimes:
                text = f"already defined in {origins[name]}; choose another name"
                raise refuse(path, f"regimes.{name}", text)
            without = values.pop("without")
            regime = make_regime(name, {**values, "needs": _needs(values)})
            for key, text in _complaints(regime):
                raise refuse(path, f"regimes.{name}.{key}", text)
            regimes[name], origins[name] = regime, path
            for each in _ablations(path, regime, without, asked):
                needs = _needs({**values, "writer": each.writer, "executor": each.executor})
                regimes[each.name], origins[each.name] = replace(each, needs=needs), path
    _check_ablations(regimes, origins)
    return regimes


def _complaints(regime: Regime) -> Complaints:
    for check in (check_publishing,) if regime.publish else CHECKS:
        yield from check(regime)


def _ablations(path: Path, regime: Regime, without: Iterable[str], asked: Iterable[str]) -> Iterator[Regime]:
    """Yield `regime` without the steps that its table lists and those asked for.

    What a glob means besides is left out: a discipline that no longer stores what it must, or publishes nothing.
    """
    wanted = {numbers: True for numbers in without}
    for numbers, named in asked_for(regime, asked) if regime.completes and not regime.ablation_of else ():
        wanted[numbers] = named or wanted.get(numbers, False)
    for numbers, named in wanted.items():
        try:
            broken = ablate(regime, numbers)
        except ValueError as error:
            raise refuse(path, f"regimes.{regime.name}.without", str(error)) from None
        complaint = next(_complaints(broken), None)
        if complaint and named:
            raise refuse(path, f"regimes.{broken.name}.{complaint[0]}", complaint[1])
        if not complaint:
            yield broken


def _check_ablations(regimes: Mapping[str, Regime], origins: Mapping[str, Path]) -> None:
    for name, regime in regimes.items():
        target = regime.ablation_of
        if target and (target not in regimes or regimes[target].ablation_of):
            text = f"{target!r} is not a complete protocol; name a regime that is no ablation itself"
            raise refuse(origins[name], f"regimes.{name}.ablation_of", text)


def _check_provocation(provocation: Provocation) -> Complaints:
    for key, steps in (("writer", provocation.writer), ("executor", provocation.executor)):
        if len(steps) > PROVOCATION_STEPS_MAX:
            yield key, f"there are {len(steps)} steps; give at most {PROVOCATION_STEPS_MAX}"
    for n, step in enumerate(provocation.writer):
        if step.op not in LINE_STEPS:
            text = f"`{step.text}` can change what is promised; give {', '.join(LINE_STEPS)} steps only"
            yield f"writer[{n}]", text
    for n, exec_step in enumerate(provocation.executor):
        if exec_step.op not in PROVOKING or exec_step.on_change:
            text = f"`{exec_step.text}` can change what is promised; give {' or '.join(PROVOKING)}"
            yield f"executor[{n}]", text


def load_provocations(path: Path | None = None) -> dict[str, Provocation]:
    """Return the provocations of the file `path` (the package's own where it is None), in its order, by name.

    Raises CaseError at the first that is wrong.
    """
    path = path or _package_file("provocations.toml")
    provocations: dict[str, Provocation] = {}
    for name, values in _read_named(path, "provocations", _PROVOCATION):
        provocations[name] = provocation = Provocation(name=name, **values)
        for key, text in _check_provocation(provocation):
            raise refuse(path, f"provocations.{name}.{key}", text)
    if len(provocations) > PROVOCATIONS_MAX:
        raise refuse(path, "provocations", f"there are {len(provocations)}; give at most {PROVOCATIONS_MAX}")
    return provocations
