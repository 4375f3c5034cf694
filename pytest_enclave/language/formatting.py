"""Starlark's `%` and `.format` as Go does them, for what the interpreter would print otherwise: floats, structs,
nested values, and the verbs it does not know."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from pytest_enclave.golang.floats import format_float
from pytest_enclave.plan.values import Value, to_repr, to_text, type_name

_VERB = re.compile(r"%(?:\((?P<key>[^)]*)\))?(?P<verb>.|\Z)", re.DOTALL)
_FIELD = re.compile(r"\{\{|\}\}|\{(?P<field>[^{}]*)\}|(?P<stray>[{}])")


class FormatError(ValueError):
    """Text and values do not fit together; the message says how."""


def percent(text: str, right: Value) -> str:
    """`text % right`: a tuple gives several values, a dict those of `%(key)s`. Raises FormatError."""
    given = list(right) if isinstance(right, tuple) else [right]
    used = 0
    keyed = False

    def replaced(match: re.Match[str]) -> str:
        nonlocal used, keyed
        if match["verb"] in ("%", "") and match["key"] is None:
            return "%"
        if match["key"] is not None:
            keyed = True
            return _verb(match["verb"], _by_key(right, match["key"]))
        if used >= len(given):
            raise FormatError("there are fewer values than `%` verbs in the text")
        used += 1
        return _verb(match["verb"], given[used - 1])

    result = _VERB.sub(replaced, text)
    if used < len(given) and not keyed:
        raise FormatError(f"there are {len(given)} values, but only {used} `%` verbs in the text")
    return result


def _by_key(right: Value, key: str) -> Value:
    if not isinstance(right, dict):
        raise FormatError(f"`%({key})` needs a dict, not {to_repr(right)}")
    if key not in right:
        raise FormatError(f"`%({key})`: the dict has no such key")
    return right[key]


def _verb(verb: str, value: Value) -> str:
    if verb == "s":
        return to_text(value)
    if verb == "r":
        return to_repr(value)
    if verb in "dioxX" and verb:
        return _integer(verb, value)
    if verb in "eEfFgG" and verb:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise FormatError(f"`%{verb}` needs a number, not {to_repr(value)} ({type_name(value)})")
        return _float(verb, float(value))
    if verb == "c" and verb:
        return _character(value)
    raise FormatError(f"`%{verb}` is not a verb: there are %s %r %d %i %o %x %X %e %f %g %c %%")


def _integer(verb: str, value: Value) -> str:
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"`%{verb}` needs an integer, not {to_repr(value)} ({type_name(value)})")
    return format(value, {"i": "d"}.get(verb, verb))


def _float(verb: str, value: float) -> str:
    if verb in "gG":
        return to_repr(value) if verb == "g" else to_repr(value).upper()
    return format_float(value, verb, 6) if verb != "F" else format_float(value, "f", 6)


def _character(value: Value) -> str:
    if isinstance(value, str) and len(value) == 1:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0x10FFFF:
        return chr(value)
    raise FormatError(f"`%c` needs one character or its number, not {to_repr(value)}")


def braces(text: str, positional: Sequence[Value], keywords: Mapping[str, Value]) -> str:
    """`text.format(…)`: `{}`, `{0}`, `{name}`, each with `!s` or `!r`. Raises FormatError."""
    automatic = 0
    numbered = False

    def replaced(match: re.Match[str]) -> str:
        nonlocal automatic, numbered
        if match["stray"]:
            raise FormatError(f"a single `{match['stray']}` in the text: write it twice")
        if match["field"] is None:
            return match[0][0]
        name, bang, conversion = match["field"].partition("!")
        if bang and conversion not in ("s", "r"):
            raise FormatError(f"unknown conversion `!{conversion}`: there are `!s` and `!r`")
        if not name:
            name, automatic = str(automatic), automatic + 1
        elif name.isdigit():
            numbered = True
        if numbered and automatic:
            raise FormatError("numbered fields and fields without a number cannot be mixed")
        value = _field(name, positional, keywords)
        return to_repr(value) if conversion == "r" else to_text(value)

    return _FIELD.sub(replaced, text)


def _field(name: str, positional: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    if name.isdigit():
        if int(name) >= len(positional):
            raise FormatError(f"`{{{name}}}` has no value: {len(positional)} are given")
        return positional[int(name)]
    if any(mark in name for mark in ":.["):
        raise FormatError(f"`{{{name}}}`: Starlark knows no format specifications, attributes or items here")
    if name not in keywords:
        raise FormatError(f"`{{{name}}}` has no value: there is no such keyword")
    return keywords[name]
