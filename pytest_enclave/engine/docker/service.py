"""A live service, as its enclave has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pytest_enclave.engine.protocol import ServiceSpec


class Service(msgspec.Struct, frozen=True):
    """A live service: what it was started from, its container, and the directories of its artifacts by name."""

    spec: ServiceSpec
    container: str
    artifacts: Mapping[str, Path] = msgspec.field(default_factory=dict)
