"""A command in a service on a terminal, from the client's side: a pseudo terminal, whose other end goes to init."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress

from pytest_enclave.engine.embedded.client import Client
from pytest_enclave.engine.protocol import NotReached
from pytest_enclave.errors import EngineError

HANGING_UP = 1.0
"""Seconds that a command has to end when its terminal is gone."""


class EmbeddedTerminal:
    """A terminal (`Terminal`) in a service. Raises EngineError."""

    def __init__(self, client: Client, service: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._client = client
        self._master, slave = os.openpty()
        try:
            request = {"do": "exec", "name": service, "argv": list(command), "terminal": dict(environment)}
            self._number, self._answer = client.submit(request, [slave])
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        self._closed = False

    def fileno(self) -> int:
        """A descriptor to read and write (`Terminal.fileno`)."""
        return self._master

    def resize(self, rows: int, columns: int) -> None:
        """The terminal has this size from now on."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def wait(self) -> int:
        """The command's exit code, when it has ended. Raises NotReached where it could not begin, and EngineError."""
        reply = self._answer.result()[0]
        if "error" in reply:
            raise NotReached(
                "the service does not run" if reply.get("kind") == "absent" else f"no command can run: {reply['error']}"
            )
        return int(reply["code"])

    def close(self) -> None:
        """Let go of it: the command and its jobs are hung up on, and then killed. May be called again."""
        if self._closed:
            return
        self._closed = True
        if not self._answer.done():
            with suppress(EngineError):
                self._client.ask({"do": "hang_up", "command": self._number})
        os.close(self._master)
        wait([self._answer], HANGING_UP)
        if not self._answer.done():
            with suppress(EngineError):
                self._client.ask({"do": "cancel", "command": self._number})
