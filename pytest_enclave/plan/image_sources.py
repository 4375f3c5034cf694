"""Images that are more than a name: with credentials, built from a Dockerfile, built by Nix (behaviour.md §2.6).

Whatever an image is, engines know it by one name. What else is needed to have it is its source.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from pytest_enclave.plan.checks import NON_EMPTY_STRING, Check, Finding, simple
from pytest_enclave.plan.images import Archive
from pytest_enclave.plan.values import Struct, Value

IMAGE_TYPES = ("ImageSpec", "ImageBuildSpec", "NixBuildSpec")

CONTEXT = ".context"
"""The field of an ImageBuildSpec that interpretation adds: where its files are, and the digest of what they hold."""

BUILD_FILE = "Dockerfile"

BUILT = "pytest-enclave-build"
"""What names of built images begin with, so that they never meet an image that somebody named."""

STEPS = "pytest-enclave-step"
"""What names of steps begin with, which builds keep where there is no builder."""

WRONG_LOGIN = "are `username` and `password` of its ImageSpec right?"
"""What to do where a registry does not take the credentials of an ImageSpec."""

HUB = "docker.io"
_NAMES_OF_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com", "registry.hub.docker.com")


class Login(msgspec.Struct, frozen=True):
    """Credentials for one registry, a host with its port."""

    registry: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login(registry={self.registry!r}, username={self.username!r})"


class Build(msgspec.Struct, frozen=True):
    """An image to be built: `directory` with its context, `build_file` a path in there, `target` a stage or empty.

    `name` is what engines call it, `title` what the package calls it; `place` is the directory as messages have it.
    `digest` is that of the context's content.
    """

    title: str
    directory: str
    place: str
    build_file: str
    target: str
    arguments: Mapping[str, str]
    digest: str

    @property
    def key(self) -> str:
        """Equal for builds of the same: 32 hex digits."""
        parts = [self.digest, self.build_file, self.target]
        parts += [f"{name}={value}" for name, value in sorted(self.arguments.items())]
        data = b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in parts)
        return hashlib.sha256(data).hexdigest()[:32]

    @property
    def name(self) -> str:
        """Unlike the title, this is not met by other packages' images: it ends with what the image is built from."""
        readable = re.sub("[^a-z0-9]+", "-", self.title.lower()).strip("-")[:100].strip("-")
        return f"{BUILT}/{readable or 'image'}:{self.key}"


class Flake(msgspec.Struct, frozen=True):
    """An image that Nix would have to build, from the flake in this place."""

    location: str


ImageSource: TypeAlias = "Login | Build | Flake"


def image_name(image: Value) -> str:
    """What engines call the image: a name as it is written, or that of an `ImageSpec` and the like."""
    if isinstance(image, str):
        return image
    if image.kind == "ImageSpec":
        return _in_registry(image.fields["image"], image.get("registry", ""))
    source = image_source(image)
    return source.name if isinstance(source, Build) else str(image.fields["image_name"])


def image_title(image: Value) -> str:
    """What users call the image."""
    return image_name(image) if isinstance(image, str) or image.kind == "ImageSpec" else image.fields["image_name"]


def image_source(image: Value) -> ImageSource | None:
    """What else is needed to have the image; None where the name is enough."""
    if isinstance(image, str):
        return None
    fields = image.fields
    if image.kind == "NixBuildSpec":
        return Flake(fields["flake_location_dir"])
    if image.kind == "ImageBuildSpec":
        return Build(
            title=fields["image_name"],
            directory=fields[CONTEXT]["directory"],
            place=fields[CONTEXT]["place"],
            build_file=posixpath.normpath(fields.get("build_file", BUILD_FILE)),
            target=fields.get("target_stage", ""),
            arguments=fields.get("build_args", {}),
            digest=fields[CONTEXT]["digest"],
        )
    if "password" not in fields:
        return None
    return Login(_registry_of(image_name(image)), fields["username"], fields["password"])


def wrong_image_spec(fields: Mapping[str, Value]) -> Mapping[str, str]:
    """What is wrong with the fields of an ImageSpec together."""
    image, registry = fields["image"], fields.get("registry", "")
    if Archive.of(image) is not None:
        return {"image": "is a file, and an ImageSpec is about an image of a registry: write the name itself"}
    for name, other in (("username", "password"), ("password", "username")):
        if name in fields and other not in fields:
            return {name: f"is of no use without `{other}`"}
    if reserved := reserved_name(_in_registry(image, registry)):
        return {"image": _reserved(reserved)}
    named = _registry_of(image)
    if registry and named != HUB and named != _host(registry):
        return {"registry": f"is `{_host(registry)}`, but `image` names the registry `{named}`"}
    return {}


def reserved_name(image: str) -> str:
    """What an image's name begins with that nobody may call images by but builds; empty for any other name."""
    if BUILT not in image and STEPS not in image:
        return ""
    named = image.partition("/")[2] if "/" in image and _host(image) == HUB else image
    named = named.removeprefix("library/")
    return next((prefix for prefix in (f"{BUILT}/", STEPS) if named.startswith(prefix)), "")


def _reserved(prefix: str) -> str:
    return f"must not begin with `{prefix}`: so begin names of images that are built here from a Dockerfile"


def _is_image(value: Value) -> bool:
    return NON_EMPTY_STRING.accepts(value) or (isinstance(value, Struct) and value.kind in IMAGE_TYPES)


def _any_image() -> Check:
    known = simple("the name of an image, or one of " + ", ".join(IMAGE_TYPES), _is_image)

    def find(value: Value) -> Iterator[Finding]:
        yield from known(value)
        if isinstance(value, str) and (prefix := reserved_name(value)):
            yield "", _reserved(prefix)

    def accepts(value: Value) -> bool:
        return _is_image(value) and not (isinstance(value, str) and reserved_name(value))

    return Check(known.expected, find, accepts)


ANY_IMAGE: Check = _any_image()
"""What an argument for an image may be."""


def _in_registry(image: str, registry: str) -> str:
    """An image that names no registry is one of the registry that is said beside it."""
    host = _host(registry)
    return f"{host}/{image}" if registry and host != HUB and _registry_of(image) == HUB else image


def _registry_of(image: str) -> str:
    """The registry that an image's name begins with, or the default one."""
    first, slash, _ = image.partition("/")
    names_one = slash and ("." in first or ":" in first or first == "localhost")
    return _host(first) if names_one else HUB


def _host(registry: str) -> str:
    """A registry as names of images have it: people write it as a URL too."""
    host = registry.partition("://")[2] if "://" in registry else registry
    host = host.partition("/")[0]
    return HUB if host in _NAMES_OF_HUB else host
