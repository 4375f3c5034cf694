"""Which image of an archive is meant, and the files that make it up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pytest_enclave.images.archive import Files, read
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.image import parse_document
from pytest_enclave.images.manifests import Descriptor, Index, choose, parse_manifest, verify
from pytest_enclave.images.references import ArchiveReference, Reference, RegistryReference, parse

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
"""Annotations with an image's tag, and with its full name."""


class PackedImage(msgspec.Struct, frozen=True):
    """An image in an archive: its configuration's text, and the names of its layers' files from the bottom."""

    config: bytes
    layers: tuple[str, ...]


def find_image(files: Files, wanted: Reference) -> PackedImage:
    """The image that is meant: the one of that name or tag, else the only one.

    Raises ImageFault if there is none, or several.
    """
    name = wanted.tag if isinstance(wanted, ArchiveReference) else str(wanted)
    layout = isinstance(wanted, ArchiveReference) and wanted.kind == "oci"
    has_layout = files.has("index.json")
    if files.has("manifest.json") and not (layout and has_layout):
        return _saved(files, name)
    if has_layout:
        return _layout(files, name, strict=layout and bool(name))
    raise ImageFault(
        "that is no archive of images: it has neither manifest.json nor index.json",
        "`docker save -o FILE IMAGE` makes one; so does `skopeo copy docker://IMAGE oci:DIRECTORY`",
    )


def _saved(files: Files, wanted: str) -> PackedImage:
    # The document is a list, which no other is.
    images = parse_document(b'{"images":' + read(files, "manifest.json") + b"}", "manifest.json of the archive")[
        "images"
    ]
    if not isinstance(images, list) or not all(isinstance(each, dict) for each in images):
        raise ImageFault("manifest.json of the archive is malformed")
    names = [[str(tag) for tag in each.get("RepoTags") or ()] for each in images]
    chosen = images[_chosen(names, wanted)]
    config, layers = chosen.get("Config"), chosen.get("Layers")
    if not isinstance(config, str) or not isinstance(layers, list) or not all(isinstance(each, str) for each in layers):
        raise ImageFault("manifest.json of the archive is malformed")
    return PackedImage(read(files, config), tuple(layers))


def _layout(files: Files, wanted: str, strict: bool) -> PackedImage:
    found = parse_manifest(read(files, "index.json"), "application/vnd.oci.image.index.v1+json")
    if isinstance(found, Index):
        found = parse_manifest(*_blob(files, _named(found.entries, wanted, strict)))
    for _ in range(2):
        if isinstance(found, Index):
            found = parse_manifest(*_blob(files, choose(found.entries)))
    if isinstance(found, Index):
        raise ImageFault("its indexes are nested too deep")
    return PackedImage(_blob(files, found.config)[0], tuple(_path(layer) for layer in found.layers))


def _named(entries: Sequence[Descriptor], wanted: str, strict: bool) -> Descriptor:
    names = [[each.annotations[key] for key in (IMAGE_NAME, REF_NAME) if key in each.annotations] for each in entries]
    there = any(wanted in each for each in names)
    if strict and not there:
        told = ", ".join(sorted({name for each in names for name in each})) or "none"
        raise ImageFault(f'the archive has no tag "{wanted}"; its tags: {told}')
    if not there and len(entries) > 1 and len(set(map(tuple, names))) == 1:
        # One image, built for several platforms.
        return choose(entries)
    return entries[_chosen(names, wanted)]


def _chosen(names: Sequence[Sequence[str]], wanted: str) -> int:
    """Which of the images is meant. A name that none of them has counts for the only one."""
    full = _full(wanted)
    for number, each in enumerate(names):
        if wanted and any(name == wanted or _full(name) == full for name in each):
            return number
    if len(names) == 1:
        return 0
    there = ", ".join(name for each in names for name in each)
    if not names:
        raise ImageFault("the archive has no image in it")
    raise ImageFault(
        f"the archive has {len(names)} images, and which one is meant is not said" + (f": {there}" if there else ""),
        "save one image in a file, or name a tag as in `oci:PATH:TAG`",
    )


def _full(name: str) -> Any:
    try:
        meant = parse(name)
    except ImageFault:
        return name
    return str(meant) if isinstance(meant, RegistryReference) else name


def _blob(files: Files, descriptor: Descriptor) -> tuple[bytes, str]:
    data = read(files, _path(descriptor))
    verify(data, descriptor.digest, "a document of the archive")
    return data, descriptor.media_type


def _path(descriptor: Descriptor) -> str:
    return "blobs/" + descriptor.digest.replace(":", "/")
