"""A real registry server on the loopback address: Debian's package docker-registry, unpacked, not installed."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.images.debian import Downloads
from tests.images_room.builder import Built, digest_of

PACKAGE = "docker-registry"

OTHERS = ("[!d]*", "d[!o]*")
"""Patterns of the packages that it depends on, which this machine has."""


LOGIN = ("ann", "correct horse")

HASHED = {"correct horse": "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"}
"""Passwords as `htpasswd -B` writes them."""


@dataclass(frozen=True)
class RegistryServer:
    """A registry that answers at `address`, host and port."""

    address: str
    login: tuple[str, str] | None = None

    def push(self, name: str, image: Built) -> str:
        """Push an image as `repository:tag`; its full reference."""
        repository, _, tag = name.rpartition(":")
        for digest, data in image.blobs.items():
            upload = self._send("POST", f"/v2/{repository}/blobs/uploads/", b"", 202)
            join = "&" if "?" in upload else "?"
            self._send("PUT", f"{upload}{join}digest={digest}", data, 201)
        self.put_manifest(repository, tag, image.manifest, image.manifest_type)
        return f"{self.address}/{name}"

    def put_manifest(self, repository: str, tag: str, data: bytes, media_type: str) -> str:
        """Push a manifest or an index; its digest."""
        self._send("PUT", f"/v2/{repository}/manifests/{tag}", data, 201, media_type)
        return digest_of(data)

    def _send(self, method: str, url: str, body: bytes, status: int, kind: str = "application/octet-stream") -> str:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            parts = urlsplit(url)
            headers = {"Content-Type": kind}
            if self.login:
                headers["Authorization"] = f"Basic {base64.b64encode(':'.join(self.login).encode()).decode()}"
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
            with connection.getresponse() as response:
                said = response.read()
                assert response.status == status, f"{method} {url}: {response.status} {said!r}"
                return response.headers.get("Location", "")
        finally:
            connection.close()


def program() -> Path:
    """The server's program, downloaded if need be. Raises AptError, CalledProcessError."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(home, "pytest-enclave-dev")
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / PACKAGE
    found = root / "usr" / "bin" / PACKAGE
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            (package,) = Downloads(cache / "apt").closure([PACKAGE], skip=OTHERS)
            subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return found


@contextmanager
def registry_server(folder: Path, login: tuple[str, str] | None = None) -> Iterator[RegistryServer]:
    """Run a server that keeps its data in `folder`, for everybody, or for LOGIN alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    if login:
        users = folder / "htpasswd"
        users.write_text(f"{login[0]}:{HASHED[login[1]]}\n")
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
    # JSON is YAML too.
    config = folder / "config.yml"
    config.write_text(json.dumps(settings))
    command = [program(), "serve", config]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _await(address, server, folder / "log")
            yield RegistryServer(address, login)
        finally:
            server.terminate()


def _await(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the registry server does not answer:\n{log.read_text()}") from None
            time.sleep(0.02)
