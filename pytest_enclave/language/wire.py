"""Values on their way between Starlark and Python.

What JSON can hold goes as it is. Everything else goes as an object whose key `MARK`, a text no one writes, says what
it is: `tuple` and `dict` (with keys that are not text) have `items`, `float` (NaN, infinities) and `opaque` (functions
and the like, by name) have `text`, `struct` has `fields`; `handle` is the number of a typed value, which is kept
on the Python side from the moment it was checked, so that nothing can change it and it crosses only once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from pytest_enclave.plan.values import Opaque, Struct, Value, find_opaque

MARK = "\x00"


class Decoder:
    """Reads what Starlark wrote; `typed` are the values that handles stand for, and may grow meanwhile."""

    def __init__(self, typed: Sequence[Struct]) -> None:
        self._typed = typed
        self._decode = json.JSONDecoder(object_pairs_hook=self._object).decode

    def __call__(self, text: str) -> Value:
        """The value behind a crossing text."""
        return self._decode(text)

    def _object(self, pairs: list[tuple[str, Value]]) -> Value:
        found = dict(pairs)
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


def encode(value: Value, handle_of: Callable[[Struct], int]) -> Value:
    """The value as Starlark reads it back: plain Python data."""
    if isinstance(value, Struct):
        fields = {name: encode(item, handle_of) for name, item in value.fields.items()}
        if value.kind == "struct":
            return {MARK: "struct", "fields": fields}
        return {MARK: "typed", "type": value.kind, "handle": handle_of(value), "fields": fields}
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != MARK for key in value):
            return {key: encode(item, handle_of) for key, item in value.items()}
        return {MARK: "dict", "items": [[encode(k, handle_of), encode(v, handle_of)] for k, v in value.items()]}
    if isinstance(value, list):
        return [encode(item, handle_of) for item in value]
    if isinstance(value, tuple):
        return {MARK: "tuple", "items": [encode(item, handle_of) for item in value]}
    if isinstance(value, float) and value - value != 0:
        return {MARK: "float", "text": str(value)}
    return value.text if isinstance(value, Opaque) else value


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
