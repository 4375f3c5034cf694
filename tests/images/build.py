"""Build the test images from Debian packages, without a registry and without root.

    python tests/images/build.py [--host unix:///path/to/socket] [--cache DIRECTORY] [NAME...]

Only what the engine lacks, or has from another definition, is built.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import docker
from debian import AptError, Downloads
from definitions import IMAGES, PATH, Image
from rootfs import write_root

LABEL = "pytest-enclave.definition"


class BuildError(Exception):
    """A package file is broken, or the engine did not take an image."""


def cache_directory() -> Path:
    """Return the directory for what can be had again: `$XDG_CACHE_HOME` or ~/.cache, and our name."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pytest-enclave-dev"


def build_missing(client: docker.DockerClient, images: Sequence[Image] = IMAGES, cache: Path | None = None) -> None:
    """Import those of `images` which the engine behind `client` does not have from the same definition.

    Downloads and finished root file systems are kept in `cache`, by default `cache_directory()`.

    Raises AptError if packages cannot be had, BuildError if one is broken or the engine refuses an image.
    """
    missing = [image for image in images if _definition(client, image) != image.digest()]
    if not missing:
        return
    start = time.monotonic()
    for image in missing:
        print(f"building {image.tag}", file=sys.stderr)
    archives = _archives(missing, cache or cache_directory())
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_import, client), missing, archives))
    print(f"built the test images in {time.monotonic() - start:.1f} s", file=sys.stderr)


def _definition(client: docker.DockerClient, image: Image) -> str | None:
    """Return the digest of the definition that the engine's image was built from."""
    try:
        labels: dict[str, str] = client.images.get(image.tag).labels
    except docker.errors.ImageNotFound:
        return None
    return labels.get(LABEL)


def _archives(images: Sequence[Image], cache: Path) -> list[Path]:
    """Return the tars of the images' root file systems, made now unless an earlier run left them."""
    folder = cache / "roots"
    folder.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        archives = [folder / f"{image.name}-{image.digest()[:16]}.tar" for image in images]
        wanted = [pair for pair in zip(images, archives, strict=True) if not pair[1].exists()]
        if wanted:
            downloads = Downloads(cache / "apt")
            [busybox] = downloads.closure(["busybox-static"], skip=())
            # One by one: apt-get does not share its folders.
            packages = [downloads.closure(image.packages, image.skip) for image, _ in wanted]
            with ThreadPoolExecutor() as pool:
                list(pool.map(partial(_archive, busybox=busybox), *zip(*wanted, strict=True), packages))
    return archives


def _archive(image: Image, archive: Path, debs: Sequence[Path], busybox: Path) -> None:
    """Write the root file system of `image` to `archive`, and remove what an earlier definition left."""
    unfinished = archive.with_suffix(".unfinished")
    try:
        with unfinished.open("wb") as stream:
            write_root(stream, image, debs, busybox)
    except subprocess.CalledProcessError as problem:
        raise BuildError(f"{image.tag}: {problem}") from problem
    for outdated in archive.parent.glob(f"{image.name}-*.tar"):
        outdated.unlink()
    unfinished.rename(archive)


def _import(client: docker.DockerClient, image: Image, archive: Path) -> None:
    """Put the image into the engine in place of its predecessor.

    Raises BuildError if the engine does not have it afterwards.
    """
    outdated = [found.id for found in client.images.list(image.repository) if found.id]
    settings = [f"ENV PATH={PATH}", *image.configuration, f"LABEL {LABEL}={image.digest()}"]
    answer = client.api.import_image(str(archive), repository=image.repository, tag="local", changes=settings)
    # The engine reports a failure inside a successful answer.
    if _definition(client, image) != image.digest():
        raise BuildError(f"the engine did not import {image.tag}: {answer}")
    for identifier in outdated:
        # Containers may still be of it.
        with suppress(docker.errors.APIError):
            client.images.remove(identifier)


def main() -> None:
    """Run the command line."""
    names = [image.name for image in IMAGES]
    parser = argparse.ArgumentParser(description="Build the test images that the Docker engine lacks.")
    parser.add_argument("--host", help="address of the engine (default: $DOCKER_HOST or the local one)")
    parser.add_argument("--cache", type=Path, help=f"directory for downloads (default: {cache_directory()})")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which: {', '.join(names)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no such image: {', '.join(sorted(unknown))} (there are {', '.join(names)})")
    wanted = [image for image in IMAGES if not options.names or image.name in options.names]
    try:
        client = docker.DockerClient(options.host) if options.host else docker.from_env()
        build_missing(client, wanted, options.cache)
    except (AptError, BuildError, docker.errors.DockerException) as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
