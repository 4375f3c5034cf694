"""Constant delays on a kernel that has netem; the one below these tests may not."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import machine

# Those who run these have a Docker engine, which it is for, and can install the emulator.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

MODULES = (
    "libcrc32c",
    "nfnetlink",
    "nf_tables",
    "nfnetlink_queue",
    "nft_queue",
    "llc",
    "stp",
    "bridge",
    "veth",
    "sch_htb",
)

DELAYS = ("sch_netem", "ifb", "nf_dup_netdev", "nft_fwd_netdev")
"""What the program has the kernel take in."""

LATE = 90.0
"""Milliseconds that an emulated machine may add."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program has measured there."""
    machine.install()
    program = Path(__file__).with_name("delays_in_guest.py").read_text()
    printed = machine.run(program, MODULES, DELAYS, tmp_path_factory.mktemp("machine"))
    found: dict[str, Any] = json.loads(printed)
    return found


def takes(milliseconds: float) -> Any:
    """What takes so long, and perhaps a little longer."""
    return pytest.approx(milliseconds + LATE / 2, abs=LATE / 2)


def test_without_netem_packets_wait_for_the_process(found):
    assert found["by queue"]["trip"] == takes(200)
    assert found["by queue"]["while nobody decides"] == [-1]
    assert found["by queue"]["links"] == ["lo", "eth0"]


def test_the_kernel_delays_alone_where_it_can(found):
    delayed = found["by kernel"]
    assert min(delayed["trips"]) >= 200
    assert statistics.median(delayed["trips"]) == takes(200)
    assert statistics.median(delayed["while nobody decides"]) == takes(200)
    assert delayed["one way"] == takes(150)
    assert found["plain"] == takes(0)
    assert delayed["others"] == takes(0)
    assert delayed["links"] == [["lo", "eth0", "enclave-delays"], ["lo", "eth0"]]


def test_losses_are_those_of_all_kernels(found):
    assert found["with losses"]["lost"] == found["with losses"]["expected"] != []


def test_what_is_held_up_is_lost_when_blocked_and_comes_in_its_time_when_freed(found):
    assert found["after a block"] == "healed"
    assert found["freed while held"] == {"others": takes(0), "word": "held", "late": takes(500)}


def test_what_one_has_sent_before_its_end_arrives_and_the_next_one_is_as_far_away(found):
    assert found["of one that has ended"] == "last"
    assert found["of the next one"] == takes(1000)


def test_what_goes_to_several_is_late_for_those_it_is_said_of(found):
    assert found["to several"]["b"] == takes(200)
    assert found["to several"]["c"] < LATE


def test_a_stream_arrives_whole(found):
    assert found["stream"] == "True"


def test_neither_a_process_that_was_killed_nor_one_that_has_ended_delays_anything(found):
    assert found["killed"]["trip"] == takes(0)
    assert found["the next one"] == takes(200)
    assert found["ended"] == {"trip": takes(0), "links": [["lo", "eth0"], ["lo", "eth0"]]}


def test_one_process_for_each_delays_as_one_for_all(found):
    assert found["one each"] == takes(200)
