"""Ablations: a protocol without some of its steps, made from the protocol.

`NAME-without-2-4` is the regime NAME without its second and fourth step, as `stress show regime NAME` counts them: the
writer's, then the executor's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain, combinations

from stress.model import ExecStep, Regime, Step

WITHOUT = "-without-"
_NUMBERS = re.compile(r"[1-9][0-9]?(-[1-9][0-9]?)*")


def stem_of(word: str) -> str:
    """Return the name, or the glob, of the protocol that a word of a command line is about."""
    return word.partition(WITHOUT)[0]


def asked_for(regime: Regime, words: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield the numbers, as in `2-4`, of the steps that `words` want left out of `regime`.

    With each whether it was named; a glob names none, and means every step and every pair.
    """
    for word in words:
        stem, _, rest = word.partition(WITHOUT)
        if rest and fnmatchcase(regime.name, stem):
            named = bool(_NUMBERS.fullmatch(rest))
            yield from [(rest, True)] if named else ((n, False) for n in _few(regime) if fnmatchcase(n, rest))


def _few(regime: Regime) -> Iterator[str]:
    steps = range(1, len(regime.writer) + len(regime.executor) + 1)
    for several in chain(combinations(steps, 1), combinations(steps, 2)):
        yield "-".join(map(str, several))


def ablate(regime: Regime, numbers: str) -> Regime:
    """Return `regime` without the steps that `numbers` names, as in `2-4`: whether it makes sense is not looked at.

    Raises:
        ValueError("what is wrong; remedy"): there are no such steps.
    """
    steps: list[Step | ExecStep] = [*regime.writer, *regime.executor]
    gone = sorted({int(number) for number in numbers.split("-")}) if _NUMBERS.fullmatch(numbers) else [0]
    if not 0 < gone[0] <= gone[-1] <= len(steps) or "-".join(map(str, gone)) != numbers:
        text = f"give numbers from 1 to {len(steps)}, in order, as `stress show regime {regime.name}` counts"
        raise ValueError(f"{numbers!r} are no steps of {regime.name}; {text}")
    left_out = " and ".join(f"step {number} ({steps[number - 1].text})" for number in gone)
    kept = [step for number, step in enumerate(regime.writer, 1) if number not in gone]
    ran = [step for number, step in enumerate(regime.executor, len(regime.writer) + 1) if number not in gone]
    return replace(
        regime,
        name=f"{regime.name}{WITHOUT}{numbers}",
        summary=f"{regime.name} without {left_out}",
        source=f"{regime.source}; ablated",
        writer=tuple(kept),
        executor=tuple(ran),
        ablation_of=regime.name,
    )
