"""Values on their way between Starlark and Python, as JSON: each text that crosses costs as much as the work on it.

What JSON can hold goes as it is. Everything else goes as an object whose key `MARK`, a text no one writes, says what
it is: `tuple` and `dict` (with keys that are not text) have `items`, `float` (NaN, infinities) and `opaque` (functions
and the like, by name) have `text`, `struct` has `fields`; `handle` is the number of a typed value, which is kept
on the Python side from the moment it was checked, so that nothing can change it and it crosses only once.

On the way to Starlark a typed value has its fields, `TYPE` and `HANDLE` in one object. Starlark sorts what it reads by
key, so a `dict` in another order goes as one with `items`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring_ascii

from pytest_enclave.plan.values import Opaque, Struct, Value, find_opaque

MARK = "\x00"
TYPE = "\x00type"
HANDLE = "\x00handle"

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
        match found[MARK]:
            case "handle":
                return self._typed[found["handle"]]
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


def _hashable(key: Value) -> Value:
    """Starlark's hashable values are Python's, but for structs."""
    return key if not isinstance(key, Struct) else str(key)


def encode(value: Value, handle_of: Callable[[Struct], int]) -> str:
    """The value as Starlark reads it back."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) <= _EXACT else f'{{"\\u0000":"int","text":"{value}"}}'
    if isinstance(value, Struct):
        if value.kind == "struct":
            return f'{{"\\u0000":"struct","fields":{_object(value.fields, handle_of)}}}'
        return _object({TYPE: value.kind, HANDLE: handle_of(value), **value.fields}, handle_of)
    if isinstance(value, dict):
        if all(isinstance(key, str) and key[:1] != MARK for key in value) and list(value) == sorted(value):
            return _object(value, handle_of)
        items = ",".join([f"[{encode(key, handle_of)},{encode(item, handle_of)}]" for key, item in value.items()])
        return f'{{"\\u0000":"dict","items":[{items}]}}'
    if isinstance(value, list):
        return "[" + ",".join([encode(item, handle_of) for item in value]) + "]"
    if isinstance(value, tuple):
        return f'{{"\\u0000":"tuple","items":{encode(list(value), handle_of)}}}'
    if isinstance(value, float) and value - value != 0:
        return f'{{"\\u0000":"float","text":"{value}"}}'
    return json.dumps(value.text if isinstance(value, Opaque) else value)


def _object(fields: Mapping[str, Value], handle_of: Callable[[Struct], int]) -> str:
    entries = [f"{encode_basestring_ascii(name)}:{encode(item, handle_of)}" for name, item in fields.items()]
    return "{" + ",".join(entries) + "}"


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
