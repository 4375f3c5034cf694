"""Values on their way between Starlark and Python, as JSON: each text that crosses costs as much as the work on it.

What JSON can hold goes as it is. Everything else goes as an object whose key `MARK`, a text no one writes, says what
it is: `tuple` and `dict` (with keys that are not text) have `items`, `float` (NaN, infinities) and `opaque` (functions
and the like, by name) have `text`, `struct` has `fields`; a number is the handle of a typed value, which is kept
on the Python side from the moment it was checked, so that nothing can change it and it crosses only once.

On the way to Starlark a typed value is an object of its fields, its type and its handle. Starlark sorts what it reads
by key, so a `dict` in another order goes as one with `items`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring_ascii

from pytest_enclave.errors import InterpretationError
from pytest_enclave.plan.values import Opaque, Struct, Value, find_opaque, written

MARK = "\x00"
TYPE, HANDLE = f"{MARK}type", f"{MARK}handle"

_EXACT = 2**53
"""Whole numbers beyond are not read as such everywhere, and go as `int`, with `text`."""


class Decoder:
    """Reads what Starlark wrote; `typed` are the values that handles stand for, and may grow meanwhile."""

    def __init__(self, typed: Sequence[Struct]) -> None:
        self._typed = typed
        self._decode = json.JSONDecoder(object_hook=self._object).raw_decode

    def __call__(self, text: str) -> Value:
        """The value behind a crossing text."""
        return self._decode(text)[0]

    def _object(self, found: dict[str, Value]) -> Value:
        if MARK not in found:
            return found
        mark = found[MARK]
        if type(mark) is int:
            if 0 <= mark < len(self._typed):
                return self._typed[mark]
            raise InterpretationError("a struct has a field with a reserved name: none may begin with a NUL character")
        match mark:
            case "struct":
                return Struct("struct", found["fields"])
            case "tuple":
                return tuple(found["items"])
            case "dict":
                return {_hashable(key): item for key, item in found["items"]}
            case "float":
                return float(found["text"])
            case _:
                return Opaque(found["kind"], found["text"])


def _is_plain(key: Value) -> bool:
    return isinstance(key, str) and key[:1] != MARK


def _hashable(key: Value) -> Value:
    """Starlark's hashable values are Python's, but for structs."""
    return key if not isinstance(key, Struct) else str(key)


class Encoder:
    """Writes what Starlark reads; `handle_of` keeps a typed value, and gives the number it is known by.

    A typed value that is met again is neither kept nor written again.
    """

    def __init__(self, handle_of: Callable[[Struct], int]) -> None:
        self._handle_of = handle_of
        self._written: dict[int, str] = {}

    def __call__(self, value: Value) -> str:
        """The crossing text of a value."""
        if isinstance(value, str):
            return encode_basestring_ascii(value)
        if isinstance(value, Struct):
            return self._struct(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value) if -_EXACT <= value <= _EXACT else f'{{"\\u0000":"int","text":"{value}"}}'
        if isinstance(value, dict):
            return self._dict(value)
        if isinstance(value, list):
            return "[" + ",".join([self(item) for item in value]) + "]"
        if isinstance(value, tuple):
            return f'{{"\\u0000":"tuple","items":{self(list(value))}}}'
        if isinstance(value, float) and value - value != 0:
            return f'{{"\\u0000":"float","text":"{value}"}}'
        return json.dumps(value.text if isinstance(value, Opaque) else value)

    def _struct(self, value: Struct) -> str:
        if value.kind == "struct":
            return f'{{"\\u0000":"struct","fields":{{{self._entries(value.fields)}}}}}'
        text = self._written.get(id(value))
        if text is None:
            # Kept, the value stays the one of this identity.
            handle = self._handle_of(value)
            fields = self._entries({TYPE: value.kind, HANDLE: handle, **written(value)})
            text = f"{{{fields}}}"
            self._written[id(value)] = text
        return text

    def _dict(self, value: Mapping[Value, Value]) -> str:
        plain = all(map(_is_plain, value))
        if plain and (len(value) < 2 or list(value) == sorted(value)):
            return f"{{{self._entries(value)}}}"
        items = ",".join([f"[{self(key)},{self(item)}]" for key, item in value.items()])
        return f'{{"\\u0000":"dict","items":[{items}]}}'

    def _entries(self, fields: Mapping[str, Value]) -> str:
        quote = encode_basestring_ascii
        return ",".join(
            [f"{quote(key)}:{quote(item) if type(item) is str else self(item)}" for key, item in fields.items()]
        )


def shown(value: Value) -> Value:
    """The value with the names of functions and the like in their places: what may leave an interpretation."""
    return _shown(value) if next(find_opaque(value), None) else value


def _shown(value: Value) -> Value:
    if isinstance(value, (list, tuple)):
        return type(value)(_shown(item) for item in value)
    if isinstance(value, dict):
        return {_shown(key): _shown(item) for key, item in value.items()}
    if isinstance(value, Struct):
        return Struct(value.kind, {name: _shown(item) for name, item in value.fields.items()})
    return value.text if isinstance(value, Opaque) else value
