"""JSON as Go's `encoding/json` reads and writes it.

Python's own parser does the reading; what it takes beyond the standard (NaN, lone surrogates, huge numbers) is
refused or mended as Go does. Only when a text is refused does a second, slower scan find Go's words for why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import accumulate

from pytest_enclave.golang.floats import json_float

__all__ = ["JsonError", "dumps", "finite_float", "loads", "loads_floats"]

MAX_DEPTH = 200
"""How deep arrays and objects may nest. Go allows 10000; this many fit into Python's stack wherever they are walked."""

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    r"|u[dD][89a-fA-F][0-9a-fA-F]{2}"  # one without its partner
    r"|.)",
    re.DOTALL,
)
_SPECIAL = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')
_SHORT_ESCAPES = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class JsonError(ValueError):
    """The text is not one JSON document, or the value has no JSON form. `str(error)` is Go's own message."""


def loads(text: str, number: Callable[[str], object]) -> object:
    """The one JSON document in `text`; every number is handed to `number` as it is written.

    Lone surrogate escapes become U+FFFD. Raises `JsonError` with Go's text.
    """
    _check_depth(text)
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(_mend_surrogate, text)
    try:
        return json.loads(text, parse_int=number, parse_float=number, parse_constant=_refuse_constant)
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        from pytest_enclave.golang.json_fault import explain

        raise JsonError(explain(text)) from error


def loads_floats(text: str) -> object:
    """As Go decodes into `interface{}`: every number becomes a float64; one too large for it raises `JsonError`."""
    return loads(text, finite_float)


def dumps(value: object) -> str:
    """`value` (None, bool, int, float, str, list, tuple, dict with string keys) as Go's `json.Marshal` writes it.

    No spaces, keys sorted, `<`, `>` and `&` escaped. Raises `JsonError` for NaN, infinities and other types.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            name = "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
            raise JsonError(f"json: unsupported value: {name}")
        return json_float(value)
    if isinstance(value, str):
        return '"' + _SPECIAL.sub(_escape, value) + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(key)}:{dumps(value[key])}" for key in sorted(value)) + "}"
    raise JsonError(f"json: unsupported type: {type(value).__name__}")


def finite_float(text: str) -> float:
    """The float64 of a JSON number. Raises `JsonError` with Go's text for one that is too large."""
    value = float(text)
    if math.isinf(value):
        raise JsonError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _mend_surrogate(escape: re.Match[str]) -> str:
    text = escape.group()
    lone = len(text) == 6 and text[2] in "dD"
    return "\\ufffd" if lone else text


def _escape(special: re.Match[str]) -> str:
    char = special.group()
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return _SHORT_ESCAPES.get(char) or f"\\u{ord(char):04x}"


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    brackets = re.sub(r'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', "", text, flags=re.DOTALL)
    if max(accumulate(1 if char in "[{" else -1 for char in brackets if char in "[]{}"), default=0) > MAX_DEPTH:
        raise JsonError("exceeded max depth")
