"""Asking the engine, once per run, what is there."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_enclave.engine.protocol import Engine, Site
from pytest_enclave.plan.facts import Facts


def observe(engine: Engine, site: Site, images: Iterable[str]) -> Facts:
    """The live services of the enclave and what is between them, the digests of the images that the plan names, and
    what the engine can give."""
    return Facts(site.observe(), engine.local_images(images), engine.capacity(), site.shaped())
