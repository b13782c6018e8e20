"""TOML tables described by data: read, checked, and refused in one line with the key and the remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.errors import CaseError


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a TOML table, and the remedy (`give`) where it is missing or of the wrong type."""

    type: type
    give: str
    default: Any = ...
    """What it is when left out; `...`: it may not be."""
    each: Field | None = None
    """The elements of a list."""
    fields: Mapping[str, Field] | None = None
    """The keys of a table."""
    convert: Callable[[Any], Any] | None = None
    """Makes the value; raises ValueError("what is wrong; remedy")."""


def refuse(path: Path, key: str, text: str) -> CaseError:
    """Return the error `FILE: KEY: TEXT`, one line whatever the key; `text` is `what is wrong; remedy`."""
    return CaseError(f"{path}: " + " ".join(f"{key}: {text}".split()))


def show(value: Any) -> str:
    """Return `value` as an error shows it."""
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return "a number that long"


def one_of(words: Collection[str], what: str) -> Callable[[str], str]:
    """Return a converter that takes one of `words`."""

    def convert(text: str) -> str:
        if text not in words:
            raise ValueError(f"{show(text)} is not a {what}; give one of {', '.join(words)}")
        return text

    return convert


def matching(pattern: str, give: str) -> Callable[[str], str]:
    """Return a converter that takes text of which the whole matches `pattern`."""

    def convert(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{show(text)} does not fit; give {give}")
        return text

    return convert


def within(low: int, high: int) -> Callable[[int], int]:
    """Return a converter that takes a number from `low` to `high`."""

    def convert(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"{show(value)} is out of range; give {low} to {high}")
        return value

    return convert


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises CaseError where it cannot be read, is not UTF-8 or is not TOML.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would have us wait, a device would never end
            raise refuse(path, "file", "is no regular file; give one")
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise refuse(path, "file", f"cannot be read ({error.strerror}); give a readable file") from None
    except UnicodeDecodeError as error:
        raise refuse(path, "file", f"byte {error.start} is not UTF-8; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise refuse(path, "toml", f"{error}; correct the syntax") from None


def read_table(path: Path, key: str, table: dict[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the values of `table`, checked and converted, with the defaults of what was left out.

    Raises CaseError on the first key that is unknown, missing or wrong.
    """
    prefix = f"{key}." if key else ""
    for name in table:
        if name not in fields:
            raise refuse(path, prefix + name, f"unknown key; the keys here are {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _read_value(path, prefix + name, table[name], field)
        elif field.default is ...:
            raise refuse(path, prefix + name, f"missing; give {field.give}")
        else:
            values[name] = field.default
    return values


def _read_value(path: Path, key: str, value: Any, field: Field) -> Any:
    given = type(value)
    if given is not field.type:  # not isinstance: true is an int
        raise refuse(path, key, f"{show(value)} has the wrong type; give {field.give}")
    if field.each:
        value = tuple(_read_value(path, f"{key}[{n}]", item, field.each) for n, item in enumerate(value))
    if field.fields:
        value = read_table(path, key, value, field.fields)
    try:
        return field.convert(value) if field.convert else value
    except ValueError as error:
        raise refuse(path, key, str(error)) from None


NAME = matching(r"[a-z0-9][a-z0-9+.-]*", "lower-case letters, digits, +, . and -")
"""A case's or regime's name: nothing that a cell's name, a glob or a shell would take for its own."""

LINE = matching(r"\S(.*\S)?", "one line of text")
