"""Engines to test: the behavioural suite runs on each of them, unchanged."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import Engine
from tests.engine.engine_enclave import Enclave, Fork, enclave_id
from tests.engine.pooled_engine import PooledEngine


@pytest.fixture(scope="session")
def docker_engine(docker_host: str) -> Iterator[DockerEngine]:
    """The real engine."""
    engine = DockerEngine(docker_host)
    engine.probe()
    yield engine
    assert engine.close() == []


@pytest.fixture(scope="session")
def docker_pooled_engine(docker_host: str) -> Iterator[PooledEngine]:
    """The real engine, with each service in a pod."""
    engine = PooledEngine(docker_host)
    engine.probe()
    yield engine
    assert engine.close() == []


@pytest.fixture(scope="session")
def embedded_engine() -> Iterator[EmbeddedEngine]:
    """The engine of our own."""
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


@pytest.fixture
def own_engine() -> Iterator[EmbeddedEngine]:
    """An embedded engine for one test: what is done to its processes concerns no other."""
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


ENGINES = [*(pytest.param(name, marks=pytest.mark.docker) for name in ("docker", "docker_pooled")), "embedded"]


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine that runs real services."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found


@pytest.fixture
def open_enclave() -> Iterator[Callable[[Engine], Enclave]]:
    """Opens enclaves on an engine, which are closed at the end without leaving anything."""
    opened: list[Enclave] = []

    def open_one(engine: Engine) -> Enclave:
        id_ = enclave_id()
        opened.append(Enclave(engine.open(id_), id_))
        return opened[-1]

    yield open_one
    assert [leak for enclave in opened for leak in enclave.site.close()] == []


@pytest.fixture
def enclave(engine: Engine, open_enclave: Callable[[Engine], Enclave]) -> Enclave:
    """A new enclave for this test alone."""
    return open_enclave(engine)


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Forks enclaves; forks are closed at the end without leaving anything."""
    made: list[Enclave] = []

    def fork_one(enclave: Enclave) -> Enclave:
        made.append(enclave.fork())
        return made[-1]

    yield fork_one
    assert [leak for enclave in made for leak in enclave.site.close()] == []


@pytest.fixture(scope="module")
def shared(engine: Engine) -> Iterator[Enclave]:
    """One enclave for tests that only look at their own services, each under its own name."""
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    yield enclave
    assert enclave.site.close() == []


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
