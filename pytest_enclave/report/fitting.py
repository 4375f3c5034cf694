"""Keeping a report short: what may go when there is not room for everything."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from pytest_enclave.report.text import Line, Segment, line, plural

LONGEST = 40
"""Lines of a report that was not asked to be verbose."""

LEAST = 3
"""Lines that every block keeps."""


class Block(msgspec.Struct, frozen=True):
    """Lines that belong together. `title` always stays.

    `keep` says which of its lines count most: `all`, the `first`, or the `last`; `what` is what they are called.
    """

    lines: tuple[Line, ...]
    title: tuple[Line, ...] = ()
    keep: str = "all"
    what: str = "line"
    dropped: int = 0
    indent: str = "     "

    def __len__(self) -> int:
        return len(self.title) + len(self.lines) + bool(self.dropped)

    @property
    def shown(self) -> tuple[Line, ...]:
        """The lines to show, with a word about those that are not."""
        if not self.dropped:
            return self.title + self.lines
        word = "earlier" if self.keep == "last" else "more"
        note = line(Segment(f"{self.indent}… {plural(self.dropped, f'{word} {self.what}')} (-vv shows all)", "dim"))
        inner = (note, *self.lines) if self.keep == "last" else (*self.lines, note)
        return self.title + inner

    def without(self, count: int) -> Block:
        """The block with that many lines fewer."""
        lines = self.lines[count:] if self.keep == "last" else self.lines[: len(self.lines) - count]
        return replace(self, lines=lines, dropped=self.dropped + count)


def at_most(block: Block, count: int) -> Block:
    """The block with no more lines than that."""
    excess = len(block.lines) - count
    return block.without(excess) if excess > 0 else block


def fit(blocks: Sequence[Block], limit: int = LONGEST) -> list[Line]:
    """The blocks' lines; the longest elastic blocks give way until all fit, then what cannot be shortened is cut."""
    left = list(blocks)
    while sum(map(len, left)) > limit:
        longest = max(range(len(left)), key=lambda index: _spare(left[index]))
        if not _spare(left[longest]):
            break
        left[longest] = left[longest].without(1 if left[longest].dropped else 2)
    lines = [shown for block in left for shown in block.shown]
    if len(lines) <= limit:
        return lines
    cut_off = len(lines) - limit + 1
    return [*lines[: limit - 1], line(Segment(f"… {plural(cut_off, 'more line')} (-vv shows all)", "dim"))]


def _spare(block: Block) -> int:
    """How many lines the block can lose; the first loss costs a line that tells of it."""
    spare = len(block.lines) - LEAST
    return 0 if block.keep == "all" or spare < 2 - bool(block.dropped) else spare
