"""A live service, as its enclave has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_enclave.engine.protocol import ServiceSpec


@dataclass(frozen=True, slots=True)
class Service:
    """A live service: what it was started from, its container, and the directories of its artifacts by name."""

    spec: ServiceSpec
    container: str
    artifacts: Mapping[str, Path] = field(default_factory=dict)
