"""Ways from the test process to services' ports: a listener on loopback, handed to the enclave's relay.

Each service has a loopback address of its own, so that ports keep their numbers.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Mapping
from random import SystemRandom

from pytest_enclave.engine.embedded import wording
from pytest_enclave.engine.embedded.client import Client
from pytest_enclave.engine.protocol import Endpoint, NotReached
from pytest_enclave.errors import ServiceError
from pytest_enclave.plan.service import PortSpec

LOOPBACK = "127.0.0.1"
ATTEMPTS = 20
BACKLOG = 128


class Reach:
    """The endpoints of one enclave's ports. Safe to use from several threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, dict[tuple[int, str], Endpoint]] = {}
        self._hosts: dict[str, str] = {}
        # Two bytes of our own, so that enclaves of several processes seldom meet.
        self._random = SystemRandom()
        self._network = f"127.{self._random.randrange(16, 255)}.{self._random.randrange(256)}"

    def dial(self, service: str, port: PortSpec) -> Endpoint:
        """Where the test process reaches a port. Raises NotReached."""
        key = port.number, port.transport_protocol
        with self._lock:
            known = self._known.setdefault(service, {})
            if key not in known:
                known[key] = self._relay(service, port)
            return known[key]

    def renew(self, service: str) -> bool:
        """Let all ways to a service be made anew; whether there were any. Raises EngineError."""
        with self._lock:
            self._known.pop(service, None)
            answer = self._client.ask({"do": "unrelay", "name": service})
        if "error" in answer:
            raise wording.refused(f'ways to the ports of service "{service}" cannot be made anew', answer)
        return bool(answer["dropped"])

    def forget_all(self) -> None:
        """Other processes may have made ways anew: each is asked for again."""
        with self._lock:
            self._known.clear()

    def publish(self, service: str, port: PortSpec, public: PortSpec, patience: float = 0.0) -> socket.socket:
        """A listener at a port's public number, still to be used by `use`. Raises ServiceError if it is taken.

        `patience`: seconds that the former one may take to go.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                return _listener(LOOPBACK, public.number, port.transport_protocol)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                taken = error
                break
        raise _taken(service, public, taken)

    def use(self, service: str, port: PortSpec, listener: socket.socket) -> None:
        """Lead a listener to a port; it is used up."""
        with self._lock, listener:
            self._known.setdefault(service, {})[port.number, port.transport_protocol] = self._hand_over(
                service, port, listener, public=True
            )

    def forget(self, service: str) -> None:
        """The service is removed, or another one has its name: ways are asked for again."""
        with self._lock:
            self._known.pop(service, None)

    def _relay(self, service: str, port: PortSpec) -> Endpoint:
        if port.transport_protocol not in ("TCP", "UDP"):
            raise NotReached(f"{port.transport_protocol} ports cannot be reached from outside of the enclave")
        if (known := self._ask(service, port, {})) is not None:
            return known
        with self._bind(service, port) as listener:
            return self._hand_over(service, port, listener)

    def _hand_over(self, service: str, port: PortSpec, listener: socket.socket, *, public: bool = False) -> Endpoint:
        """Another process may have been faster: then its way is ours, unless ours is at a public number."""
        own = listener.getsockname()
        return self._ask(service, port, {"endpoint": list(own), "public": public}, listener) or Endpoint(*own)

    def _ask(
        self, service: str, port: PortSpec, more: Mapping[str, object], listener: socket.socket | None = None
    ) -> Endpoint | None:
        request = {"do": "relay", "name": service, "port": port.number, "protocol": port.transport_protocol.lower()}
        answer = self._client.ask({**request, **more}, [listener.fileno()] if listener else [])
        if "error" in answer:
            if answer.get("kind") == "absent":
                raise NotReached("there is no such service")
            raise NotReached(f"there can be no way to port {port.number}: {answer['error']}")
        return Endpoint(*answer["endpoint"]) if answer["endpoint"] else None

    def _bind(self, service: str, port: PortSpec) -> socket.socket:
        """A listener with the port's own number, if that can be had, on the service's loopback address."""
        for _ in range(ATTEMPTS):
            host = self._hosts.setdefault(service, f"{self._network}.{1 + len(self._hosts) % 254}")
            try:
                return _listener(host, port.number, port.transport_protocol)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    self._hosts[service] = f"{self._network}.{self._random.randrange(1, 255)}"
                    continue
                # A low number, which plain users may not have, or a system with one loopback address.
                break
        return _listener(LOOPBACK, 0, port.transport_protocol)


def _listener(host: str, port: int, protocol: str) -> socket.socket:
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    listener = socket.socket(socket.AF_INET, kind)
    try:
        if protocol == "TCP":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        if protocol == "TCP":
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _taken(service: str, public: PortSpec, error: OSError) -> ServiceError:
    return ServiceError(
        f'service "{service}" did not start: port {public.number}, which is to be published, cannot be had on '
        f"this machine: {error.strerror}",
        service=service,
        remedy="stop what uses it, or choose another number in `public_ports`",
    )
