"""How the test process reaches services: found out by trying, not by the platform's name.

* The enclave's gateway is an address of this very machine: services are reached at their own addresses.
* The test process runs in a container of the same engine: it joins the enclave's network, and reaches them as well.
* Else their ports are published: on the loopback address of the engine's host if that is this machine (an engine in
  a virtual machine, as on a Mac), on all its addresses if it is another one.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from pytest_enclave.engine.docker.translation import Refused, translate

if TYPE_CHECKING:
    from docker import APIClient

LOOPBACK = "127.0.0.1"
MOUNTS = Path("/proc/self/mountinfo")

_OWN_CONTAINER = re.compile(r"/containers/([0-9a-f]{64})/")


class Reach(msgspec.Struct, frozen=True):
    """How services are reached. If not `direct`, ports are published on `publish_on` and dialled at `host`."""

    direct: bool
    publish_on: str = LOOPBACK
    host: str = LOOPBACK


def is_own_address(address: str) -> bool:
    """Whether this machine has the address; no packet is sent.

    Binding to it would be the obvious test, but succeeds for any address where `ip_nonlocal_bind` is set.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
        except OSError:
            return False


def published_reach(endpoint: str) -> Reach:
    """Where ports are published, by the engine's endpoint."""
    address = urlsplit(endpoint)
    host = address.hostname or ""
    if address.scheme in ("unix", "npipe") or host in ("localhost", LOOPBACK, "::1"):
        return Reach(direct=False)
    return Reach(direct=False, publish_on="0.0.0.0", host=host)


def join(client: Callable[[], APIClient], network: str, address: str, mounts: Path = MOUNTS) -> bool:
    """Join the network if the test process runs in a container that this engine knows; whether it did."""
    own = own_container(mounts)
    if own is None:
        return False
    try:
        with translate("cannot join the enclave's network"):
            client().connect_container_to_network(own, network, ipv4_address=address)
    except Refused as refused:
        # Another process in this container may have joined it.
        return "already exists in network" in refused.explanation
    return True


def own_container(mounts: Path = MOUNTS) -> str | None:
    """The ID of the container that this process runs in, None if it runs in none."""
    try:
        found = _OWN_CONTAINER.search(mounts.read_text())
    except OSError:
        return None
    return found.group(1) if found else None
