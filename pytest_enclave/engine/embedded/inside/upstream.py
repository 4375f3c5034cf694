"""Asking other name servers what is not a name of the enclave."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence

from pytest_enclave.engine.embedded.inside.polling import READABLE, Poll
from pytest_enclave.engine.embedded.inside.questions import (
    NO_SUCH_NAME,
    SERVER_FAILURE,
    Question,
    is_answer,
    renumbered,
)

PORT = 53

LARGEST = 65_535

PATIENCE = 2.0
"""Seconds that a server has for its answer."""

MOST_FORWARDED = 256
"""Questions that servers are being asked at the same time. One more fails."""

Answer = Callable[[bytes], None]


class Forwarded:
    """A question that upstream servers are being asked, one after the other."""

    __slots__ = ("answer", "number", "packet", "question", "servers", "socket", "until")

    def __init__(self, question: Question, packet: bytes, servers: Sequence[tuple[str, int]], answer: Answer) -> None:
        self.question = question
        self.packet = packet
        self.servers = list(servers)
        self.answer = answer
        self.number = 0
        self.socket: socket.socket | None = None
        self.until = 0.0


class Upstream:
    """The servers that know other names, and what they are being asked."""

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._asked: dict[Forwarded, None] = {}  # whose time is up first, first
        self.servers: list[tuple[str, int]] = []

    def ask(self, question: Question, packet: bytes, answer: Answer) -> None:
        """Answer with what the first server says that says something."""
        if not self.servers:
            answer(question.failed(NO_SUCH_NAME))
        elif len(self._asked) >= MOST_FORWARDED:
            answer(question.failed(SERVER_FAILURE))
        else:
            self._next(Forwarded(question, packet, self.servers, answer))

    def waits_until(self) -> float | None:
        """When the first server has had its time, in monotonic seconds."""
        return next((forwarded.until for forwarded in self._asked), None)

    def expire(self, now: float) -> None:
        """Go on to the next server where one has had its time."""
        for forwarded in list(self._asked):
            if forwarded.until > now:
                break
            self._next(forwarded)

    def close(self) -> None:
        """Ask nobody any longer."""
        for forwarded in list(self._asked):
            self._end(forwarded)

    def _next(self, forwarded: Forwarded) -> None:
        self._end(forwarded)
        while forwarded.servers:
            server = forwarded.servers.pop(0)
            try:
                self._send(forwarded, server)
            except OSError:
                self._end(forwarded)
                continue
            forwarded.until = time.monotonic() + PATIENCE
            self._asked[forwarded] = None
            return
        forwarded.answer(forwarded.question.failed(SERVER_FAILURE))

    def _send(self, forwarded: Forwarded, server: tuple[str, int]) -> None:
        forwarded.socket = asking = socket.socket(
            socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM
        )
        asking.setblocking(False)
        asking.connect(server)
        forwarded.number = int.from_bytes(os.urandom(2), "big")
        asking.send(renumbered(forwarded.packet, forwarded.number))
        self._poll.watch(asking.fileno(), READABLE, lambda _: self._answered(forwarded, asking))

    def _answered(self, forwarded: Forwarded, asking: socket.socket) -> None:
        try:
            packet = asking.recv(LARGEST)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._next(forwarded)
            return
        if is_answer(packet, forwarded.number, forwarded.question):
            self._end(forwarded)
            forwarded.answer(renumbered(packet, forwarded.question.number))

    def _end(self, forwarded: Forwarded) -> None:
        self._asked.pop(forwarded, None)
        if forwarded.socket is not None:
            self._poll.forget(forwarded.socket.fileno())
            forwarded.socket.close()
            forwarded.socket = None
