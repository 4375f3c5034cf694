"""Canonical texts read back: what an instruction was called with, as its record has it, and what has changed since.

The text leaves some things out (descriptions, credentials), and a tree read from it has none of them. A call reads as a
`Struct` whose kind is the instruction's name.
"""

from __future__ import annotations

import json.decoder
import re
from collections.abc import Callable, Mapping

import msgspec

from pytest_enclave.plan.values import Opaque, Struct, Value, to_repr

ABSENT = Opaque("absent", "(not given)")
"""What is where one of two values has nothing."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*(?=\()")
_FIELD = re.compile(r"([^=\"]+)=")
_NUMBER = re.compile(r"[-+]?(?:inf|nan|\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
_WORDS: Mapping[str, Value] = {"None": None, "True": True, "False": False}
_WORD = re.compile("|".join(_WORDS))


class Change(msgspec.Struct, frozen=True):
    """Where two values begin to differ, as `config.env_vars["MODE"]`, and what is there in each, or `ABSENT`."""

    path: str
    old: Value
    new: Value


def parse_canonical(text: str) -> Value:
    """The value, or the call, that has this canonical text. Raises ValueError where it is none."""
    reader = _Reader(text)
    try:
        value = reader.value()
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None
    if reader.at < len(text):
        raise reader.unexpected()
    return value


def first_change(old: str, new: str) -> Change | None:
    """The first difference between two canonical texts of calls of one instruction.

    None where there is none to be told: they are equal, one of them cannot be read, or the instructions are two.
    """
    if old == new:
        return None
    try:
        before, now = parse_canonical(old), parse_canonical(new)
    except ValueError:
        return None
    found = _first(before, now, "")
    return Change(found.path.removeprefix("."), found.old, found.new) if found is not None and found.path else None


def at_path(value: Value, path: str) -> Value:
    """What is at the path of a `Change`, or at the nearest place above that the value has."""
    if not path:
        return value
    for step, item in _items(value):
        inside = step.removeprefix(".")
        if path.startswith(inside) and path[len(inside) : len(inside) + 1] in ("", ".", "["):
            return at_path(item, path[len(inside) :].removeprefix("."))
    return value


def _first(old: Value, new: Value, path: str) -> Change | None:
    if isinstance(old, (Struct, dict, list, tuple)) and type(old) is type(new) and _kind(old) == _kind(new):
        ours, theirs = dict(_items(old)), dict(_items(new))
        for step in {**theirs, **ours}:
            found = _first(ours.get(step, ABSENT), theirs.get(step, ABSENT), path + step)
            if found is not None:
                return found
        return None
    return None if type(old) is type(new) and to_repr(old) == to_repr(new) else Change(path, old, new)


def _kind(value: Value) -> str:
    return value.kind if isinstance(value, Struct) else ""


def _items(value: Value) -> list[tuple[str, Value]]:
    """What a value holds, each with the step to it: `.field`, `["key"]`, `[2]`."""
    if isinstance(value, Struct):
        return [(f".{name}", item) for name, item in value.fields.items()]
    if isinstance(value, dict):
        return [(f"[{to_repr(key)}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return []


class _Reader:
    """Reads values off a text, one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def unexpected(self) -> ValueError:
        return ValueError(f"not a canonical text from character {self.at + 1} on: {self.text[self.at : self.at + 20]}")

    def value(self) -> Value:
        match self.text[self.at : self.at + 1]:
            case '"':
                return self._string()
            case "[":
                return self._several("[", "]", self.value)
            case "(":
                return tuple(self._several("(", ")", self.value))
            case "{":
                return self._mapping(self._several("{", "}", self._entry))
        if match := _NAME.match(self.text, self.at):
            self.at = match.end()
            return Struct(match[0], self._mapping(self._several("(", ")", self._field)))
        if match := _WORD.match(self.text, self.at) or _NUMBER.match(self.text, self.at):
            self.at = match.end()
            return _WORDS[match[0]] if match[0] in _WORDS else _number(match[0])
        raise self.unexpected()

    def _string(self) -> str:
        text, self.at = json.decoder.scanstring(self.text, self.at + 1, False)  # type: ignore[attr-defined]
        return str(text)

    def _several(self, first: str, last: str, one: Callable[[], Value]) -> list[Value]:
        self._expect(first)
        found: list[Value] = []
        while not self._takes(last):
            found.append(one())
            if not self._takes(", ") and not self._takes(","):
                self._expect(last)
                break
        return found

    def _entry(self) -> tuple[Value, Value]:
        key = self.value()
        self._expect(": ")
        return key, self.value()

    def _field(self) -> tuple[str, Value]:
        match = _FIELD.match(self.text, self.at)
        if match is None:
            raise self.unexpected()
        self.at = match.end()
        return match[1], self.value()

    def _mapping(self, pairs: list[tuple[Value, Value]]) -> dict[Value, Value]:
        try:
            return dict(pairs)
        except TypeError:
            raise ValueError("a key that Python cannot have as one") from None

    def _takes(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _expect(self, token: str) -> None:
        if not self._takes(token):
            raise self.unexpected()


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)
