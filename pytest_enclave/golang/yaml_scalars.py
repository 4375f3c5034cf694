"""What a YAML scalar means to go-yaml v2, which reads YAML 1.1 in its own way.

`yes`, `on` and `y` are true; `0777`, `0o10`, `0x1F`, `0b11` and `1_000` are integers; `12:30` and dates are text.
"""

from __future__ import annotations

import math
import re

from pytest_enclave.golang.yaml_nodes import PLAIN, YamlError

__all__ = ["scalar"]

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, object] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INT = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))"
)
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10}


def scalar(tag: str, text: str) -> object:
    """The value of a scalar: str, int, float, bool or None. Raises `YamlError` where text and tag disagree."""
    if tag == PLAIN:
        return _plain(text)
    if tag == f"{_TAG}binary":
        return _binary(text)
    kinds = {"int": int, "float": float, "bool": bool, "null": type(None)}
    wanted = kinds.get(tag.removeprefix(_TAG))
    if wanted is None:
        return text
    value = _plain(text)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        found = {str: "str", int: "int", float: "float", bool: "bool"}.get(type(value), "null")
        raise YamlError(f"yaml: cannot decode !!{found} `{text}` as a !!{tag.removeprefix(_TAG)}")
    return value


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if not text[0].isascii() or text[0] not in "+-.0123456789":
        return text
    digits = text if text[0] == "." else text.replace("_", "")
    whole = _int(digits)
    if whole is not None:
        return whole
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        if not math.isinf(value):
            return value
    return text


def _int(digits: str) -> int | None:
    """An integer of up to 64 bits (unsigned ones too); a larger one is left to become a float."""
    matched = _INT.fullmatch(digits)
    if matched is None or len(digits) > 70:
        return None
    base = next(name for name in _BASES if matched[name] is not None)
    value = int(matched["sign"] + matched[base], _BASES[base])
    return value if -(2**63) <= value < 2**64 else None


def _binary(text: str) -> str:
    import base64

    try:
        return base64.b64decode(text, validate=False).decode("utf-8", "replace")
    except ValueError as error:
        raise YamlError(f"yaml: !!binary value contains invalid base64 data: {error}") from error
