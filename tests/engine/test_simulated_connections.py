"""What is between simulated services is noted, told again, and held up by nothing."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import EnclaveId
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.connections import BLOCKED, Connection

SHAPE = {("a", "b"): BLOCKED, ("b", "a"): Connection(loss=5.0)}


@pytest.fixture
def site() -> SimulatedSite:
    """An enclave with addresses for `a` and `b`, of which neither was started."""
    site = SimulatedEngine().open(EnclaveId("one"))
    site.reserve("a")
    site.reserve("b")
    return site


def test_nothing_is_between_services_at_first(site: SimulatedSite):
    assert site.shaped() == {}


def test_what_was_said_last_counts_as_a_whole(site: SimulatedSite):
    site.shape(SHAPE, seed=7)
    site.shape({("a", "b"): Connection(loss=1.0)}, seed=8)
    assert site.shaped() == {("a", "b"): Connection(loss=1.0)}
    assert [call["seed"] for call in site.asked("shape")] == [7, 8]
    assert site.asked("shape")[0]["connections"] == SHAPE


def test_a_name_without_an_address_is_refused_and_nothing_changes(site: SimulatedSite):
    site.shape(SHAPE, seed=0)
    with pytest.raises(EngineError) as caught:
        site.shape({("a", "c"): BLOCKED}, seed=0)
    assert str(caught.value) == "service `c` has no address: nothing can be between it and others"
    assert site.shaped() == SHAPE


def test_what_others_do_with_their_matrix_changes_nothing(site: SimulatedSite):
    given = dict(SHAPE)
    site.shape(given, seed=0)
    given.clear()
    dict(site.shaped()).clear()
    assert site.shaped() == SHAPE


def test_a_fork_begins_with_what_was_between_services_at_the_freeze(site: SimulatedSite):
    site.shape(SHAPE, seed=0)
    site.freeze()
    site.shape({}, seed=0)
    fork = site.fork(EnclaveId("two"))
    assert fork.shaped() == SHAPE
    fork.shape({}, seed=0)
    assert site.fork(EnclaveId("three")).shaped() == SHAPE


def test_after_the_end_there_is_nothing(site: SimulatedSite):
    site.shape(SHAPE, seed=0)
    site.close()
    assert site.shaped() == {}
