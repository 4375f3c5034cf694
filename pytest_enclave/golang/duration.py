"""Go's durations: the text that packages write (`"1m30s"`) and whole nanoseconds, which is what Go counts in.

A duration is an optional sign and one or more numbers, each with a unit (`ns us µs ms s m h`); a bare `0` needs no
unit. Only a fraction passes through floating point, as it does in Go; the range is that of a signed 64-bit number
(about ±292 years). Source of the rules: Go's `time.ParseDuration` and `Duration.String`; the golden file
`go_duration.json` holds what the real ones answer.
"""

from __future__ import annotations

import re

__all__ = ["DurationError", "parse", "render"]

_MICROSECOND, _MILLISECOND, _SECOND = 10**3, 10**6, 10**9
_MINUTE, _HOUR = 60 * _SECOND, 3600 * _SECOND

_UNITS = {
    "ns": 1,
    "us": _MICROSECOND,
    "\u00b5s": _MICROSECOND,  # micro sign
    "\u03bcs": _MICROSECOND,  # Greek mu
    "ms": _MILLISECOND,
    "s": _SECOND,
    "m": _MINUTE,
    "h": _HOUR,
}
_LIMIT = 2**63  # one more than the largest; only a negative duration may reach it

_TERM = re.compile(r"(?P<whole>[0-9]*)(?P<point>\.(?P<fraction>[0-9]*))?(?P<unit>[^0-9.]*)", re.ASCII | re.DOTALL)


class DurationError(ValueError):
    """The text is not a Go duration. `str(error)` is Go's own message, as users of Kurtosis know it."""


def parse(text: str) -> int:
    """The nanoseconds that `text` stands for, as Go's `time.ParseDuration` reads it.

    `parse("1m30s") == 90_000_000_000`. Fractions below a nanosecond are cut off.
    Raises `DurationError` for anything else, also for what does not fit into 64 bits.
    """
    sign, unsigned = _split_sign(text)
    if unsigned == "0":
        return 0
    if not unsigned:
        raise _invalid(text)
    total = position = 0
    while position < len(unsigned):
        term = _TERM.match(unsigned, position)
        assert term is not None  # every part of the pattern may be empty
        total += _nanoseconds(term, text)
        if total > _LIMIT:
            raise _invalid(text)
        position = term.end()
    if total == _LIMIT and sign > 0:
        raise _invalid(text)
    return sign * total


def render(nanoseconds: int) -> str:
    """The text Go prints for a duration: `render(90_000_000_000) == "1m30s"`, `render(0) == "0s"`.

    Below a second one smaller unit is used (`1.5ms`); from a second on, hours, minutes and seconds.
    """
    sign = "-" if nanoseconds < 0 else ""
    rest = abs(nanoseconds)
    if rest == 0:
        return "0s"
    if rest < _MICROSECOND:
        return f"{sign}{rest}ns"
    if rest < _MILLISECOND:
        return f"{sign}{_decimal(rest, _MICROSECOND)}\u00b5s"
    if rest < _SECOND:
        return f"{sign}{_decimal(rest, _MILLISECOND)}ms"
    hours, rest = divmod(rest, _HOUR)
    minutes, rest = divmod(rest, _MINUTE)
    text = f"{_decimal(rest, _SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _split_sign(text: str) -> tuple[int, str]:
    if text[:1] in ("+", "-"):
        return (-1 if text[0] == "-" else 1), text[1:]
    return 1, text


def _nanoseconds(term: re.Match[str], text: str) -> int:
    whole, fraction, unit = term["whole"], term["fraction"] or "", term["unit"]
    if not whole and not fraction:
        raise _invalid(text)
    if not unit:
        raise DurationError(f"time: missing unit in duration {_quote(text)}")
    # Go counts while it reads: a number too big for 64 bits is refused before its unit is looked at.
    if len(whole.lstrip("0")) > 19 or int(whole or "0") > _LIMIT:
        raise _invalid(text)
    scale = _UNITS.get(unit)
    if scale is None:
        raise DurationError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
    return int(whole or "0") * scale + _fraction(fraction, scale)


def _fraction(digits: str, scale: int) -> int:
    """Nanoseconds of the part after the point. The one place where Go itself counts in floating point."""
    kept = digits[:19]
    if int(kept or "0") > _LIMIT - 1:
        kept = kept[:18]
    return int(float(int(kept or "0")) * (float(scale) / float(10 ** len(kept))))


def _decimal(value: int, unit: int) -> str:
    """`value / unit` in decimal, exactly, without trailing zeros."""
    whole, rest = divmod(value, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _invalid(text: str) -> DurationError:
    return DurationError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    """Go's quoting in these messages: ASCII as it is, quotes and backslashes escaped, the rest byte by byte."""
    quoted = []
    for byte in text.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        if char in '"\\':
            quoted.append("\\" + char)
        elif byte < 0x20 or byte >= 0x7F:
            quoted.append(f"\\x{byte:02x}")
        else:
            quoted.append(char)
    return '"' + "".join(quoted) + '"'
