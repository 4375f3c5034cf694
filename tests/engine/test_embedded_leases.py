"""Several processes share an enclave: it is there as long as one of them is, and what each sees and does in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine, run_directory
from pytest_enclave.engine.embedded.site import EmbeddedSite
from pytest_enclave.engine.protocol import Action, EnclaveId, NotReached
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.service import PortSpec
from tests.engine.engine_enclave import NGINX, Enclave, enclave_id
from tests.engine.lease_processes import GONE, Holder, assert_gone, assert_stays, directory


@pytest.fixture
def holder() -> Iterator[Callable[[str, EnclaveId], Holder]]:
    """Starts further processes."""
    started: list[Holder] = []

    def start(how: str, id_: EnclaveId) -> Holder:
        started.append(Holder(how, id_))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    """The embedded engine alone."""
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


@pytest.fixture
def joined(engine: EmbeddedEngine) -> Iterator[Callable[[EnclaveId], EmbeddedSite]]:
    """Joins enclaves, and leaves them in the end."""
    sites: list[EmbeddedSite] = []

    def join(id_: EnclaveId) -> EmbeddedSite:
        sites.append(engine.attach(id_))
        return sites[-1]

    yield join
    for site in sites:
        site.leave()


def reaches(host: str, port: str) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionError:
        return False
    return True


def wait_until(so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + GONE
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_see_the_same_services_and_share_ways_to_them(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    enclave.up("web", NGINX, ports={"http": PortSpec(80)})
    other = holder("attach", enclave.id)
    assert set(enclave.site.observe()) == set(other.ask("see").split()) == {"web", other.service}
    assert enclave.sh(other.service, "hostname") == other.service
    endpoint = enclave.site.dial("web", PortSpec(80))
    assert other.ask("dial web") == f"{endpoint.host} {endpoint.port}"
    enclave.site.act(other.service, Action.KILL)
    assert enclave.site.exit_of(other.service) is not None


def test_whoever_dials_first_makes_the_way_for_all_who_use_it(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    enclave.up("web", NGINX, ports={"http": PortSpec(80)})
    first, second = holder("attach", enclave.id), holder("attach", enclave.id)
    there = first.ask("dial web")
    assert second.ask("dial web") == there
    first.kill()
    time.sleep(0.1)
    enclave.wait_open("web", PortSpec(80))
    host, port = there.split()
    assert reaches(host, port)
    second.kill()
    wait_until(lambda: not reaches(host, port))


def test_a_public_port_outlives_whoever_has_published_it(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
    unused_port: int,
):
    enclave = open_enclave(engine)
    publisher = holder("attach", enclave.id)
    assert publisher.ask(f"publish web {unused_port}") == "None"
    endpoint = enclave.site.dial("web", PortSpec(80))
    assert (endpoint.host, endpoint.port) == ("127.0.0.1", unused_port)
    other = holder("attach", enclave.id)
    assert other.ask("dial web") == f"127.0.0.1 {unused_port}"
    publisher.kill()
    other.kill()
    enclave.wait_open("web", PortSpec(80))
    time.sleep(0.1)
    assert reaches("127.0.0.1", str(unused_port))
    enclave.site.act("web", Action.REMOVE)
    wait_until(lambda: not reaches("127.0.0.1", str(unused_port)))


def test_a_public_port_takes_the_place_of_a_way_that_another_process_has_made(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
    unused_port: int,
):
    enclave = open_enclave(engine)
    enclave.up("web", NGINX, ports={"http": PortSpec(80)})
    assert enclave.site.dial("web", PortSpec(80)).port != unused_port
    other = holder("attach", enclave.id)
    assert other.ask(f"publish web {unused_port}") == "None"
    enclave.site.refresh()
    assert enclave.site.dial("web", PortSpec(80)).port == unused_port
    assert other.ask("dial web") == f"127.0.0.1 {unused_port}"
    # And back: what was public is so no more, in no process.
    enclave.up("web", NGINX, ports={"http": PortSpec(80)})
    endpoint = enclave.site.dial("web", PortSpec(80))
    assert endpoint.port != unused_port
    assert other.ask("refresh") == "None"
    assert other.ask("dial web") == f"{endpoint.host} {endpoint.port}"
    wait_until(lambda: not reaches("127.0.0.1", str(unused_port)))


def test_what_others_do_to_services_is_known_without_being_asked_for(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    other = holder("attach", enclave.id)
    enclave.up("a", "host:/")
    enclave.sh("a", "echo first >/tmp/which")
    assert other.ask("refresh") == "None"
    assert other.ask("run a cat /tmp/which") == "first"
    enclave.site.act("a", Action.STOP)
    other.ask("refresh")
    assert other.ask("exit a") != "None"
    enclave.up("a", "host:/")
    enclave.sh("a", "echo second >/tmp/which")
    other.ask("refresh")
    assert other.ask("exit a") == "None"
    assert other.ask("run a cat /tmp/which") == "second"
    assert other.ask("remove a") == "None"
    enclave.site.refresh()
    with pytest.raises(NotReached, match="there is no such service"):
        enclave.site.exec("a", ["true"], None)


def test_forks_begin_with_what_another_process_has_frozen(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    other = holder("attach", enclave.id)
    enclave.up("a", "host:/")
    with pytest.raises(EngineError, match=f"^enclave {enclave.id.name} has not been frozen$"):
        enclave.fork()
    enclave.sh("a", "echo 1 >/tmp/frozen")
    assert other.ask("freeze") == "None"
    enclave.sh("a", "echo 2 >/tmp/frozen")
    copy = enclave.fork()
    assert copy.sh("a", "cat /tmp/frozen") == "1"
    assert copy.site.close() == []
    assert other.ask("freeze") == "None"
    enclave.site.refresh()
    copy = enclave.fork()
    assert copy.sh("a", "cat /tmp/frozen") == "2"
    assert copy.site.close() == []


def test_what_another_process_has_just_started_can_be_used_at_once(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    other = holder("attach", enclave.id)
    for number in range(10):
        # It gets the news of the service and its order at one time.
        other.process.send_signal(signal.SIGSTOP)
        enclave.up(f"s{number}", "host:/")
        other.send(f"run s{number} hostname")
        other.process.send_signal(signal.SIGCONT)
        assert other.read() == f"s{number}"


def test_commands_end_with_the_process_that_runs_them(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    other = holder("attach", enclave.id)
    enclave.up("a", "host:/")
    other.send("run a sleep 4321")
    wait_until(lambda: "sleep 4321" in enclave.sh("a", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    other.kill()
    wait_until(lambda: "sleep 4321" not in enclave.sh("a", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))


def test_the_same_process_may_have_several(engine: EmbeddedEngine, joined: Callable[[EnclaveId], EmbeddedSite]):
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    second = joined(id_)
    enclave.up("a")
    assert list(second.observe()) == ["a"]
    assert isinstance(enclave.site, EmbeddedSite)
    enclave.site.leave()
    enclave.site.leave()
    assert Enclave(second, id_).sh("a", "hostname") == "a"
    second.leave()
    # It lives for this process.
    assert_stays(id_)
    assert Enclave(joined(id_), id_).sh("a", "hostname") == "a"
    assert engine.remove(id_) == []
    assert_gone(id_)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_enclave_goes_on_without_the_process_that_made_it(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    joined: Callable[[EnclaveId], EmbeddedSite],
    number: int,
):
    id_ = enclave_id()
    opener = holder("open", id_)
    site = joined(id_)
    opener.process.send_signal(number)
    opener.process.wait()
    time.sleep(0.2)
    assert Enclave(site, id_).sh(opener.service, "hostname") == opener.service
    third = holder("attach", id_)
    assert third.ask("see").split() == sorted([opener.service, third.service])
    site.leave()
    assert third.ask("see").split() == sorted([opener.service, third.service])
    third.kill()
    assert_gone(id_)


def test_whoever_closes_ends_it_for_all(
    engine: EmbeddedEngine,
    holder: Callable[[str, EnclaveId], Holder],
    open_enclave: Callable[[EmbeddedEngine], Enclave],
):
    enclave = open_enclave(engine)
    enclave.up("a")
    closing, waiting = holder("attach", enclave.id), holder("attach", enclave.id)
    waiting.send("wait")
    time.sleep(0.1)
    assert closing.ask("close") == "[]"
    assert waiting.read().startswith(f"enclave {enclave.id.name} has ended: ")
    assert_gone(enclave.id)
    for attempt in (
        lambda: enclave.site.observe(),
        lambda: enclave.site.exec("a", ["true"], None),
        lambda: enclave.site.pause(10),
        lambda: enclave.site.reserve("b"),
        lambda: enclave.site.logs("a"),
    ):
        with pytest.raises(EngineError, match=f"^enclave {enclave.id.name} has ended: another process has removed it$"):
            attempt()


def test_what_has_ended_cannot_be_joined(engine: EmbeddedEngine):
    id_ = enclave_id()
    with pytest.raises(EngineError, match=f"there is no enclave {id_.name} any more"):
        engine.attach(id_)


def test_nobody_else_can_join(engine: EmbeddedEngine, open_enclave: Callable[[EmbeddedEngine], Enclave]):
    enclave = open_enclave(engine)
    for path in (directory(enclave.id), directory(enclave.id).parent):
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_uid == os.getuid()


def test_what_another_user_has_put_there_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "pytest-enclave").mkdir(mode=0o755)
    (tmp_path / "pytest-enclave").chmod(0o755)
    engine = EmbeddedEngine({**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    with pytest.raises(EngineError, match="is not a directory of ours alone: remove it"):
        engine.open(enclave_id())
    engine.close()


def test_a_long_way_to_the_directory_does_no_harm(tmp_path: Path):
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    engine = EmbeddedEngine({**os.environ, "XDG_RUNTIME_DIR": str(deep)})
    id_ = enclave_id()
    site = engine.open(id_)
    second = engine.attach(id_)
    second.leave()
    assert site.close() == []
    assert list(deep.iterdir()) == []
    engine.close()


def test_a_client_that_does_not_listen_does_not_hold_up_the_others(
    engine: EmbeddedEngine, holder: Callable[[str, EnclaveId], Holder]
):
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    enclave.up("a")
    other = holder("attach", id_)
    other.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for _ in range(1500):
        enclave.site.act("a", Action.PAUSE)
        enclave.site.act("a", Action.RESUME)
    assert time.monotonic() - began < 30
    other.process.send_signal(signal.SIGCONT)
    assert enclave.site.close() == []


def test_a_name_that_is_taken_is_refused_and_the_other_enclave_goes_on(engine: EmbeddedEngine):
    site = engine.open(id_ := enclave_id())
    with pytest.raises(EngineError, match="File exists"):
        engine.open(id_)
    joined = engine.attach(id_)
    assert joined.observe() == {}
    joined.leave()
    assert site.close() == []


def test_a_directory_of_somebody_elses_is_neither_used_nor_touched(tmp_path: Path):
    treasure = tmp_path / "elsewhere" / "treasure"
    treasure.mkdir(parents=True)
    os.utime(treasure, (0, 0))
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    (runtime / "pytest-enclave").symlink_to(treasure.parent)
    engine = EmbeddedEngine({"XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)})
    with pytest.raises(EngineError, match="not a directory of ours alone"):
        engine.open(enclave_id())
    assert engine.close() == []
    assert treasure.is_dir()


def test_an_answer_never_reaches_another_client(engine: EmbeddedEngine):
    site = engine.open(id_ := enclave_id())
    Enclave(site, id_).up("asked")
    for _ in range(5):
        leaving = engine.attach(id_)
        leaving._client.submit({"do": "exec", "name": "asked", "argv": ["sh", "-c", "sleep .1; exit 7"]}, [2])
        leaving.leave()
        joined = engine.attach(id_)
        assert joined.exec("asked", ["sh", "-c", "sleep .2; exit 3"], None).code == 3
        joined.leave()
    assert site.close() == []


def test_what_was_killed_together_with_all_who_would_remove_it_goes_with_the_next_enclave(engine: EmbeddedEngine):
    enclaves = run_directory(os.environ)
    abandoned, quite_new = enclaves / "abandoned", enclaves / "quite-new"
    site = engine.open(enclave_id())
    for place in (abandoned, quite_new):
        place.mkdir(mode=0o700)
        # A socket that nobody listens on any more.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place / "socket"))
    os.utime(abandoned, (0, 0))
    try:
        assert site.close() == []
        assert not abandoned.exists()
        assert quite_new.exists()
    finally:
        shutil.rmtree(quite_new)
