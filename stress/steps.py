"""The grammar of a discipline's steps: one line of text, one step, or the form that it should have had."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stress.model import ExecStep, Step
from stress.tables import show

PARTS = ("all", "first", "rest", "front", "back")
FENCES = ("mfence", "sfence", "lfence")
MEMBARRIERS = ("sync-core", "private", "global", "global-expedited", "rseq")
RIGHTS = ("rw", "rx", "rwx")
"""Of the executors' pages, as `protect` gives them."""

Arguments = tuple[tuple[str, ...] | range, ...]
"""What a step takes: words to choose from, or numbers."""

WRITER_STEPS: Mapping[str, Arguments] = {
    "store": (PARTS, ("new", "trap", "guard")),
    "fence": (FENCES,),
    **dict.fromkeys(FENCES, ()),  # as Step.text spells it
    "flush": (PARTS,),
    "own": (PARTS,),
    "share": (PARTS,),
    "serialize": (),
    "membarrier": (MEMBARRIERS,),
    "signal": (),
    "quiesce": (),
    "release": (),
    "hop": (),
    "protect": (RIGHTS,),
    "remap": (),
    "delay": (range(1, 2**64),),
    "await": (range(1, 2**64),),
    "die": (range(1, 65),),
    "publish": (),
}
LINE_STEPS = ("flush", "own", "share")
"""Writer steps that move a cache line and change nothing in it."""

PROVOKING = ("flush-head", "flush-tail", "evict-tlb", "cold-branches", "mispredict")
"""Executor steps that synchronize nothing."""

_EXECUTOR_STEPS = ("lfence", "mfence", "lock", "syscall", "cpuid", "serialize", "iret", *PROVOKING)


def _spell(argument: tuple[str, ...] | range) -> str:
    return "NUMBER" if isinstance(argument, range) else "|".join(argument)


def _fits(value: str | int, argument: tuple[str, ...] | range) -> bool:
    # A range would look for a string by counting to its end.
    return isinstance(value, int) == isinstance(argument, range) and value in argument


def parse_step(text: str, steps: Mapping[str, Arguments] = WRITER_STEPS) -> Step:
    """Return the writer step that `text` spells, as in `store first trap`; `steps`: those that there are.

    Raises ValueError("what is wrong; remedy").
    """
    op, *words = text.split() or [""]
    arguments = steps.get(op)
    if arguments is None:
        raise ValueError(f"{show(text)} is not a writer step; the steps are {', '.join(steps)}")
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
