"""Small changes to a source text that keep its lines, and the way back from a changed column to the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec


class Edit(msgspec.Struct, frozen=True):
    """At `line` (from 1) and `column` (from 0, in characters), `removed` characters give way to `inserted`."""

    line: int
    column: int
    removed: int
    inserted: str


class Edited(msgspec.Struct, frozen=True):
    """A text after its edits, which are kept by line, in order of columns."""

    text: str
    edits: Mapping[int, Sequence[Edit]]

    def column_before(self, line: int, column: int) -> int:
        """The column that `column` (both from 1) of the edited text had; text put in counts as where it was put."""
        shift = 0
        for edit in self.edits.get(line, ()):
            start = edit.column + shift
            if column - 1 < start:
                break
            if column - 1 < start + len(edit.inserted):
                return edit.column + 1
            shift += len(edit.inserted) - edit.removed
        return max(column - shift, 1)


def apply(text: str, edits: Sequence[Edit]) -> Edited:
    """The text with all edits made; they must not overlap. Those at one place are made in the order given."""
    by_line: dict[int, list[Edit]] = {}
    for edit in sorted(edits, key=lambda edit: (edit.line, edit.column, edit.removed > 0)):
        by_line.setdefault(edit.line, []).append(edit)
    if not by_line:
        return Edited(text, {})
    lines = text.split("\n")
    for number, changes in by_line.items():
        lines[number - 1] = _changed(lines[number - 1], changes)
    return Edited("\n".join(lines), by_line)


def _changed(line: str, edits: Sequence[Edit]) -> str:
    parts: list[str] = []
    position = 0
    for edit in edits:
        parts += (line[position : edit.column], edit.inserted)
        position = edit.column + edit.removed
    return "".join((*parts, line[position:]))
