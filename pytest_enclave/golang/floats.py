"""How Go prints a float64: `%e`, `%f`, `%g` with a precision or the fewest digits that read back the same.

Python's `repr` finds the same shortest digits, and its `%e`/`%f` round the same way (exactly, half to even on the
true binary value); only the choice of notation and the look of the exponent differ. Source: Go's
`strconv.FormatFloat` and `encoding/json`.
"""

from __future__ import annotations

import math
from decimal import Decimal

__all__ = ["SHORTEST", "format_float", "json_float"]

SHORTEST = -1
"""The precision that asks for the fewest digits that read back as the same number."""


def format_float(value: float, verb: str, precision: int = SHORTEST) -> str:
    """`value` as `strconv.FormatFloat(value, verb, precision, 64)` writes it; `verb` is one of `e E f g G b x X`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "eE":
        text = _scientific(value, precision)
    elif verb == "f":
        text = _plain(value, precision)
    elif verb in "gG":
        text = _general(value, precision)
    elif verb == "b":
        return _binary(value)
    else:
        text = _hexadecimal(value, precision)
    return text.upper() if verb.isupper() else text


def json_float(value: float) -> str:
    """A finite float as Go's `encoding/json` writes it: plain between 1e-6 and 1e21, else like `1e+21`, `5e-7`."""
    magnitude = abs(value)
    if magnitude != 0 and not 1e-6 <= magnitude < 1e21:
        text = _scientific(value, SHORTEST)
        return text.replace("e-0", "e-")
    return _plain(value, SHORTEST)


def _digits(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits, and the position of the decimal point counted from the first digit."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    minus = "-" if sign else ""
    if not value:
        return minus, "0", 1
    return minus, text.rstrip("0"), len(text) + exponent


def _scientific(value: float, precision: int) -> str:
    if precision != SHORTEST:
        return f"{value:.{precision}e}"
    sign, digits, point = _digits(value)
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    exponent = point - 1
    return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _plain(value: float, precision: int) -> str:
    if precision != SHORTEST:
        return f"{value:.{precision}f}"
    sign, digits, point = _digits(value)
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def _general(value: float, precision: int) -> str:
    if precision != SHORTEST:
        return f"{value:.{precision}g}"
    _, _, point = _digits(value)
    plain = -4 <= point - 1 < 6 or value == 0
    return _plain(value, SHORTEST) if plain else _scientific(value, SHORTEST)


def _binary(value: float) -> str:
    """A whole mantissa and a power of two: `6755399441055744p-52` for 1.5."""
    exponent = max(math.frexp(value)[1] - 53, -1074) if value else -1074
    mantissa = int(math.ldexp(value, -exponent)) if value else 0
    return f"{mantissa}p{exponent:+d}"


def _hexadecimal(value: float, precision: int) -> str:
    """One hexadecimal digit, a fraction, and a power of two of at least two digits: `0x1.8p+00` for 1.5."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    fraction, exponent = math.frexp(abs(value))
    mantissa = int(math.ldexp(fraction, 53))  # 1 bit before the point, 52 behind it: 13 digits
    exponent = exponent - 1 if value else 0
    digits = 13
    if 0 <= precision < digits:
        mantissa, exponent = _round_mantissa(mantissa, exponent, 4 * (digits - precision))
        digits = precision
    whole, rest = divmod(mantissa, 16**digits)
    text = f"{rest:0{digits}x}" if digits else ""
    text = text.rstrip("0") if precision == SHORTEST else text.ljust(precision, "0")
    return f"{sign}0x{whole}{'.' if text else ''}{text}p{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _round_mantissa(mantissa: int, exponent: int, bits: int) -> tuple[int, int]:
    """Drop the low bits, half to even; a carry out of the top digit moves the exponent."""
    kept, dropped = mantissa >> bits, mantissa & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    if dropped > half or (dropped == half and kept & 1):
        kept += 1
    if kept >> (54 - bits):
        return kept >> 1, exponent + 1
    return kept, exponent
