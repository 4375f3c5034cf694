"""Asking a shaping process (`serving`)."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.shaper import SOCKET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PATIENCE = 10.0
"""Seconds that the process may take to answer, and to begin to listen."""


def ask(connection: socket.socket, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer. Raises OSError, also where there is none."""
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    if not parts:
        raise ConnectionResetError("no answer")
    answer: dict[str, Any] = json.loads(b"".join(parts))
    return answer


def connect(connection: socket.socket, directory: str) -> None:
    """Connect to the process that listens there, however long the directory's name is. Raises OSError."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)


def main() -> None:
    """Ask what the last argument says, in the directory that the one before it names, and print the answer."""
    directory, request = sys.argv[-2:]
    give_up = time.monotonic() + PATIENCE
    while True:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            try:
                connect(connection, directory)
            except OSError:
                # It was just started.
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
                continue
            sys.stdout.write(json.dumps(ask(connection, json.loads(request))))
            return
