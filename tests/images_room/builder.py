"""Images made in memory: layers out of a few entries, and the archives and manifests round them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_enclave.images.manifests import MACHINES

ARCHITECTURE = MACHINES[platform.machine()][0]

OCI = "application/vnd.oci.image"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def gzipped(data: bytes) -> bytes:
    """The same bytes at any time."""
    return gzip.compress(data, mtime=0)


def entry(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a layer; `fields` are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def folder(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, **{"type": tarfile.DIRTYPE, "mode": 0o755, **fields})


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@dataclass
class Built:
    """An image: plain layers from the bottom, its configuration, and how its layers are compressed."""

    layers: Sequence[bytes]
    config: Mapping[str, object] = field(default_factory=dict)
    compress: Callable[[bytes], bytes] = gzipped
    layer_type: str = f"{OCI}.layer.v1.tar+gzip"
    config_type: str = f"{OCI}.config.v1+json"
    manifest_type: str = f"{OCI}.manifest.v1+json"
    architecture: str = ARCHITECTURE

    @property
    def config_text(self) -> bytes:
        diff_ids = [digest_of(layer) for layer in self.layers]
        whole = {"architecture": self.architecture, "os": "linux", "config": self.config}
        return json.dumps({**whole, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()

    @property
    def id(self) -> str:
        return digest_of(self.config_text)

    @property
    def blobs(self) -> dict[str, bytes]:
        packed = [self.config_text, *map(self.compress, self.layers)]
        return {digest_of(data): data for data in packed}

    @property
    def manifest(self) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": self.manifest_type,
            "config": descriptor(self.config_text, self.config_type),
            "layers": [descriptor(self.compress(layer), self.layer_type) for layer in self.layers],
        }
        return json.dumps(document).encode()


def descriptor(data: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def index(*manifests: dict[str, object]) -> bytes:
    kind = f"{OCI}.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": list(manifests)}).encode()


def docker_archive(file: Path, images: Mapping[str, Built], compress: Callable[[bytes], bytes] = bytes) -> Path:
    """What `docker save` of these images writes, by their names."""
    entries, told = [], []
    for name, image in images.items():
        config = f"{image.id.partition(':')[2]}.json"
        names = [f"{name.replace('/', '_')}-{number}/layer.tar" for number, _ in enumerate(image.layers)]
        entries += [entry(config, image.config_text), *map(entry, names, image.layers)]
        told.append({"Config": config, "RepoTags": [name], "Layers": names})
    file.write_bytes(compress(tar(*entries, entry("manifest.json", json.dumps(told).encode()))))
    return file


def layout(directory: Path, images: Mapping[str, Built]) -> Path:
    """An OCI layout of these images, by their tags."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    entries = []
    for tag, image in images.items():
        for digest, data in {**image.blobs, digest_of(image.manifest): image.manifest}.items():
            (blobs / digest.partition(":")[2]).write_bytes(data)
        note = {"org.opencontainers.image.ref.name": tag}
        entries.append(descriptor(image.manifest, image.manifest_type, annotations=note))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_bytes(index(*entries))
    return directory
