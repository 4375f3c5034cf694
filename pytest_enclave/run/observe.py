"""Asking the engine, once per run, what is there."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_enclave.engine.protocol import Engine, Site
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.footprint import Footprint


def observe(engine: Engine, site: Site, footprints: Iterable[Footprint]) -> Facts:
    """The live services of the enclave, the digests of the images that the plan names, and what the engine can give."""
    images = frozenset[str]().union(*(footprint.images for footprint in footprints))
    return Facts(services=site.observe(), images=engine.local_images(images), capacity=engine.capacity())
