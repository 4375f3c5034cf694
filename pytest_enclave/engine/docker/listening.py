"""Whether something listens on a service's port.

A connection tells, but for published ports: there the engine's proxy accepts for services that do not listen yet.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from pytest_enclave.engine.protocol import Endpoint, ExecResult

PATIENCE = 0.2
"""Seconds that a connection may take to come about: services are near."""

PROXY_PATIENCE = 0.1
"""Seconds within which a proxy hangs up if nothing listens behind it."""

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_LISTEN = "0A"
_LOOPBACKS = ("0100007F", "00000000000000000000000001000000")


def accepts_connections(endpoint: Endpoint) -> bool:
    """Whether a TCP connection is accepted there."""
    try:
        socket.create_connection((endpoint.host, endpoint.port), PATIENCE).close()
    except OSError:
        return False
    return True


def listens_behind_proxy(endpoint: Endpoint, port: int, run: Callable[[list[str]], ExecResult]) -> bool:
    """Whether something listens on `port` in a container, published at `endpoint`; `run` runs a command in it.

    The container's own table of sockets is exact; where no `cat` is there to read it, a proxy that connects in vain
    gives itself away by hanging up.
    """
    if not accepts_connections(endpoint):
        return False
    tables = run(["cat", *TABLES])
    # Without IPv6 there is no second table, and the code is 1.
    if tables.code in (0, 1):
        return port in listening_ports(tables.output)
    return not _hangs_up(endpoint)


def listening_ports(tables: str) -> set[int]:
    """The ports that are listened on, other than on the loopback address alone, from the kernel's tables."""
    ports = set()
    for line in tables.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTEN:
            address, _, port = fields[1].partition(":")
            if address not in _LOOPBACKS:
                ports.add(int(port, 16))
    return ports


def _hangs_up(endpoint: Endpoint) -> bool:
    try:
        with socket.create_connection((endpoint.host, endpoint.port), PATIENCE) as connection:
            connection.settimeout(PROXY_PATIENCE)
            return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
