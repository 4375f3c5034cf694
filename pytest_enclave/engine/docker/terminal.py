"""A command in a container on a terminal of its own. The engine makes the terminal, and carries it over one connection.

That connection may be encrypted, or be a process's, and what has been read of it may wait in buffers. So users have one
end of a pair of sockets, and a thread carries between the other end and the connection.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.commands import exit_code, kill_command, short_refusal, socket_of
from pytest_enclave.engine.docker.translation import Refused, accepted, translate
from pytest_enclave.engine.protocol import NotReached

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

CHUNK = 1 << 16

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


class DockerTerminal:
    """A terminal (`Terminal`) in a container; `where` is for errors. Raises NotReached, EngineError."""

    def __init__(
        self, client: APIClient, container: str, command: Sequence[str], environment: Mapping[str, str], where: str
    ) -> None:
        self._client = client
        self._container = container
        self._doing = f"cannot open a terminal in {where}"
        self._closed = False
        try:
            with translate(self._doing):
                self._run = client.exec_create(
                    container, list(command), stdin=True, tty=True, environment=dict(environment)
                )["Id"]
                self._response = connected(client, self._run, tty=True)
        except Refused as refused:
            if refused.status in (404, 409):
                raise NotReached(short_refusal(refused.explanation)) from None
            raise
        self._ours, theirs = socket.socketpair()
        self._carrier = threading.Thread(
            target=_carry, args=(self._response, theirs), name=f"terminal in {where}", daemon=True
        )
        self._carrier.start()

    def fileno(self) -> int:
        """A descriptor to read and write (`Terminal.fileno`)."""
        return self._ours.fileno()

    def resize(self, rows: int, columns: int) -> None:
        """The terminal has this size from now on. One whose command has ended is none any more."""
        with suppress(Refused), translate("cannot resize a terminal"):
            self._client.exec_resize(self._run, rows, columns)

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises EngineError."""
        self._carrier.join()
        with translate(self._doing):
            return exit_code(self._client, self._run, self._doing)

    def close(self) -> None:
        """Let go of it. The engine hangs up on no command, so one that still runs is killed."""
        if self._closed:
            return
        self._closed = True
        if self._carrier.is_alive():
            kill_command(self._client, self._container, self._run)
        self._ours.close()
        self._carrier.join(CLOSING)
        self._response.close()


CLOSING = 5.0
"""Seconds that the connection has to end."""


def connected(client: APIClient, run: str, *, tty: bool) -> Response:
    """The connection to a command that begins with it. To be called in `translate`."""
    # Not by the SDK's helper, which loses what has been read together with the answer.
    return accepted(
        client.post(
            f"{client.base_url}/v{client.api_version}/exec/{run}/start",
            json={"Detach": False, "Tty": tty},
            headers=UPGRADE,
            stream=True,
            timeout=client.timeout,
        )
    )


def _carry(response: Any, users: socket.socket) -> None:
    """Carry bytes between the engine's connection and the user's socket, until either ends."""
    with users, suppress(OSError, ValueError):
        stream = response.raw._fp.fp
        connection = socket_of(response)
        if stream is None or connection is None:
            return
        # Never to wait in one direction while there is something in the other.
        connection.settimeout(0.0)
        # What came together with the answer is in a buffer.
        users.sendall(stream.read1(CHUNK) or b"")
        while True:
            readable, _, _ = select.select([connection, users], [], [])
            if users in readable:
                if not (typed := users.recv(CHUNK)):
                    return
                connection.settimeout(None)
                connection.sendall(typed)
                connection.settimeout(0.0)
            if connection in readable and not pass_on(connection, users.sendall):
                return


def pass_on(connection: Any, take: Callable[[bytes], object]) -> bool:
    """Pass on what has come from the engine; whether it goes on."""
    while True:
        try:
            shown = connection.recv(CHUNK)
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        if not shown:
            return False
        take(shown)
