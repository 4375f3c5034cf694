"""The lower bound: the Docker SDK's low-level client, called from as many threads as there are services."""

from __future__ import annotations

import random
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network

from docker import APIClient
from docker.types import IPAMConfig, IPAMPool

from benchmarks.measurement import stopwatch
from benchmarks.services import AT_ONCE, Kind
from benchmarks.trial import Trial


def cold_start(client: APIClient, kind: Kind) -> Trial:
    """A network, then each container created with an address of its own, started, and its port connected to."""
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    subnet = IPv4Network(f"10.{random.randrange(128, 192)}.{random.randrange(256)}.0/24")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with stopwatch() as up:
            network = _create_network(client, name, subnet)
            numbered = enumerate(kind.names, 2)
            starts = [threads.submit(_bring_up, client, kind, name, each, str(subnet[n])) for n, each in numbered]
            containers = [start.result() for start in starts]
        with stopwatch() as down:
            list(threads.map(lambda container: client.remove_container(container, force=True, v=True), containers))
            client.remove_network(network)
    return Trial(up(), down())


def _create_network(client: APIClient, name: str, subnet: IPv4Network) -> str:
    pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
    ipam = IPAMConfig(driver="default", pool_configs=[pool])
    return str(client.create_network(name, driver="bridge", ipam=ipam)["Id"])


def _bring_up(client: APIClient, kind: Kind, network: str, service: str, address: str) -> str:
    endpoint = {network: client.create_endpoint_config(ipv4_address=address, aliases=[service])}
    container: str = client.create_container(
        kind.image,
        list(kind.command) or None,
        hostname=service,
        name=f"{network}-{service}",
        host_config=client.create_host_config(network_mode=network),
        networking_config=client.create_networking_config(endpoint),  # type: ignore[arg-type]  # the stubs are wrong
    )["Id"]
    client.start(container)
    if kind.port is not None:
        _await(address, kind.port)
    return container


def _await(address: str, port: int) -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((address, port), timeout=0.2).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.002)
        else:
            return
