"""What the embedded engine has between services: bridges, and a process that is there only as long as it is needed."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import Action, EnclaveId
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.connections import BLOCKED, Connection, Delay
from tests.engine.enclave_processes import Processes, children, lives
from tests.engine.engine_enclave import FOREVER, PYTHON, Enclave, enclave_id
from tests.engine.shaped_services import LATE, Talk, blocked, both_ways, delay

LOST = r"the process that shapes connections was killed by signal 9; until now, packets between services did not pass"


@pytest.fixture
def talk(own_engine: EmbeddedEngine) -> Iterator[Talk]:
    """Two services that answer each other."""
    id_ = enclave_id()
    talk = Talk(Enclave(own_engine.open(id_), id_))
    talk.up("a", "b")
    yield talk
    assert talk.enclave.site.close() == []


def shapers(engine: EmbeddedEngine) -> list[int]:
    """What init has forked, but for its parts and services: those have become another program."""
    init = Processes(engine).init
    own = Path(f"/proc/{init}/cmdline").read_bytes()
    return [each for each in children(init)[3:] if Path(f"/proc/{each}/cmdline").read_bytes() == own]


def gone(process: int) -> bool:
    """Whether a process has ended, or does so soon."""
    for _ in range(200):
        if not lives(process):
            return True
        time.sleep(0.01)
    return False


def wait_until_lost(talk: Talk) -> EngineError:
    """The error that tells that the shaper has ended."""
    for _ in range(200):
        try:
            talk.enclave.site.shaped()
        except EngineError as error:
            return error
        time.sleep(0.01)
    raise AssertionError("nobody noticed")


# The shaper


def test_there_is_a_shaper_only_while_anything_is_between_services(own_engine: EmbeddedEngine, talk: Talk):
    assert shapers(own_engine) == []
    for _ in range(2):
        talk.shape(both_ways(delay(10), "a", "b"))
        (process,) = shapers(own_engine)
        talk.shape(blocked("a", "b"))
        assert shapers(own_engine) == [process]
        talk.shape({})
        assert gone(process)


def test_a_shaper_has_nothing_of_services_open(own_engine: EmbeddedEngine, talk: Talk):
    talk.shape(blocked("a", "b"))
    (process,) = shapers(own_engine)
    if not os.access(f"/proc/{process}/fd", os.R_OK):
        pytest.skip("this user may not look into it")
    links = [os.readlink(f"/proc/{process}/fd/{each}") for each in os.listdir(f"/proc/{process}/fd")]
    assert [each for each in links if each.startswith(("net:", "mnt:", "pid:")) or "log" in each] == []


def test_a_shaper_that_died_is_told_and_the_next_one_works(own_engine: EmbeddedEngine, talk: Talk):
    said = both_ways(delay(10), "a", "b")
    talk.shape(said)
    os.kill(shapers(own_engine)[0], signal.SIGKILL)
    assert (
        str(wait_until_lost(talk)) == f"connections of enclave {talk.enclave.id.name} are not shaped any more: {LOST}"
    )
    assert talk.enclave.site.shaped() == {}
    # Nobody has answered for addresses; it is a second until they are asked for again.
    assert talk.came_back("a", "b", 20, 3) == 20
    talk.shape(said)
    assert 20 <= talk.round_trip("a", "b") < 20 + LATE


def test_a_shaper_that_was_killed_is_noticed_by_the_very_next_look(own_engine: EmbeddedEngine, talk: Talk):
    for _ in range(5):
        talk.shape(blocked("a", "b"))
        process = os.pidfd_open(shapers(own_engine)[0])
        talk.enclave.site.observe()
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
        os.close(process)
        talk.enclave.site.observe()
        with pytest.raises(EngineError, match="are not shaped any more"):
            talk.enclave.site.shaped()


def test_a_delay_that_nobody_lives_to_see_the_end_of_holds_packets_up(own_engine: EmbeddedEngine, talk: Talk):
    # So they know each other's addresses.
    assert talk.came_back("a", "b") == 20
    talk.shape({("a", "b"): Connection(delay=Delay(1e13))})
    assert talk.came_back("a", "b", 5, 0.2) == 0
    assert len(shapers(own_engine)) == 1
    talk.shape({})
    assert talk.came_back("a", "b") == 20


def test_a_shaper_that_is_killed_right_before_it_is_needed_is_told_as_well(own_engine: EmbeddedEngine, talk: Talk):
    talk.shape(blocked("a", "b"))
    process = shapers(own_engine)[0]
    init = Processes(own_engine).init
    os.kill(init, signal.SIGSTOP)
    os.kill(process, signal.SIGKILL)
    asked: list[Exception] = []

    def ask() -> None:
        try:
            talk.shape({})
        except EngineError as error:
            asked.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.1)
    os.kill(init, signal.SIGCONT)
    thread.join(10)
    assert "the process that shapes connections" in str(asked[0])
    assert talk.enclave.site.shaped() == {}
    assert talk.came_back("a", "b") == 20


def test_a_shaper_that_does_not_answer_is_told(own_engine: EmbeddedEngine, talk: Talk):
    talk.shape(blocked("a", "b"))
    (stopped,) = shapers(own_engine)
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(EngineError, match="the process that shapes connections does not answer, since 10 s"):
        talk.shape(both_ways(delay(10), "a", "b"))
    assert talk.enclave.site.shaped() == {}
    assert gone(stopped)
    talk.shape(blocked("a", "b"))
    assert talk.came_back("a", "b", 5, 0.2) == 0


def test_a_shaper_ends_with_its_enclave(own_engine: EmbeddedEngine, talk: Talk):
    talk.shape(both_ways(delay(1000), "a", "b"))
    (process,) = shapers(own_engine)
    assert talk.enclave.site.close() == []
    assert gone(process)


# Addresses


def test_addresses_are_found_at_once_whatever_is_between(talk: Talk):
    talk.shape({("a", "b"): Connection(90, Delay(400)), ("b", "a"): delay(200)})
    talk.note("a", "b", "first", 100)
    talk.enclave.site.pause(0.6)
    # Of the first packets one waits for the address; none is lost for it.
    assert 2 <= len(talk.noted("b", "first")) <= 25


def test_the_address_of_a_blocked_service_is_known(talk: Talk):
    talk.shape(blocked("a", "b"))
    assert talk.came_back("a", "b", 3, 0.1) == 0
    ip = talk.enclave.site.reserve("b").ip_address
    mac = ":".join(f"{each:02x}" for each in (2, 66, *map(int, ip.split("."))))
    assert mac in talk.enclave.sh("a", f"grep '^{ip} ' /proc/net/arp")


def test_a_service_that_does_not_run_is_not_there_for_others(talk: Talk):
    talk.shape(both_ways(delay(1), "a", "b"))
    talk.enclave.site.act("b", Action.STOP)
    talk.enclave.site.pause(0.3)
    program = (
        "import socket\ntry: socket.create_connection(('b', 7000), 10)\nexcept OSError as error: print(error.strerror)"
    )
    result = talk.enclave.site.exec("a", ["python3", "-c", program], None)
    assert result.output in ("No route to host\n", "Connection refused\n")


# What passes


SEND = """
import socket, sys
data = b"".join(number.to_bytes(4, "big") for number in range(2_000_000))
with socket.create_connection((sys.argv[1], 7000)) as own:
    own.sendall(data)
