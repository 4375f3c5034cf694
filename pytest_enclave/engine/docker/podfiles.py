"""The three files that a pod shares with its service: /etc/hosts, /etc/hostname and /etc/resolv.conf.

A service may write to them. So they are ours, bind-mounted into the pod, and are what they were again before the next
service comes; whatever else a service can write to is its container's, and goes with it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_enclave.engine.docker.archives import read_archive
from pytest_enclave.engine.docker.pause import REFERENCE
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

NAMES = ("hosts", "hostname", "resolv.conf")
MODE = 0o644

_SAMPLE = "a-sample-of-a-pod"


class PodFiles(msgspec.Struct, frozen=True):
    """What is in the files of a container, as this engine writes them: its hostname and address, and the contents."""

    hostname: str
    ip_address: str
    contents: Mapping[str, str]

    def write(self, directory: Path, hostname: str, ip_address: str) -> None:
        """Write the files of another container into a directory; over those that are there, which stay the same files.

        Raises EngineError where that is not possible: a service may have made them another user's.
        """
        here, there = f"{self.ip_address}\t{self.hostname}", f"{ip_address}\t{hostname}"
        replaced = {"hosts": (here, there), "hostname": (self.hostname, hostname)}
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            for name, content in self.contents.items():
                path = directory / name
                path.write_text(content.replace(*replaced[name]) if name in replaced else content)
                path.chmod(MODE)
                if path.stat().st_uid != directory.stat().st_uid:
                    raise EngineError(f"{path} has become another user's")
        except OSError as error:
            raise EngineError(f"cannot write the files of a pod: {error}") from None


def mounts(directory: Path) -> list[dict[str, Any]]:
    """The mounts that bring the files of a directory into a container."""
    return [{"Type": "bind", "Source": str(directory / name), "Target": f"/etc/{name}"} for name in NAMES]


def sample(client: APIClient, network: str, ip_address: str, marks: Mapping[str, str]) -> PodFiles:
    """What this engine writes into the files of containers: looked up in one that is there for that moment only.

    Raises EngineError, also where the engine writes anything else than expected.
    """
    config = {
        "Image": REFERENCE,
        "Hostname": _SAMPLE,
        "Labels": dict(marks),
        "HostConfig": {"NetworkMode": network},
        "NetworkingConfig": {"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": ip_address}}}},
    }
    with translate("cannot look at the files of a container"):
        container = client.create_container_from_config(config, f"{network}-{_SAMPLE}")["Id"]  # type: ignore[no-untyped-call]
    try:
        with translate("cannot look at the files of a container"):
            client.start(container)
        archive = b"".join(read_archive(client, container, "/etc", "cannot read the files of a pod"))
    finally:
        # What is left of it is found by its labels when the plot is removed.
        with suppress(EngineError), translate("cannot remove a container"):
            client.remove_container(container, force=True)
    found = PodFiles(_SAMPLE, ip_address, _contents(archive))
    if set(found.contents) != set(NAMES) or f"{ip_address}\t{_SAMPLE}" not in found.contents["hosts"]:
        raise EngineError("this engine writes other files into containers than expected")
    return found


def _contents(archive: bytes) -> dict[str, str]:
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for name in NAMES:
            with suppress(KeyError):
                file = tar.extractfile(f"etc/{name}")
                contents[name] = file.read().decode() if file else ""
    return contents
