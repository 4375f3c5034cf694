"""Lines of styled segments: what a report is made of before anybody decides about colours."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TypeAlias

import msgspec

from pytest_enclave.plan.values import Value, to_repr

ELLIPSIS = "…"

_ESCAPE_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
_UNPRINTABLE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


class Segment(msgspec.Struct, frozen=True):
    """A piece of a line. `style` is `error`, `headline`, `location`, `caret`, `dim`, `help`, or empty."""

    text: str
    style: str = ""


Line: TypeAlias = tuple[Segment, ...]


class FailureText(msgspec.Struct, frozen=True):
    """A rendered report. `headline` is one line for pytest's short summary; `str()` gives the plain text."""

    headline: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return "\n".join(plain_line(line) for line in self.lines)


def line(*parts: Segment | str) -> Line:
    """A line; strings among the parts have no style."""
    return tuple(Segment(part) if isinstance(part, str) else part for part in parts)


def plain_line(parts: Line) -> str:
    """The line's text without its styles, and without spaces at its end."""
    return "".join(segment.text for segment in parts).rstrip()


def printable(text: str) -> str:
    """The text with terminal escape sequences dropped and whatever else a terminal would not print written out.

    Newlines and tabs stay.
    """
    escapes, unprintable = _patterns()
    text = escapes.sub("", text).replace("\r\n", "\n")
    return unprintable.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Compiled on first use: many sessions have nothing of others to print."""
    return re.compile(_ESCAPE_SEQUENCE), re.compile(_UNPRINTABLE)


def cells(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    others = [character for character in text if not character.isascii()]
    return len(text) - len(others) + sum(map(_cell, others))


def _cell(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """The text, its end replaced by `…` where it takes more columns than that."""
    if cells(text) <= width:
        return text
    kept, room = [], max(width, 1) - 1
    for character in text:
        room -= _cell(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + ELLIPSIS


def cut_start(text: str, width: int) -> str:
    """The text, its beginning replaced by `…` where it takes more columns than that."""
    return cut(text[::-1], width)[::-1]


def written(value: Value) -> str:
    """The value as Starlark writes it; of one that is no Starlark value, as a third party may produce, the type."""
    try:
        return to_repr(value)
    except TypeError:
        return f"<{type(value).__name__}>"


def plural(count: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
