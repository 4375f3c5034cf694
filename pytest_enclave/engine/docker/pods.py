"""Pods: containers that only wait, and hold a network namespace, with a hostname and an address, for a service.

A service's container starts there in a third of the time that it takes with a namespace of its own, and the namespace
can be used by one service after the other. What could one leave to the next?

* Listening sockets, open connections and abstract sockets die with the processes. TCP connections linger on for a
  while, and their ports would be taken for a server that does not ask to share them: so pods keep none of those that
  only wait for strays (`tcp_max_tw_buckets`), and no pod with a socket left in it is used again.
* Addresses, routes, filter rules and kernel settings can only be changed with NET_ADMIN, which no service has.
* Packets that the kernel holds up for a shaping process would come to the next one, if that process was killed: no pod
  with the link that they are in is used again.
* /etc/hosts, /etc/hostname and /etc/resolv.conf: see `podfiles`.
* What the kernel has learned about distant machines (their hardware addresses, how fast they answer) stays.

One thing can be told from outside: the name of a service resolves, and connections to it are refused, also before the
service is started and after it has ended. Once a service is removed, so is its pod.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.docker.pause import REFERENCE
from pytest_enclave.engine.docker.podfiles import mounts
from pytest_enclave.engine.docker.shaper import DELAYS
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

SETTLING = 0.5
"""Seconds that connections may take to end after their processes."""

_RESOLVER = "0B00007F"
"""127.0.0.11 in the kernel's tables: the engine's own name server listens there, in every container."""

PROC = Path("/proc")


class Pod(msgspec.Struct, frozen=True):
    """A pod that runs: its container, its address, its process as this machine knows it, and its files."""

    container: str
    ip_address: str
    pid: int
    files: Path


class Place(msgspec.Struct, frozen=True):
    """Where a pod is to be: the network, the service that it is for and that service's address, its files."""

    network: str
    service: str
    ip_address: str
    files: Path


def make_pod(client: APIClient, place: Place, marks: Mapping[str, str]) -> Pod:
    """A pod, of the image that the engine has. Raises EngineError, also where its sockets cannot be looked at."""
    endpoint = {"IPAMConfig": {"IPv4Address": place.ip_address}, "Aliases": [place.service]}
    config = {
        "Image": REFERENCE,
        "Hostname": place.service,
        # For users who stop it by hand: it ignores all others, as the first process of a container does.
        "StopSignal": "SIGKILL",
        "Labels": dict(marks),
        "HostConfig": {
            "NetworkMode": place.network,
            "Mounts": mounts(place.files),
            "Sysctls": {"net.ipv4.tcp_max_tw_buckets": "0"},
        },
        "NetworkingConfig": {"EndpointsConfig": {place.network: endpoint}},
    }
    with translate(f'cannot make a pod for service "{place.service}"'):
        container = client.create_container_from_config(config, f"{place.network}-{place.service}")["Id"]  # type: ignore[no-untyped-call]
        client.start(container)
        pid = int(client.inspect_container(container)["State"]["Pid"])
    pod = Pod(container, place.ip_address, pid, place.files)
    if not lives(pod):
        raise EngineError("the namespaces of this engine's containers cannot be looked at from here")
    return pod


def lives(pod: Pod) -> bool:
    """Whether the pod's process is there: one with its number, and its address."""
    return f"|-- {pod.ip_address}\n" in _table(pod, "fib_trie")


def quiet(pod: Pod) -> bool:
    """Whether the pod lives, and nothing is left in it; connections that are just ending are waited for."""
    give_up = time.monotonic() + SETTLING
    while lives(pod):
        if not _sockets(pod):
            return f"{DELAYS}:" not in _table(pod, "dev")
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.02)
    return False


def _sockets(pod: Pod) -> list[str]:
    """The sockets in the pod, as the kernel's tables have them."""
    lines = [line for name in ("tcp", "tcp6", "udp", "udp6") for line in _table(pod, name).splitlines()[1:]]
    return [line for line in lines if not line.split()[1].startswith(_RESOLVER)]


def _table(pod: Pod, name: str) -> str:
    try:
        return (PROC / str(pod.pid) / "net" / name).read_text()
    except OSError:
        return ""
