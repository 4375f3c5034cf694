"""Why a text is not JSON, in the words of Go's `encoding/json`.

A scan that knows nothing of values: it follows the grammar until a character does not fit, and names that
character and the place in the grammar. Strings and numbers are matched as a whole first, and only a bad one is
looked at closely.
"""

from __future__ import annotations

import re

__all__ = ["explain"]

_BLANKS = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PARTIAL_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?")
_END = "unexpected end of JSON input"
_ENDS_AS_BLANK = {  # Go asks whether a blank could follow the last character; here none can, and so it says
    "in string escape code",
    "in \\u hexadecimal character escape",
    "in numeric literal",
    "after decimal point in numeric literal",
    "in exponent of numeric literal",
}


class _Fault(Exception):
    pass


def explain(text: str) -> str:
    """Go's message for the first fault in `text`. (For a faultless text, which is not meant to be asked: depth.)"""
    try:
        _Scanner(text).document()
    except _Fault as fault:
        return str(fault)
    return "exceeded max depth"


class _Scanner:
    """Walks the grammar with an explicit stack of open brackets, so that depth costs nothing."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def document(self) -> None:
        opened: list[str] = []
        while True:
            if self._value_opens(opened):
                continue
            while opened and self._closes(opened):
                opened.pop()
            if not opened:
                break
        if self._peek():
            raise self._fault("after top-level value")

    def _value_opens(self, opened: list[str]) -> bool:
        """Read one value, or the opening of one; True when a first element must follow."""
        char = self._peek()
        if char in "[{" and char:
            self._position += 1
            following = self._peek()
            if following != ("]" if char == "[" else "}"):
                opened.append(char)
                if char == "{":
                    self._key("looking for beginning of object key string")
                return True
            self._position += 1
        elif char == '"':
            self._string()
        elif char and char in "-0123456789":
            self._number()
        elif char in ("t", "f", "n"):
            self._word({"t": "true", "f": "false", "n": "null"}[char])
        else:
            raise self._fault("looking for beginning of value")
        return False

    def _closes(self, opened: list[str]) -> bool:
        """After a value: True when its bracket closes, False when a comma asks for one more."""
        char = self._peek()
        in_array = opened[-1] == "["
        if char == ",":
            self._position += 1
            if not in_array:
                self._key("looking for beginning of object key string")
            return False
        if char != ("]" if in_array else "}"):
            raise self._fault("after array element" if in_array else "after object key:value pair")
        self._position += 1
        return True

    def _key(self, expectation: str) -> None:
        if self._peek() != '"':
            raise self._fault(expectation)
        self._string()
        if self._peek() != ":":
            raise self._fault("after object key")
        self._position += 1

    def _string(self) -> None:
        matched = _STRING.match(self._text, self._position)
        assert matched is not None
        self._position = matched.end()
        char = self._text[self._position : self._position + 1]
        if char == '"':
            self._position += 1
            return
        if char != "\\":
            raise self._fault("in string literal")
        self._position += 1
        if self._text[self._position : self._position + 1] != "u":
            raise self._fault("in string escape code")
        self._position += 1
        while self._text[self._position : self._position + 1] in set("0123456789abcdefABCDEF"):
            self._position += 1
        raise self._fault("in \\u hexadecimal character escape")

    def _number(self) -> None:
        matched = _NUMBER.match(self._text, self._position)
        self._position = (matched or _PARTIAL_NUMBER.match(self._text, self._position) or self._unreachable()).end()
        if matched is None:
            raise self._fault("in numeric literal")
        rest = self._text[self._position : self._position + 2]
        whole = matched.group()
        if rest[:1] == "." and not set(".eE") & set(whole):
            self._position += 1
            raise self._fault("after decimal point in numeric literal")
        if rest[:1] in ("e", "E") and not set("eE") & set(whole):
            self._position += 2 if rest[1:] in ("+", "-") else 1
            raise self._fault("in exponent of numeric literal")

    def _word(self, word: str) -> None:
        for char in word:
            if self._text[self._position : self._position + 1] != char:
                raise self._fault(f"in literal {word} (expecting '{char}')")
            self._position += 1

    def _peek(self) -> str:
        blanks = _BLANKS.match(self._text, self._position)
        self._position = (blanks or self._unreachable()).end()
        return self._text[self._position : self._position + 1]

    def _fault(self, place: str) -> _Fault:
        char = self._text[self._position : self._position + 1]
        if not char and place not in _ENDS_AS_BLANK and not place.startswith("in literal"):
            return _Fault(_END)
        char = char or " "
        return _Fault(f"invalid character {_quote_byte(char.encode('utf-8', 'replace')[0])} {place}")

    @staticmethod
    def _unreachable() -> re.Match[str]:
        raise AssertionError("a pattern that may be empty always matches")


def _quote_byte(byte: int) -> str:
    """Go looks at bytes: the first byte of a non-ASCII character is shown as the Latin-1 character of its value."""
    named = {
        0x27: "\\'",
        0x22: '"',
        0x5C: "\\\\",
        7: "\\a",
        8: "\\b",
        9: "\\t",
        10: "\\n",
        11: "\\v",
        12: "\\f",
        13: "\\r",
    }
    char = chr(byte)
    if byte in named:
        char = named[byte]
    elif not char.isprintable():
        char = f"\\u{byte:04x}" if byte >= 0x80 else f"\\x{byte:02x}"
    return f"'{char}'"
