"""Stores, sources and registries for the tests of the images room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.images.patience import Patience
from pytest_enclave.images.resolve import ImageSources
from pytest_enclave.images.store import ImageStore
from pytest_enclave.linux.identity import own_map
from tests.images_room.fake_registry import FakeRegistry, fake_registry
from tests.images_room.registry_server import RegistryServer, registry_server

QUICK = Patience(stall=5, tries=4, pause=0.01, longest=0.05)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    """An empty store, for whoever runs the tests."""
    store = ImageStore(tmp_path / "store", own_map())
    yield store
    store.clear()


@pytest.fixture
def sources(store: ImageStore, tmp_path: Path) -> Callable[..., ImageSources]:
    """Make sources for the store, by default without credentials and daemon."""

    def make(**settings: object) -> ImageSources:
        environ = {"DOCKER_CONFIG": str(tmp_path / "docker"), "PATH": os.environ["PATH"]}
        return ImageSources(store, **{"patience": QUICK, "environ": environ, **settings})

    return make


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """A registry that does what it is told."""
    with fake_registry() as registry:
        yield registry


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A real registry."""
    with registry_server(tmp_path_factory.mktemp("registry")) as server:
        yield server
