"""A Starlark value → the JSON text that a template is rendered with, as Kurtosis prepares it.

Kurtosis encodes the value, decodes it with Go (every number becomes a float64) and encodes it again. So integers
beyond 2^53 lose digits, 1.0 becomes 1, keys are sorted, and `<`, `>` and `&` are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_enclave.golang import json_text
from pytest_enclave.golang.floats import json_float

__all__ = ["DataError", "prepare"]


class DataError(ValueError):
    """The value cannot become template data. The message is Starlark's json.encode's, with the path to the fault."""


def prepare(value: object) -> str:
    """The JSON text for a plain value: None, bool, int, float, str, list, tuple, range, dict with string keys.

    Raises `DataError` for other types, other keys, numbers beyond float64, NaN and infinities.
    """
    try:
        return _encode(value)
    except RecursionError:
        raise DataError("json.encode: the value is nested too deeply, or contains itself") from None


def _encode(value: object) -> str:
    if value is None or isinstance(value, (bool, str)):
        return json_text.dumps(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, (list, tuple, range)):
        return "[" + ",".join(_element(f"at {_kind(value)} index {n}", v) for n, v in enumerate(value)) + "]"
    if isinstance(value, Mapping):
        return _mapping(value)
    raise DataError(f"json.encode: cannot encode {_kind(value)} as JSON")


def _mapping(value: Mapping[object, object]) -> str:
    for key in value:
        if not isinstance(key, str):
            raise DataError(f"json.encode: dict has {_kind(key)} key, want string")
    pieces = (
        f"{json_text.dumps(key)}:{_element(f'in dict key {json_text.dumps(key)}', value[key])}"
        for key in sorted(map(str, value))
    )
    return "{" + ",".join(pieces) + "}"


def _element(place: str, value: object) -> str:
    try:
        return _encode(value)
    except DataError as error:
        raise DataError(f"json.encode: {place}: {str(error).removeprefix('json.encode: ')}") from None


def _number(value: int | float) -> str:
    try:
        number = float(value)
    except OverflowError:
        raise DataError("json.encode: number too large for a float64") from None
    if not math.isfinite(number):
        raise DataError(f"json.encode: cannot encode non-finite float {number}")
    return json_float(number)


def _kind(value: object) -> str:
    """Starlark's name of a type; values that stand for what is in Starlark only know it themselves."""
    return "string" if isinstance(value, str) else str(getattr(value, "kind", type(value).__name__))
