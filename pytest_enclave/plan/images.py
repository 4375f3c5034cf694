"""What an image's name can stand for beside an image of a registry.

`docker-archive:PATH` is a file that `docker save` wrote, `oci:PATH` or `oci:PATH:TAG` a directory with an OCI image
layout, both of the package: interpreting it makes the path absolute. `host:/` is the root file system of the machine
itself, underneath a service's own writes; no name of a registry's image looks like that.
"""

from __future__ import annotations

import re

import msgspec

from pytest_enclave.errors import Problem

HOST_ROOT = "host:/"

DOCKER_ARCHIVE = "docker-archive"
OCI_LAYOUT = "oci"

_TAGGED = re.compile(r"(.+):(\w[\w.-]{0,127})", re.ASCII)


class Archive(msgspec.Struct, frozen=True):
    """An image in the package: its kind, and its path, absolute once the package was interpreted.

    A `tag` says which of a layout's images is meant.
    """

    kind: str
    path: str
    tag: str = ""

    @classmethod
    def of(cls, image: str) -> Archive | None:
        """The archive that an image's name stands for, None for any other name."""
        kind, colon, path = image.partition(":")
        if not colon or kind not in (DOCKER_ARCHIVE, OCI_LAYOUT):
            return None
        tagged = _TAGGED.fullmatch(path) if kind == OCI_LAYOUT else None
        return cls(kind, tagged[1], tagged[2]) if tagged else cls(kind, path)

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":{self.tag}" if self.tag else "")


def only_embedded(subject: str) -> Problem:
    """The problem that `host:/` is to every engine but one; `subject` is the image or the service that it is about."""
    return Problem(
        f'image "{HOST_ROOT}" is the root file system of this machine, which only the embedded engine can use',
        subject=subject,
        remedy="`--enclave-engine=embedded`, or name an image of a registry",
    )
