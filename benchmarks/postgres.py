"""Whether a Postgres server answers queries, by the beginning of its own protocol."""

from __future__ import annotations

import socket
import struct
import time

PATIENCE = 60.0
"""Seconds."""

PAUSE = 0.002
"""Seconds between two attempts."""

_PARAMETERS = b"user\0postgres\0database\0postgres\0\0"
_GREETING = struct.pack("!II", 8 + len(_PARAMETERS), 3 << 16) + _PARAMETERS
_WELCOME = b"R"


def wait_until_ready(host: str, port: int) -> None:
    """Wait until a session begins. Before, connections are refused, or answered by an error."""
    give_up = time.monotonic() + PATIENCE
    while not _welcomes(host, port):
        if time.monotonic() > give_up:
            raise RuntimeError(f"Postgres is not ready after {PATIENCE:g} s")
        time.sleep(PAUSE)


def _welcomes(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(_GREETING)
            return connection.recv(1) == _WELCOME
    except OSError:
        return False
