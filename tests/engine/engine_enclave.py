"""An enclave in tests: a site, and short ways to put services on it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec, Site
from pytest_enclave.errors import EnclaveError
from pytest_enclave.plan.service import PortSpec

BUSYBOX = "enclave-test/busybox:local"
PYTHON = "enclave-test/python:local"
REDIS = "enclave-test/redis:local"
NGINX = "enclave-test/nginx:local"

FOREVER = ("sleep", "1000000")

_numbers = itertools.count(1)


def enclave_id() -> EnclaveId:
    """A name that no other test, and no other run on this machine, has."""
    return EnclaveId(f"engine-test-{os.getpid()}-{next(_numbers)}")


@dataclass
class Enclave:
    """A site, and short ways to put services on it."""

    site: Site
    id: EnclaveId
    artifacts: dict[str, Path] = field(default_factory=dict)

    def spec(self, name: str, image: str = BUSYBOX, **settings: Any) -> ServiceSpec:
        """A service that only sleeps, but for its settings."""
        if image == BUSYBOX and "entrypoint" not in settings:
            settings.setdefault("cmd", FOREVER)
        settings.setdefault("address", self.site.reserve(name))
        return ServiceSpec(name, image, **settings)

    def start(self, *specs: ServiceSpec, parallelism: int = 4) -> Mapping[str, EnclaveError | None]:
        """Start services; what became of each."""
        return self.site.start(specs, self.artifacts, parallelism)

    def up(self, name: str, image: str = BUSYBOX, **settings: Any) -> ServiceSpec:
        """Start one service, which must work."""
        spec = self.spec(name, image, **settings)
        outcome = self.start(spec)[name]
        if outcome is not None:
            raise outcome
        return spec

    def sh(self, name: str, script: str) -> str:
        """Run a shell script in a service, which must work; what it wrote."""
        result = self.site.exec(name, ["sh", "-c", script], None)
        assert result.code == 0, result
        return result.output.strip()

    def fork(self) -> Enclave:
        """A copy of the enclave as it was when it was frozen."""
        id_ = enclave_id()
        return Enclave(self.site.fork(id_), id_, self.artifacts)

    def wait_open(self, name: str, port: PortSpec) -> None:
        """Wait until something listens on the port."""
        for _ in range(500):
            if self.site.accepts(name, port):
                return
            self.site.pause(0.02)
        raise AssertionError(f"port {port.number} of {name} never opened")


Fork = Callable[[Enclave], Enclave]
"""What the fixture `fork` is."""
