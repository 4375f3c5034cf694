"""Subnetworks and connections as values: who is kept apart from whom, and what makes no sense (behaviour.md §8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pytest_enclave.plan.connections import ALLOWED, BLOCKED, Connection, ConnectionMatrix, Delay
from pytest_enclave.plan.footprint import Footprint, Replay, Wiring
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.topology import DEFAULT, Topology, TopologyError, rewires, topology_of
from pytest_enclave.source import Location

SLOW = Connection(delay=Delay(100.0))
TWO = Topology().with_subnetwork("x").with_subnetwork("y").with_service("a", "x").with_service("b", "y")
"""`a` and `b`, each in a subnetwork of its own."""

NOWHERE = "there is no subnetwork `z` (there is `default`, `x`, `y`)"


def both(one: str, other: str, connection: Connection) -> ConnectionMatrix:
    """The connection, each way."""
    return {(one, other): connection, (other, one): connection}


def test_at_first_nothing_is_in_the_way_and_nobody_is_there():
    assert Topology().subnetworks == {DEFAULT}
    assert Topology().matrix() == {}
    assert TWO.matrix() == {}


def test_row_162_services_of_one_subnetwork_are_never_kept_apart():
    together = TWO.with_service("c", "x").with_default(BLOCKED).with_override("x", "x", BLOCKED)
    assert together.between("x", "x") == ALLOWED
    assert {("a", "c"), ("c", "a")}.isdisjoint(together.matrix())
    assert Topology().with_service("a").with_service("b").with_default(BLOCKED).matrix() == {}


def test_row_163_those_of_different_ones_are_by_the_default_connection_each_way():
    assert TWO.with_default(BLOCKED).matrix() == both("a", "b", BLOCKED)
    assert TWO.with_default(BLOCKED).between(DEFAULT, "y") == BLOCKED


def test_row_164_an_override_is_for_one_pair_in_whichever_order_it_is_named():
    three = TWO.with_service("c", DEFAULT)
    for pair in (("x", "y"), ("y", "x")):
        assert three.with_override(*pair, BLOCKED).matrix() == both("a", "b", BLOCKED)


def test_row_165_a_service_without_any_connection_of_note_is_left_out():
    assert Topology().with_service("alone").with_default(BLOCKED).matrix() == {}
    assert TWO.with_default(BLOCKED).with_override("x", "y", ALLOWED).matrix() == {}


def test_an_override_replaces_the_default_as_a_whole():
    lossy = TWO.with_default(Connection(loss=50.0))
    assert lossy.with_override("x", "y", SLOW).matrix() == both("a", "b", SLOW)


def test_row_167_without_the_override_the_default_connection_holds_as_it_is_by_then():
    overridden = TWO.with_override("x", "y", SLOW)
    assert overridden.is_overridden("y", "x")
    back = overridden.with_default(BLOCKED).without_override("y", "x")
    assert not back.is_overridden("x", "y")
    assert back.between("x", "y") == BLOCKED
    assert back.without_override("x", "y") == back


def test_row_168_the_default_connection_is_for_pairs_without_an_override_only():
    three = TWO.with_service("c").with_override("x", "y", SLOW).with_default(BLOCKED)
    assert three.matrix() == {
        **both("a", "b", SLOW),
        **both("a", "c", BLOCKED),
        **both("b", "c", BLOCKED),
    }


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        pytest.param(lambda t: t.with_override("x", "z", SLOW), NOWHERE,
                     id="row-166-set"),
        pytest.param(lambda t: t.without_override("z", "x"), NOWHERE,
                     id="row-166-unset"),
        pytest.param(lambda t: t.between("x", "z"), NOWHERE,
                     id="row-166-get"),
        pytest.param(lambda t: t.is_overridden("z", "z"), NOWHERE,
                     id="row-166-is-default"),
        pytest.param(lambda t: t.with_subnetwork("x"), "there is a subnetwork `x` already", id="row-169"),
        pytest.param(lambda t: t.with_subnetwork(DEFAULT), "there is a subnetwork `default` already",
                     id="row-169-default"),
        pytest.param(lambda t: t.without_subnetwork("x"), "subnetwork `x` is not empty: it has `a`",
                     id="row-170-not-empty"),
        pytest.param(lambda t: t.without_subnetwork(DEFAULT), "subnetwork `default` is always there",
                     id="row-170-default"),
        pytest.param(lambda t: t.with_service("a", "y"), "service `a` is in subnetwork `x` already",
                     id="row-171-twice"),
        pytest.param(lambda t: t.with_service("c", "z"), NOWHERE,
                     id="row-171-nowhere"),
        pytest.param(lambda t: t.without_service("c"), "service `c` is in no subnetwork", id="never-there"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(operation: Callable[[Topology], object], told: str):
    with pytest.raises(TopologyError) as caught:
        operation(TWO)
    assert str(caught.value) == told


def test_row_170_an_empty_subnetwork_goes_with_its_overrides_and_one_never_known_may_go_too():
    empty = TWO.with_override("x", "y", BLOCKED).with_override("y", DEFAULT, SLOW).without_service("a")
    gone = empty.without_subnetwork("x")
    assert gone.subnetworks == {"y", DEFAULT}
    assert gone.overrides == {frozenset({"y", DEFAULT}): SLOW}
    assert gone.without_subnetwork("x") == gone
    assert gone.with_subnetwork("x").with_service("a", "x").between("x", "y") == ALLOWED


def test_a_subnetwork_stays_when_its_last_service_goes():
    assert "x" in TWO.with_override("x", "y", SLOW).without_service("a").subnetworks
    again = TWO.with_override("x", "y", SLOW).without_service("a").with_service("c", "x")
    assert again.matrix() == both("b", "c", SLOW)


# settling connections, as instructions do


def test_a_connection_may_be_settled_before_there_is_any_service():
    wired = Topology().wired(Wiring(frozenset({"x", "y"}), SLOW))
    assert wired.subnetworks == {"x", "y", DEFAULT}
    assert wired.with_service("a", "x").with_service("b", "y").matrix() == both("a", "b", SLOW)


def test_the_default_connection_is_settled_where_no_subnetworks_are_named():
    assert TWO.wired(Wiring(None, BLOCKED)).default == BLOCKED


def test_the_connection_of_a_subnetwork_to_itself_can_be_settled_to_no_effect():
    own = frozenset({"x"})
    assert TWO.with_service("c", "x").wired(Wiring(own, BLOCKED)).matrix() == {}
    assert TWO.wired(Wiring(own, BLOCKED)).wired(Wiring(own, None)).overrides == {}


def test_row_183_nothing_is_removed_where_a_subnetwork_has_no_services():
    removal = Wiring(frozenset({"x", "y"}), None)
    assert Topology().wired(removal) == Topology()
    overridden = TWO.with_override("x", "y", SLOW)
    assert overridden.wired(removal).overrides == {}
    half = overridden.without_service("b")
    assert half.wired(removal) == half


# read off an enclave plan


def record(name: str = "", made: Sequence[str] = (), acts_on: str = "", **footprint: object) -> Record:
    """A record of an instruction with this footprint."""
    told = Footprint(
        Replay.REPLACE,
        services=dict.fromkeys(made, ""),
        acts_on=frozenset(acts_on),
        **footprint,  # type: ignore[arg-type]
    )
    services = dict.fromkeys(made)
    return Record(name, "", "", "", "", Location("f"), told, services=services)  # type: ignore[arg-type]


def test_an_enclave_plan_places_and_moves_services_in_its_order():
    placed = [record(made=["a", "b"], joins={"a": "x"}), record(made=["c"])]
    assert topology_of(placed).services == {"a": "x", "b": DEFAULT, "c": DEFAULT}
    moved = [*placed, record(joins={"c": "y"})]
    assert topology_of(moved).services == {"a": "x", "b": DEFAULT, "c": "y"}
    assert topology_of(moved).subnetworks == {"x", "y", DEFAULT}


def test_row_185_a_service_that_is_replaced_is_where_its_new_config_says():
    history = [record(made=["a"], joins={"a": "x"}), record(joins={"a": "y"})]
    assert topology_of([*history, record(made=["a"], joins={"a": "z"})]).services == {"a": "z"}
    assert topology_of([*history, record(made=["a"])]).services == {"a": DEFAULT}


def test_a_service_that_is_removed_is_nowhere_and_cannot_be_moved():
    removal = record("remove_service", acts_on="a")
    gone = topology_of([record(made=["a"], joins={"a": "x"}), removal, record(joins={"a": "y"}), removal])
    assert gone.services == {}
    assert gone.subnetworks == {"x", DEFAULT}


def test_a_service_that_a_failure_has_lost_is_nowhere():
    spoilt = replace(record(made=["a", "b"], joins={"a": "x", "b": "y"}), services={"b": None})
    assert topology_of([spoilt]).services == {"b": "y"}


def test_stopped_services_stay_where_they_are():
    assert topology_of([record(made=["a"]), record("stop_service", acts_on="a")]).services == {"a": DEFAULT}


names = st.sampled_from("abcd")
places = st.sampled_from(["x", "y", DEFAULT])
connections = st.sampled_from([ALLOWED, BLOCKED, SLOW])


@given(
    services=st.dictionaries(names, places),
    default=connections,
    overrides=st.dictionaries(st.frozensets(places, min_size=1, max_size=2), connections),
)
def test_the_matrix_has_what_is_between_the_subnetworks_of_each_pair(
    services: dict[str, str], default: Connection, overrides: dict[frozenset[str], Connection]
):
    topology = Topology(services, frozenset({"x", "y", DEFAULT}), default, overrides)
    matrix = topology.matrix()
    for one, here in services.items():
        for other, there in services.items():
            assert matrix.get((one, other), ALLOWED) == topology.between(here, there)
            assert matrix.get((one, other)) == matrix.get((other, one))
    assert ALLOWED not in matrix.values()


# what concerns whom

A, B = (record(made=[name], joins={name: place}).footprint for name, place in (("a", "x"), ("b", "y")))
HERE = record(made=["c"], joins={"c": "x"}).footprint
XY, XZ, BY_DEFAULT = (
    record(wiring=Wiring(between, BLOCKED)).footprint for between in (frozenset("xy"), frozenset("xz"), None)
)
MOVE_A = record(joins={"a": "y"}).footprint
USE_A = record(uses=frozenset("a")).footprint


@pytest.mark.parametrize(
    ("later", "earlier", "concerned"),
    [
        (XY, [A, B], True),
        (XY, [A], False),
        (XY, [A, HERE], False),
        (XZ, [A, B], False),
        (BY_DEFAULT, [A, B], True),
        (BY_DEFAULT, [A, HERE], False),
        (BY_DEFAULT, [], False),
        (XY, [XY], True),
        (XY, [BY_DEFAULT], False),
        (BY_DEFAULT, [BY_DEFAULT], True),
        (MOVE_A, [A], True),
        (MOVE_A, [USE_A], True),
        (MOVE_A, [B], False),
        (MOVE_A, [MOVE_A], True),
        (XY, [USE_A, B], True),
        (A, [B, XY, MOVE_A], False),
    ],
)
def test_later_connections_concern_those_between_whom_they_are(
    later: Footprint, earlier: list[Footprint], concerned: bool
):
    assert rewires([later], earlier, [A, B, HERE, later, *earlier]) is concerned


def test_a_service_that_was_moved_counts_for_each_subnetwork_it_was_in():
    assert rewires([XY], [USE_A, HERE], [A, HERE, XY]) is False
    assert rewires([XY], [USE_A, HERE], [A, MOVE_A, HERE, XY]) is True
