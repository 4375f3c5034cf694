"""What a report tells, before it is laid out."""

from __future__ import annotations

import msgspec

from pytest_enclave.report.fitting import Block
from pytest_enclave.report.source_excerpt import Excerpt
from pytest_enclave.source import Location


class Story(msgspec.Struct, frozen=True):
    """The headline (its first line; more lines stand below it), the place, its excerpt, and everything after that."""

    headline: str
    location: Location | None = None
    excerpt: Excerpt | None = None
    blocks: tuple[Block, ...] = ()
    remedy: str = ""
