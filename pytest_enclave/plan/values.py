"""Starlark values as plain, immutable Python, and the canonical text of one.

A value is None, bool, int, float, str, a list, a `tuple`, a dict with string keys, a `Struct`, or an `Opaque`.
Lists and dicts are never changed after the language room has made them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any, TypeAlias

import msgspec

from pytest_enclave.golang.floats import format_float

Value: TypeAlias = Any
"""One of the values this module's docstring lists. Python cannot say it shorter without costing every reader."""


class Struct(msgspec.Struct, frozen=True, gc=False):
    """A Starlark struct, or a value of a named type: `kind` is `struct`, `ServiceConfig`, `PortSpec` …"""

    kind: str
    fields: Mapping[str, Value]

    def get(self, name: str, default: Value = None) -> Value:
        """The field of that name, or the default where it was not set."""
        return self.fields.get(name, default)


class Opaque(msgspec.Struct, frozen=True, gc=False):
    """What exists in Starlark only: a function, a range, `plan`. It can be shown, and is no value for anything else."""

    kind: str
    text: str


ADDED = "."
"""What the names of fields begin with that interpretation added to a typed value: they are not shown."""


def written(value: Struct) -> Mapping[str, Value]:
    """The fields that the package itself gave."""
    if value.kind == "struct":
        return value.fields
    return {name: item for name, item in value.fields.items() if name[0] != ADDED}


def find_opaque(value: Value, path: str = "") -> Iterator[tuple[str, Opaque]]:
    """Every opaque value inside a value, each with the path to it (`[2]`, `["a"]`, `.field`)."""
    if isinstance(value, Opaque):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from find_opaque(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, Opaque):
                yield f"{path} key {key.text}", key
            yield from find_opaque(item, f"{path}[{to_repr(key)}]")
    elif isinstance(value, Struct):
        for name, item in value.fields.items():
            yield from find_opaque(item, f"{path}.{name}")


def type_name(value: Value) -> str:
    """What Starlark's `type()` calls the value (behaviour.md §1.4 compares these)."""
    if isinstance(value, (Struct, Opaque)):
        return value.kind
    names: dict[type, str] = {
        type(None): "NoneType",
        bool: "bool",
        int: "int",
        float: "float",
        str: "string",
        list: "list",
        tuple: "tuple",
        dict: "dict",
    }
    return names[type(value)]


def with_article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[:1] in tuple('aeioAEIO') or noun[:2] == 'Up' else 'a'} {noun}"


SHOWN = 200
"""How many characters of a value a message shows."""


def to_short_repr(value: Value) -> str:
    """The value as `to_repr` writes it; of a long one the beginning, and how long it is."""
    text = to_repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def quote(text: str) -> str:
    """The text as a Starlark string literal in double quotes."""
    return encode_basestring(text)


def _float(value: float) -> str:
    if math.isinf(value):
        return "+inf" if value > 0 else "-inf"
    if math.isnan(value):
        return "nan"
    text = format_float(value, "g")
    return text if "." in text or "e" in text else f"{text}.0"


def _children(value: Value, render: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(render(item) for item in value) + "]"
    if isinstance(value, tuple):
        inner = ", ".join(render(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    raise TypeError(f"not a Starlark value: {value!r}")


def to_repr(value: Value) -> str:
    """The value as Starlark's `repr()` writes it: what a user sees in messages and prints."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Opaque):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_repr(key)}: {to_repr(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Struct):
        names = sorted(value.fields) if value.kind == "struct" else [*written(value)]
        return f"{value.kind}(" + ", ".join(f"{name} = {to_repr(value.fields[name])}" for name in names) + ")"
    return _children(value, to_repr)


def to_text(value: Value) -> str:
    """A value inside a text: a string raw, anything else by its repr (behaviour.md §4.2)."""
    return value if isinstance(value, str) else to_repr(value)


_NONE_KNOWN: Mapping[int, str] = {}


def to_canonical(value: Value, hidden: Collection[str] = (), known: Mapping[int, str] = _NONE_KNOWN) -> str:
    """The text two equal values share whatever the order of their dict entries (behaviour.md §1.0).

    Fields of typed values whose names are `hidden` are left out. `known` are texts of typed values, made before with
    the same `hidden`, by `id` of the value.
    """
    # Texts, which most values are, are written where they are met: a call each would be half of what this takes.
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        entries = [
            f"{encode_basestring(key) if type(key) is str else to_canonical(key, hidden, known)}: "
            f"{encode_basestring(item) if type(item) is str else to_canonical(item, hidden, known)}"
            for key, item in value.items()
        ]
        return "{" + ", ".join(sorted(entries)) + "}"
    if isinstance(value, list):
        items = [encode_basestring(item) if type(item) is str else to_canonical(item, hidden, known) for item in value]
        return "[" + ", ".join(items) + "]"
    if isinstance(value, Struct):
        text = known.get(id(value))
        if text is not None:
            return text
        fields = value.fields
        names = sorted(fields) if value.kind == "struct" else [n for n in fields if n not in hidden and n[0] != ADDED]
        shown = [
            f"{n}={encode_basestring(item) if type(item := fields[n]) is str else to_canonical(item, hidden, known)}"
            for n in names
        ]
        return f"{value.kind}({', '.join(shown)})"
    if isinstance(value, tuple):
        return _children(value, lambda item: to_canonical(item, hidden, known))
    return to_repr(value)
