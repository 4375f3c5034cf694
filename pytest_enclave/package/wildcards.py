"""Names with wildcards as Go's `filepath.Match` knows them: `*`, `?`, `[a-z]`, `[^a-z]`, and `\\` before a character.

Matched in time that grows with the product of both lengths at most: packages choose patterns and names.
"""

from __future__ import annotations

import msgspec


class _Characters(msgspec.Struct, frozen=True):
    """One character of these ranges, or with `other` one of none of them."""

    ranges: tuple[tuple[str, str], ...]
    other: bool = False

    def has(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) != self.other


class Wildcards(msgspec.Struct, frozen=True):
    """A pattern for what stands between two slashes; of its characters, None is any number of any."""

    characters: tuple[_Characters | None, ...]

    @classmethod
    def of(cls, text: str) -> Wildcards:
        """Raises ValueError with what is wrong."""
        found: list[_Characters | None] = []
        at = 0
        while at < len(text):
            char = text[at]
            at += 1
            if char == "*":
                if found[-1:] != [None]:
                    found.append(None)
            elif char == "?":
                found.append(_Characters((), other=True))
            elif char == "[":
                characters, at = _characters(text, at)
                found.append(characters)
            else:
                char, at = _literal(text, at - 1)
                found.append(_Characters(((char, char),)))
        return cls(tuple(found))

    def fit(self, name: str) -> bool:
        """Whether the whole name is as the pattern says."""
        # Only the last `*` is ever given more: whatever stands before it fits as early as it can already.
        at = used = tried = 0
        star = -1
        while at < len(name):
            wanted = self.characters[used] if used < len(self.characters) else None
            if wanted is not None and wanted.has(name[at]):
                at += 1
                used += 1
            elif wanted is None and used < len(self.characters):
                star, tried = used, at
                used += 1
            elif star >= 0:
                tried += 1
                at, used = tried, star + 1
            else:
                return False
        return all(wanted is None for wanted in self.characters[used:])


def _characters(text: str, at: int) -> tuple[_Characters, int]:
    other = text[at : at + 1] == "^"
    at += other
    ranges: list[tuple[str, str]] = []
    while not ranges or text[at : at + 1] != "]":
        low, at = _bound(text, at)
        high = low
        if text[at : at + 1] == "-":
            high, at = _bound(text, at + 1)
        if high < low:
            raise ValueError(f"`{low}-{high}` runs backwards")
        ranges.append((low, high))
    return _Characters(tuple(ranges), other), at + 1


def _bound(text: str, at: int) -> tuple[str, int]:
    if at >= len(text):
        raise ValueError("a `]` is missing")
    if text[at] in "]-":
        raise ValueError(f"between `[` and `]`, `{text[at]}` is written `\\{text[at]}`")
    return _literal(text, at)


def _literal(text: str, at: int) -> tuple[str, int]:
    if text[at] != "\\":
        return text[at], at + 1
    if at + 1 == len(text):
        raise ValueError("nothing follows its `\\`")
    return text[at + 1], at + 2
