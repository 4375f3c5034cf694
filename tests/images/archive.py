"""An image in one file, as `docker save` writes it: every engine takes it, and calls it by the same ID."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from typing import IO

from definitions import PATH, Image

LABEL = "pytest-enclave.definition"
"""Under this label an image tells the digest of the definition it was made from."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call a machine's architecture."""


def write_archive(stream: IO[bytes], image: Image, layer: IO[bytes]) -> None:
    """Write `image` to `stream`; `layer` is the tar of its root file system."""
    digest, size = _measure(layer)
    config = json.dumps(_configuration(image, digest), sort_keys=True).encode()
    names = {"config": f"{hashlib.sha256(config).hexdigest()}.json", "layer": f"{digest}/layer.tar"}
    manifest = [{"Config": names["config"], "RepoTags": [image.tag], "Layers": [names["layer"]]}]
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        _add(archive, names["config"], config)
        entry = tarfile.TarInfo(names["layer"])
        entry.size = size
        archive.addfile(entry, layer)


def _measure(layer: IO[bytes]) -> tuple[str, int]:
    """Return the layer's digest and size; its position is the beginning then."""
    layer.seek(0)
    digest = hashlib.sha256()
    while piece := layer.read(1 << 20):
        digest.update(piece)
    size = layer.tell()
    layer.seek(0)
    return digest.hexdigest(), size


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
