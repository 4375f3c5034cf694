"""Places in source text.

The lowest room of the house: every other room may speak of a place in a package's source.
"""

from __future__ import annotations

import msgspec


class Location(msgspec.Struct, frozen=True, gc=False, order=True):
    """A place in a source file: the file's name as users know it, and line and column, both from 1.

    A column of 0 means that only the line is known; a line of 0, that only the file is.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers])


class Frame(msgspec.Struct, frozen=True):
    """One call on the Starlark stack: where it stands, and the function it stands in."""

    location: Location
    function: str
