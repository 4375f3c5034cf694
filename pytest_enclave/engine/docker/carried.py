"""What terminals and conversations have in common: a command that one connection of the engine goes with.

Users have one end of a pair of sockets, and a thread carries between the other end and the connection. The engine
hangs up on no command whose connection has ended. So one that is let go of is killed; and where this process is
killed, another one does it, which waits for that (`forsaken.py`).
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.commands import kill_command
from pytest_enclave.engine.docker.forsaken import Watch
from pytest_enclave.engine.docker.translation import accepted
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

CHUNK = 1 << 16

CLOSING = 5.0
"""Seconds that the connection has to end."""

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


class Carried:
    """A command `run` in a container. `carry` is the thread's work, with its end of the pair.

    No `response`: nothing runs. Raises EngineError.
    """

    def __init__(
        self,
        client: APIClient,
        endpoint: str,
        container: str,
        run: str,
        response: Response | None,
        carry: Callable[[socket.socket], None],
        name: str,
    ) -> None:
        self._client = client
        self._container = container
        self._run = run
        self._response = response
        self._closed = False
        self._watch: Watch | None = None
        try:
            self._watch = Watch(endpoint, container, run) if response is not None else None
            self._ours, theirs = socket.socketpair()
        except OSError as error:
            if response is not None:
                kill_command(client, container, run)
                response.close()
            if self._watch is not None:
                self._watch.dismiss()
            raise EngineError(f"cannot have a {name}: {error.strerror}") from None
        self._carrier = threading.Thread(target=carry, args=(theirs,), name=name, daemon=True)
        self._carrier.start()

    def fileno(self) -> int:
        """A descriptor to read, and to write (`Terminal.fileno`, `Conversation.fileno`)."""
        return self._ours.fileno()

    def close(self) -> None:
        """Let go of it: the command and its jobs are killed, if it still runs. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._carrier.is_alive() and self._response is not None:
            kill_command(self._client, self._container, self._run)
        if self._watch is not None:
            self._watch.dismiss()
        self._ours.close()
        self._carrier.join(CLOSING)
        if self._response is not None:
            self._response.close()


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
