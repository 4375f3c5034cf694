"""Where nodes of a syntax tree stand, in characters: Python's tree counts columns in bytes of UTF-8."""

from __future__ import annotations

import ast

import msgspec


class Lines(msgspec.Struct, frozen=True):
    """The lines of a text, and columns in them. Columns are from 0, lines from 1."""

    lines: tuple[str, ...] = msgspec.field(default=())

    @classmethod
    def of(cls, text: str) -> Lines:
        """The lines of the text."""
        return cls(tuple(text.split("\n")))

    def start(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Line and column of the node's first character."""
        return node.lineno, self.characters(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Line and column behind the node's last character."""
        line, offset = node.end_lineno or node.lineno, node.end_col_offset or 0
        return line, self.characters(line, offset)

    def characters(self, line: int, offset: int) -> int:
        """How many characters the first `offset` bytes of the line are."""
        text = self.lines[line - 1]
        return offset if text.isascii() else len(text.encode("utf-8")[:offset].decode("utf-8", "ignore"))

    def find(self, wanted: str, line: int, column: int) -> tuple[int, int]:
        """The next place of a one-character token, from there on, comments left aside."""
        while line <= len(self.lines):
            text = self.lines[line - 1]
            comment = text.find("#", column)
            found = text.find(wanted, column, comment if comment >= 0 else len(text))
            if found >= 0:
                return line, found
            line, column = line + 1, 0
        raise LookupError(wanted)
