"""The test images in a Docker engine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import docker
from archive import LABEL
from build import BuildError, archives
from definitions import IMAGES, Image


def fill(client: docker.DockerClient, images: Sequence[Image] = IMAGES) -> None:
    """Load those of `images` which the engine behind `client` does not have from the same definition.

    Raises AptError or BuildError if they cannot be built, BuildError if the engine refuses one.
    """
    missing = [image for image in images if _definition(client, image) != image.digest()]
    for image, archive in zip(missing, archives(missing) if missing else (), strict=True):
        _load(client, image, archive)


def _definition(client: docker.DockerClient, image: Image) -> str | None:
    """Return the digest of the definition that the engine's image was built from."""
    try:
        labels: dict[str, str] = client.images.get(image.tag).labels
    except docker.errors.ImageNotFound:
        return None
    return labels.get(LABEL)


def _load(client: docker.DockerClient, image: Image, archive: Path) -> None:
    """Put the image into the engine in place of its predecessor."""
    outdated = [found.id for found in client.images.list(image.repository) if found.id]
    with archive.open("rb") as stream:
        loaded = client.images.load(stream)
    if _definition(client, image) != image.digest():
        raise BuildError(f"the Docker engine did not load {image.tag}, but {loaded}")
    for identifier in outdated:
        # Containers may still be of it.
        with suppress(docker.errors.APIError):
            client.images.remove(identifier)
