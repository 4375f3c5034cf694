"""An image in one file, as `docker save` writes it: every engine takes it, and calls it by the same ID."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable
from typing import IO

from definitions import PATH, Image

LABEL = "pytest-enclave.definition"
"""Under this label an image tells the digest of the definition it was made from."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call a machine's architecture."""


LAYER = "layer.tar"


def write_archive(stream: IO[bytes], image: Image, write_root: Callable[[IO[bytes]], None]) -> None:
    """Write `image` to `stream`, an empty file; `write_root` writes a tar of the root file system."""
    header = tarfile.TarInfo(LAYER)
    # Its place, until the size is known.
    stream.write(bytes(tarfile.BLOCKSIZE))
    write_root(stream)
    header.size = stream.tell() - tarfile.BLOCKSIZE
    stream.seek(0)
    stream.write(header.tobuf(tarfile.GNU_FORMAT))
    config = json.dumps(_configuration(image, _digest_of_the_rest(stream)), sort_keys=True).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [image.tag], "Layers": [LAYER]}]
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, name, config)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _digest_of_the_rest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _configuration(image: Image, layer: str) -> dict[str, object]:
    machine = platform.machine()
    environment = [f"PATH={PATH}", *image.configuration.get("Env", ())]
    return {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {**image.configuration, "Env": environment, "Labels": {LABEL: image.digest()}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
