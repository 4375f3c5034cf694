"""Bringing one service up: create its container, start it, and leave nothing behind if that fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.artifacts import ArtifactMounts, put_files
from pytest_enclave.engine.docker.containers import container_config, container_name
from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.frozen import FrozenService
from pytest_enclave.engine.docker.gate import Gate
from pytest_enclave.engine.docker.inscriptions import inscribe
from pytest_enclave.engine.docker.networks import Network
from pytest_enclave.engine.docker.persistent import PersistentVolumes
from pytest_enclave.engine.docker.plots import Plot
from pytest_enclave.engine.docker.shaping import Shaping
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.docker.volumes import put_volume, volume_mount
from pytest_enclave.engine.moved import moved_files
from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import EnclaveError, EngineError, ImageUnavailable, ServiceError
from pytest_enclave.plan.facts import Capacity

if TYPE_CHECKING:
    from docker import APIClient

CATCH_UP = 2.0
"""Seconds that the event of what was just done may take to arrive, before the engine is asked instead."""

INVISIBLE = ("bind source path does not exist", "mounts denied", "path is not shared")
"""What engines say about a directory that they do not see, or may not mount."""

PORT_TAKEN = ("port is already allocated", "address already in use", "ports are not available")
"""What engines say about a port that cannot be published."""

NAME_TAKEN = "is already in use by container"
"""What engines say about the name of a container that is there."""

GOING = 5.0
"""Seconds that a container which is just being removed by somebody else may take to go."""

POD_LOST = ("cannot join network of a non running container", "No such container")
"""What engines say where somebody has ended a pod."""


class Starter(msgspec.Struct, frozen=True):
    """All that services of one enclave are started with; with a plot, in its pods."""

    client: APIClient
    enclave: str
    marks: Mapping[str, str]
    mounts: ArtifactMounts
    persistent: PersistentVolumes
    follower: Follower
    gate: Gate
    capacity: Capacity
    shaping: Shaping
    plot: Plot | None = None

    def start(
        self,
        spec: ServiceSpec,
        image: str,
        network: Network,
        artifacts: Mapping[str, Path],
        frozen: FrozenService | None = None,
    ) -> str:
        """The ID of the service's container, which runs; `image` is its image's digest.

        One that was `frozen` begins with its files and volumes, and runs only if it did.
        Raises ServiceError where the service is the reason that it does not, EngineError for others.
        """
        try:
            return self._start(spec, image, network, artifacts, frozen)
        except Refused as refused:
            if any(words in refused.explanation for words in INVISIBLE):
                self.mounts.use_volumes()
            elif self.plot is not None and any(words in refused.explanation for words in POD_LOST):
                self.plot.discard(spec.name)
            elif NAME_TAKEN in refused.explanation:
                self._clear_name(spec, refused)
            elif _chosen(spec) or not any(words in refused.explanation for words in PORT_TAKEN):
                raise failure(spec, refused) from None
        # Either artifacts are now brought to the engine in volumes, or the service does without its pod, or the
        # engine chose a port for us that somebody else took at the same moment; it chooses another one. Or another
        # process had begun to make the service, and was killed.
        try:
            return self._start(spec, image, network, artifacts, frozen)
        except Refused as refused:
            raise failure(spec, refused) from None

    def _start(
        self,
        spec: ServiceSpec,
        image: str,
        network: Network,
        artifacts: Mapping[str, Path],
        frozen: FrozenService | None,
    ) -> str:
        volumes = frozen.volumes if frozen else ()
        mounts = self.mounts.mounts(spec.files, artifacts, spec.image)
        mounts += self.persistent.mounts(spec.directories, filled=frozen is not None)
        mounts += [volume_mount(volume.path) for volume in volumes]
        resting = None
        if frozen and not frozen.lived:
            resting = replace(frozen.state, ip_address=spec.address.ip_address, starts=0)
        marks = {**self.marks, labels.SERVICE: spec.name, **inscribe(spec, image, artifacts, resting)}
        pod = self.plot.pod_for(spec) if self.plot is not None else None
        config = container_config(spec, network, mounts, marks, self.capacity, pod)
        name = container_name(self.enclave, spec.name)
        self.gate.check()
        with (
            translate(f'cannot create the container of service "{spec.name}"'),
            self.persistent.using(spec.directories, spec.image),
        ):
            container: str = self.client.create_container_from_config(config, name)["Id"]  # type: ignore[no-untyped-call]
        # Known before it starts: its end may be told before the call that starts it returns.
        self.follower.states.put(container, ContainerState(image, spec.address.ip_address))
        try:
            for volume in volumes:
                put_volume(self.client, container, volume)
            if spec.moved and frozen is None:
                put_files(self.client, container, moved_files(spec, artifacts))
            self.gate.check()
            if resting is not None:
                self.follower.states.put(container, resting)
                return container
            with self.shaping.starting(spec.name, spec.address.ip_address) as started:
                with translate(f'cannot start service "{spec.name}"'):
                    self.client.start(container)
                started(container)
        except EnclaveError:
            self._discard(container)
            raise
        self.catch_up(container, 0)
        return container

    def catch_up(self, container: str, starts: int) -> None:
        """Wait until events tell of more starts than that."""
        state = self.follower.wait(container, lambda it: it is None or it.starts > starts, CATCH_UP)
        if state is not None and state.starts <= starts:
            self.follower.refresh(container)

    def _clear_name(self, spec: ServiceSpec, refused: Refused) -> None:
        """Remove the container that has the service's name. Raises what was refused if it is not the service's."""
        name = container_name(self.enclave, spec.name)
        deadline = time.monotonic() + GOING
        while True:
            try:
                with translate("cannot remove the container"):
                    marks = self.client.inspect_container(name)["Config"]["Labels"] or {}
                    if (marks.get(labels.ENCLAVE), marks.get(labels.SERVICE)) != (self.enclave, spec.name):
                        raise failure(spec, refused)
                    self.client.remove_container(name, force=True, v=True)
            except Refused as gone:
                if gone.status == 404:
                    return
                if "already in progress" not in gone.explanation or time.monotonic() > deadline:
                    raise failure(spec, gone) from None
                time.sleep(0.05)

    def _discard(self, container: str) -> None:
        """Remove what did not start. It has written nothing: no process ever ran in it."""
        self.follower.states.forget(container)
        # What cannot be removed now is found by its label, and told of, when the enclave is closed.
        with suppress(EngineError), translate("cannot remove the container"):
            self.client.remove_container(container, force=True, v=True)


def failure(spec: ServiceSpec, refused: Refused) -> EnclaveError:
    """What it means that the engine refused to create or start the service's container."""
    said = refused.explanation
    if refused.status == 404 and "image" in said.lower():
        return ImageUnavailable(f'image "{spec.image}" is not on the engine')
    remedy = ""
    if any(words in said for words in PORT_TAKEN):
        ports = ", ".join(map(str, _chosen(spec)))
        said = f"a port to publish ({ports}) is taken on the engine's machine" if ports else said
        remedy = "stop what uses it, or choose another number in `public_ports`"
    elif "executable file not found" in said or "no such file or directory" in said:
        said = f"its command is not in the image: {said}"
        remedy = f'is that program in "{spec.image}"? See its entrypoint and cmd'
    elif "not a directory" in said or "is not directory" in said:
        said = f"what is mounted is a directory, and the image has a file at its path: {said}"
    elif "permission denied" in said:
        said = f"its command may not be executed: {said}"
    return ServiceError(f'service "{spec.name}" did not start: {said}', service=spec.name, remedy=remedy)


def _chosen(spec: ServiceSpec) -> list[int]:
    """The numbers at which ports are to be published, as far as the engine does not choose them."""
    return [port.number for port in spec.public_ports.values() if port.number]
