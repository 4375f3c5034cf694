"""A UDP port through the relay: one socket inside for each client, so that answers find their way back."""

from __future__ import annotations

import errno
import socket
import time
from contextlib import suppress

from pytest_enclave.engine.embedded.inside.polling import READABLE, Poll

LARGEST = 65_535

IDLE = 60.0
"""Seconds after which a client that neither sends nor gets anything is forgotten."""

ROUNDS = 64
"""Datagrams of one socket, before the others have their turn."""


class Client:
    """Somebody outside who has sent a datagram, and the socket inside that speaks for them."""

    __slots__ = ("address", "seen", "socket")

    def __init__(self, address: tuple[str, int], inside: socket.socket) -> None:
        self.address = address
        self.socket = inside
        self.seen = 0.0


class Datagrams:
    """One UDP port. Datagrams that cannot be delivered are lost, as datagrams are.

    With one client more than `most_clients`, the one that has been silent for longest is forgotten.
    """

    def __init__(self, outside: socket.socket, to: tuple[str, int], poll: Poll, most_clients: int) -> None:
        self._outside = outside
        self._to = to
        self._poll = poll
        self._most_clients = most_clients
        self._clients: dict[tuple[str, int], Client] = {}  # the most silent first
        outside.setblocking(False)
        poll.watch(outside.fileno(), READABLE, self._forth)

    def expire(self, now: float) -> None:
        """Forget the clients that have been silent for too long."""
        for client in list(self._clients.values()):
            if client.seen + IDLE > now:
                break
            self._forget(client)

    def idle_until(self) -> float | None:
        """When the first client has been silent for too long, in monotonic seconds."""
        return next((client.seen + IDLE for client in self._clients.values()), None)

    def close(self) -> None:
        """Serve the port no longer."""
        self._poll.forget(self._outside.fileno())
        self._outside.close()
        for client in list(self._clients.values()):
            self._forget(client)

    def _forth(self, _: int) -> None:
        for _ in range(ROUNDS):
            try:
                data, address = self._outside.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue
            client = self._clients.get(address) or self._meet(address)
            if client is not None:
                self._saw(client)
                with suppress(OSError):
                    client.socket.send(data)

    def _back(self, client: Client) -> None:
        for _ in range(ROUNDS):
            try:
                data = client.socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody listens inside: the next read tells whether there is anything else
                continue
            self._saw(client)
            with suppress(OSError):
                self._outside.sendto(data, client.address)

    def _saw(self, client: Client) -> None:
        client.seen = time.monotonic()
        self._clients[client.address] = self._clients.pop(client.address)

    def _meet(self, address: tuple[str, int]) -> Client | None:
        if len(self._clients) >= self._most_clients:
            self._forget_one()
        try:
            inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            if error.errno == errno.EMFILE:
                self._forget_one()
            return None
        try:
            inside.setblocking(False)
            inside.connect(self._to)
        except OSError:
            inside.close()
            return None
        client = self._clients[address] = Client(address, inside)
        self._poll.watch(inside.fileno(), READABLE, lambda _: self._back(client))
        return client

    def _forget_one(self) -> None:
        for client in self._clients.values():
            self._forget(client)
            return

    def _forget(self, client: Client) -> None:
        del self._clients[client.address]
        self._poll.forget(client.socket.fileno())
        client.socket.close()
