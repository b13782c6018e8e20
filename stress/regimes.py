"""Regimes and provocations: little programs in TOML, read and checked as cases are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from stress.model import ExecStep, Provocation, Regime, Step
from stress.tables import LINE, NAME, Field, matching, one_of, read_table, read_toml, refuse, show, within

PARTS = ("all", "first", "rest", "front", "back")
FENCES = ("mfence", "sfence", "lfence")
MEMBARRIERS = ("sync-core", "private", "global", "global-expedited", "rseq")
FEATURES = ("serialize", "mfence-serializes", "membarrier-sync-core", "rwx", "alias")
"""What `needs` may name."""

# enum xmc_limit of native/xmc.h, and the arrays of struct xmc_provocation
STEPS_MAX = 32
PROVOCATIONS_MAX = 16
PROVOCATION_STEPS_MAX = 4

_WRITER_STEPS: Mapping[str, tuple[tuple[str, ...] | range, ...]] = {
    "store": (PARTS, ("new", "trap")),
    "fence": (FENCES,),
    **dict.fromkeys(FENCES, ()),  # as Step.text spells it
    "flush": (PARTS,),
    "own": (PARTS,),
    "share": (PARTS,),
    "serialize": (),
    "membarrier": (MEMBARRIERS,),
    "signal": (),
    "delay": (range(1, 2**64),),
    "await": (range(1, 2**64),),
    "die": (range(1, 65),),
    "publish": (),
}
_LINE_STEPS = ("flush", "own", "share")
_PROVOKING = ("flush-head", "flush-tail", "evict-tlb", "cold-branches", "mispredict")
_EXECUTOR_STEPS = ("lfence", "mfence", "lock", "syscall", "cpuid", "serialize", "iret", *_PROVOKING)

_COVERS = ({"all"}, {"first", "rest"}, {"front", "back"})
"""Parts that are the whole patch together."""

_NEEDED_BY_VIA = {"same": "rwx", "alias": "alias"}
_NEEDED_BY_STEP = {"membarrier sync-core": "membarrier-sync-core"}
_NEEDED_BY_EXECUTOR = {"serialize": "serialize"}


def _spell(argument: tuple[str, ...] | range) -> str:
    return "NUMBER" if isinstance(argument, range) else "|".join(argument)


def _fits(value: str | int, argument: tuple[str, ...] | range) -> bool:
    # A range would look for a string by counting to its end.
    return isinstance(value, int) == isinstance(argument, range) and value in argument


def parse_step(text: str) -> Step:
    """Return the writer step that `text` spells, as in `store first trap`.

    Raises ValueError("what is wrong; remedy").
    """
    op, *words = text.split() or [""]
    arguments = _WRITER_STEPS.get(op)
    if arguments is None:
        raise ValueError(f"{show(text)} is not a writer step; the steps are {', '.join(_WRITER_STEPS)}")
    values = [int(word) if re.fullmatch("[0-9]{1,20}", word) else word for word in words]
    if len(values) != len(arguments) or not all(map(_fits, values, arguments)):
        form = " ".join((op, *map(_spell, arguments)))
        limits = "".join(f", NUMBER from 1 to {a[-1]}" for a in arguments if isinstance(a, range))
        raise ValueError(f"{show(text)} is not a step; give `{form}`{limits}")
    if op == "fence":
        return Step(words[0])
    if values and isinstance(values[0], int):
        return Step(op, "", values[0])
    return Step(op, *words)


def parse_exec_step(text: str) -> ExecStep:
    """Return the executor step that `text` spells, as in `cpuid on-change`.

    Raises ValueError("what is wrong; remedy").
    """
    op, *words = text.split() or [""]
    if op not in _EXECUTOR_STEPS:
        raise ValueError(f"{show(text)} is not an executor step; the steps are {', '.join(_EXECUTOR_STEPS)}")
    if words not in ([], ["on-change"]):
        raise ValueError(f"{show(text)} is not a step; give `{op}` or `{op} on-change`")
    return ExecStep(op, bool(words))


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
    "via": Field(str, "same or alias", "same", convert=one_of(tuple(_NEEDED_BY_VIA), "way to the bytes")),
    "completes": Field(bool, "true if no executor may run old code after the last step", False),
    "needs": Field(list, "features", (), each=Field(str, "a feature", convert=one_of(FEATURES, "feature"))),
    "min_patch": Field(int, "a number of bytes", 1, convert=within(1, 64)),
    "ablation_of": Field(str, "the name of the complete protocol", ""),
}
_PROVOCATION = {
    "summary": _SUMMARY,
    "writer": Field(list, "the writer's flushes before each patch", (), each=_WRITER),
    "executor": Field(list, "the executor's flushes before each execution", (), each=_EXECUTOR),
    "signal_us": Field(int, "mean microseconds between signals", 0, convert=within(0, 10**6)),
    "turns": Field(bool, "whether `auto` includes it", True),
}

Complaints = Iterator[tuple[str, str]]
"""Of one check: keys, and what is wrong with them and what to do. Only the first is reported."""


def _check_steps(regime: Regime) -> Complaints:
    for key, steps in (("writer", regime.writer), ("executor", regime.executor)):
        if len(steps) > STEPS_MAX:
            yield key, f"there are {len(steps)} steps; give at most {STEPS_MAX}"
    ops = [step.op for step in regime.writer]
    if "publish" in ops[:-1]:
        yield f"writer[{ops.index('publish')}]", "publish is not the last step; give it once, at the end"
    if regime.completes and "publish" not in ops:
        yield "completes", "nothing says when the change is complete; end writer with publish"
    for n, step in enumerate(regime.executor):
        if step.on_change and "publish" not in ops:
            yield f"executor[{n}]", "nothing changes without publish; end writer with it, or drop on-change"


def _check_stores(regime: Regime) -> Complaints:
    new = {step.part for step in regime.writer if (step.op, step.value) == ("store", "new")}
    if regime.writer and not any(parts <= new for parts in _COVERS):
        yield "writer", "the stores of new bytes leave some old; store all, first and rest, or front and back"
    parts = {step.part for step in regime.writer if step.op == "store"} - {"all", "first"}
    if parts and regime.min_patch < 2:
        yield "min_patch", f"one byte has no {' or '.join(sorted(parts))}; give at least 2"
    for n, step in enumerate(regime.writer):
        later = {after.part for after in regime.writer[n:] if after.value == "new"}
        if step.value == "trap" and not later & {step.part, "all"}:
            yield f"writer[{n}]", f"the trap stays; follow it with `store {step.part} new`"


def _read_named(path: Path, key: str, fields: Mapping[str, Field]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and checked values of the tables `[key.NAME]` of the TOML file `path`."""
    tables = read_table(path, "", read_toml(path), {key: Field(dict, f"tables [{key}.NAME]")})[key]
    for name, table in tables.items():
        try:
            NAME(name)
        except ValueError as error:
            raise refuse(path, key, f"the name {error}") from None
        values = read_table(path, key, {name: table}, {name: Field(dict, "a table", fields=fields)})
        yield name, values[name]


