"""Filling a fork: the services of a frozen enclave, from their images, on another network."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker.frozen import FrozenEnclave, FrozenService
from pytest_enclave.engine.docker.gate import Gate
from pytest_enclave.engine.docker.lifecycle import Lifecycle
from pytest_enclave.engine.docker.live import LiveServices
from pytest_enclave.engine.docker.networks import EnclaveNetwork, Network
from pytest_enclave.engine.docker.persistent import PersistentVolumes
from pytest_enclave.engine.docker.readdressing import Readdressing
from pytest_enclave.engine.docker.scratch import make_scratch
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.starting import Starter
from pytest_enclave.engine.protocol import Action, Leak
from pytest_enclave.errors import EnclaveError, EngineError
from pytest_enclave.plan.addresses import NewAddresses
from pytest_enclave.plan.facts import Status

AT_A_TIME = 4
"""Services that are started at the same time."""


class ForkFiles:
    """Copies of the artifacts' directories that a fork's services mount: the originals are its origin's.

    They are in a `directory`, or in a temporary one where there is none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._root: Path | None = None
        self._copies: dict[Path, Path] = {}

    def copies(self, artifacts: Mapping[str, Path], readdressing: Readdressing) -> dict[str, Path]:
        """The artifacts' copies, each made once. Raises EngineError."""
        with self._lock:
            return {name: self._copy(source, readdressing) for name, source in artifacts.items()}

    def remove(self) -> None:
        """Remove all copies."""
        with self._lock:
            if self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)

    def _made(self) -> Path:
        if self._directory is None:
            return make_scratch()
        root = self._directory / "files"
        root.mkdir(parents=True, exist_ok=True)
        return root

    def _copy(self, source: Path, readdressing: Readdressing) -> Path:
        if source not in self._copies:
            try:
                if self._root is None:
                    self._root = self._made()
                copy = self._root / str(len(self._copies))
                readdressing.copy(source, copy)
            except OSError as error:
                raise EngineError(f"cannot copy the files artifact in {source}: {error.strerror or error}") from None
            self._copies[source] = copy
        return self._copies[source]


class Thaw(msgspec.Struct, frozen=True):
    """Brings the services of a frozen enclave up in a new one."""

    starter: Starter
    lifecycle: Lifecycle
    gate: Gate
    live: LiveServices
    network: EnclaveNetwork
    files: ForkFiles
    persistent: PersistentVolumes

    def thaw(self, point: FrozenEnclave) -> None:
        """Bring all up, each as it was: running, paused, or not running. Raises EngineError."""
        network = self.network.ready()
        readdressing = Readdressing(
            NewAddresses({old: self.network.address(name) for name, old in point.addresses.items()})
        )

        for directory in point.directories:
            with self.gate.passing():
                self.persistent.put(directory)

        def attempt(frozen: FrozenService) -> Service:
            with self.gate.passing():
                return self._bring_up(frozen, network, readdressing)

        for service in RealClock().map(attempt, point.services, AT_A_TIME):
            self.live.put(service)

    def _bring_up(self, frozen: FrozenService, network: Network, readdressing: Readdressing) -> Service:
        spec = readdressing.spec(frozen.spec)
        artifacts = self.files.copies(frozen.artifacts, readdressing)
        origin = frozen.state.image
        container = self.starter.start(replace(spec, image=frozen.image), origin, network, artifacts, frozen)
        if frozen.state.status is Status.PAUSED:
            self.lifecycle.act(spec.name, container, Action.PAUSE)
        return Service(spec, container, artifacts)


def not_forked(enclave: str, error: EnclaveError, leaks: list[Leak]) -> EngineError:
    """Why there is no such fork; of what it had until then, `leaks` could not be removed."""
    left = "".join(f"; the {leak.kind} {leak.name} is left: `{leak.command}`" for leak in leaks)
    return EngineError(f"the fork {enclave} did not come up: {error.message}{left}", remedy=error.remedy)