"""

COUNT = """
import hashlib, socket
connection, _ = socket.create_server(("", 7000)).accept()
found = hashlib.sha256()
while data := connection.recv(1 << 16):
    found.update(data)
print(found.hexdigest(), flush=True)
"""


def test_a_stream_is_whole_over_a_connection_that_loses_and_mixes_up(talk: Talk):
    enclave = talk.enclave
    enclave.up("to", PYTHON, entrypoint=("python3", "-c", COUNT), cmd=())
    talk.shape(both_ways(Connection(0.5, Delay(3, 1)), "a", "to"))
    result = enclave.site.exec("a", ["python3", "-c", SEND, "to"], None)
    assert result.code == 0, result
    enclave.site.pause(30, watching="to")
    data = b"".join(number.to_bytes(4, "big") for number in range(2_000_000))
    assert [line.text for line in enclave.site.logs("to")] == [hashlib.sha256(data).hexdigest()]


def test_a_burst_over_a_long_way_loses_nothing(talk: Talk):
    talk.shape(both_ways(delay(200), "a", "b"))
    talk.came_back("a", "b", 1)
    assert len(talk.probe("a", "b", 400, 0, 3)) == 400


# Many


def test_fifty_services_are_all_apart(talk: Talk):
    names = [f"s{number}" for number in range(50)]
    enclave = talk.enclave
    assert not any(enclave.start(*(enclave.spec(name) for name in names)).values())
    apart = {(one, other): delay(10) for one in names for other in names if one != other}
    began = time.monotonic()
    talk.shape(apart)
    assert time.monotonic() - began < 3
    assert enclave.site.shaped() == apart
    assert "0% packet loss" in enclave.sh("s7", "ping -c 3 -i 0.1 s42")
    talk.shape({})
    assert "0% packet loss" in enclave.sh("s7", "ping -c 3 -i 0.1 s42")


def test_what_starts_while_connections_are_said_is_shaped_as_the_rest(talk: Talk):
    names = [f"s{number}" for number in range(6)]
    enclave = talk.enclave
    specs = [enclave.spec(name) for name in names]
    threads = [threading.Thread(target=enclave.start, args=(spec,)) for spec in specs]
    for number, thread in enumerate(threads):
        thread.start()
        talk.shape(blocked("a", *names) if number % 2 else blocked("b", *names))
    for thread in threads:
        thread.join()
    assert enclave.site.shaped() == blocked("a", *names)
    for name in names:
        script = "ping -c 1 -W 1 a > /dev/null; echo $?; ping -c 1 -W 1 b > /dev/null; echo $?"
        assert enclave.sh(name, script).split() == ["1", "0"]


# Several processes


def test_whoever_shares_an_enclave_knows_and_changes_its_shape(own_engine: EmbeddedEngine, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    id_ = EnclaveId(enclave_id().name, str(home), os.getpid())
    site = own_engine.open(id_)
    for name in ("a", "b"):
        site.reserve(name)
    site.shape({("a", "b"): BLOCKED}, 1)
    other = EmbeddedEngine()
    attached = other.attach(id_)
    try:
        assert attached.shaped() == {("a", "b"): BLOCKED}
        attached.shape({("b", "a"): delay(5)}, 2)
        site.observe()
        assert site.shaped() == {("b", "a"): delay(5)}
        attached.leave()
        site.observe()
        assert site.shaped() == {("b", "a"): delay(5)}
        site.shape({}, 1)
        assert site.shaped() == {}
    finally:
        attached.leave()
        assert site.close() == []
        assert other.close() == []


def test_nothing_is_asked_for_to_know_that_nothing_is_shaped(talk: Talk, monkeypatch: pytest.MonkeyPatch):
    site = talk.enclave.site
    monkeypatch.setattr(site._client, "submit", lambda *_: pytest.fail("it was asked"))
    assert site.shaped() == {}
    monkeypatch.undo()


def test_a_fork_has_its_origins_shape_as_it_was_frozen(talk: Talk, own_engine: EmbeddedEngine):
    enclave = talk.enclave
    enclave.up("sleeper", cmd=FOREVER)
    talk.shape(blocked("a", "b"))
    enclave.site.freeze()
    talk.shape({})
    fork = enclave.fork()
    try:
        copy = Talk(fork)
        assert fork.site.shaped() == blocked("a", "b")
        assert copy.came_back("a", "b", 5, 0.2) == 0
        assert talk.came_back("a", "b") == 20
    finally:
        assert fork.site.close() == []
