"""The test images in the embedded engine's store, for the present user."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from archive import LABEL
from build import archives
from definitions import IMAGES, Image

from pytest_enclave.images.store import ImageStore, default_root
from pytest_enclave.linux.identity import own_map


def fill(images: Sequence[Image] = IMAGES) -> None:
    """Load those of `images` which the store does not have from the same definition.

    Raises AptError or BuildError if they cannot be built, ImageUnavailable if the store refuses one.
    """
    store = ImageStore(default_root(os.environ), own_map())
    missing = [image for image in images if _definition(store, image) != image.digest()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(store.load, archives(missing) if missing else (), (image.tag for image in missing)))


def _definition(store: ImageStore, image: Image) -> str | None:
    """Return the digest of the definition that the store's image was built from."""
    found = store.find(image.tag)
    return found.config.labels.get(LABEL) if found else None
