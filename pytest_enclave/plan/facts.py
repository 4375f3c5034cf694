"""What the engine says is there: asked once per run, then passed on as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from pytest_enclave.plan.connections import ConnectionMatrix


class Status(Enum):
    """What a service is doing."""

    RUNNING = "running"
    STOPPED = "stopped"
    EXITED = "exited"
    PAUSED = "paused"


class ServiceFact(msgspec.Struct, frozen=True):
    """A live service: status, digest of the image it was made from, address in the enclave, exit code if it ended."""

    status: Status
    image: str
    ip_address: str
    exit_code: int | None = None


class Capacity(msgspec.Struct, frozen=True):
    """What the engine can give to services: CPU in millicores, memory in megabytes."""

    cpu: int
    memory: int


class Facts(msgspec.Struct, frozen=True):
    """Services by name; images by reference, with their digest, or None where the engine does not have one.

    `connections` are those in effect between services.
    """

    services: Mapping[str, ServiceFact] = msgspec.field(default_factory=dict)
    images: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    capacity: Capacity | None = None
    connections: ConnectionMatrix = msgspec.field(default_factory=dict)
