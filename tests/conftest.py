"""Fixtures of the logic tests, and the engines for tests with real services."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import EnclaveId
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.golang.jq import JqProcess
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.language.kept import KeptModules
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.run.interpretation import Interpretations
from pytest_enclave.run.pipeline import Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from tests.laboratory import Laboratory


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a Docker engine, so that `-m "not docker"` leaves it out."""
    for item in items:
        if "docker_host" in getattr(item, "fixturenames", ()):
            item.add_marker("docker")


@pytest.fixture(scope="session", autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests' sessions make is not recorded with the user's, and nothing of it is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("CI", "true")
        yield


@pytest.fixture(scope="session")
def docker_host() -> str:
    """Where the Docker engine for the tests is. The command that runs the tests says so; without one they fail."""
    if "DOCKER_HOST" not in os.environ:
        pytest.fail('this needs a real Docker engine: set DOCKER_HOST to where it is, or leave it out: -m "not docker"')
    return os.environ["DOCKER_HOST"]


@pytest.fixture(scope="session", params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def on_engine(request: pytest.FixtureRequest) -> str:
    """The option of pytest for each engine that runs real services."""
    if request.param == "docker":
        request.getfixturevalue("docker_host")
    return f"--enclave-engine={request.param}"


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """What runs share; the cache is not the user's."""
    jq = JqProcess()
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    others = Repositories.of({**os.environ, **cache})
    yield Tools(Registry(), Interpretations(others=others, kept=KeptModules.of(cache)), jq.extract)
    jq.close()


@pytest.fixture
def laboratory(tmp_path: Path, tools: Tools) -> Iterator[Callable[..., Laboratory]]:
    """Make a laboratory, with a script for its simulated engine if need be."""
    made: list[Laboratory] = []

    def make(script: Script | None = None) -> Laboratory:
        name = EnclaveId(f"lab-{len(made)}")
        root = tmp_path / name.name
        root.mkdir()
        engine = SimulatedEngine(script)
        journal = Journal(root / "journal")
        state = EnclaveState(name, engine, engine.open(name), journal, ArtifactStore(root / "files", journal))
        made.append(Laboratory(state, tools))
        return made[-1]

    yield make
    for each in made:
        each.state.journal.close()


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """A laboratory whose engine has no script: everything works."""
    return laboratory()
