"""Faults between services, as a test begins and heals them: what the engine is told, and when."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from pytest_enclave.enclave.enclave import Enclave
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EngineError, UnknownService
from pytest_enclave.package.package import Source
from pytest_enclave.plan.connections import BLOCKED, Connection, ConnectionMatrix, Delay
from tests.laboratory import Laboratory, as_script

NAMES = ("db", "api", "worker", "cache")
PLAN = "\n".join(f'plan.add_service("{name}", ServiceConfig(image = "i"))' for name in NAMES)


@pytest.fixture
def enclave(lab: Laboratory) -> Enclave:
    lab.ok(PLAN)
    return lab.enclave()


@pytest.fixture
def site(lab: Laboratory) -> SimulatedSite:
    assert isinstance(lab.state.site, SimulatedSite)
    return lab.state.site


def source(body: str) -> Source:
    return Source(as_script(body))


def both(matrix: ConnectionMatrix) -> ConnectionMatrix:
    """The same in the other direction as well."""
    return {**matrix, **{(receiver, sender): connection for (sender, receiver), connection in matrix.items()}}


# what each does


def test_a_partition_blocks_what_is_between_its_groups_and_nothing_else(enclave: Enclave, site: SimulatedSite):
    with enclave.network.partition({"db"}, {"api", "worker"}):
        assert site.shaped() == both({("db", "api"): BLOCKED, ("db", "worker"): BLOCKED})
    assert site.shaped() == {}


def test_a_partition_may_have_more_groups_and_single_names(enclave: Enclave, site: SimulatedSite):
    with enclave.network.partition("db", "api", ["worker", "cache"]):
        pairs = [("db", "api"), ("db", "worker"), ("db", "cache"), ("api", "worker"), ("api", "cache")]
        assert site.shaped() == both(dict.fromkeys(pairs, BLOCKED))


def test_a_one_way_partition_blocks_what_earlier_groups_send_to_later_ones(enclave: Enclave, site: SimulatedSite):
    with enclave.network.partition("db", "api", "cache", one_way=True):
        assert site.shaped() == {("db", "api"): BLOCKED, ("db", "cache"): BLOCKED, ("api", "cache"): BLOCKED}


def test_a_delay_is_each_way(enclave: Enclave, site: SimulatedSite):
    with enclave.network.delay("db", "api", ms=200, deviation_ms=20):
        assert site.shaped() == both({("db", "api"): Connection(delay=Delay(200.0, 20.0))})


def test_a_loss_is_each_way(enclave: Enclave, site: SimulatedSite):
    with enclave.network.loss({"db"}, {"api", "cache"}, percent=30):
        assert site.shaped() == both({("db", "api"): Connection(30.0), ("db", "cache"): Connection(30.0)})


@pytest.mark.parametrize(
    ("fault", "between"),
    [
        (lambda network: network.delay("db", "api", ms=1.5, one_way=True), Connection(delay=Delay(1.5))),
        (lambda network: network.loss("db", "api", percent=0.5, one_way=True), Connection(0.5)),
        (lambda network: network.block("db", "api", one_way=True), BLOCKED),
    ],
)
def test_one_way_is_what_the_first_sends_to_the_second(enclave: Enclave, site: SimulatedSite, fault, between):
    with fault(enclave.network):
        assert site.shaped() == {("db", "api"): between}


def test_what_is_lost_follows_from_the_seed_of_the_session(enclave: Enclave, site: SimulatedSite, lab: Laboratory):
    with enclave.network.loss("db", "api", percent=30):
        assert [call["seed"] for call in site.asked("shape")] == [lab.options.seed]


# several at once


def test_faults_add_up(enclave: Enclave, site: SimulatedSite):
    network = enclave.network
    delays = network.delay("db", "api", ms=100), network.delay("api", "db", ms=50, one_way=True)
    with delays[0], delays[1], network.loss("db", "api", percent=50):
        with network.loss("db", "api", percent=50, one_way=True):
            assert site.shaped() == {
                ("db", "api"): Connection(75.0, Delay(100.0)),
                ("api", "db"): Connection(50.0, Delay(150.0)),
            }
        assert site.shaped()[("db", "api")] == Connection(50.0, Delay(100.0))


def test_faults_are_healed_in_any_order(enclave: Enclave, site: SimulatedSite):
    first = enclave.network.block("db", "api")
    second = enclave.network.block("db", "cache")
    first.heal()
    assert site.shaped() == both({("db", "cache"): BLOCKED})
    second.heal()
    assert site.shaped() == {}


def test_a_fault_is_healed_once(enclave: Enclave, site: SimulatedSite):
    with enclave.network.block("db", "api") as fault:
        fault.heal()
        assert site.shaped() == {}
        with enclave.network.block("db", "api"):
            fault.heal()
            assert site.shaped() != {}
    assert len(site.asked("shape")) == 4


def test_a_fault_has_one_with(enclave: Enclave):
    fault = enclave.network.block("db", "api")
    with fault, pytest.raises(RuntimeError, match=r"^the fault block:db\|api has its `with` already: begin it anew$"):
        fault.__enter__()
    with pytest.raises(RuntimeError, match=r"^the fault block:db\|api is healed: begin it anew$"):
        fault.__enter__()


def test_two_equal_faults_are_two(enclave: Enclave, site: SimulatedSite):
    with enclave.network.block("db", "api"):
        with enclave.network.block("db", "api"):
            pass
        assert site.shaped() == both({("db", "api"): BLOCKED})


def test_a_fault_is_healed_when_the_body_fails(enclave: Enclave, site: SimulatedSite):
    with pytest.raises(KeyboardInterrupt), enclave.network.block("db", "api"):
        raise KeyboardInterrupt
    assert site.shaped() == {}


def test_the_end_of_the_test_heals_all_faults_at_once(enclave: Enclave, site: SimulatedSite):
    faults = [enclave.network.block("db", "api"), enclave.network.delay("db", "cache", ms=3)]
    enclave.heal()
    assert site.shaped() == {}
    for fault in faults:
        fault.heal()
    assert len(site.asked("shape")) == 3
    assert enclave.faults == ()


# beside what the package has set


SUBNETWORKS = """
plan.add_service("db", ServiceConfig(image = "i", subnetwork = "data"))
plan.add_service("api", ServiceConfig(image = "i", subnetwork = "front"))
delay = UniformPacketDelayDistribution(ms = 10)
plan.set_connection(("data", "front"), config = ConnectionConfig(packet_delay_distribution = delay))
"""


def test_faults_are_laid_over_the_connections_of_the_package(lab: Laboratory, site: SimulatedSite):
    lab.ok(SUBNETWORKS)
    enclave, recorded = lab.enclave(), both({("db", "api"): Connection(delay=Delay(10.0))})
    assert site.shaped() == recorded
    with enclave.network.delay("db", "api", ms=5, one_way=True), enclave.network.loss("db", "api", percent=20):
        assert site.shaped() == {
            ("db", "api"): Connection(20.0, Delay(15.0)),
            ("api", "db"): Connection(20.0, Delay(10.0)),
        }
    assert site.shaped() == recorded


def test_a_run_in_the_middle_leaves_faults_in_effect(lab: Laboratory, site: SimulatedSite, enclave: Enclave):
    blocked = both({("db", "api"): BLOCKED})
    with enclave.network.block("db", "api"):
        before = len(site.asked("shape"))
        enclave.run(source(SUBNETWORKS.replace('"db"', '"db2"').replace('"api"', '"api2"')))
        told = [call["connections"] for call in site.asked("shape")[before:]]
        assert all(blocked.items() <= matrix.items() for matrix in told), "they are in effect all the time"
        assert site.shaped() == {**blocked, **both({("db2", "api2"): Connection(delay=Delay(10.0))})}
    assert site.shaped() == both({("db2", "api2"): Connection(delay=Delay(10.0))})


def test_a_fault_of_a_service_that_a_run_removes_goes_with_it(enclave: Enclave, site: SimulatedSite):
    with enclave.network.block({"db", "cache"}, "api"):
        enclave.run(source('plan.remove_service("db")'))
        assert site.shaped() == both({("cache", "api"): BLOCKED})
    assert site.shaped() == {}


# what is told of them


def test_faults_read_as_in_the_marker(enclave: Enclave):
    network = enclave.network
    network.partition({"worker", "api"}, "db")
    network.delay("db", "api", ms=0.5, deviation_ms=0.25)
    network.loss("db", "api", percent=12.5)
    network.block("db", "api", one_way=True)
    texts = [str(live.fault) for live in enclave.faults]
    assert texts == ["partition:api,worker|db", "delay:db|api:0.5ms+-0.25ms", "loss:db|api:12.5%", "block:db>api"]


def test_a_fault_tells_from_when_until_when_it_was_in_effect(enclave: Enclave, lab: Laboratory):
    with enclave.network.block("db", "api") as fault:
        assert fault.ended is None
        assert repr(fault) == "<LiveFault block:db|api>"
        lab.state.site.pause(1.5)
    assert fault.ended is not None
    assert fault.ended - fault.began == pytest.approx(1.5)
    assert repr(fault) == "<LiveFault block:db|api, healed>"


# what makes no sense


def test_a_service_that_is_not_there_is_told_with_those_that_are(enclave: Enclave, site: SimulatedSite):
    with pytest.raises(UnknownService) as caught:
        enclave.network.block("dp", "api")
    assert str(caught.value) == "the enclave has no service `dp`: it has `db`, `api`, `worker`, `cache`"
    assert isinstance(caught.value, ValueError)
    assert (caught.value.service, caught.value.known) == ("dp", NAMES)
    assert site.asked("shape") == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda n: n.partition({"db"}), 'a partition has at least two groups: partition({"db"}, {"api", "worker"})'),
        (lambda n: n.partition({"db"}, set()), "a group of services is empty"),
        (lambda n: n.partition({"db", "api"}, {"api"}), "`api` is on both sides"),
        (lambda n: n.block("db", "db"), "`db` is on both sides"),
        (lambda n: n.delay("db", "api", ms=-1), "ms must be a number of milliseconds, of at least 0, and not -1"),
        (
            lambda n: n.delay("db", "api", ms=1, deviation_ms=float("nan")),
            "deviation_ms must be a number of milliseconds, of at least 0, and not nan",
        ),
        (lambda n: n.loss("db", "api", percent=101), "percent must be between 0 and 100, and not 101"),
    ],
)
def test_what_makes_no_sense_is_refused(enclave: Enclave, site: SimulatedSite, fault, message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fault(enclave.network)
    assert site.asked("shape") == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda network: network.delay("db", "api", ms="200ms"),
            "ms must be a number of milliseconds, and not '200ms'",
        ),
        (lambda network: network.delay("db", "api", ms=True), "ms must be a number of milliseconds, and not True"),
        (
            lambda network: network.delay("db", "api", ms=1, deviation_ms=None),
            "deviation_ms must be a number of milliseconds, and not None",
        ),
        (lambda network: network.loss("db", "api", percent="30%"), "percent must be a number, and not '30%'"),
    ],
)
def test_what_is_no_number_is_refused(enclave: Enclave, site: SimulatedSite, fault, message: str):
    with pytest.raises(TypeError) as told:
        fault(enclave.network)
    assert str(told.value) == message
    assert site.shaped() == {}


def test_what_is_no_name_is_refused(enclave: Enclave):
    with pytest.raises(TypeError) as caught:
        enclave.network.block(enclave.services["db"], "api")
    assert str(caught.value) == "a fault is between services: <Service 'db' i> is not the name of one"


def test_an_engine_that_cannot_leaves_no_fault_behind(
    enclave: Enclave, site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
):
    real: Callable[..., None] = site.shape

    def refuse(connections: ConnectionMatrix, seed: int) -> None:
        if connections:
            raise EngineError("packets cannot be shaped here")
        real(connections, seed)

    monkeypatch.setattr(site, "shape", refuse)
    with pytest.raises(EngineError, match="packets cannot be shaped here"):
        enclave.network.block("db", "api")
    assert site.shaped() == {}
    assert enclave.faults == ()
