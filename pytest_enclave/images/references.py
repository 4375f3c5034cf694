"""Names of images: what they mean, and how one image's many spellings become one."""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from pytest_enclave.images.faults import ImageFault

DEFAULT_REGISTRY = "docker.io"

_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")


class RegistryReference(msgspec.Struct, frozen=True):
    """An image in a registry: by tag, or by the digest of its manifest, which then is what counts."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        """The one full spelling."""
        return f"{self.registry}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")

    @property
    def familiar(self) -> str:
        """The spelling that people use: without the default registry."""
        return str(self).removeprefix(f"{DEFAULT_REGISTRY}/").removeprefix("library/")


class ArchiveReference(msgspec.Struct, frozen=True):
    """An image in a file or directory. `kind` is `docker-archive` or `oci`; `tag` chooses among several images."""

    kind: str
    path: str
    tag: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":{self.tag}" if self.tag else "")


class ImageId(msgspec.Struct, frozen=True):
    """An image by its ID, the digest of its configuration."""

    digest: str

    def __str__(self) -> str:
        return self.digest


Reference: TypeAlias = "RegistryReference | ArchiveReference | ImageId"


def parse(reference: str) -> Reference:
    """What a reference means. Raises ImageFault if it is not the name of an image."""
    kind, colon, path = reference.partition(":")
    if colon and kind in ("docker-archive", "oci"):
        return _archive(kind, path)
    if _DIGEST.fullmatch(reference):
        return ImageId(reference)
    name, _, digest = reference.partition("@")
    if "@" in reference and not _DIGEST.fullmatch(digest):
        raise _no_name()
    registry, rest = _registry(name)
    repository, tag = _tagged(rest)
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if not (_HOST.fullmatch(registry) and _REPOSITORY.fullmatch(repository) and len(repository) < 256):
        raise _no_name()
    return RegistryReference(registry, repository, tag or "latest", digest)


def names_no_registry(reference: str) -> bool:
    """Whether the reference's first part is not a registry's host, so that the default registry is meant."""
    first, slash, _ = reference.partition("/")
    return not slash or not ("." in first or ":" in first or first == "localhost")


def _archive(kind: str, path: str) -> ArchiveReference:
    tag = ""
    if kind == "oci":
        before, colon, after = path.rpartition(":")
        if colon and _TAG.fullmatch(after):
            path, tag = before, after
    if not path:
        raise ImageFault("that names no file", f"`{kind}:` is followed by the path of an archive")
    return ArchiveReference(kind, path, tag)


def _registry(name: str) -> tuple[str, str]:
    if names_no_registry(name):
        return DEFAULT_REGISTRY, name
    registry, _, rest = name.partition("/")
    return (DEFAULT_REGISTRY if registry == "index.docker.io" else registry), rest


def _tagged(name: str) -> tuple[str, str]:
    before, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, ""
    if not _TAG.fullmatch(tag):
        raise _no_name()
    return before, tag


def _no_name() -> ImageFault:
    return ImageFault("that is not the name of an image", "names are lower case, as in `registry/owner/name:tag`")
