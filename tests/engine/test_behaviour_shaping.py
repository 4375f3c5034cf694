"""Packets between services travel as it is said, on every engine with real services: the same for each."""

from __future__ import annotations

import json
import socket
import threading
import time
from itertools import pairwise

import pytest

from pytest_enclave.engine.protocol import Action, Engine
from pytest_enclave.errors import EngineError
from pytest_enclave.linux.fates import LOST, Fates, Figures
from pytest_enclave.plan.connections import ALLOWED, BLOCKED, Connection, Delay
from tests.engine.engine_enclave import PYTHON, Enclave, Fork
from tests.engine.shaped_services import ECHO, LATE, NOTE, PROBE, TALKER, Talk, blocked, both_ways, delay


@pytest.fixture
def talk(enclave: Enclave) -> Talk:
    """Two services that answer each other."""
    talk = Talk(enclave)
    talk.up("a", "b")
    return talk


@pytest.fixture
def three(enclave: Enclave) -> Talk:
    """Three services that answer each other."""
    talk = Talk(enclave)
    talk.up("a", "b", "c")
    return talk


def ask(endpoint_host: str, endpoint_port: int) -> bytes:
    """What the test process gets back from a service's port."""
    with socket.create_connection((endpoint_host, endpoint_port), 5) as own:
        own.sendall(b"hello")
        return own.recv(5)


def talked(talk: Talk) -> int:
    """The last number that came back to the talker."""
    lines = talk.enclave.site.logs("talker")
    return int(lines[-1].text) if lines else 0


def wait_for_more(talk: Talk, than: int, patience: float = 10) -> float:
    """Wait until more has come back to the talker; how long that took, in seconds."""
    began = time.monotonic()
    while talked(talk) <= than:
        assert time.monotonic() - began < patience, talk.enclave.site.logs("talker")[-3:]
        talk.enclave.site.pause(0.02)
    return time.monotonic() - began


def start_talker(talk: Talk, to: str) -> None:
    """A service that keeps a TCP connection to another."""
    talk.enclave.up("talker", PYTHON, entrypoint=("python3", "-c", TALKER, to), cmd=())
    wait_for_more(talk, 3)


# What is told


def test_nothing_is_between_services_at_first(talk: Talk):
    assert talk.enclave.site.shaped() == {}
    assert talk.round_trip("a", "b") < LATE


def test_what_was_said_last_is_told(talk: Talk):
    site = talk.enclave.site
    said = {("a", "b"): Connection(12.5, Delay(1.5, 0.25, 50.0)), ("b", "a"): BLOCKED}
    site.shape(said, 7)
    assert site.shaped() == said
    site.shape({("b", "a"): BLOCKED, ("a", "b"): ALLOWED}, 7)
    assert site.shaped() == {("b", "a"): BLOCKED}
    site.shape({}, 7)
    assert site.shaped() == {}


def test_a_name_without_an_address_is_told_and_nothing_changes(talk: Talk):
    site = talk.enclave.site
    talk.shape(blocked("a", "b"))
    with pytest.raises(EngineError, match='"nobody"'):
        site.shape({("a", "nobody"): BLOCKED}, 1)
    assert site.shaped() == blocked("a", "b")
    assert talk.came_back("a", "b") == 0


# Delay


def test_a_delay_in_each_direction_makes_a_round_trip_twice_as_long(talk: Talk):
    talk.shape(both_ways(delay(100), "a", "b"))
    assert 200 <= talk.round_trip("a", "b", 30) < 200 + LATE
    talk.shape(both_ways(delay(500), "a", "b"))
    assert 1000 <= talk.round_trip("a", "b", 5) < 1000 + LATE


def test_a_delay_is_of_one_direction(talk: Talk):
    talk.shape({("a", "b"): delay(80)})
    assert 80 <= talk.round_trip("a", "b") < 80 + LATE
    assert 80 <= talk.round_trip("b", "a") < 80 + LATE


def test_packets_of_a_constant_delay_stay_in_order(talk: Talk):
    talk.shape({("a", "b"): delay(30)})
    # While an address is asked for, a kernel keeps only so many packets for it.
    talk.came_back("a", "b")
    came = [number for number, _ in talk.probe("a", "b", 300, 0)]
    assert came == list(range(300))


def test_a_normal_delay_varies_around_its_mean(talk: Talk):
    talk.shape({("a", "b"): Connection(delay=Delay(100, 20))})
    taken = [each for _, each in talk.probe("a", "b", 400, 0.002)]
    assert len(taken) == 400
    mean = sum(taken) / 400
    deviation = (sum((each - mean) ** 2 for each in taken) / 400) ** 0.5
    assert 96 < mean < 100 + LATE
    assert 15 < deviation < 35


