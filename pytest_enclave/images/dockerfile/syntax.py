"""The lines of a Dockerfile as instructions: comments gone, continued lines joined, each with where it begins."""

from __future__ import annotations

import re

import msgspec

_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(.+?)\s*", re.ASCII)
_WORDS = re.compile(r"\s*(\S+)\s*(.*)", re.DOTALL)
_HEREDOC = re.compile(r"""(?<!\S)\d*<<(-?)(["']?)([A-Za-z_]\w*)\2(?!\S)""", re.ASCII)
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


class Instruction(msgspec.Struct, frozen=True):
    """One instruction: the line that it begins on (from 1), its keyword in capitals, and what follows that.

    `has_heredoc` says that text for it stands on the lines below, which is left out here.
    """

    line: int
    keyword: str
    text: str
    has_heredoc: bool = False

    def __str__(self) -> str:
        return f"{self.keyword} {self.text}".rstrip()


class Dockerfile(msgspec.Struct, frozen=True):
    """All instructions in their order, and the character that escapes others and continues lines."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def parse(text: str) -> Dockerfile:
    """What a Dockerfile holds. It is not judged: whether a keyword exists, or what may follow it, is not looked at."""
    lines = text.removeprefix("\ufeff").splitlines()
    escape, number = _directives(lines)
    continued = re.compile(rf"{re.escape(escape)}[ \t]*$")
    found: list[Instruction] = []
    while number < len(lines):
        begun, joined, open_ = number, "", True
        while open_ and number < len(lines):
            line = lines[number]
            number += 1
            if line.lstrip().startswith("#") or (joined and not line.strip()):
                # A comment, or an empty line, between continued lines is as good as not there.
                open_ = bool(joined)
                continue
            open_ = bool(continued.search(line))
            if not joined:
                begun = number - 1
            joined += continued.sub("", line) if open_ else line
        if not (words := _WORDS.fullmatch(joined.rstrip())):
            continue
        keyword, rest = words[1].upper(), words[2]
        ends = _heredocs(keyword, rest)
        number = _after(lines, number, ends)
        found.append(Instruction(begun + 1, keyword, rest, bool(ends)))
    return Dockerfile(tuple(found), escape)


def _directives(lines: list[str]) -> tuple[str, int]:
    """The escape character, and the first line that is no parser directive."""
    escape = "\\"
    for number, line in enumerate(lines):
        directive = _DIRECTIVE.fullmatch(line)
        if directive is None or directive[1].lower() not in ("escape", "syntax", "check"):
            return escape, number
        if directive[1].lower() == "escape" and directive[2] in ("\\", "`"):
            escape = directive[2]
    return escape, len(lines)


def _heredocs(keyword: str, text: str) -> list[tuple[str, bool]]:
    """The words that end the texts for an instruction, each with whether tabs may stand before it."""
    if keyword not in _WITH_HEREDOCS or text.lstrip().startswith("["):
        return []
    return [(match[3], bool(match[1])) for match in _HEREDOC.finditer(text)]


def _after(lines: list[str], number: int, ends: list[tuple[str, bool]]) -> int:
    """The line after the texts that these words end; the same line where one of them does not end."""
    at = number
    for word, tabs in ends:
        while at < len(lines) and (lines[at].lstrip("\t") if tabs else lines[at]) != word:
            at += 1
        if at == len(lines):
            return number
        at += 1
    return at
