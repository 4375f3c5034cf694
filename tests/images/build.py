"""Build the test images from Debian packages, without a registry, without root and without any engine.

    python tests/images/build.py [--cache DIRECTORY] [NAME...]

Each becomes a file as `docker save` writes it. Only those that an earlier run did not leave in the cache are built.
Nothing but the standard library is needed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from archive import write_archive
from debian import AptError, Downloads
from definitions import IMAGES, Image
from rootfs import write_root


class BuildError(Exception):
    """A package file is broken, or an engine did not take an image."""


def cache_directory() -> Path:
    """Return the directory for what can be had again: `$XDG_CACHE_HOME` or ~/.cache, and our name."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pytest-enclave-dev"


def archives(images: Sequence[Image] = IMAGES, cache: Path | None = None) -> list[Path]:
    """Return a file for each of `images`, made now unless an earlier run left it.

    Downloads and finished files are kept in `cache`, by default `cache_directory()`.

    Raises AptError if packages cannot be had, BuildError if one is broken.
    """
    cache = cache or cache_directory()
    folder = cache / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = [folder / f"{image.name}-{image.digest()[:16]}.tar" for image in images]
        wanted = [pair for pair in zip(images, files, strict=True) if not pair[1].exists()]
        if wanted:
            start = time.monotonic()
            print(f"building {', '.join(image.tag for image, _ in wanted)}", file=sys.stderr)
            _build(wanted, Downloads(cache / "apt"))
            print(f"built them in {time.monotonic() - start:.1f} s", file=sys.stderr)
    return files


def _build(wanted: Sequence[tuple[Image, Path]], downloads: Downloads) -> None:
    closures = [(("busybox-static",), ()), *((image.packages, image.skip) for image, _ in wanted)]
    [busybox], *packages = downloads.closures(closures)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_archive, busybox=busybox), *zip(*wanted, strict=True), packages))


def _archive(image: Image, archive: Path, debs: Sequence[Path], busybox: Path) -> None:
    """Write `image` to `archive`, and remove what an earlier definition left."""
    unfinished = archive.with_suffix(".unfinished")
    try:
        with unfinished.open("w+b") as stream:
            write_archive(stream, image, partial(write_root, image=image, debs=debs, busybox=busybox))
    except subprocess.CalledProcessError as problem:
        raise BuildError(f"{image.tag}: {problem}") from problem
    for outdated in archive.parent.glob(f"{image.name}-*.tar"):
        outdated.unlink()
    unfinished.rename(archive)


def main() -> None:
    """Run the command line."""
    names = [image.name for image in IMAGES]
    parser = argparse.ArgumentParser(description="Build the test images that the cache lacks.")
    parser.add_argument("--cache", type=Path, help=f"directory for downloads and images (default: {cache_directory()})")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which: {', '.join(names)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"no such image: {', '.join(sorted(unknown))} (there are {', '.join(names)})")
    try:
        for file in archives(
            [each for each in IMAGES if not options.names or each.name in options.names], options.cache
        ):
            print(file)
    except (AptError, BuildError) as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
