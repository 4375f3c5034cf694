"""What a user of testcontainers-python would write for the same environment.

Ryuk, its container that cleans up after crashed sessions, is off, which is in its favour, and so is starting the
services in threads: its documentation starts one after the other.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import PortWaitStrategy

from benchmarks.measurement import stopwatch
from benchmarks.services import AT_ONCE, Kind
from benchmarks.trial import Trial


def cold_start(kind: Kind) -> Trial:
    """A network, then each container in a thread of its own, with its port published and waited for."""
    testcontainers_config.ryuk_disabled = True
    with ThreadPoolExecutor(AT_ONCE) as threads:
        with stopwatch() as up:
            network = Network().create()
            containers = list(threads.map(lambda name: _container(kind, name, network).start(), kind.names))
        with stopwatch() as down:
            list(threads.map(lambda container: container.stop(), containers))
            network.remove()
    return Trial(up(), down())


def one_start(kind: Kind, network: Network) -> Trial:
    """One container in a network that is there."""
    testcontainers_config.ryuk_disabled = True
    with stopwatch() as up:
        container = _container(kind, "service", network).start()
    with stopwatch() as down:
        container.stop()
    return Trial(up(), down())


def _container(kind: Kind, name: str, network: Network) -> DockerContainer:
    container = DockerContainer(kind.image).with_network(network).with_network_aliases(name)
    if kind.command:
        container.with_command(list(kind.command))
    if kind.port is not None:
        container.with_exposed_ports(kind.port).waiting_for(PortWaitStrategy(kind.port))
    return container