def test_a_correlated_delay_varies_slowly(talk: Talk):
    def steps() -> float:
        came = sorted(talk.probe("a", "b", 300, 0.002))
        return sum(abs(one - other) for (_, one), (_, other) in pairwise(came)) / len(came)

    talk.shape({("a", "b"): Connection(delay=Delay(100, 20))})
    free = steps()
    talk.shape({("a", "b"): Connection(delay=Delay(100, 20, 95.0))})
    assert steps() < free / 2


# Loss


def test_losses_in_each_direction_add_up(talk: Talk):
    talk.shape(both_ways(Connection(loss=30), "a", "b"), seed=5)
    lost = 100 - len(talk.probe("a", "b", 2000, 0.0005)) / 20
    assert 48 <= lost <= 54


def test_the_same_seed_loses_the_same_packets(talk: Talk):
    connections = both_ways(Connection(loss=30), "a", "b")

    def arrived(seed: int) -> list[int]:
        talk.shape({})
        talk.shape(connections, seed)
        return sorted(number for number, _ in talk.probe("a", "b", 200, 0.002))

    first = arrived(3)
    assert arrived(3) == first
    assert arrived(4) != first


def test_which_packets_are_lost_is_the_same_on_every_engine(talk: Talk):
    talk.shape({("a", "b"): Connection(50, Delay(5, 2))}, seed=7)
    talk.note("a", "b", "half", 100)
    talk.enclave.site.pause(0.2)
    fates = Fates(7, "a", "b", Figures(50))
    assert sorted(talk.noted("b", "half")) == [number for number in range(100) if fates.next() != LOST]


def test_what_is_said_again_goes_on_and_what_is_new_begins(three: Talk):
    loss = Connection(loss=50)
    three.shape({("a", "b"): loss})
    first = [number for number, _ in three.probe("a", "b", 60, 0.002)]
    three.shape({("a", "b"): loss, ("a", "c"): loss})
    second = [number for number, _ in three.probe("a", "b", 60, 0.002)]
    three.shape({("a", "b"): loss}, seed=2)
    three.shape({("a", "b"): loss}, seed=1)
    assert second != first
    assert [number for number, _ in three.probe("a", "b", 60, 0.002)] == first


# Blocked


def test_nothing_passes_what_is_blocked_and_it_heals_at_once(talk: Talk):
    talk.shape(blocked("a", "b"))
    assert talk.came_back("a", "b") == talk.came_back("b", "a") == 0
    talk.shape({})
    assert talk.came_back("a", "b") == 20


def test_one_direction_is_blocked_alone(talk: Talk):
    talk.shape({("a", "b"): BLOCKED})
    talk.note("a", "b", "blocked")
    talk.note("b", "a", "open")
    assert talk.noted("a", "open") == list(range(20))
    assert talk.noted("b", "blocked") == []


def test_packets_that_are_held_up_do_not_pass_what_is_blocked_meanwhile(talk: Talk):
    talk.shape({("a", "b"): delay(700)})
    talk.note("a", "b", "held")
    talk.shape({("a", "b"): BLOCKED})
    talk.enclave.site.pause(0.9)
    talk.shape({})
    talk.note("a", "b", "later")
    assert talk.noted("b", "later") == list(range(20))
    assert talk.noted("b", "held") == []


def test_services_that_have_never_met_find_each_other_at_once_when_it_heals(enclave: Enclave):
    talk, names = Talk(enclave), ("a", "b", "c", "d", "e", "f")
    talk.up(*names)
    for one, other in zip(names[::2], names[1::2], strict=True):
        talk.shape(both_ways(delay(60_000), one, *(name for name in names if name != one)))
        came: list[tuple] = []
        # What is held up arrives when it heals, and is answered; what is sent then is new.
        probing = threading.Thread(target=lambda: came.extend(talk.probe(one, other, 150, 0.004, 3)))  # noqa: B023
        probing.start()
        enclave.site.pause(0.4)
        began = time.monotonic()
        talk.shape({})
        healed = (time.monotonic() - began) * 1000
        probing.join()
        assert len(came) > 140
        assert max(taken for _, taken in came) < 900 + healed


def test_a_connection_that_was_blocked_goes_on(talk: Talk):
    start_talker(talk, "b")
    for _ in range(2):
        talk.shape(blocked("talker", "b"))
        talk.enclave.site.pause(0.1)
        before = talked(talk)
        talk.enclave.site.pause(0.6)
        assert talked(talk) == before
        talk.shape({})
        assert wait_for_more(talk, before) < 3
    assert talk.enclave.site.exit_of("talker") is None


def test_a_connection_goes_on_when_it_is_delayed_and_when_it_is_not(talk: Talk):
    start_talker(talk, "b")
    talk.shape(both_ways(delay(150), "talker", "b"))
    wait_for_more(talk, talked(talk) + 2)
    talk.shape({})
    wait_for_more(talk, talked(talk) + 10, 2)
    assert talk.enclave.site.exit_of("talker") is None


