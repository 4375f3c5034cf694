"""What is said of how packets travel, and of whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.plan.connections import ConnectionMatrix, of_rows, to_rows

if TYPE_CHECKING:
    from docker import APIClient

IMAGE = "pytest-enclave/shaper:1"
"""The image of sidecars that is ours: built where no other is named."""

BASE = "python:3-alpine"
"""What that is built on."""


class ShaperPlan(msgspec.Struct, frozen=True):
    """How traffic is shaped: the `image` of sidecars, and whether there are any; None finds out what works.

    Where the engine does not have the image, it is built on `base`; without one, that is an error. `mirror` is a prefix
    that is tried in front of the base's name.
    """

    image: str = IMAGE
    sidecars: bool | None = None
    base: str = ""
    mirror: str = ""

    @classmethod
    def of(cls, image: str | None, mirror: str = "") -> ShaperPlan:
        """With the image that users name, ours if they name none."""
        return cls(image) if image else cls(base=BASE, mirror=mirror)


class Surroundings(msgspec.Struct, frozen=True):
    """What shaping an enclave needs to know: its name, labels and notes, the engine, for which process it is there."""

    engine: Client
    endpoint: str
    enclave: str
    marks: Mapping[str, str]
    notes: Notes
    holder: int
    plan: ShaperPlan = msgspec.field(default_factory=ShaperPlan)

    @property
    def client(self) -> APIClient:
        """The SDK's client."""
        return self.engine.sdk


class Shape(msgspec.Struct, frozen=True):
    """How packets travel, and which are lost."""

    connections: ConnectionMatrix
    seed: int

    def written(self) -> dict[str, Any]:
        """As the processes have it."""
        return {"ways": to_rows(self.connections), "seed": self.seed}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Shape:
        """What was written."""
        return cls(of_rows(written["ways"]), int(written["seed"]))

    def names(self, service: str) -> bool:
        """Whether anything is between this service and others."""
        return any(service in ends for ends in self.connections)


NOTHING = Shape({}, 0)

Running = Callable[[], Mapping[str, str]]
"""The containers of services that run now, by name."""
