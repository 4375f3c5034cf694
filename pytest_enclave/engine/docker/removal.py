"""Removing everything of an enclave, found by its label, so that nothing is missed that was made in the meantime.

Images of frozen services are for forks as well, and are removed by themselves (`frozen`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.discovery import DEFAULT_SOCKET
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

AT_A_TIME = 4
"""Resources that are removed at the same time.

When Docker 20.10 removes two dozen containers of one network at once, its count of the network's connections is now
and then wrong afterwards, and the network cannot be removed until the engine restarts. More hardly saves time anyway.
"""

ROUNDS = 10
"""How often what is left is looked for again."""

LOOKS = 2
"""How often the engine is asked what there is, before that cannot be known."""

NAMELESS = "<none>:<none>"

PAUSE = 0.1
"""Seconds between two looks."""


def remove_enclave(client: APIClient, endpoint: str, enclave: str, deadline: float) -> list[Leak]:
    """Remove the enclave's containers, then its volumes and its network; what is left at the deadline.

    `deadline` is in monotonic seconds; calls that then go on end with the client's own timeout.
    """
    docker = _command(endpoint)
    removal = _Removal(client, docker, labels.of_enclave(enclave), deadline)
    try:
        return removal.run()
    except EngineError as error:
        # Not even a list is to be had, so the command that finds them by label has to do.
        mine = f"--filter label={labels.ENCLAVE}={enclave}"
        kinds = (("ps -aq", "rm -fv"), ("volume ls -q", "volume rm -f"), ("network ls -q", "network rm"))
        command = "; ".join(f"{docker} {find} {mine} | xargs -r {docker} {remove}" for find, remove in kinds)
        return [Leak("enclave", enclave, error.message, command)]


def remove_images(client: APIClient, endpoint: str, freeze: str, deadline: float) -> list[Leak]:
    """Remove the images of a freeze, as `remove_enclave` does with all else."""
    docker = _command(endpoint)
    try:
        return _Removal(client, docker, labels.of_freeze(freeze), deadline).run_images()
    except EngineError as error:
        command = f"{docker} images -aq --filter label={labels.FROZEN}={freeze} | xargs -r {docker} rmi"
        return [Leak("images", freeze, error.message, command)]


def remove_labelled(client: APIClient, endpoint: str, mine: Sequence[str], deadline: float) -> list[Leak]:
    """Remove all that has these labels (`NAME=VALUE`), and images of frozen services that no container needs.

    Raises EngineError.
    """
    removal = _Removal(client, _command(endpoint), {"label": list(mine)}, deadline)
    return [*removal.run(), *removal.run_images(spare_used=True)]


def _command(endpoint: str) -> str:
    """The CLI, pointed at the engine."""
    return "docker" if endpoint == f"unix://{DEFAULT_SOCKET}" else f"docker -H {endpoint}"


class _Removal:
    def __init__(self, client: APIClient, docker: str, mine: Mapping[str, list[str]], deadline: float) -> None:
        self._client = client
        self._docker = docker
        self._mine = dict(mine)
        self._deadline = deadline

    def run(self) -> list[Leak]:
        containers = self._until_none(self._containers, self._remove_container)
        leaks = [self._leak("container", "rm -fv", name, reason) for name, reason in containers]
        volumes = self._until_none(self._volumes, self._remove_volume)
        leaks += [self._leak("volume", "volume rm -f", name, reason) for name, reason in volumes]
        networks = self._until_none(self._networks, self._remove_network)
        leaks += [self._leak("network", "network rm", name, reason) for name, reason in networks]
        return leaks

    def run_images(self, *, spare_used: bool = False) -> list[Leak]:
        """Remove images; with `spare_used`, only those that no container was made of."""
        find = self._unused_images if spare_used else self._images
        images = self._until_none(find, self._remove_image)
        return [self._leak("image", "rmi", name, reason) for name, reason in images]

    def _until_none(self, find: Callable[[], list[str]], remove: Callable[[str], None]) -> list[tuple[str, str]]:
        """Remove what is found until nothing is; what is left, and why."""
        reasons: dict[str, str] = {}

        def attempt(name: str) -> None:
            try:
                if time.monotonic() < self._deadline:
                    remove(name)
            except EngineError as error:
                reasons[name] = error.message

        for round_ in range(ROUNDS):
            left = self._found(find)
            if not left or time.monotonic() >= self._deadline:
                break
            if round_:
                time.sleep(PAUSE)
            _in_parallel(attempt, left)
        else:
            left = self._found(find)
        return [(name, reasons.get(name, "there was no time left")) for name in left]

    def _found(self, find: Callable[[], list[str]]) -> list[str]:
        """What is found; one call that fails is no reason to leave things behind. Raises EngineError."""
        for _ in range(LOOKS - 1):
            with suppress(EngineError):
                return find()
            if time.monotonic() >= self._deadline:
                break
            time.sleep(PAUSE)
        return find()

    def _containers(self) -> list[str]:
        with translate("cannot list the enclave's containers"):
            found: Sequence[Any] = self._client.containers(all=True, filters=self._mine)
        return [container["Names"][0].lstrip("/") if container["Names"] else container["Id"] for container in found]

    def _remove_container(self, name: str) -> None:
        with translate("cannot remove the container"):
            self._client.remove_container(name, force=True, v=True)

    def _volumes(self) -> list[str]:
        with translate("cannot list the enclave's volumes"):
            found = self._client.volumes(filters=self._mine)
        return [volume["Name"] for volume in found["Volumes"] or []]

    def _remove_volume(self, name: str) -> None:
        with translate("cannot remove the volume"):
            self._client.remove_volume(name, force=True)

    def _images(self) -> list[str]:
        with translate("cannot list the images of a freeze"):
            found = self._client.images(all=True, filters=self._mine)
        return [_name_of(image) for image in found]

    def _unused_images(self) -> list[str]:
        if not (found := self._images()):
            return []
        with translate("cannot list containers that were made of frozen services"):
            made = self._client.containers(all=True, filters={"label": [labels.FROZEN]})
        used = {each["Image"] for each in made} | {each["ImageID"] for each in made}
        return [image for image in found if image not in used]

    def _remove_image(self, name: str) -> None:
        # Without `noprune` the image below goes as well, if it has no name.
        with translate("cannot remove the image"):
            self._client.remove_image(name, noprune=True)

    def _networks(self) -> list[str]:
        with translate("cannot list the enclave's networks"):
            found = self._client.networks(filters=self._mine)
        names = [network["Name"] for network in found]
        # Engines make a second one of the same name where two calls meet; only their IDs tell them apart.
        return [network["Id"] if names.count(network["Name"]) > 1 else network["Name"] for network in found]

    def _remove_network(self, network: str) -> None:
        try:
            with translate("cannot remove the network"):
                self._client.remove_network(network)
        except Refused as refused:
            if "active endpoints" not in refused.explanation:
                raise
            self._disconnect_all(network)

    def _disconnect_all(self, network: str) -> None:
        """Take out what others put in: the test process's own container, or one of a curious user."""
        with translate("cannot inspect the network"):
            strangers = list(self._client.inspect_network(network)["Containers"])
        if not strangers:
            raise EngineError(
                "the engine counts a connection to it that does not exist; it can be removed after the engine's restart"
            )
        for container in strangers:
            # One that went by itself in the meantime is as good.
            with suppress(Refused), translate("cannot disconnect a container from the network"):
                self._client.disconnect_container_from_network(container, network, force=True)
        with translate("cannot remove the network"):
            self._client.remove_network(network)

    def _leak(self, kind: str, command: str, name: str, reason: str) -> Leak:
        return Leak(kind, name, reason, f"{self._docker} {command} {name}")


def _name_of(image: Mapping[str, Any]) -> str:
    """An image's name, or its ID where it has none: engines before 25 then tell of one that nobody can use."""
    names = [name for name in image["RepoTags"] or () if name != NAMELESS]
    return names[0] if names else str(image["Id"])


def _in_parallel(work: Callable[[str], None], names: Sequence[str]) -> None:
    try:
        RealClock().map(work, names, AT_A_TIME)
    except RuntimeError:
        # At the interpreter's exit no more threads are to be had.
        for name in names:
            work(name)
