"""The process that enclaves are forked from: when it is there, and that it goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from tests.engine.engine_enclave import enclave_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs namespaces")


def children() -> set[str]:
    """The processes that this one has started and that are still there."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture
def others() -> set[str]:
    """Those that have nothing to do with this test."""
    return children()


def test_nothing_runs_before_it_is_needed(others: set[str]):
    engine = EmbeddedEngine()
    assert children() == others
    assert engine.close() == []


def test_one_that_is_prepared_is_the_one_that_enclaves_are_forked_from(others: set[str]):
    engine = EmbeddedEngine()
    engine.prepare(())
    prepared = children() - others
    assert len(prepared) == 1
    site = engine.open(enclave_id())
    assert children() - others == prepared
    assert site.close() == []
    assert engine.close() == []


def test_none_is_left_when_the_engine_is_closed(others: set[str]):
    engine = EmbeddedEngine()
    engine.prepare(())
    assert engine.close() == []
    assert children() == others
