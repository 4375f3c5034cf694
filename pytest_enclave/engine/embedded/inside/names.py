"""Names of services: what is in /etc/hosts, and a server for the Domain Name System.

One process answers for all services of an enclave, each at a socket in its own network namespace. Messages
that come in:

    {"do": "serve", "key": K}, with a bound UDP socket and a bound TCP socket, listening or not
    {"do": "forget", "key": K}                  no longer answer there
    {"do": "names", "names": {NAME: IP, …}}     the enclave's names, in place of the former ones
    {"do": "upstream", "servers": [IP, …]}      whom to ask for all other names; nobody: there are no others

Nothing is answered. Upstream servers are asked at port 53 (a server may also be [IP, PORT]), over UDP, in the network
namespace of this process.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.polling import READABLE, Poll
from pytest_enclave.engine.embedded.inside.questions import (
    Malformed,
    Table,
    read_question,
    refusal,
)
from pytest_enclave.engine.embedded.inside.upstream import PORT, Answer, Upstream

LARGEST = 65_535

MOST_CONNECTIONS = 64
"""Of all services. One more, and the one that has been silent for longest is closed."""

IDLE = 10.0
"""Seconds after which a connection on which nothing is asked is closed."""

ROUNDS = 64
"""Questions at one socket, before the others have their turn."""

LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def hosts_text(names: Mapping[str, str]) -> str:
    """What is in /etc/hosts of services, by the addresses of names."""
    by_address: dict[str, list[str]] = {}
    for name, address in names.items():
        by_address.setdefault(address, []).append(name)
    return LOCAL + "".join(f"{address}\t{' '.join(at)}\n" for address, at in by_address.items())


class Connection:
    """A client that asks over TCP: each question and each answer after its length."""

    __slots__ = ("buffer", "key", "seen", "socket")

    def __init__(self, key: str, client: socket.socket) -> None:
        self.key = key
        self.socket = client
        self.buffer = b""
        self.seen = time.monotonic()


class Server:
    """The sockets of all services, and what is known."""

    def __init__(self) -> None:
        self.poll = Poll()
        self._upstream = Upstream(self.poll)
        self._table = Table({})
        self._served: dict[str, tuple[socket.socket, socket.socket]] = {}
        self._connections: dict[Connection, None] = {}  # the most silent first

    def obey(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Do as a message says. One that is not understood does nothing."""
        if message["do"] == "serve" and len(descriptors) == 2:
            self._serve(message["key"], *descriptors)
            return
        if message["do"] == "forget":
            self._forget(message["key"])
        elif message["do"] == "names":
            self._table = Table(message["names"])
        elif message["do"] == "upstream":
            self._upstream.servers = [
                (server, PORT) if isinstance(server, str) else (server[0], server[1]) for server in message["servers"]
            ]
        for descriptor in descriptors:
            os.close(descriptor)

    def turn(self) -> None:
        """Answer what is asked, or wait for it."""
        silent = next((connection.seen + IDLE for connection in self._connections), None)
        due = min((at for at in (silent, self._upstream.waits_until()) if at is not None), default=None)
        self.poll.turn(None if due is None else max(0.0, due - time.monotonic()))
        if due is None or (now := time.monotonic()) < due:
            return
        self._upstream.expire(now)
        for connection in list(self._connections):
            if connection.seen + IDLE > now:
                break
            self._hang_up(connection)

    def close(self) -> None:
        """Answer nowhere any longer."""
        self._upstream.close()
        for key in list(self._served):
            self._forget(key)
        self.poll.close()

    def _serve(self, key: str, datagrams: int, connections: int) -> None:
        self._forget(key)
        udp, tcp = self._served[key] = socket.socket(fileno=datagrams), socket.socket(fileno=connections)
        udp.setblocking(False)
        tcp.setblocking(False)
        self.poll.watch(udp.fileno(), READABLE, lambda _: self._receive(udp))
        with suppress(OSError):
            tcp.listen()
            self.poll.watch(tcp.fileno(), READABLE, lambda _: self._accept(key, tcp))

    def _forget(self, key: str) -> None:
        for served in self._served.pop(key, ()):
            self.poll.forget(served.fileno())
            served.close()
        for connection in [connection for connection in self._connections if connection.key == key]:
            self._hang_up(connection)

    def _ask(self, packet: bytes, answer: Answer) -> None:
        try:
            question = read_question(packet)
        except Malformed:
            return
        known = refusal(question) or self._table.answer(question)
        if known is not None:
            answer(known)
        else:
            self._upstream.ask(question, packet, answer)

    def _receive(self, udp: socket.socket) -> None:
        def answer_to(client: tuple[str, int]) -> Answer:
            def answer(packet: bytes) -> None:
                with suppress(OSError):  # also where the socket has been closed while others were asked
                    udp.sendto(packet, client)

            return answer

        for _ in range(ROUNDS):
            try:
                packet, client = udp.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue
            self._ask(packet, answer_to(client))

    def _accept(self, key: str, tcp: socket.socket) -> None:
        try:
            client, _ = tcp.accept()
        except BlockingIOError:
            return
        except OSError:
            self._hang_up_on_one()
            return
        if len(self._connections) >= MOST_CONNECTIONS:
            self._hang_up_on_one()
        client.setblocking(False)
        connection = Connection(key, client)
        self._connections[connection] = None
        self.poll.watch(client.fileno(), READABLE, lambda _: self._read(connection))

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up(connection)
            return
        connection.seen = time.monotonic()
        del self._connections[connection]
        self._connections[connection] = None
        connection.buffer += data
        while len(connection.buffer) >= 2:
            end = 2 + int.from_bytes(connection.buffer[:2], "big")
            if len(connection.buffer) < end:
                return
            packet, connection.buffer = connection.buffer[2:end], connection.buffer[end:]
            self._ask(packet, lambda answer: self._reply(connection, answer))

    def _reply(self, connection: Connection, packet: bytes) -> None:
        framed = struct.pack("!H", len(packet)) + packet
        try:
            complete = connection.socket.send(framed) == len(framed)
        except OSError:
            complete = False
        if not complete:  # a client that does not read what it asked for
            self._hang_up(connection)

    def _hang_up_on_one(self) -> None:
        for connection in self._connections:
            self._hang_up(connection)
            return

    def _hang_up(self, connection: Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self.poll.forget(connection.socket.fileno())
            connection.socket.close()


def serve(control: Channel) -> None:
    """Answer until the end of the control channel."""
    server = Server()

    def told(_: int) -> None:
        for message, descriptors in control.arrived():
            server.obey(message, descriptors)

    server.poll.watch(control.fileno(), READABLE, told)
    try:
        while True:
            server.turn()
    except EOFError:
        server.close()
