"""Template text → tokens.

Outside `{{ }}` everything is text; `{{- ` and ` -}}` swallow the white space on their side. Inside, blanks are
tokens too: they separate the arguments of a command, and `$x.y` differs from `$x .y`. Tokens are produced one by
one as the parser asks, because the first complaint wins, whichever of the two makes it.

Every token knows its offset (in characters); lines and columns are counted only when something is wrong.
A fault is a token as well (`Kind.FAULT`, its text the message): the parser decides when to look at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

import msgspec

__all__ = ["Kind", "Token", "tokens"]


class Kind(Enum):
    """What a token is. Keywords have kinds of their own."""

    FAULT = "fault"
    END_OF_TEXT = "end of text"
    TEXT = "text"
    OPEN = "{{"
    CLOSE = "}}"
    SPACE = "space"
    PIPE = "|"
    LEFT = "("
    RIGHT = ")"
    ASSIGN = "="
    DECLARE = ":="
    SIGN = "other sign"
    DOT = "."
    FIELD = "field"
    VARIABLE = "variable"
    IDENTIFIER = "identifier"
    TRUTH = "bool"
    NUMBER = "number"
    COMPLEX = "complex"
    CHARACTER = "character"
    STRING = "string"
    NIL = "nil"
    BLOCK = "block"
    BREAK = "break"
    CONTINUE = "continue"
    DEFINE = "define"
    ELSE = "else"
    END = "end"
    IF = "if"
    RANGE = "range"
    TEMPLATE = "template"
    WITH = "with"


_KEYWORDS = {kind.value: kind for kind in (
    Kind.BLOCK, Kind.BREAK, Kind.CONTINUE, Kind.DEFINE, Kind.ELSE, Kind.END, Kind.IF, Kind.RANGE, Kind.TEMPLATE,
    Kind.WITH, Kind.NIL,
)} | {"true": Kind.TRUTH, "false": Kind.TRUTH}  # fmt: skip
_SIGNS = {"|": Kind.PIPE, "=": Kind.ASSIGN, "(": Kind.LEFT, ")": Kind.RIGHT}

_BLANKS = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]+")
_TRIMMING_OPEN = re.compile(r"\{\{-[ \t\r\n]")
_WORD = re.compile(r"\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = {
    '"': (re.compile(r'"(?:[^"\\\n]|\\[^\n])*"'), "unterminated quoted string", Kind.STRING),
    "`": (re.compile(r"`[^`]*`"), "unterminated raw quoted string", Kind.STRING),
    "'": (re.compile(r"'(?:[^'\\\n]|\\[^\n])*'"), "unterminated character constant", Kind.CHARACTER),
}


class Token(msgspec.Struct, frozen=True):
    """One token. `text` is as written; for a fault it is the message. `offset` is in characters."""

    kind: Kind
    text: str
    offset: int

    def __str__(self) -> str:
        """The token as Go names it in messages."""
        if self.kind is Kind.END_OF_TEXT:
            return "EOF"
        if self.kind is Kind.FAULT:
            return self.text
        if self.kind is Kind.DOT or (self.kind.value in _KEYWORDS and self.kind is not Kind.TRUTH):
            return f"<{self.text}>"
        from pytest_enclave.golang.template.quoting import quote

        if len(self.text) > 10:
            return f"{quote(self.text[:10])}..."
        return quote(self.text)


def tokens(source: str) -> Iterator[Token]:
    """The tokens of a template; the last one is END_OF_TEXT or FAULT."""
    position = 0
    swallow = False
    while True:
        opening = source.find("{{", position)
        text = source[position:] if opening < 0 else source[position:opening]
        start = position
        if swallow:
            start += len(text) - len(text.lstrip(_BLANKS))
            text = text.lstrip(_BLANKS)
        trimmed = opening >= 0 and _TRIMMING_OPEN.match(source, opening) is not None
        if trimmed:
            text = text.rstrip(_BLANKS)
        if text:
            yield Token(Kind.TEXT, text, start)
        if opening < 0:
            yield Token(Kind.END_OF_TEXT, "", len(source))
            return
        inside = opening + (4 if trimmed else 2)
        if source.startswith("/*", inside):
            after = _comment_end(source, inside)
            if isinstance(after, Token):
                yield after
                return
        else:
            yield Token(Kind.OPEN, "{{", opening)
            action = _Action(source, inside)
            yield from action.tokens()
            if action.broken:
                return
            after = action.position
        position = after
        swallow = _closes_trimming(source, after)


def _comment_end(source: str, start: int) -> int | Token:
    end = source.find("*/", start + 2)
    if end < 0:
        return Token(Kind.FAULT, "unclosed comment", start)
    width = _closing_width(source, end + 2)
    if not width:
        return Token(Kind.FAULT, "comment ends before closing delimiter", start)
    return end + 2 + width


def _closing_width(source: str, position: int) -> int:
    """The width of `}}` or ` -}}` at `position`; 0 when neither is there."""
    if source.startswith("}}", position):
        return 2
    if source.startswith("-}}", position + 1) and source[position] in _BLANKS:
        return 4
    return 0


def _closes_trimming(source: str, after: int) -> bool:
    return source.startswith("-}}", after - 3) and source[after - 4] in _BLANKS


class _Action:
    """The inside of one `{{ }}`. After `tokens` is exhausted, `position` is behind it, or `broken` is set."""

    def __init__(self, source: str, start: int) -> None:
        self._source = source
        self.position = start
        self.broken = False
        self._depth = 0

    def tokens(self) -> Iterator[Token]:
        while True:
            token = self._next()
            self.broken = token.kind is Kind.FAULT
            yield token
            if self.broken or token.kind is Kind.CLOSE:
                return

    def _next(self) -> Token:
        start, source = self.position, self._source
        width = _closing_width(source, start)
        if width:
            return self._close(width)
        char = source[start : start + 1]
        if not char:
            return Token(Kind.FAULT, "unclosed action", start)
        if char in _BLANKS:
            return self._space()
        if char in _QUOTED:
            return self._quoted(char)
        if char in "$." and not (char == "." and source[start + 1 : start + 2] in set("0123456789")):
            return self._name_after_mark(Kind.VARIABLE if char == "$" else Kind.FIELD)
        if char in "+-.0123456789":
            return self._number()
        if char == "_" or char.isalpha() or char.isnumeric():
            return self._word()
        return self._sign(char)

    def _close(self, width: int) -> Token:
        if self._depth:
            return Token(Kind.FAULT, "unclosed left paren", self.position)
        self.position += width
        return Token(Kind.CLOSE, "}}", self.position - 2)

    def _space(self) -> Token:
        start = self.position
        matched = _SPACE.match(self._source, start)
        assert matched is not None
        end = matched.end()
        # The last blank may belong to a trimming close.
        if self._source.startswith("-}}", end):
            end -= 1
        self.position = end
        return Token(Kind.SPACE, self._source[start:end], start)

    def _quoted(self, mark: str) -> Token:
        pattern, complaint, kind = _QUOTED[mark]
        matched = pattern.match(self._source, self.position)
        if matched is None:
            return Token(Kind.FAULT, complaint, self.position)
        return self._emit(kind, matched.end())

    def _name_after_mark(self, kind: Kind) -> Token:
        if self._at_boundary(self.position + 1):
            return self._emit(Kind.VARIABLE if kind is Kind.VARIABLE else Kind.DOT, self.position + 1)
        end = self._word_end(self.position + 1)
        return self._emit(kind, end) if self._at_boundary(end) else self._bad_character(end)

    def _word(self) -> Token:
        end = self._word_end(self.position)
        if not self._at_boundary(end):
            return self._bad_character(end)
        return self._emit(_KEYWORDS.get(self._source[self.position : end], Kind.IDENTIFIER), end)

    def _number(self) -> Token:
        end, good = self._number_end(self.position)
        kind = Kind.NUMBER
        if good and self._source[end : end + 1] in ("+", "-"):
            end, good = self._number_end(end)
            good = good and self._source[end - 1] == "i"
            kind = Kind.COMPLEX
        if not good:
            from pytest_enclave.golang.template.quoting import quote

            return Token(Kind.FAULT, f"bad number syntax: {quote(self._source[self.position : end])}", self.position)
        return self._emit(kind, end)

    def _number_end(self, start: int) -> tuple[int, bool]:
        """Where a number ends, and whether it ends well; a letter that follows is shown in the complaint."""
        matched = _NUMBER.match(self._source, start)
        assert matched is not None
        end = matched.end()
        if self._word_end(end) > end:
            return end + 1, False
        return end, True

    def _sign(self, char: str) -> Token:
        start = self.position
        if char == ":":
            if not self._source.startswith(":=", start):
                return Token(Kind.FAULT, "expected :=", start)
            return self._emit(Kind.DECLARE, start + 2)
        self._depth += (char == "(") - (char == ")")
        if self._depth < 0:
            return Token(Kind.FAULT, "unexpected right paren", start)
        if not (char.isascii() and char.isprintable()):
            return Token(Kind.FAULT, f"unrecognized character in action: {_code_point(char)}", start)
        return self._emit(_SIGNS.get(char, Kind.SIGN), start + 1)

    def _emit(self, kind: Kind, end: int) -> Token:
        start, self.position = self.position, end
        return Token(kind, self._source[start:end], start)

    def _word_end(self, start: int) -> int:
        matched = _WORD.match(self._source, start)
        assert matched is not None
        return matched.end()

    def _at_boundary(self, position: int) -> bool:
        """Whether a word may end here: before a blank, the end, one of `.,|:()` or the closing braces."""
        char = self._source[position : position + 1]
        return not char or char in " \t\r\n.,|:()" or self._source.startswith("}}", position)

    def _bad_character(self, position: int) -> Token:
        return Token(Kind.FAULT, f"bad character {_code_point(self._source[position])}", self.position)


def _code_point(char: str) -> str:
    shown = f" '{char}'" if char.isprintable() else ""
    return f"U+{ord(char):04X}{shown}"
