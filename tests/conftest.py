"""Fixtures of the logic tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import EnclaveId
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.golang.jq import JqProcess
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.run.interpretation import Interpretations
from pytest_enclave.run.pipeline import Tools
from pytest_enclave.run.state import EnclaveState
from pytest_enclave.store.artifacts import ArtifactStore
from pytest_enclave.store.journal import Journal
from tests.laboratory import Laboratory


@pytest.fixture(scope="session")
def tools() -> Iterator[Tools]:
    """What runs share."""
    jq = JqProcess()
    yield Tools(Registry(), Interpretations(), jq.extract)
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
        state = EnclaveState(name, engine, engine.open(name), Journal(root / "journal"), ArtifactStore(root / "files"))
        made.append(Laboratory(state, tools))
        return made[-1]

    yield make
    for each in made:
        each.state.journal.close()


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """A laboratory whose engine has no script: everything works."""
    return laboratory()
