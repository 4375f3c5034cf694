"""What a report tells, before it is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_enclave.report.fitting import Block
from pytest_enclave.report.source_excerpt import Excerpt
from pytest_enclave.source import Location


@dataclass(frozen=True, slots=True)
class Story:
    """The headline (its first line; more lines stand below it), the place, its excerpt, and everything after that."""

    headline: str
    location: Location | None = None
    excerpt: Excerpt | None = None
    blocks: tuple[Block, ...] = ()
    remedy: str = ""
