"""The lower bound: the Docker SDK's low-level client, called from as many threads as there are services."""

from __future__ import annotations

import random
import socket
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from ipaddress import IPv4Network

from docker import APIClient
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from benchmarks.measurement import stopwatch
from benchmarks.services import AT_ONCE, Kind
from benchmarks.trial import Trial

PATIENCE, LINGERING = 30.0, 2.0
"""Seconds until a port is open, and until a network is without containers."""


def cold_start(client: APIClient, kind: Kind) -> Trial:
    """A network, then each container created with an address of its own, started, and its port connected to."""
    name, subnet = _network()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with stopwatch() as up:
            network = _create_network(client, name, subnet)
            numbered = enumerate(kind.names, 2)
            starts = [threads.submit(_bring_up, client, kind, name, each, str(subnet[n])) for n, each in numbered]
            containers = [start.result() for start in starts]
        with stopwatch() as down:
            list(threads.map(lambda container: client.remove_container(container, force=True, v=True), containers))
            _remove_network(client, network)
    return Trial(up(), down())


class Environment:
    """A network whose containers are started one at a time."""

    def __init__(self, client: APIClient, network: str, subnet: IPv4Network) -> None:
        self._client = client
        self._network = network
        self._subnet = subnet
        self._containers: list[str] = []
        self._started = 0

    def start(self, kind: Kind, published: bool = False) -> tuple[str, str]:
        """A container with an address of its own, both told. `published`: its port is on the machine, too."""
        self._started += 1
        address = str(self._subnet[1 + self._started])
        service = f"service-{self._started}"
        container = _bring_up(self._client, kind, self._network, service, address, published)
        self._containers.append(container)
        return container, address

    def execute(self, container: str, command: Sequence[str]) -> None:
        """Run a command to its end. Raises RuntimeError if that is not zero."""
        command_id = self._client.exec_create(container, list(command))["Id"]
        self._client.exec_start(command_id)
        if (code := self._client.exec_inspect(command_id)["ExitCode"]) != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {code}")

    def published(self, container: str, port: int) -> int:
        """The port of the machine at which a container's is found."""
        return int(self._client.port(container, port)[0]["HostPort"])

    def remove(self, container: str) -> None:
        """Remove a container."""
        self._client.remove_container(container, force=True, v=True)
        self._containers.remove(container)

    def close(self) -> None:
        """Remove whatever there is."""
        for container in list(self._containers):
            self.remove(container)
        _remove_network(self._client, self._network)


@contextmanager
def environment(client: APIClient) -> Iterator[Environment]:
    """A network of its own, removed at the end with all that is in it."""
    name, subnet = _network()
    _create_network(client, name, subnet)
    opened = Environment(client, name, subnet)
    try:
        yield opened
    finally:
        opened.close()


def _network() -> tuple[str, IPv4Network]:
    subnet = IPv4Network(f"10.{random.randrange(128, 192)}.{random.randrange(256)}.0/24")
    return f"benchmark-{uuid.uuid4().hex[:8]}", subnet


def _create_network(client: APIClient, name: str, subnet: IPv4Network) -> str:
    pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
    ipam = IPAMConfig(driver="default", pool_configs=[pool])
    return str(client.create_network(name, driver="bridge", ipam=ipam)["Id"])


def _remove_network(client: APIClient, network: str) -> None:
    """A busy Docker engine may count containers that are gone, for a while or for good: then the network is left."""
    give_up = time.monotonic() + LINGERING
    while True:
        try:
            client.remove_network(network)
        except APIError as error:
            if error.status_code != HTTPStatus.FORBIDDEN:
                raise
            if time.monotonic() > give_up:
                warnings.warn(f"network {network} is left: {error.explanation}", stacklevel=2)
                return
            time.sleep(0.02)
        else:
            return


def _bring_up(client: APIClient, kind: Kind, network: str, service: str, address: str, published: bool = False) -> str:
    endpoint = {network: client.create_endpoint_config(ipv4_address=address, aliases=[service])}
    ports: dict[int | str, None] = {kind.port: None} if published and kind.port else {}
    container: str = client.create_container(
        kind.image,
        list(kind.command) or None,
        environment=dict(kind.variables),
        ports=list(ports),
        hostname=service,
        name=f"{network}-{service}",
        host_config=client.create_host_config(network_mode=network, port_bindings=ports),
        networking_config=client.create_networking_config(endpoint),  # type: ignore[arg-type]  # the stubs are wrong
    )["Id"]
    client.start(container)
    if kind.port is not None:
        _await(address, kind.port)
    return container


def _await(address: str, port: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((address, port), timeout=0.2).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.002)
        else:
            return
