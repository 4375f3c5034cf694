"""The relay: what a test process reaches at a port of its own loopback is a service inside an enclave.

It runs in the network namespace of the enclave, and is handed sockets of the host's. Messages that come in:

    {"do": "listen", "key": K, "protocol": "tcp" | "udp", "to": [IP, PORT]}, with a bound socket (TCP: listening or not)
    {"do": "drop_service", "prefix": P}      no longer listen for every key that begins so; reset its connections
    {"do": "break", "prefix": P}             reset the connections of every key that begins so

A key is listened for once: a further `listen` drops what was there. Nothing is answered. A dropped TCP socket does not
listen any more even where others hold copies of it, so that nobody waits in its queue.
"""

from __future__ import annotations

import os
import resource
import socket
import time
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.datagrams import Datagrams
from pytest_enclave.engine.embedded.inside.polling import READABLE, Poll
from pytest_enclave.engine.embedded.inside.streams import Connection, Pipes

BACKLOG = 4096

ROUNDS = 32
"""Connections accepted at one port, before others have their turn."""

MOST_DESCRIPTORS = 1 << 16

MOST_CLIENTS = 512
"""Of a UDP port."""

BREATH = 0.1
"""Seconds. How long nothing is accepted where the kernel has no resources left."""


class Listener:
    """A TCP port of the host, and the connections made there."""

    def __init__(self, outside: socket.socket, to: tuple[str, int]) -> None:
        self.socket = outside
        self.to = to
        self.connections: set[Connection] = set()


class Relay:
    """All ports of an enclave.

    Half of the descriptors it may have open are for connections, a quarter for pipes, the rest for all else.
    """

    def __init__(self, descriptors: int) -> None:
        self.poll = Poll()
        self._pipes = Pipes(descriptors // 8)
        self._free = max(1, descriptors // 4)
        self._most_clients = max(1, min(MOST_CLIENTS, descriptors // 32))
        self._listeners: dict[str, Listener] = {}
        self._datagrams: dict[str, Datagrams] = {}
        self._accepting = True
        self._accept_again: float | None = None
        self._inside: socket.socket | None = None

    def obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Do as a message says. One that is not understood does nothing."""
        if message["do"] == "listen" and len(descriptors) == 1:
            self._listen(message["key"], message["protocol"], tuple(message["to"]), descriptors.pop())
        elif message["do"] == "break":
            for key, listener in self._listeners.items():
                for connection in list(listener.connections) if key.startswith(message["prefix"]) else ():
                    connection.reset()
        elif message["do"] == "drop_service":
            for key in [*self._listeners, *self._datagrams]:
                if key.startswith(message["prefix"]):
                    self._drop(key)
        for descriptor in descriptors:
            os.close(descriptor)

    def turn(self) -> None:
        """Serve what is ready, or wait for it."""
        times = [datagrams.idle_until() for datagrams in self._datagrams.values()]
        due = min((at for at in [self._accept_again, *times] if at is not None), default=None)
        self.poll.turn(None if due is None else max(0.0, due - time.monotonic()))
        if due is None or (now := time.monotonic()) < due:
            return
        for datagrams in self._datagrams.values():
            datagrams.expire(now)
        if self._accept_again is not None and self._accept_again <= now:
            self._accept_again = None
            self._accept_or_not()

    def close(self) -> None:
        """Drop everything."""
        for key in [*self._listeners, *self._datagrams]:
            self._drop(key)
        if self._inside is not None:
            self._inside.close()
        self._pipes.close()
        self.poll.close()

    def _listen(self, key: str, protocol: str, to: tuple[str, int], descriptor: int) -> None:
        self._drop(key)
        outside = socket.socket(fileno=descriptor)
        if protocol == "udp":
            self._datagrams[key] = Datagrams(outside, to, self.poll, self._most_clients)
            return
        try:
            outside.setblocking(False)
            outside.listen(BACKLOG)
        except OSError:  # somebody else has the port by now: clients are theirs
            outside.close()
            return
        self._listeners[key] = listener = Listener(outside, to)
        if self._accepting:
            self._watch(listener)

    def _drop(self, key: str) -> None:
        if datagrams := self._datagrams.pop(key, None):
            datagrams.close()
        if listener := self._listeners.pop(key, None):
            self.poll.forget(listener.socket.fileno())
            with suppress(OSError):
                listener.socket.shutdown(socket.SHUT_RDWR)
            listener.socket.close()
            for connection in list(listener.connections):
                connection.reset()

    def _watch(self, listener: Listener) -> None:
        self.poll.watch(listener.socket.fileno(), READABLE, lambda _: self._accept(listener))

    def _accept(self, listener: Listener) -> None:
        for _ in range(ROUNDS):
            if not self._free:
                self._accept_or_not()
                return
            try:
                # The one inside first: without it, nobody is to be let in.
                if self._inside is None:
                    self._inside = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                client, _ = listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._accept_again = time.monotonic() + BREATH
                self._accept_or_not()
                return
            inside, self._inside = self._inside, None
            self._free -= 1
            self._connect(listener, client, inside)

    def _connect(self, listener: Listener, client: socket.socket, inside: socket.socket) -> None:
        connections = listener.connections

        def closed(connection: Connection) -> None:
            connections.discard(connection)
            self._free += 1
            self._accept_or_not()

        connection = Connection(client, inside, listener.to, self.poll, self._pipes, closed)
        if connection.open:
            connections.add(connection)

    def _accept_or_not(self) -> None:
        accepting = self._free > 0 and self._accept_again is None
        if accepting == self._accepting:
            return
        self._accepting = accepting
        for listener in self._listeners.values():
            if accepting:
                self._watch(listener)
            else:
                self.poll.forget(listener.socket.fileno())


def serve(control: Channel) -> None:
    """Relay until the end of the control channel."""
    relay = Relay(_descriptors())

    def told(_: int) -> None:
        for message, descriptors in control.arrived():
            relay.obey(message, descriptors)

    relay.poll.watch(control.fileno(), READABLE, told)
    try:
        while True:
            relay.turn()
    except EOFError:
        relay.close()


def _descriptors() -> int:
    """How many descriptors this process may have open, after it has been allowed as many as can be."""
    soft, hard = (
        MOST_DESCRIPTORS if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    wanted = min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft
