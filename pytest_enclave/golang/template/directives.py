"""Reading a printf format: `%[2]*.[1]*f` and the like. No value is formatted here.

Source: Go's `fmt`. What does not fit becomes part of the output, `%!d(MISSING)` and so on; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

__all__ = ["Directive", "Flags", "Report", "directives"]

_LARGEST = 1_000_000  # a width or precision beyond is no number to Go
_FLAGS = re.compile(r"[#0+\- ]*")
_DIGITS = re.compile(r"[0-9]+")
_INDEX = re.compile(r"\[([^\]]*)\]")


@dataclass(slots=True)
class Flags:
    """How one value is to be laid out; None for a width or precision that is not given.

    `sharp_v` and `plus_v` are `#` and `+` of `%#v` and `%+v`, where they mean something else.
    """

    sharp: bool = False
    zero: bool = False
    plus: bool = False
    minus: bool = False
    space: bool = False
    width: int | None = None
    precision: int | None = None
    sharp_v: bool = False
    plus_v: bool = False


class Directive(msgspec.Struct, frozen=True):
    """Format argument number `argument` (from 0) with `verb`."""

    flags: Flags
    verb: str
    argument: int


class Report(msgspec.Struct, frozen=True):
    """Text for the output: a copy of the format's own, or what is wrong with it.

    `unused` is set on the last one: the number of the first argument that no directive took.
    """

    text: str
    unused: int | None = None


def directives(template: str, arguments: Sequence[object]) -> Iterator[Directive | Report]:
    """Everything that a format asks for, in order."""
    return _Reader(template, arguments).run()


class _Reader:
    def __init__(self, template: str, arguments: Sequence[object]) -> None:
        self._template = template
        self._arguments = arguments
        self._position = 0
        self._argument = 0
        self._reordered = False
        self._index_is_good = True
        self._after_index = False

    def run(self) -> Iterator[Directive | Report]:
        template = self._template
        while self._position < len(template):
            percent = template.find("%", self._position)
            stop = len(template) if percent < 0 else percent
            if stop > self._position:
                yield Report(template[self._position : stop])
            self._position = stop + 1
            if percent >= 0:
                yield from self._directive()
        if not self._reordered and self._argument < len(self._arguments):
            yield Report("", self._argument)

    def _directive(self) -> Iterator[Directive | Report]:
        self._index_is_good, self._after_index = True, False
        flags = self._flags()
        self._read_index()
        yield from self._width(flags)
        yield from self._precision(flags)
        if not self._after_index:
            self._read_index()
        verb = self._template[self._position : self._position + 1]
        self._position += 1
        if not verb:
            yield Report("%!(NOVERB)")
        elif verb == "%":
            yield Report("%")
        elif not self._index_is_good:
            yield Report(f"%!{verb}(BADINDEX)")
        elif self._argument >= len(self._arguments):
            yield Report(f"%!{verb}(MISSING)")
        else:
            if verb == "v":
                flags.sharp, flags.sharp_v = False, flags.sharp
                flags.plus, flags.plus_v = False, flags.plus
            yield Directive(flags, verb, self._argument)
            self._argument += 1

    def _flags(self) -> Flags:
        matched = _FLAGS.match(self._template, self._position)
        assert matched is not None
        self._position = matched.end()
        given = matched.group()
        return Flags("#" in given, "0" in given, "+" in given, "-" in given, " " in given)

    def _width(self, flags: Flags) -> Iterator[Report]:
        if self._skip("*"):
            width = self._from_argument()
            if width is None:
                yield Report("%!(BADWIDTH)")
            elif width < 0:
                flags.minus, flags.zero = True, False
            flags.width = abs(width) if width is not None else None
            self._after_index = False
            return
        flags.width = self._number()
        if self._after_index and flags.width is not None:
            self._index_is_good = False

    def _precision(self, flags: Flags) -> Iterator[Report]:
        if not self._skip("."):
            return
        if self._after_index:
            self._index_is_good = False
        self._read_index()
        if self._skip("*"):
            precision = self._from_argument()
            flags.precision = precision if precision is not None and precision >= 0 else None
            if precision is None:
                yield Report("%!(BADPREC)")
            self._after_index = False
            return
        number = self._number()
        flags.precision = 0 if number is None else number

    def _skip(self, char: str) -> bool:
        found = self._template.startswith(char, self._position)
        self._position += found
        return found

    def _number(self) -> int | None:
        matched = _DIGITS.match(self._template, self._position)
        if matched is None:
            return None
        if len(matched.group()) > 9 or int(matched.group()) > _LARGEST:
            self._position = len(self._template)
            return None
        self._position = matched.end()
        return int(matched.group())

    def _read_index(self) -> None:
        """`[n]` before a star or the verb: the next argument is number n, counted from 1."""
        self._after_index = False
        if not self._template.startswith("[", self._position):
            return
        self._reordered = True
        matched = _INDEX.match(self._template, self._position)
        if matched is None:
            self._index_is_good = False
            self._position += 1
            return
        self._position = matched.end()
        digits = matched.group(1)
        number = int(digits) if _DIGITS.fullmatch(digits) and len(digits) < 10 else None
        self._after_index = number is not None and number <= _LARGEST
        if number is not None and 1 <= number <= len(self._arguments):
            self._argument = number - 1
        else:
            self._index_is_good = False

    def _from_argument(self) -> int | None:
        if self._argument >= len(self._arguments):
            return None
        value = self._arguments[self._argument]
        self._argument += 1
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return int(value)
        return None
