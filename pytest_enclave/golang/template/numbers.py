"""Laying out one number for printf: integers, floats, complex numbers, and the padding that all values share.

Every function returns None for a verb that does not suit its type. Source: Go's `fmt`.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_enclave.golang.floats import SHORTEST, format_float
from pytest_enclave.golang.template.directives import Flags
from pytest_enclave.golang.template.quoting import quote_character

__all__ = ["format_complex", "format_integer", "format_real", "pad"]

_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}


def pad(text: str, flags: Flags, zero: bool | None = None) -> str:
    """`text` at the asked width, in characters; zeros pad to the left only, and only where `zero` allows it."""
    if not flags.width or len(text) >= flags.width:
        return text
    if flags.minus:
        return text.ljust(flags.width)
    use_zero = flags.zero if zero is None else zero
    return text.rjust(flags.width, "0" if use_zero else " ")


def format_integer(value: int, verb: str, flags: Flags, signed: bool) -> str | None:
    """An int, int64 or uint8 with `%d %b %o %O %x %X %c %q %U %v`."""
    if verb == "c":
        return pad(_character(value), flags)
    if verb == "q":
        return pad(quote_character(value, ascii_only=flags.plus), flags)
    if verb == "U":
        return _code_point(value % 2**64, flags)
    if verb == "v" and flags.sharp_v and not signed:
        return _digits(value, "x", replace(flags, sharp=True))
    if verb not in _BASES:
        return None
    return _digits(value, verb, flags)


def format_real(value: float, verb: str, flags: Flags) -> str | None:
    """A float64 with `%e %E %f %F %g %G %b %x %X %v`."""
    notation = {"v": "g", "F": "f"}.get(verb, verb)
    if notation not in "efgEGbxX":
        return None
    default = 6 if notation in "efE" else SHORTEST
    precision = default if flags.precision is None else flags.precision
    text = format_float(value, notation, precision)
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("+", text)
    if flags.space and sign == "+" and not flags.plus:
        sign = " "
    if digits[0] in "IN":
        shows_sign = digits[0] == "I" or sign != "+" or flags.plus
        return pad((sign if shows_sign else "") + digits, flags, zero=False)
    if flags.sharp and notation != "b":
        digits = _keep_point(digits, notation, precision)
    if flags.plus or sign != "+":
        if flags.zero and not flags.minus and flags.width:
            return sign + digits.rjust(flags.width - 1, "0")
        return pad(sign + digits, flags)
    return pad(digits, flags)


def format_complex(value: complex, verb: str, flags: Flags) -> str | None:
    """A complex128: both parts with the verb, the second always with its sign."""
    real = format_real(value.real, verb, flags)
    imaginary = format_real(value.imag, verb, replace(flags, plus=True))
    if real is None or imaginary is None:
        return None
    return f"({real}{imaginary}i)"


def _digits(value: int, verb: str, flags: Flags) -> str:
    text = format(abs(value), _BASES[verb])
    sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
    if flags.precision is not None:
        if flags.precision == 0 and value == 0:
            return " " * (flags.width or 0)
        text = text.rjust(flags.precision, "0")
    elif flags.zero and not flags.minus and flags.width:
        text = text.rjust(flags.width - len(sign), "0")
    if flags.sharp:
        if verb == "o" and text[0] != "0":
            text = "0" + text
        elif verb in "bxX":
            text = f"0{verb}{text}"
    if verb == "O":
        text = "0o" + text
    return pad(sign + text, flags, zero=False)


def _character(code: int) -> str:
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if valid else "\ufffd"


def _code_point(code: int, flags: Flags) -> str:
    text = f"U+{format(code, 'X').rjust(max(flags.precision or 0, 4), '0')}"
    if flags.sharp and code <= 0x10FFFF and chr(code).isprintable():
        text += f" '{chr(code)}'"
    return pad(text, flags, zero=False)


def _keep_point(digits: str, notation: str, precision: int) -> str:
    """`#`: a decimal point always, and for `%g` the trailing zeros that make up the precision."""
    split = next((at for at, char in enumerate(digits) if char in ("pP" if notation in "xX" else "eE")), len(digits))
    mantissa, tail = digits[:split], digits[split:]
    missing = 0
    if notation in "gGxX":
        missing = 6 if precision == SHORTEST else precision
        shown = mantissa.replace(".", "").lstrip("0")
        missing -= len(shown) + (mantissa == "0")
    if "." not in mantissa:
        mantissa += "."
    return mantissa + "0" * max(missing, 0) + tail
