"""What packages may write and the interpreter does not read: tabs, and the word `assert` as a name.

A leading tab goes to the next multiple of eight columns, as in Go's scanner, any other becomes one space; `assert`
becomes `verify`, which is as long. Strings and comments stay as they are.
"""

from __future__ import annotations

import re

from pytest_enclave.language.edits import Edit, Edited, apply

_STRING = (
    r"""[rRbB]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
)
_TOKEN = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>\#[^\n]*)|(?P<indent>^[ ]*\t[ \t]*)|(?P<tab>\t)|(?P<word>\bassert\b)",
    re.DOTALL | re.MULTILINE,
)
_TAB_STOP = 8


def normalise(text: str) -> Edited:
    """The text in a form that parses, line by line the same."""
    if "\t" not in text and "assert" not in text:
        return Edited(text, {})
    edits = []
    for token in _TOKEN.finditer(text):
        replacement = _replacement(token)
        if replacement is not None:
            line_start = text.rfind("\n", 0, token.start()) + 1
            line = text.count("\n", 0, token.start()) + 1
            edits.append(Edit(line, token.start() - line_start, len(token[0]), replacement))
    return apply(text, edits)


def _replacement(token: re.Match[str]) -> str | None:
    if token.lastgroup == "indent":
        return " " * len(token[0].expandtabs(_TAB_STOP))
    return {"tab": " ", "word": "verify"}.get(token.lastgroup or "")
