"""The environment that the alternatives are asked for: eight equal services, and the package that describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

COUNT = 8

AT_ONCE = 8
"""How many services are started at the same time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """So many equal services: image, command (empty: the image's own), the port that must be open before one counts,
    environment variables."""

    title: str
    image: str
    command: tuple[str, ...] = ()
    port: int | None = None
    count: int = COUNT
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What the services are called."""
        return tuple(f"service-{number}" for number in range(1, self.count + 1))

    @property
    def package(self) -> str:
        """A package with one `add_services` of all of them."""
        ports = f'{{"main": PortSpec(number = {self.port})}}' if self.port else "{}"
        command = json.dumps(list(self.command))
        variables = json.dumps(dict(self.variables))
        config = f'ServiceConfig(image = "{self.image}", cmd = {command}, ports = {ports}, env_vars = {variables})'
        return (
            "def run(plan):\n"
            "    plan.add_services(configs = {\n"
            f'        "service-{{}}".format(number): {config}\n'
            f"        for number in range(1, {self.count + 1})\n"
            "    })\n"
        )


SLEEPERS = Kind("busybox, no port", "enclave-test/busybox:local", ("sleep", "1000000"))
REDISES = Kind("redis, port awaited", "enclave-test/redis:local", port=6379)
SLEEPER = replace(SLEEPERS, count=1)
FIFTY = replace(SLEEPERS, count=50)
POSTGRES = Kind(
    "postgres", "enclave-test/postgres:local", port=5432, count=1, variables={"POSTGRES_HOST_AUTH_METHOD": "trust"}
)
NGINX = Kind("nginx", "enclave-test/nginx:local", port=80, count=1)
