"""Go's quoting of strings and characters: `%q` outwards, string and character literals inwards.

Source: Go's `strconv.Quote…`, `strconv.Unquote` and the language's rules for literals.
"""

from __future__ import annotations

import re

from pytest_enclave.golang.template.values import decode_bytes, encode_bytes

__all__ = ["can_backquote", "quote", "quote_character", "unquote", "unquote_character"]

_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}
_UNESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}

_LITERAL_PIECE = re.compile(
    r"""[^\\\n]
    | \\ (?: (?P<named>[abfnrtv\\'"])
        | x (?P<byte>[0-9a-fA-F]{2})
        | u (?P<short>[0-9a-fA-F]{4})
        | U (?P<long>[0-9a-fA-F]{8})
        | (?P<octal>[0-7]{3}) )""",
    re.VERBOSE,
)


def quote(text: str, ascii_only: bool = False) -> str:
    """`text` as a Go string literal in double quotes."""
    return '"' + "".join(_escaped(char, '"', ascii_only) for char in text) + '"'


def quote_character(code: int, ascii_only: bool = False) -> str:
    """A code point as a Go character literal; U+FFFD for what is none."""
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return "'" + _escaped(chr(code) if valid else "\ufffd", "'", ascii_only) + "'"


def can_backquote(text: str) -> bool:
    """Whether `text` can be written between back quotes: one line, valid UTF-8, no control character but tab."""
    return not any(
        char in "`\x7f\ufeff" or (char < " " and char != "\t") or "\ud800" <= char <= "\udfff" for char in text
    )


def unquote(literal: str) -> str:
    """The string that a literal in double quotes or back quotes stands for. Raises `ValueError("invalid syntax")`."""
    if literal[0] == "`":
        return literal[1:-1].replace("\r", "")
    pieces: list[bytes] = []
    position, end = 1, len(literal) - 1
    while position < end:
        code, is_byte, position = _piece(literal, position, '"')
        pieces.append(bytes([code]) if is_byte else encode_bytes(chr(code)))
    return decode_bytes(b"".join(pieces))


def unquote_character(literal: str) -> int:
    """The code point of a literal in single quotes. Raises `ValueError` with Go's text."""
    if literal == "''":
        raise ValueError("invalid syntax")
    code, _, position = _piece(literal, 1, "'")
    if literal[position:] != "'":
        raise ValueError(f"malformed character constant: {literal}")
    return code


def _piece(literal: str, position: int, quotation_mark: str) -> tuple[int, bool, int]:
    """One character or escape: its code, whether it is a bare byte, and where the next one starts."""
    matched = _LITERAL_PIECE.match(literal, position)
    if matched is None or matched.group() == quotation_mark:
        raise ValueError("invalid syntax")
    code, is_byte = _decoded(matched, quotation_mark)
    if not is_byte and (code > 0x10FFFF or (0xD800 <= code <= 0xDFFF and matched.group()[0] == "\\")):
        raise ValueError("invalid syntax")
    return code, is_byte, matched.end()


def _decoded(matched: re.Match[str], quotation_mark: str) -> tuple[int, bool]:
    named, byte, octal = matched["named"], matched["byte"], matched["octal"]
    if named:
        if named in "'\"" and named != quotation_mark:
            raise ValueError("invalid syntax")
        return ord(_UNESCAPES.get(named, named)), False
    if byte or octal:
        code = int(byte, 16) if byte else int(octal, 8)
        if code > 0xFF:
            raise ValueError("invalid syntax")
        return code, quotation_mark == '"'
    digits = matched["short"] or matched["long"]
    return (int(digits, 16) if digits else ord(matched.group())), False


def _escaped(char: str, quotation_mark: str, ascii_only: bool) -> str:
    if char == quotation_mark:
        return "\\" + char
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
