"""One TCP connection through the relay: from a client outside to a service inside.

Bytes go from socket to socket through a pipe, inside the kernel. What one side has sent and the other does not take
fills a pipe, then nothing more is read: memory is bounded. The end of each direction is passed on, and so is a reset.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from pytest_enclave.engine.embedded.inside.polling import FAILED, HUNG_UP, READABLE, WRITABLE, Poll

PIPE_SIZE = 1 << 18

CHUNK = 1 << 16
"""What is read at once where splicing is impossible."""

LITTLE = 1 << 14
"""Where less than this came, the source is taken to be empty for now."""

ROUNDS = 8
"""How often bytes are moved in a direction before the others have their turn."""

SPARE_PIPES = 32

SET_PIPE_SIZE = 1031

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Pipes:
    """Empty pipes, kept for the next direction that has something to move. At most so many are in use."""

    def __init__(self, most: int) -> None:
        self._spare: list[tuple[int, int]] = []
        self._free = most
        self._splices = hasattr(os, "splice")

    def take(self) -> tuple[int, int] | None:
        """Both ends of an empty pipe; None where bytes are to be copied, as there can be no pipe."""
        if not self._splices:
            return None
        if self._spare:
            return self._spare.pop()
        if not self._free:
            return None
        try:
            ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        self._free -= 1
        with suppress(OSError):  # too many large pipes: a small one does
            fcntl.fcntl(ends[1], SET_PIPE_SIZE, PIPE_SIZE)
        return ends

    def give_back(self, ends: tuple[int, int]) -> None:
        """An empty pipe."""
        if len(self._spare) < SPARE_PIPES:
            self._spare.append(ends)
        else:
            self.discard(ends)

    def discard(self, ends: tuple[int, int]) -> None:
        """A pipe that may have something in it."""
        os.close(ends[0])
        os.close(ends[1])
        self._free += 1

    def refused(self) -> None:
        """Splicing does not work here: copy from now on."""
        self._splices = False

    def close(self) -> None:
        """Close those that are spare."""
        self._splices = False
        while self._spare:
            self.discard(self._spare.pop())


class Direction:
    """Bytes on their way from one socket to another. Its methods raise OSError where one of the two is gone."""

    __slots__ = ("_copied", "_pipe", "_pipes", "_source", "_target", "ended", "pending")

    def __init__(self, source: socket.socket, target: socket.socket, pipes: Pipes) -> None:
        self._source = source
        self._target = target
        self._pipes = pipes
        self._pipe: tuple[int, int] | None = None
        self._copied = b""
        self.pending = 0
        self.ended = False

    def move(self) -> None:
        """Move what can be moved now, up to a bound."""
        for turn in range(ROUNDS):
            little = False
            if not self.pending:
                if self.ended:
                    break
                self.pending = self._fill(urgent=turn == 0)
                little = self.pending < LITTLE
            if not self._drain() or little:
                break
        if not self.pending:
            self._release()

    def close(self) -> None:
        """Drop what is on its way."""
        if self._pipe is not None:
            self._pipes.discard(self._pipe)
            self._pipe = None

    def _release(self) -> None:
        if self._pipe is not None:
            self._pipes.give_back(self._pipe)
            self._pipe = None

    def _fill(self, urgent: bool) -> int:
        """How much has been taken from the source. At its end, that is passed on."""
        if self._pipe is None:
            self._pipe = self._pipes.take()
        try:
            taken = self._splice_in(self._pipe[1], urgent) if self._pipe is not None else self._copy_in()
        except (BlockingIOError, InterruptedError):
            return 0
        if not taken:
            self.ended = True
            self._target.shutdown(socket.SHUT_WR)
        return taken

    def _splice_in(self, pipe: int, urgent: bool) -> int:
        flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
        # Splicing stops for good before a byte of urgent data, as if there were nothing or as if it were the end, where
        # reading goes on.
        try:
            if taken := os.splice(self._source.fileno(), pipe, PIPE_SIZE, flags=flags):
                return taken
        except BlockingIOError:
            if not urgent:
                raise
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                raise
            self._pipes.refused()
        self._release()
        return self._copy_in()

    def _copy_in(self) -> int:
        self._copied = self._source.recv(CHUNK)
        return len(self._copied)

    def _drain(self) -> bool:
        """Whether the target has taken all that is on its way."""
        try:
            while self.pending:
                if self._pipe is not None:
                    # Never more than there is: the kernel would hold the last packet back for the rest.
                    flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
                    self.pending -= os.splice(self._pipe[0], self._target.fileno(), self.pending, flags=flags)
                else:
                    sent = self._target.send(self._copied)
                    self._copied = self._copied[sent:]
                    self.pending -= sent
        except (BlockingIOError, InterruptedError):
            return False
        return True


class Side:
    """One of the two sockets, and what is waited for on it."""

    __slots__ = ("incoming", "outgoing", "socket", "watched")

    def __init__(self, end: socket.socket, outgoing: Direction, incoming: Direction) -> None:
        self.socket = end
        self.outgoing = outgoing
        self.incoming = incoming
        self.watched: int | None = None

    def wanted(self) -> int:
        """Each direction waits for one thing: room where bytes are pending, bytes where none are."""
        readable = not (self.outgoing.ended or self.outgoing.pending)
        return (READABLE if readable else 0) | (WRITABLE if self.incoming.pending else 0)


class Connection:
    """A client's connection, and the one to the service that is made for it. Closes both sockets in the end."""

    def __init__(
        self,
        client: socket.socket,
        service: socket.socket,
        address: tuple[str, int],
        poll: Poll,
        pipes: Pipes,
        when_closed: Callable[[Connection], None],
    ) -> None:
        self._poll = poll
        self._when_closed = when_closed
        self.open = True
        forth = Direction(client, service, pipes)
        back = Direction(service, client, pipes)
        self._client = Side(client, forth, back)
        self._service = Side(service, back, forth)
        try:
            for end in (client, service):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            outcome = service.connect_ex(address)
        except OSError:
            outcome = errno.ECONNRESET
        if outcome == 0:
            self._settle()
        elif outcome == errno.EINPROGRESS:
            poll.watch(client.fileno(), 0, self._given_up)
            poll.watch(service.fileno(), WRITABLE, self._connected)
        else:
            self.reset()

    def reset(self) -> None:
        """Break the connection off: both ends are told at once."""
        for side in (self._client, self._service):
            with suppress(OSError):
                side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._close()

    def _given_up(self, events: int) -> None:
        if events & (FAILED | HUNG_UP):
            self.reset()

    def _connected(self, events: int) -> None:
        if self._service.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reset()
            return
        self._client.watched = 0
        self._service.watched = WRITABLE
        self._settle()

    def _on_client(self, events: int) -> None:
        self._move(self._client, events)

    def _on_service(self, events: int) -> None:
        self._move(self._service, events)

    def _move(self, side: Side, events: int) -> None:
        try:
            if events & ~WRITABLE:
                side.outgoing.move()
            if events & ~READABLE:
                side.incoming.move()
        except OSError:
            self.reset()
            return
        if events & FAILED:
            self.reset()
            return
        if events & HUNG_UP and not side.wanted():
            # It would be told again and again, until the other side has taken what is pending.
            self._poll.forget(side.socket.fileno())
            side.watched = None
        self._settle()

    def _settle(self) -> None:
        client, service = self._client, self._service
        if client.outgoing.ended and service.outgoing.ended:
            self._close()
            return
        for side, callback in ((client, self._on_client), (service, self._on_service)):
            wanted = side.wanted()
            if wanted != (side.watched or 0):
                self._poll.watch(side.socket.fileno(), wanted, callback)
                side.watched = wanted

    def _close(self) -> None:
        if not self.open:
            return
        self.open = False
        for side in (self._client, self._service):
            self._poll.forget(side.socket.fileno())
            side.socket.close()
            side.outgoing.close()
        self._when_closed(self)
