"""A command in a container on a terminal of its own. The engine makes the terminal, and carries it over one connection.

That connection may be encrypted, or be a process's, and what has been read of it may wait in buffers: so users do not
have it itself (`carried.py`).
"""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.carried import CHUNK, Carried, connected, pass_on
from pytest_enclave.engine.docker.commands import exit_code, short_refusal, socket_of
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import NotReached

if TYPE_CHECKING:
    from docker import APIClient


class DockerTerminal(Carried):
    """A terminal (`Terminal`) in a container; `where` is for errors. Raises NotReached, EngineError."""

    def __init__(
        self,
        client: APIClient,
        endpoint: str,
        container: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        where: str,
    ) -> None:
        self._doing = f"cannot open a terminal in {where}"
        try:
            with translate(self._doing):
                run = client.exec_create(container, list(command), stdin=True, tty=True, environment=dict(environment))[
                    "Id"
                ]
                response = connected(client, run, tty=True)
        except Refused as refused:
            if refused.status in (404, 409):
                raise NotReached(short_refusal(refused.explanation)) from None
            raise
        super().__init__(client, endpoint, container, run, response, partial(_carry, response), f"terminal in {where}")

    def resize(self, rows: int, columns: int) -> None:
        """The terminal has this size from now on. One whose command has ended is none any more."""
        with suppress(Refused), translate("cannot resize a terminal"):
            self._client.exec_resize(self._run, rows, columns)

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises EngineError."""
        self._carrier.join()
        with translate(self._doing):
            return exit_code(self._client, self._run, self._doing)


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
