"""A call in Starlark source text: where its name, its arguments and its end stand.

Errors know a place only; reports want to underline what is there. Nothing is parsed: brackets, strings and comments are
followed as far as that takes. Where the text is not what it seems, the answer is None, never an exception.
"""

from __future__ import annotations

import re

import msgspec

_STRING = re.compile(
    r"""
      \"{3} (?: \\. | [^\\] )*? \"{3}
    | '{3}  (?: \\. | [^\\] )*? '{3}
    | "     (?: \\. | [^"\\\n] )* "
    | '     (?: \\. | [^'\\\n] )* '
    """,
    re.DOTALL | re.VERBOSE,
)
_DOTTED = re.compile(r"[^\W\d]\w*(?:\s*\.\s*[^\W\d]\w*)*")
_KEYWORD = re.compile(r"\s*([^\W\d]\w*)\s*=(?!=)")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


class Span(msgspec.Struct, frozen=True):
    """A stretch of the text: offsets of its first character and of the one after its last."""

    start: int
    end: int


class Argument(msgspec.Struct, frozen=True):
    """One argument's expression, with its keyword, if it has one."""

    keyword: str
    span: Span


class Call(msgspec.Struct, frozen=True):
    """A call: the span of `plan.verify`, the span from there to the closing parenthesis, and the arguments."""

    name: Span
    whole: Span
    arguments: tuple[Argument, ...]

    def argument(self, keyword: str, position: int) -> Argument | None:
        """The argument given by keyword, or else by position (from 0)."""
        for argument in self.arguments:
            if argument.keyword == keyword:
                return argument
        given = self.arguments[position : position + 1]
        return given[0] if given and not given[0].keyword else None


def offset_of(text: str, line: int, column: int) -> int | None:
    """The offset of a place, both numbers from 1; None where the text has no such place."""
    lines = text.split("\n")
    if not (1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1):
        return None
    return sum(len(before) + 1 for before in lines[: line - 1]) + column - 1


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of an offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def call_at(text: str, line: int, column: int) -> Call | None:
    """The call at a place, which may be its name's beginning or its parenthesis."""
    offset = offset_of(text, line, column)
    if offset is None:
        return None
    start = _name_start(text, offset)
    name = _DOTTED.match(text, start)
    if name is None:
        return None
    opening = re.compile(r"\s*\(").match(text, name.end())
    if opening is None:
        return None
    closed = _arguments(text, opening.end())
    if closed is None:
        return None
    arguments, end = closed
    return Call(Span(name.start(), name.end()), Span(name.start(), end), arguments)


def expression_at(text: str, line: int, column: int) -> Span | None:
    """What to underline at a place: a name with attributes and subscripts, up to a call's parenthesis; a literal."""
    offset = offset_of(text, line, column)
    if offset is None or offset >= len(text) or text[offset].isspace():
        return None
    if string := _STRING.match(text, offset):
        return Span(offset, string.end())
    start = _name_start(text, offset)
    dotted = _DOTTED.match(text, start)
    if dotted is None:
        number = re.compile(r"[\w.]+").match(text, offset)
        closing = _closing(text, offset + 1) if text[offset] in _PAIRS else None
        return Span(offset, number.end() if number else closing or offset + 1)
    end = dotted.end()
    while text[end : end + 1] == "[" and (closing := _closing(text, end + 1)) is not None:
        end = closing
        more = re.compile(r"(?:\.[^\W\d]\w*)+").match(text, end)
        end = more.end() if more else end
    return Span(start, end)


def _name_start(text: str, offset: int) -> int:
    """Where the dotted name that a parenthesis follows begins; the offset itself anywhere else."""
    if text[offset : offset + 1] != "(":
        return offset
    before = re.search(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*$", text[:offset].rsplit("\n", 1)[-1])
    return offset - len(before[0]) if before else offset


def _arguments(text: str, start: int) -> tuple[tuple[Argument, ...], int] | None:
    """The arguments after an opening parenthesis, and the offset after the closing one."""
    found: list[Argument] = []
    begin = position = start
    while position < len(text):
        character = text[position]
        if character in ",)":
            if argument := _argument(text, begin, position):
                found.append(argument)
            begin = position + 1
            if character == ")":
                return tuple(found), begin
        after = _next(text, position)
        if after is None:
            return None
        position = after
    return None


def _argument(text: str, start: int, end: int) -> Argument | None:
    while start < end and (text[start].isspace() or text[start] == "#"):
        start = start + 1 if text[start] != "#" else _line_end(text, start)
    keyword = _KEYWORD.match(text, start, end)
    if keyword:
        start = keyword.end()
    piece = text[start:end]
    left = start + len(piece) - len(piece.lstrip())
    right = start + len(piece.rstrip())
    return Argument(keyword[1] if keyword else "", Span(left, right)) if left < right else None


def _closing(text: str, start: int) -> int | None:
    """The offset after the bracket that closes the one before `start`."""
    position = start
    while position < len(text):
        if text[position] in ")]}":
            return position + 1
        after = _next(text, position)
        if after is None:
            return None
        position = after
    return None


def _next(text: str, position: int) -> int | None:
    """The offset after one step: a whole string, comment or bracketed group, or else one character."""
    depth = 0
    while position < len(text):
        character = text[position]
        string = _STRING.match(text, position) if character in "\"'" else None
        if string:
            position = string.end()
        elif character == "#":
            position = _line_end(text, position)
        else:
            depth += (character in _PAIRS) - (character in ")]}" and depth > 0)
            position += 1
        if depth == 0:
            return position
    return None


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end
