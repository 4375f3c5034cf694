"""Source lines as they were written, with a caret under the right place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pytest_enclave.report.look import Look
from pytest_enclave.report.starlark_call import Call, Span, call_at, expression_at, place_of
from pytest_enclave.report.text import ELLIPSIS, Line, Segment, cells, cut, cut_start, line
from pytest_enclave.source import Location

LONGEST_CALL = 8
"""Lines of a call that are shown before its middle is left out."""


class Mark(msgspec.Struct, frozen=True):
    """What to underline, and what to say beside the carets."""

    span: Span
    label: str = ""


class Excerpt(msgspec.Struct, frozen=True):
    """A file's text, the numbers of the lines to show (from 1, ascending), and the mark, if there is one."""

    text: str
    numbers: tuple[int, ...]
    mark: Mark | None = None


def source_of(sources: Mapping[str, str], location: Location | None) -> str | None:
    """The text of the location's file, where it is known and has such a line."""
    text = sources.get(location.file) if location is not None else None
    if text is None or location is None or not 1 <= location.line <= text.count("\n") + 1:
        return None
    return text.replace("\r\n", "\n")


def gutter_of(excerpt: Excerpt | None) -> int:
    """How many columns the line numbers take, at least two."""
    return max(2, len(str(excerpt.numbers[-1]))) if excerpt and excerpt.numbers else 2


def excerpt_at(sources: Mapping[str, str], location: Location | None, *, context: bool = False) -> Excerpt | None:
    """The line at the location, its expression marked; with `context` also the `def` that it stands in."""
    text = source_of(sources, location)
    if text is None or location is None:
        return None
    span = expression_at(text, location.line, location.column) if location.column else None
    above = _definition_above(text, location.line) if context else None
    numbers = (location.line,) if above is None else (above, location.line)
    return Excerpt(text, numbers, Mark(span) if span else None)


def call_in(sources: Mapping[str, str], location: Location | None) -> tuple[str, Call] | None:
    """The call at the location, with the text it stands in."""
    text = source_of(sources, location)
    if text is None or location is None:
        return None
    call = call_at(text, location.line, location.column) if location.column else None
    return (text, call) if call else None


def excerpt_of_call(text: str, call: Call, mark: Mark, *, whole: bool = False) -> Excerpt:
    """All lines of the call; of a long one its beginning, its end, and the marked line, unless it is wanted `whole`."""
    first, last = place_of(text, call.whole.start)[0], place_of(text, call.whole.end - 1)[0]
    numbers = range(first, last + 1)
    if whole or len(numbers) <= LONGEST_CALL:
        return Excerpt(text, tuple(numbers), mark)
    marked = place_of(text, mark.span.start)[0]
    shown = {*numbers[: LONGEST_CALL - 3], marked, last}
    return Excerpt(text, tuple(sorted(shown)), mark)


def excerpt_lines(excerpt: Excerpt, look: Look) -> list[Line]:
    """The excerpt between two empty gutters."""
    empty = line(Segment(f"{look.margin}|", "dim"))
    source = excerpt.text.split("\n")
    marked = place_of(excerpt.text, excerpt.mark.span.start)[0] if excerpt.mark else 0
    shown: list[Line] = [empty]
    before = excerpt.numbers[0]
    for number in excerpt.numbers:
        if number > before + 1 and not _is_definition(source[before - 1]):
            shown.append(line(Segment("...", "dim")))
        before = number
        if number == marked and excerpt.mark is not None:
            shown += _marked_lines(number, source[number - 1], excerpt, excerpt.mark, look)
        else:
            shown.append(_numbered(number, look.fit(_clean(source[number - 1], look), look.gutter + 3), look))
    return [*shown, empty]


def label_room(excerpt: Excerpt, look: Look) -> int:
    """How many columns are left beside the carets."""
    if excerpt.mark is None:
        return 0
    number, column = place_of(excerpt.text, excerpt.mark.span.start)
    start, length = _columns(excerpt.text.split("\n")[number - 1], column, excerpt.mark.span, look)
    return max(look.room(look.gutter + 4) - start - length, 0)


def _marked_lines(number: int, source: str, excerpt: Excerpt, mark: Mark, look: Look) -> list[Line]:
    """The line, and the carets below it; a line that is too long is cut to a window around them."""
    _, column = place_of(excerpt.text, mark.span.start)
    start, length = _columns(source, column, mark.span, look)
    shown, start = _window(_clean(source, look), start, length, look.room(look.gutter + 3))
    length = max(1, min(length, cells(shown) - start))
    carets = Segment("^" * length, "caret")
    label = [Segment(f" {mark.label}", "error")] if mark.label else []
    pad = " " * start
    return [_numbered(number, shown, look), line(Segment(f"{look.margin}| ", "dim"), pad, carets, *label)]


def _columns(source: str, column: int, span: Span, look: Look) -> tuple[int, int]:
    """Where the carets begin and how many there are, counted in the line as it is shown."""
    end = min(column - 1 + span.end - span.start, len(source))
    start = cells(_clean(source[: column - 1], look))
    return start, max(1, cells(_clean(source[:end], look)) - start)


def _window(text: str, start: int, length: int, room: int) -> tuple[str, int]:
    if cells(text) <= room:
        return text, start
    if start + min(length, room // 2) < room:
        return cut(text, room), start
    kept = room // 3
    position, width = 0, 0
    while position < len(text) and width < start:
        width += cells(text[position])
        position += 1
    before = cut_start(ELLIPSIS + text[:position], kept)
    return cut(before + text[position:], room), cells(before)


def _numbered(number: int, text: str, look: Look) -> Line:
    return line(Segment(f"{number:>{look.gutter}} | ", "dim"), text)


def _clean(source: str, look: Look) -> str:
    return look.one_line(source)


def _definition_above(text: str, number: int) -> int | None:
    """The number of the line with the `def` around a line."""
    lines = text.split("\n")
    indent = _indent(lines[number - 1])
    for above in range(number - 1, 0, -1):
        source = lines[above - 1]
        if _is_definition(source) and _indent(source) < indent:
            return above
    return None


def _is_definition(source: str) -> bool:
    return source.lstrip().startswith("def ")


def _indent(source: str) -> int:
    return len(source) - len(source.lstrip())


def source_line(sources: Mapping[str, str], location: Location) -> str:
    """The one line at the location without its indent, empty where it is not known."""
    text = source_of(sources, location)
    return text.split("\n")[location.line - 1].strip() if text is not None else ""


def place(location: Location | None) -> str:
    """The location as tables have it: file and line."""
    return "" if location is None else ":".join([location.file, *([str(location.line)] if location.line else [])])


def longest(texts: Sequence[str]) -> int:
    """The columns that the widest of the texts takes."""
    return max(map(cells, texts), default=0)
