"""Starlark's `json` as Go has it: keys sorted when written, in source order when read."""

from __future__ import annotations

import json
import math
import re

from pytest_enclave.golang import json_text
from pytest_enclave.plan.values import Opaque, Struct, Value, quote, to_repr, type_name, with_article, written


def encode(value: Value) -> str:
    """The JSON text without blanks, keys sorted. Raises JsonError for what JSON cannot hold."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise json_text.JsonError(f"json.encode: {to_repr(value)} has no JSON form")
        return to_repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, Opaque):
        raise json_text.JsonError(f"json.encode: {value.text} ({value.kind}) has no JSON form")
    fields = dict(written(value)) if isinstance(value, Struct) else value
    for key in fields:
        if not isinstance(key, str):
            raise json_text.JsonError(
                f"json.encode: the key {to_repr(key)} is {with_article(type_name(key))}, not a string"
            )
    return "{" + ",".join(f"{encode(key)}:{encode(fields[key])}" for key in sorted(fields)) + "}"


def decode(text: str) -> Value:
    """The value; numbers with a point or exponent are floats. Raises JsonError."""
    try:
        return json_text.loads(text, _read_number)
    except json_text.JsonError as error:
        raise json_text.JsonError(f"json.decode: {error}") from None


def indent(text: str, prefix: str, step: str) -> str:
    """The same JSON, one item a line. Raises JsonError."""
    try:
        value = json_text.loads(text, _Number)
    except json_text.JsonError as error:
        raise json_text.JsonError(f"json.indent: {error}") from None
    return re.sub("\n", f"\n{prefix}", _indented(value, "", step))


class _Number(str):
    """A number's own text, which indenting keeps."""

    __slots__ = ()


def _indented(value: object, margin: str, step: str) -> str:
    inner = margin + step
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + _indented(item, inner, step) for item in value) + f"\n{margin}]"
    if isinstance(value, dict) and value:
        rows = (f"{inner}{quote(k)}: {_indented(v, inner, step)}" for k, v in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"
    if isinstance(value, str):
        return value if isinstance(value, _Number) else quote(value)
    return json.dumps(value)


def _read_number(text: str) -> int | float:
    return float(text) if set(text) & set(".eE") else int(text)
