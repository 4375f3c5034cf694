"""An enclave as it was when it was frozen: what forks begin with.

It is shared by the enclave that was frozen and all its forks, in this process: each of them holds it, and when the
last lets go, its images are removed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.docker.volumes import FrozenVolume
from pytest_enclave.engine.protocol import Leak, ServiceSpec
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status


class FrozenService(msgspec.Struct, frozen=True):
    """A service as it was: what it was started from, and what it did just before it was stopped for the freeze.

    `image` holds its files, `volumes` the content of its volumes; `state` tells the image that it was made from.
    """

    spec: ServiceSpec
    artifacts: Mapping[str, Path]
    state: ContainerState
    image: str
    volumes: Sequence[FrozenVolume]

    @property
    def lived(self) -> bool:
        """Whether it had a process, if only a paused one."""
        return self.state.status in (Status.RUNNING, Status.PAUSED)


class FrozenDirectory(msgspec.Struct, frozen=True):
    """A persistent directory as it was, and an image that the engine has: to make a container that mounts it."""

    key: str
    image: str
    content: FrozenVolume


class FrozenEnclave:
    """A freeze, by a name that no other has: its services, persistent directories, every address that was given out.

    `remove` removes its images until a deadline (monotonic seconds). Where it is the freeze of a fork, its images
    rest on those of the `origin` that the fork began with, which it holds.
    """

    def __init__(
        self,
        name: str,
        addresses: Mapping[str, str],
        remove: Callable[[str, float], list[Leak]],
        origin: FrozenEnclave | None = None,
    ) -> None:
        self.name = name
        self.addresses = dict(addresses)
        self.services: Sequence[FrozenService] = ()
        self.directories: Sequence[FrozenDirectory] = ()
        self._remove = remove
        self._origin = origin
        self._lock = threading.Lock()
        self._holders: set[str] = set()
        self._volumes: list[FrozenVolume] = []
        self._over = False
        if origin is not None:
            origin.hold(name)

    def hold(self, holder: str) -> None:
        """Somebody begins with it. Raises EngineError when all others have let go of it."""
        with self._lock:
            if self._over:
                raise EngineError("the enclave that was frozen is closed, and so are all its forks")
            self._holders.add(holder)

    def keep(self, volume: FrozenVolume) -> None:
        """A volume's content goes with the images."""
        with self._lock:
            self._volumes.append(volume)

    def release(self, holder: str, deadline: float) -> list[Leak]:
        """Let go of it; what of it then could not be removed. May be called again, to try again."""
        with self._lock:
            self._holders.discard(holder)
            if self._holders:
                return []
            self._over = True
            volumes, self._volumes = self._volumes, []
        for volume in volumes:
            volume.content.close()
        leaks = self._remove(self.name, deadline)
        return leaks if self._origin is None else [*leaks, *self._origin.release(self.name, deadline)]
