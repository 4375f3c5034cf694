"""Other addresses in recorded values."""

from __future__ import annotations

import pytest

from pytest_enclave.plan.addresses import NewAddresses
from pytest_enclave.plan.facts import ServiceFact, Status
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Struct
from pytest_enclave.source import Location

MOVED = NewAddresses({"10.0.0.2": "10.7.0.2", "10.0.0.21": "10.7.0.21"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.2", "10.7.0.2"),
        ("10.0.0.2\n", "10.7.0.2\n"),
        ("http://10.0.0.2:80/", "http://10.7.0.2:80/"),
        ("user@10.0.0.2,10.0.0.21", "user@10.7.0.2,10.7.0.21"),
        ("10.0.0.2/16 dev eth0", "10.7.0.2/16 dev eth0"),
        ("it is at 10.0.0.2.", "it is at 10.7.0.2."),
        ("10.0.0.2.nip.io", "10.7.0.2.nip.io"),
        ("DB=10.0.0.2", "DB=10.7.0.2"),
        ("10.0.0.210", "10.0.0.210"),
        ("110.0.0.2", "110.0.0.2"),
        ("10.0.0.2.1", "10.0.0.2.1"),
        ("1.10.0.0.2", "1.10.0.0.2"),
        ("10x0.0.2", "10x0.0.2"),
        ("10.0.0.2a", "10.0.0.2a"),
        ("no address", "no address"),
    ],
)
def test_an_address_is_replaced_where_it_stands_by_itself(text: str, expected: str) -> None:
    assert MOVED.text(text) == expected


def test_addresses_may_be_exchanged() -> None:
    exchanged = NewAddresses({"10.0.0.2": "10.0.0.3", "10.0.0.3": "10.0.0.2"})
    assert exchanged.text("10.0.0.2 10.0.0.3") == "10.0.0.3 10.0.0.2"


def test_they_are_replaced_in_all_texts_of_a_value() -> None:
    value = [("10.0.0.2", 1), {"10.0.0.2": None}, Struct("struct", {"url": "tcp://10.0.0.2", "on": True})]
    assert MOVED.value(value) == [
        ("10.7.0.2", 1),
        {"10.7.0.2": None},
        Struct("struct", {"url": "tcp://10.7.0.2", "on": True}),
    ]


def test_text_files_are_changed_and_binary_ones_are_not() -> None:
    assert MOVED.content("zażółć 10.0.0.2".encode()) == "zażółć 10.7.0.2".encode()
    assert MOVED.content(b"\xff 10.0.0.2") == b"\xff 10.7.0.2"
    assert MOVED.content(b"\0 10.0.0.2") == b"\0 10.0.0.2"


def test_of_a_record_what_execution_gave_is_changed_and_what_was_written_is_not() -> None:
    written = {"name": "exec", "text": "10.0.0.2", "key": "10.0.0.2", "producer": "p", "location": Location("m", 1, 1)}
    record = Record(
        **written,  # type: ignore[arg-type]
        resolved="curl 10.0.0.2",
        footprint=Footprint(Replay.OBSERVE),
        values={"p": {"output": "10.0.0.2", "code": 0}},
        services={"api": Struct("ServiceConfig", {"env_vars": {"DB": "10.0.0.2"}})},
        message="up at 10.0.0.2",
    )
    moved = MOVED.record(record)
    assert (moved.text, moved.key) == ("10.0.0.2", "10.0.0.2")
    assert (moved.resolved, moved.message) == ("curl 10.7.0.2", "up at 10.7.0.2")
    assert moved.values == {"p": {"output": "10.7.0.2", "code": 0}}
    assert moved.services["api"].get("env_vars") == {"DB": "10.7.0.2"}


def test_what_moved_is_told_by_the_facts_before_and_after() -> None:
    def facts(**addresses: str) -> dict[str, ServiceFact]:
        return {name: ServiceFact(Status.RUNNING, "", address) for name, address in addresses.items()}

    before = facts(db="10.0.0.2", api="10.0.0.3", gone="10.0.0.4", unknown="10.0.0.5")
    after = facts(db="10.7.0.2", api="10.0.0.3", unknown="")
    assert NewAddresses.between(before, after) == NewAddresses({"10.0.0.2": "10.7.0.2"})
    assert not NewAddresses.between(before, before)