def _needs(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the features that a regime needs: those its steps and `via` imply, then those it names."""
    implied = [_NEEDED_BY_VIA[values["via"]]]
    implied += [_NEEDED_BY_STEP[step.text] for step in values["writer"] if step.text in _NEEDED_BY_STEP]
    implied += [_NEEDED_BY_EXECUTOR[step.op] for step in values["executor"] if step.op in _NEEDED_BY_EXECUTOR]
    return tuple(dict.fromkeys((*implied, *values["needs"])))


def _package_file(name: str) -> Path:
    return Path(str(resources.files("stress").joinpath(name)))


_REGIME_CHECKS = (_check_steps, _check_stores)


def load_regimes(*files: Path) -> dict[str, Regime]:
    """Return the package's own regimes and then those of `files`, in the order of the files, by name.

    Raises CaseError at the first regime that is wrong, or has the name of another.
    """
    regimes: dict[str, Regime] = {}
    origins: dict[str, Path] = {}
    for path in (_package_file("regimes.toml"), *files):
        for name, values in _read_named(path, "regimes", _REGIME):
            if name in regimes:
                text = f"already defined in {origins[name]}; choose another name"
                raise refuse(path, f"regimes.{name}", text)
            regime = Regime(name=name, **{**values, "needs": _needs(values)})
            for check in _REGIME_CHECKS:
                for key, text in check(regime):
                    raise refuse(path, f"regimes.{name}.{key}", text)
            regimes[name], origins[name] = regime, path
    for name, regime in regimes.items():
        target = regime.ablation_of
        if target and (target not in regimes or regimes[target].ablation_of):
            text = f"{target!r} is not a complete protocol; name a regime that is no ablation itself"
            raise refuse(origins[name], f"regimes.{name}.ablation_of", text)
    return regimes


def _check_provocation(provocation: Provocation) -> Complaints:
    for key, steps in (("writer", provocation.writer), ("executor", provocation.executor)):
        if len(steps) > PROVOCATION_STEPS_MAX:
            yield key, f"there are {len(steps)} steps; give at most {PROVOCATION_STEPS_MAX}"
    for n, step in enumerate(provocation.writer):
        if step.op not in _LINE_STEPS:
            text = f"`{step.text}` can change what is promised; give {', '.join(_LINE_STEPS)} steps only"
            yield f"writer[{n}]", text
    for n, exec_step in enumerate(provocation.executor):
        if exec_step.op not in _PROVOKING or exec_step.on_change:
            text = f"`{exec_step.text}` can change what is promised; give {' or '.join(_PROVOKING)}"
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
