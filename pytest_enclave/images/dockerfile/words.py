"""Words of an instruction: split at spaces outside of quotes, variables put in, quotes and escapes gone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pytest_enclave.images.faults import ImageFault

_NAME = re.compile(r"[A-Za-z_]\w*|\d+|[@*#]", re.ASCII)
_BRACED = re.compile(r"([A-Za-z_]\w*)(:?[-+?])?", re.ASCII)

DEEPEST = 100
"""How many variables may stand in each other."""


def split(text: str, escape: str = "\\") -> list[str]:
    """The words as they are written, with their quotes and escapes."""
    words: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if char == quote:
            quote = ""
        elif char in "'\"" and not quote:
            quote = char
        if char.isspace() and not quote:
            words += [word] if word else []
            word = ""
        else:
            word += char
        at += 1
    return [*words, word] if word else words


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """What a word means: `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}` and `${NAME:?word}` are variables.

    Without the colon a variable counts as set even where it is empty. Raises ImageFault.
    """
    return _Reading(word, variables, escape).until("")


def listed(text: str) -> list[str] | None:
    """The strings of a JSON list; None for anything else, which is then text for a shell, or words."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # Lists in lists without end are no list of strings either.
        return None
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None


class _Reading:
    """One word, read from left to right."""

    def __init__(self, word: str, variables: Mapping[str, str], escape: str) -> None:
        self._word = word
        self._variables = variables
        self._escape = escape
        self._at = 0
        self._depth = 0

    def until(self, end: str) -> str:
        """What is meant up to the character `end`, which is passed over; empty: up to the end of the word."""
        found = ""
        while self._at < len(self._word):
            char = self._word[self._at]
            self._at += 1
            if char == end:
                return found
            if char == "'":
                found += self._single()
            elif char == '"':
                found += self._double()
            elif char == self._escape:
                found += self._escaped()
            else:
                found += self._variable() if char == "$" else char
        if end:
            raise ImageFault(f"`{self._word}`: a `{end}` is missing")
        return found

    def _single(self) -> str:
        end = self._word.find("'", self._at)
        if end < 0:
            raise ImageFault(f"`{self._word}`: a `'` is missing")
        found = self._word[self._at : end]
        self._at = end + 1
        return found

    def _double(self) -> str:
        found = ""
        while self._at < len(self._word):
            char = self._word[self._at]
            self._at += 1
            if char == '"':
                return found
            if char == self._escape and self._word[self._at : self._at + 1] in ('"', "$", self._escape):
                found += self._escaped()
            else:
                found += self._variable() if char == "$" else char
        raise ImageFault(f'`{self._word}`: a `"` is missing')

    def _escaped(self) -> str:
        char = self._word[self._at : self._at + 1]
        self._at += 1
        return char or self._escape

    def _variable(self) -> str:
        if self._word[self._at : self._at + 1] != "{":
            name = _NAME.match(self._word, self._at)
            if name is None:
                return "$"
            self._at = name.end()
            return self._variables.get(name[0], "")
        braced = _BRACED.match(self._word, self._at + 1)
        if braced is None:
            raise ImageFault(f"`{self._word}`: what follows `${{` is no variable that is known here")
        self._at = braced.end()
        value, how = self._variables.get(braced[1]), braced[2]
        self._depth += 1
        if self._depth > DEEPEST:
            raise ImageFault(f"variables stand in each other more than {DEEPEST} deep")
        other = self.until("}")
        self._depth -= 1
        if not how:
            if other:
                raise ImageFault(f"`{self._word}`: `${{{braced[1]}{other}}}` is not supported", "write `${NAME}`")
            return value or ""
        there = bool(value) if how.startswith(":") else value is not None
        if how.endswith("+"):
            return other if there else ""
        if how.endswith("?") and not there:
            raise ImageFault(f"`{braced[1]}`: {other or 'it has no value'}", "give it in `build_args`")
        return str(value) if there else other
