"""The environment that the alternatives are asked for: eight equal services, and the package that describes them."""

from __future__ import annotations

import json
from dataclasses import dataclass

COUNT = 8

AT_ONCE = 8
"""How many services are started at the same time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of service: image, command (empty: the image's own), and the port that must be open before it counts."""

    title: str
    image: str
    command: tuple[str, ...] = ()
    port: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the services are called."""
        return tuple(f"service-{number}" for number in range(1, COUNT + 1))

    @property
    def package(self) -> str:
        """A package with one `add_services` of all of them."""
        ports = f'{{"main": PortSpec(number = {self.port})}}' if self.port else "{}"
        command = json.dumps(list(self.command))
        config = f'ServiceConfig(image = "{self.image}", cmd = {command}, ports = {ports})'
        return (
            "def run(plan):\n"
            "    plan.add_services(configs = {\n"
            f'        "service-{{}}".format(number): {config}\n'
            f"        for number in range(1, {COUNT + 1})\n"
            "    })\n"
        )


SLEEPERS = Kind("busybox, no port", "enclave-test/busybox:local", ("sleep", "1000000"))
REDISES = Kind("redis, port awaited", "enclave-test/redis:local", port=6379)
