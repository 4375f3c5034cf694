"""A terminal's screen, as far as one live line needs it."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\??)(\d*)(?:;\d+)*([A-Za-z])|\x1b([78D])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """Rows of text and a cursor; writing beyond the last row scrolls."""

    def __init__(self, rows: int = 6) -> None:
        self.rows = [""] * rows
        self.row = self.column = 0
        self.saved = (0, 0)

    def write(self, text: str) -> None:
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            assert match, repr(text[position : position + 20])
            position = match.end()
            self._take(match)

    def _take(self, match: re.Match[str]) -> None:
        _, count, letter, escape, control, printed = match.groups()
        if printed:
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + printed + line[self.column + len(printed) :]
            self.column += len(printed)
        elif control == "\r":
            self.column = 0
        elif control == "\n":
            self.column = 0
            self._down()
        elif escape == "7":
            self.saved = (self.row, self.column)
        elif escape == "8":
            self.row, self.column = self.saved
        elif escape == "D":
            self._down()
        elif letter == "A":
            self.row = max(self.row - int(count or 1), 0)
        elif letter == "K":
            assert count == "2"
            self.rows[self.row] = ""
        else:
            assert letter in "mhl", match[0]

    def _down(self) -> None:
        if self.row == len(self.rows) - 1:
            self.rows = [*self.rows[1:], ""]
        else:
            self.row += 1
