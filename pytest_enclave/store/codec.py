"""Records as JSON text and back, every field of them, and every value with its Starlark type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pytest_enclave.plan.connections import Connection, Delay
from pytest_enclave.plan.footprint import Footprint, Replay, Wiring
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Opaque, Struct, Value
from pytest_enclave.source import Location

_TUPLE, _STRUCT, _DICT, _SET, _OF, _MEMBER = "$tuple", "$struct", "$dict", "$set", "$of", "$member"
_TAGS = (_TUPLE, _STRUCT, _DICT, _SET, _OF, _MEMBER)
_CLASSES = (Connection, Delay, Footprint, Location, Opaque, Replay, Wiring)
"""What a record is made of besides values."""


def encode(record: Record) -> str:
    """The record as one line of JSON. Raises TypeError where a field holds what no record is made of."""
    return json.dumps(_fields(record), ensure_ascii=True)


def decode(text: str) -> Record:
    """The record that `encode` wrote. Raises ValueError where the text is no such record."""
    try:
        body = json.loads(text)
        return Record(**{name: _unpack(value) for name, value in body.items()})
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a record of an executed instruction: {error}") from error


def _fields(value: Any) -> dict[str, Any]:
    return {name: _pack(getattr(value, name)) for name in value.__struct_fields__}


def _pack(value: Any) -> Any:
    """A value as JSON; what JSON has no word for goes under a key that begins with `$`."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Struct):
        return {_STRUCT: value.kind, "fields": {name: _pack(item) for name, item in value.fields.items()}}
    if isinstance(value, tuple):
        return {_TUPLE: [_pack(item) for item in value]}
    if isinstance(value, list):
        return [_pack(item) for item in value]
    if isinstance(value, Mapping):
        packed = [[_pack(key), _pack(item)] for key, item in value.items()]
        ordinary = all(isinstance(key, str) and key not in _TAGS for key in value)
        return {key: item for key, item in packed} if ordinary else {_DICT: packed}  # noqa: C416
    if isinstance(value, frozenset):
        return {_SET: sorted(value)}
    if isinstance(value, _CLASSES):
        kind = type(value).__name__
        return {_MEMBER: [kind, value.name]} if isinstance(value, Enum) else {_OF: kind, "fields": _fields(value)}
    raise TypeError(f"no record holds a {type(value).__name__}: {value!r}")


def _unpack(value: Any) -> Value:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _STRUCT in value:
        return Struct(value[_STRUCT], {name: _unpack(item) for name, item in value["fields"].items()})
    if _TUPLE in value:
        return tuple(_unpack(item) for item in value[_TUPLE])
    if _DICT in value:
        return {_unpack(key): _unpack(item) for key, item in value[_DICT]}
    if _SET in value:
        return frozenset(value[_SET])
    if _OF in value:
        return _class(value[_OF])(**{name: _unpack(item) for name, item in value["fields"].items()})
    if _MEMBER in value:
        kind, name = value[_MEMBER]
        return _class(kind)[name]
    return {key: _unpack(item) for key, item in value.items()}


def _class(name: str) -> Any:
    return {known.__name__: known for known in _CLASSES}[name]
