"""Number literals of Go: decimal, hexadecimal, octal and binary, with underscores, floats and imaginary ones.

A literal is an int if it reads as one, and a float only if it shows it (a point or an exponent). Source: Go's
language rules, `strconv.ParseInt(text, 0, 64)`, `strconv.ParseFloat`, and how text/template combines them.
"""

from __future__ import annotations

import math
import re

from pytest_enclave.golang.template.quoting import quote

__all__ = ["parse_complex", "parse_number"]

_INT = re.compile(
    r"(?P<sign>[+-]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<binary>(?:_?[01])+)"
    r"|0[oO]?(?P<octal>(?:_?[0-7])+)|(?P<decimal>0|[1-9](?:_?[0-9])*))"
)
_DECIMAL_FLOAT = re.compile(
    r"[+-]?(?=\.?[0-9])"
    r"(?:[0-9](?:_?[0-9])*)?\.?(?:[0-9](?:_?[0-9])*)?"
    r"(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX](?=_?\.?[0-9a-fA-F])"
    r"(?:_?[0-9a-fA-F])*\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?"
    r"[pP][+-]?[0-9](?:_?[0-9])*"
)


def parse_number(text: str) -> int | float | complex | None:
    """The value of a literal; None for an int that does not fit into 63 bits and sign but does into 64.

    Raises `ValueError` with Go's text for what is no number.
    """
    if text.endswith("i"):
        imaginary = _float(text[:-1])
        if imaginary is not None:
            return complex(0, imaginary)
    whole = _int(text)
    if whole is not None and -(2**63) <= whole < 2**64:
        return _typed(whole, text)
    value = _float(text)
    if value is None:
        raise ValueError(f"illegal number syntax: {quote(text)}")
    if not set(".eEpP") & set(text):
        raise ValueError(f"integer overflow: {quote(text)}")
    return value


def parse_complex(text: str) -> complex:
    """`1+2i`, which the lexer has found well-formed. Raises `ValueError` for a part that is no number."""
    split = max(text.rfind("+", 1), text.rfind("-", 1))
    real, imaginary = _float(text[:split]), _float(text[split:-1])
    if real is None or imaginary is None:
        raise ValueError(f"illegal number syntax: {quote(text)}")
    return complex(real, imaginary)


def _typed(whole: int, text: str) -> int | float | None:
    """A literal may be an int in value and a float in looks (`0xep1` aside, hexadecimal digits do not count)."""
    if set(".eEpP") & set(text) and not (text[:2] in ("0x", "0X") and not set("pP") & set(text)):
        return float(whole)
    return whole if whole < 2**63 else None


def _int(text: str) -> int | None:
    matched = _INT.fullmatch(text)
    if matched is None or len(text) > 100:
        return None
    for name, base in (("hex", 16), ("binary", 2), ("octal", 8), ("decimal", 10)):
        if matched[name] is not None:
            value = int(matched[name].replace("_", ""), base)
            return -value if matched["sign"] == "-" else value
    return None


def _float(text: str) -> float | None:
    if _DECIMAL_FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
    elif _HEX_FLOAT.fullmatch(text):
        try:
            value = float.fromhex(text.replace("_", ""))
        except OverflowError:
            return None
    else:
        return None
    return None if math.isinf(value) else value
