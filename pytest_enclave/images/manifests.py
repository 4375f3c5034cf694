"""Manifests and indexes, of Docker and of OCI: read with suspicion, one build chosen among several."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.image import parse_document

DOCUMENT_LIMIT = 4 << 20
"""Bytes of a manifest, an index or a configuration."""

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)

MACHINES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "x86_64": ("amd64", ("", "v1")),
    "amd64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("v8", "")),
    "arm64": ("arm64", ("v8", "")),
    "armv7l": ("arm", ("v7", "v6", "v5", "")),
    "armv6l": ("arm", ("v6", "v5", "")),
    "i686": ("386", ("",)),
    "ppc64le": ("ppc64le", ("",)),
    "s390x": ("s390x", ("",)),
    "riscv64": ("riscv64", ("",)),
    "loongarch64": ("loong64", ("",)),
}
"""What images call the kernel's machine names, and the variants that run on it, the best first."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Descriptor(msgspec.Struct, frozen=True):
    """A document or blob that another document refers to; `platform` is operating system, architecture, variant."""

    media_type: str
    digest: str
    size: int
    platform: tuple[str, str, str] | None = None
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)


class Manifest(msgspec.Struct, frozen=True):
    """One build of an image."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(msgspec.Struct, frozen=True):
    """Several builds, or several images, each in its manifest."""

    entries: tuple[Descriptor, ...]


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | Index:
    """What a manifest says; its own media type counts before the one it was announced with. Raises ImageFault."""
    document = parse_document(data, "its manifest")
    if document.get("schemaVersion") == 1:
        raise ImageFault("its manifest is of a format that was given up in 2017", "push it again with a newer Docker")
    told = document.get("mediaType") or media_type
    if told in INDEXES or (told not in MANIFESTS and isinstance(document.get("manifests"), list)):
        return Index(tuple(_descriptor(each) for each in _listed(document, "manifests")))
    config = _descriptor(document.get("config"))
    if config.media_type not in CONFIGS:
        raise ImageFault(f"it is no image of a container, but {config.media_type or 'something else'}")
    layers = tuple(_descriptor(each) for each in _listed(document, "layers"))
    for layer in layers:
        _check_layer(layer)
    return Manifest(config, layers)


def verify(data: bytes, digest: str, what: str) -> None:
    """Compare content with its digest. Raises ImageFault."""
    algorithm = digest.partition(":")[0]
    if not _DIGEST.fullmatch(digest) or hashlib.new(algorithm, data).hexdigest() != digest.partition(":")[2]:
        raise ImageFault(f"{what} is not what its digest {digest[:19]}… says: damaged, or tampered with")


def this_platform() -> str:
    """What the builds for this machine are called."""
    architecture, variants = _machine()
    return f"linux/{architecture}" + (f"/{variants[0]}" if architecture == "arm" else "")


def runs_here(architecture: str) -> bool:
    """Whether an image made for this architecture runs on this machine; one that does not say is believed to."""
    return architecture in ("", _machine()[0])


def choose(entries: Sequence[Descriptor]) -> Descriptor:
    """The entry of an index that is for this machine. Raises ImageFault if there is none."""
    architecture, variants = _machine()
    fitting = [each for each in entries if each.platform and each.platform[:2] == ("linux", architecture)]
    for variant in variants:
        for entry in fitting:
            if entry.platform and entry.platform[2] == variant:
                return entry
    if len(entries) == 1 and entries[0].platform is None:
        return entries[0]
    there = sorted({"/".join(filter(None, each.platform)) for each in entries if each.platform})
    there = [each for each in there if "unknown" not in each]
    raise ImageFault(
        f"there is no build of it for this engine's platform ({this_platform()})"
        + (f"; there is {', '.join(there[:8])}" if there else ""),
        "choose another tag or image that is built for it",
    )


def _machine() -> tuple[str, tuple[str, ...]]:
    machine = platform.machine()
    return MACHINES.get(machine.lower(), (machine, ("",)))


def _listed(document: dict[str, Any], key: str) -> list[object]:
    value = document.get(key)
    if not isinstance(value, list):
        raise ImageFault(f"its manifest is malformed: {key} is not a list")
    return value


def _descriptor(value: object) -> Descriptor:
    if not isinstance(value, dict):
        raise ImageFault("its manifest is malformed: an entry is not an object")
    media_type, digest, size = value.get("mediaType", ""), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageFault("its manifest is malformed: an entry has no valid digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageFault("its manifest is malformed: an entry has no valid size")
    told, notes = value.get("platform"), value.get("annotations")
    return Descriptor(
        media_type,
        digest,
        size,
        tuple(str(told.get(key) or "") for key in ("os", "architecture", "variant"))  # type: ignore[arg-type]
        if isinstance(told, dict)
        else None,
        {str(key): str(note) for key, note in notes.items()} if isinstance(notes, dict) else {},
    )


def _check_layer(layer: Descriptor) -> None:
    if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        raise ImageFault(
            "a layer of it may not be distributed, and is not in the registry",
            "images of services are Linux images, whose layers are all in the registry",
        )
    if "encrypted" in layer.media_type:
        raise ImageFault("a layer of it is encrypted", "use an image whose layers are not")
