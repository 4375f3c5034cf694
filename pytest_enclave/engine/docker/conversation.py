"""A command in a container with its input and output, carried over one connection of the engine.

It is carried as terminals are (`carried.py`), and the frames are taken apart in which the engine sends output.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.carried import CHUNK, Carried, connected, pass_on
from pytest_enclave.engine.docker.commands import (
    FRAME_HEADER,
    NOT_BEGUN,
    NOT_BEGUN_OUTPUT,
    exit_code,
    not_begun,
    short_refusal,
    socket_of,
)
from pytest_enclave.engine.docker.translation import BROKEN_OFF, Refused, translate
from pytest_enclave.engine.protocol import ExecResult, NotReached
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient


class DockerConversation(Carried):
    """A command (`Conversation`) in a container; `where` is for errors. Raises NotReached, EngineError."""

    def __init__(self, client: APIClient, endpoint: str, container: str, command: Sequence[str], where: str) -> None:
        self._doing = f"cannot run a command in {where}"
        self._frames = _Frames()
        run, response = "", None
        self._failed: ExecResult | None = None
        try:
            with translate(self._doing):
                run = client.exec_create(container, list(command), stdin=True)["Id"]
                response = connected(client, run, tty=False)
        except Refused as refused:
            if refused.status in (404, 409):
                raise NotReached(short_refusal(refused.explanation)) from None
            if not NOT_BEGUN.search(refused.explanation):
                raise
            self._failed = not_begun(refused.explanation)
        super().__init__(client, endpoint, container, run, response, self._carry, f"command in {where}")

    def _carry(self, users: socket.socket) -> None:
        if self._failed is not None:
            with users, suppress(OSError):
                users.sendall(f"{self._failed.output}\n".encode())
            return
        _carry(self._response, users, self._frames)

    def input(self) -> int:
        """A descriptor to write (`Conversation.input`)."""
        return self._ours.fileno()

    def end_input(self) -> None:
        """There is no more to be read."""
        # Where the command has ended, nobody would.
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises EngineError, also where not all of its output came."""
        self._carrier.join()
        if self._failed is not None:
            return self._failed.code
        if self._frames.failed is not None:
            return self._frames.failed.code
        if not self._frames.whole:
            raise EngineError(f"{self._doing}: {BROKEN_OFF}")
        with translate(self._doing):
            return exit_code(self._client, self._run, self._doing)


class _Frames:
    """Output as the engine sends it: which stream, three zeros, a length of four bytes, and so many bytes."""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self.failed: ExecResult | None = None

    @property
    def whole(self) -> bool:
        """Whether no frame has begun that has not ended."""
        return not self._header and not self._left

    def take(self, users: socket.socket, data: bytes) -> None:
        """Send on what of it the command has written. Raises OSError where the user has closed."""
        while data:
            if self._left:
                self._send(users, data[: self._left])
                data, self._left = data[self._left :], max(0, self._left - len(data))
                continue
            missing = FRAME_HEADER - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            if len(self._header) == FRAME_HEADER:
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""

    def _send(self, users: socket.socket, output: bytes) -> None:
        # So the engine's runtime tells, in the command's place, that there is none.
        if output.startswith(NOT_BEGUN_OUTPUT):
            self.failed = not_begun(output.decode(errors="replace").strip())
            output = f"{self.failed.output}\n".encode()
        users.sendall(output)


def _carry(response: Any, users: socket.socket, frames: _Frames) -> None:
    """Carry bytes between the engine's connection and the user's socket, until the output or its reader ends."""
    with users, suppress(OSError, ValueError):
        stream, connection = response.raw._fp.fp, socket_of(response)
        if stream is None or connection is None:
            return
        # Never to wait in one direction while there is something in the other.
        connection.settimeout(0.0)
        # What came together with the answer is in a buffer.
        frames.take(users, stream.read1(CHUNK) or b"")
        poll = select.poll()
        poll.register(users, select.POLLIN)
        poll.register(connection, select.POLLIN)
        given, ended, told = b"", False, False
        while True:
            ready = dict(poll.poll())
            if ready.get(users.fileno(), 0) & select.POLLHUP:
                return
            if ready.get(users.fileno(), 0) & select.POLLIN:
                given = users.recv(CHUNK)
                ended = not given
            if connection.fileno() in ready and not pass_on(connection, partial(frames.take, users)):
                return
            if given:
                with suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    given = given[connection.send(given) :]
            elif ended and not told:
                told = True
                _end_input(connection)
            # That they hang up is heard also where nothing is read.
            poll.modify(users, 0 if given or ended else select.POLLIN)
            poll.modify(connection, select.POLLIN | (select.POLLOUT if given else 0))


def _end_input(connection: Any) -> None:
    """There will be no more, while we still read. Below TLS: Python's own knows no half of a connection."""
    if isinstance(connection, socket.socket):
        socket.socket.shutdown(connection, socket.SHUT_WR)
    else:
        # What the SDK has for `ssh://`: a process.
        connection.proc.stdin.close()
