"""Where the test process reaches the ports of services."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.containers import port_key
from pytest_enclave.engine.docker.events import Follower
from pytest_enclave.engine.docker.networks import EnclaveNetwork
from pytest_enclave.engine.docker.reachability import LOOPBACK
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import Endpoint, NotReached
from pytest_enclave.plan.service import PortSpec


class Endpoints:
    """The endpoints of one enclave's services."""

    def __init__(self, client: Client, network: EnclaveNetwork, follower: Follower) -> None:
        self._client = client
        self._network = network
        self._follower = follower
        self._published: dict[tuple[str, int], Mapping[str, int]] = {}

    def dial(self, service: Service, port: PortSpec) -> Endpoint:
        """Where a port is to be dialled: a public one where it is published, others where they are."""
        for id_, public in service.spec.public_ports.items():
            if port_key(service.spec.ports.get(id_, public)) == port_key(port):
                reach = self._network.ready().reach
                number = public.number or self._published_at(service, port)
                return Endpoint(LOOPBACK if reach.direct else reach.host, number)
        return self.private(service, port)

    def private(self, service: Service, port: PortSpec) -> Endpoint:
        """Where a port is, public or not."""
        reach = self._network.ready().reach
        if reach.direct:
            return Endpoint(service.spec.address.ip_address, port.number)
        return Endpoint(reach.host, self._published_at(service, port))

    def _published_at(self, service: Service, port: PortSpec) -> int:
        """The number that the port is published at; where the engine chooses it, it does so anew at every start."""
        state = self._follower.state(service.container)
        key = (service.container, state.starts if state else 0)
        if key not in self._published:
            with translate("cannot inspect a service's container"):
                ports = self._client.inspect_container(service.container)["NetworkSettings"]["Ports"]
            self._published[key] = {
                private: int(bindings[0]["HostPort"]) for private, bindings in ports.items() if bindings
            }
        if port_key(port) not in self._published[key]:
            raise NotReached(f"port {port_key(port)} is not declared, so it is not published")
        return self._published[key][port_key(port)]
