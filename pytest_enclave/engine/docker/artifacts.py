"""Files artifacts inside services, read-only: as bind mounts, or in volumes where the engine does not see our files.

It does not if it runs on another machine or in another container. Volumes are filled through a container that is
created but never started, and shared by all services that mount the same artifact.
"""

from __future__ import annotations

import secrets
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_enclave.engine.docker.containers import create_helper, remove_helper
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

INSIDE = "/enclave-files"
"""Where a volume is mounted while it is filled."""

IN_MEMORY = 8 << 20
"""Bytes of an archive that are kept in memory; larger ones go through a file."""


class ArtifactMounts:
    """The mounts of one enclave's services. `binds` tells whether the engine may be expected to see our files."""

    def __init__(self, client: APIClient, enclave: str, marks: Mapping[str, str], binds: bool) -> None:
        self._client = client
        self._enclave = enclave
        self._marks = dict(marks)
        self._binds = binds
        self._lock = threading.Lock()
        self._volumes: dict[Path, str] = {}

    def use_volumes(self) -> None:
        """The engine turned out not to see our files."""
        self._binds = False

    def mounts(self, files: Mapping[str, str], artifacts: Mapping[str, Path], image: str) -> list[dict[str, Any]]:
        """The mounts of a service, by path and artifact name; `image` is one that the engine has."""
        return [self._mount(path, name, artifacts[name], image) for path, name in files.items()]

    def _mount(self, path: str, name: str, directory: Path, image: str) -> dict[str, Any]:
        if self._binds:
            return {"Type": "bind", "Source": str(directory), "Target": path, "ReadOnly": True}
        volume = self._volume(name, directory, image)
        options = {"NoCopy": True}
        return {
            "Type": "volume", "Source": volume, "Target": path, "ReadOnly": True, "VolumeOptions": options,
        }  # fmt: skip

    def _volume(self, name: str, directory: Path, image: str) -> str:
        with self._lock:
            if directory not in self._volumes:
                volume = f"{self._enclave}-files-{secrets.token_hex(4)}"
                try:
                    with translate(f'cannot bring the files artifact "{name}" to the engine'):
                        self._client.create_volume(volume, labels=self._marks)
                        self._fill(volume, directory, image)
                except Refused as refused:
                    # That is nothing that the service is the reason of.
                    raise EngineError(refused.message) from None
                self._volumes[directory] = volume
            return self._volumes[directory]

    def _fill(self, volume: str, directory: Path, image: str) -> None:
        mount = {"Type": "volume", "Source": volume, "Target": INSIDE, "VolumeOptions": {"NoCopy": True}}
        config = {
            "Image": image,
            "Cmd": ["true"],
            "Labels": self._marks,
            "HostConfig": {"Mounts": [mount], "NetworkMode": "none"},
        }
        name = f"{volume}-filler"
        container = create_helper(self._client, config, name)
        try:
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as archive:
                _pack(directory, archive)
                self._client.put_archive(container, INSIDE, archive)
        finally:
            remove_helper(self._client, container)


def put_files(client: APIClient, container: str, files: Iterable[tuple[Path, str]]) -> None:
    """Copy files of this machine into a container that has not been started, each to its path there."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file, path in files:
                member = tar.gettarinfo(file, path.lstrip("/"))
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                with file.open("rb") as content:
                    tar.addfile(member, content)
        archive.seek(0)
        with translate("cannot copy files into its container"):
            client.put_archive(container, "/", archive)


def _pack(directory: Path, archive: IO[bytes]) -> None:
    """The directory's content as a tar file, rewound."""
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, arcname=path.name)
    archive.seek(0)