def test_a_broadcast_reaches_whom_it_may(talk: Talk):
    talk.up("c", "d")
    talk.shape(
        {**blocked("a", "d"), **blocked("b", "d"), **both_ways(delay(50), "a", "c"), **both_ways(delay(50), "b", "c")}
    )
    program = (
        "import socket\n"
        "own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        "for number in range(5): own.sendto(b'note all %d' % number, ('255.255.255.255', 7000))"
    )
    assert talk.enclave.site.exec("a", ["python3", "-c", program], None).code == 0
    talk.enclave.site.pause(0.3)
    assert talk.noted("b", "all") == talk.noted("c", "all") == list(range(5))
    assert talk.noted("d", "all") == []


# What is not touched


def test_what_is_between_others_is_not_touched(three: Talk):
    three.shape({**blocked("a", "c"), **both_ways(delay(300), "b", "c")})
    assert three.round_trip("a", "b") < LATE
    assert three.came_back("a", "b", 200) == 200
    assert three.came_back("a", "c") == 0
    assert three.round_trip("b", "c", 5) >= 600


def test_names_are_answered_and_ports_reached_of_a_service_that_is_cut_off(three: Talk):
    site = three.enclave.site
    three.shape({**blocked("a", "b", "c"), **blocked("b", "c")})
    for name in ("a", "b", "c"):
        endpoint = site.dial(name, ECHO)
        assert ask(endpoint.host, endpoint.port) == b"hello"
        assert site.accepts(name, ECHO)
    found = three.enclave.sh("a", "python3 -c 'import socket; print(socket.gethostbyname(\"c\"))'")
    assert found == site.reserve("c").ip_address
    assert three.came_back("a", "c") == 0


def test_all_pairs_of_several_services_differ(three: Talk):
    three.shape({**both_ways(delay(20), "a", "b"), **both_ways(delay(40), "b", "c"), **both_ways(delay(60), "c", "a")})
    for one, other, wanted in (("a", "b", 40), ("b", "c", 80), ("c", "a", 120)):
        assert wanted <= three.round_trip(one, other) < wanted + LATE


# Services that come, change and go


def test_a_newcomer_is_shaped_from_its_first_packet(enclave: Enclave):
    talk = Talk(enclave)
    talk.up("a")
    enclave.site.reserve("late")
    enclave.site.reserve("cut-off")
    talk.shape({**both_ways(delay(100), "a", "late"), **blocked("a", "cut-off")})
    command = ("python3", "-c", PROBE, "a", "5", "0.01", "5")
    enclave.up("late", PYTHON, entrypoint=command, cmd=())
    enclave.up("cut-off", PYTHON, entrypoint=("python3", "-c", NOTE, "a", "first", "20"), cmd=())
    for name in ("late", "cut-off"):
        exit_ = enclave.site.pause(10, watching=name)
        assert exit_ is not None
        assert exit_.code == 0
    taken = [each for _, each in json.loads(enclave.site.logs("late")[0].text)]
    assert len(taken) == 5
    assert min(taken) >= 200
    assert talk.noted("a", "first") == []


def test_a_service_that_is_started_again_or_replaced_keeps_its_shape(talk: Talk):
    talk.shape(both_ways(delay(50), "a", "b"))
    talk.restart("b")
    assert 100 <= talk.round_trip("a", "b") < 100 + LATE
    talk.up("b")
    assert 100 <= talk.round_trip("a", "b") < 100 + LATE
    talk.enclave.site.act("a", Action.KILL)
    talk.up("a")
    assert 100 <= talk.round_trip("a", "b") < 100 + LATE
    talk.shape({})
    assert talk.round_trip("a", "b") < LATE


def test_a_service_is_removed_and_its_name_can_come_back(talk: Talk):
    talk.shape(blocked("a", "b"))
    talk.enclave.site.act("b", Action.REMOVE)
    talk.up("c")
    assert talk.came_back("a", "c") == 20
    talk.up("b")
    assert talk.came_back("a", "b") == 0
    talk.shape({})
    assert talk.came_back("a", "b") == 20


def test_a_fork_begins_with_the_shape_of_its_origin(talk: Talk, fork: Fork):
    said = both_ways(delay(50), "a", "b")
    talk.shape(said)
    talk.enclave.site.freeze()
    copy = Talk(fork(talk.enclave))
    for name in ("a", "b"):
        copy.enclave.wait_open(name, ECHO)
    assert copy.enclave.site.shaped() == said
    assert 100 <= copy.round_trip("a", "b") < 100 + LATE
    copy.shape({})
    assert copy.round_trip("a", "b") < LATE
    assert talk.enclave.site.shaped() == said


def test_an_enclave_that_is_shaped_can_be_closed(engine: Engine, talk: Talk):
    talk.shape(blocked("a", "b"))
    assert talk.enclave.site.close() == []
    with pytest.raises(EngineError):
        talk.shape({})
