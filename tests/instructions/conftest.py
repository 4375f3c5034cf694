"""The laboratory with real services."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import EnclaveId, Engine, PullPolicy
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from tests.laboratory import Laboratory

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def real_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine that runs real services."""
    on_docker = request.param == "docker"
    engine: Engine = DockerEngine(request.getfixturevalue("docker_host")) if on_docker else EmbeddedEngine()
    engine.probe()
    yield engine
    assert engine.close() == []


@pytest.fixture
def real(real_engine: Engine, tmp_path: Path, tools: Tools) -> Iterator[Laboratory]:
    """A laboratory whose services are real."""
    name = EnclaveId(f"instructions-{os.getpid()}-{next(_numbers)}")
    journal = Journal(tmp_path / "journal")
    state = EnclaveState(name, real_engine, real_engine.open(name), journal, ArtifactStore(tmp_path / "files", journal))
    yield Laboratory(state, tools, Options(seed=1, pull=PullPolicy.NEVER))
    assert state.site.close() == []
    state.journal.close()
