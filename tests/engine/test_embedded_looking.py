"""Whoever has a lease knows what has become of services without asking, and asks where something may have happened."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.client import Client
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.embedded.inside.ends import Ends
from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import EngineError
from pytest_enclave.images.store import FROM_DAEMON, ImageStore
from pytest_enclave.linux.identity import own_map
from pytest_enclave.plan.facts import Status
from tests.engine.engine_enclave import Enclave
from tests.images_room.builder import Built, docker_archive, entry, tar


@pytest.fixture
def enclave(own_engine: EmbeddedEngine, open_enclave: Callable[[EmbeddedEngine], Enclave]) -> Enclave:
    """An enclave with two services."""
    enclave = open_enclave(own_engine)
    enclave.up("a", "host:/")
    enclave.up("b", "host:/")
    return enclave


@pytest.fixture
def asked(enclave: Enclave, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What init is asked from now on."""
    done: list[str] = []
    original = Client.ask

    def ask(client: Client, request: dict[str, object], *descriptors: object) -> dict[str, object]:
        done.append(str(request["do"]))
        return original(client, request, *descriptors)

    monkeypatch.setattr(Client, "ask", ask)
    return done


def statuses(enclave: Enclave) -> dict[str, Status]:
    return {name: fact.status for name, fact in enclave.site.observe().items()}


def test_nothing_is_asked_while_nothing_happens(enclave: Enclave, asked: list[str]) -> None:
    told = enclave.site.observe()
    assert {name: fact.status for name, fact in told.items()} == {"a": Status.RUNNING, "b": Status.RUNNING}
    assert told["a"].ip_address != told["b"].ip_address
    assert all(enclave.site.observe() == told for _ in range(20))
    assert asked == []


@pytest.mark.parametrize("attempt", range(5))
def test_a_service_that_has_ended_is_seen_at_once(enclave: Enclave, attempt: int) -> None:
    enclave.up("a", "host:/", entrypoint=["sleep", f"10000{os.getpid()}"])
    assert statuses(enclave)["a"] is Status.RUNNING
    process = os.pidfd_open(_sleeper(f"10000{os.getpid()}"))
    signal.pidfd_send_signal(process, signal.SIGKILL)
    select.select([process], [], [])
    os.close(process)
    assert statuses(enclave) == {"a": Status.EXITED, "b": Status.RUNNING}


def _sleeper(seconds: str) -> int:
    """The process that sleeps for so long."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == f"sleep\0{seconds}\0".encode():
                return int(path.parent.name)
    raise AssertionError("nobody sleeps")


def test_what_another_lease_does_is_seen_at_once(
    own_engine: EmbeddedEngine, enclave: Enclave, asked: list[str]
) -> None:
    other = own_engine.attach(enclave.id)
    try:
        for action, status in ((Action.PAUSE, Status.PAUSED), (Action.RESUME, Status.RUNNING)) * 10:
            other.act("b", action)
            assert statuses(enclave)["b"] is status
        other.act("b", Action.REMOVE)
        assert list(statuses(enclave)) == ["a"]
    finally:
        other.leave()


def test_one_that_comes_later_knows_them_all(own_engine: EmbeddedEngine, enclave: Enclave) -> None:
    enclave.site.act("b", Action.STOP)
    other = own_engine.attach(enclave.id)
    try:
        assert {name: fact.status for name, fact in other.observe().items()} == {
            "a": Status.RUNNING,
            "b": Status.STOPPED,
        }
    finally:
        other.leave()


def test_an_enclave_that_has_ended_is_no_quiet_one(own_engine: EmbeddedEngine, enclave: Enclave) -> None:
    other = own_engine.attach(enclave.id)
    try:
        assert list(other.observe()) == ["a", "b"]
        assert enclave.site.close() == []
        with pytest.raises(EngineError, match="has ended"):
            other.observe()
    finally:
        other.leave()


def test_a_local_docker_is_looked_for_only_where_it_may_know_better(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images", own_map())
    for name in ("shop", "from-docker"):
        store.load(docker_archive(tmp_path / "a.tar", {name: Built([tar(entry("f"))], {})}), name)
    digest = store.find("shop").digest
    looked: list[str] = []
    engine = EmbeddedEngine(store=tmp_path / "images", docker_endpoint=lambda: looked.append("looked"))
    for _ in range(2):
        assert engine.local_images(["host:/", "shop"]) == {"host:/": "host:/", "shop": digest}
    assert not looked
    store.name("from-docker", digest, FROM_DAEMON + digest)
    for _ in range(2):
        assert engine.local_images(["shop", "from-docker"]) == {"shop": digest, "from-docker": digest}
    assert engine.local_images(["missing"]) == {"missing": None}
    assert looked == ["looked"]
    assert engine.close() == []
    store.clear()


def test_what_fetches_images_is_not_imported_where_they_are_there(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images", own_map())
    store.load(docker_archive(tmp_path / "a.tar", {"shop": Built([tar(entry("f"))], {})}), "shop")
    script = (
        "import sys; from pathlib import Path; from pytest_enclave.engine.embedded.engine import EmbeddedEngine\n"
        "assert EmbeddedEngine(store=Path(sys.argv[1])).local_images(['shop'])['shop']\n"
        "print(*sorted(name for name in sys.modules if name.startswith('pytest_enclave.images.')))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "images")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {name.rpartition(".")[2] for name in done.stdout.split()} == {
        *("store", "image", "layers", "references", "faults")
    }
    store.clear()


# the parts


def is_readable(descriptor: int) -> bool:
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(0))


@pytest.fixture
def process() -> int:
    """A child that waits to be killed."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def test_an_end_is_told_by_the_kernel_until_it_is_noted(process: int) -> None:
    ends = Ends()
    ends.await_end(process)
    assert not is_readable(ends.fileno())
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert is_readable(ends.fileno()), "before anybody has waited for it"
    os.waitpid(process, 0)
    assert is_readable(ends.fileno())
    # A child that has a copy of all descriptors changes nothing.
    child = os.fork()
    if child == 0:
        signal.pause()
    ends.noted(process)
    assert not is_readable(ends.fileno())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_where_a_process_cannot_be_watched_there_is_always_something_to_ask(
    process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    ends = Ends()
    for pid in (1, 2):
        ends.await_end(pid)
        ends.noted(pid)
    assert is_readable(ends.fileno())


def test_where_there_is_no_room_for_another_watch_there_is_something_to_ask(
    process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoll = select.epoll

    class Full:
        """A set of descriptors that has room for one."""

        def __init__(self) -> None:
            self._poll = epoll()
            self._room = 1

        def register(self, descriptor: int, events: int) -> None:
            if not self._room:
                raise OSError(28, "No space left on device")
            self._room -= 1
            self._poll.register(descriptor, events)

        def fileno(self) -> int:
            return self._poll.fileno()

    monkeypatch.setattr(select, "epoll", Full)
    ends = Ends()
    assert not is_readable(ends.fileno())
    ends.await_end(process)
    assert is_readable(ends.fileno())
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    ends.noted(process)
    assert is_readable(ends.fileno())


class Quiet:
    """The other end of a client's connection, which answers nothing."""

    def __init__(self, ends: int | None) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(theirs)
        self.tell("running")
        self.channel.send({"event": "ready"}, [] if ends is None else [ends])
        self.client = Client(ours, "e1")
        self.client.wait_ready(5)

    def tell(self, status: str) -> None:
        self.channel.send({"event": "state", "service": "a", "status": status})

    def known(self) -> str | None:
        states = self.client.states()
        return None if states is None else states["a"]["status"]

    def close(self) -> None:
        self.client.close()
        self.channel.close()


@pytest.fixture
def quiet() -> Iterator[Callable[[int | None], Quiet]]:
    made: list[Quiet] = []

    def make(ends: int | None) -> Quiet:
        made.append(Quiet(ends))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_nothing_is_known_without_asking_where_no_ends_are_told(quiet: Callable[[int | None], Quiet]) -> None:
    assert quiet(None).known() is None


def test_an_end_that_is_told_between_two_looks_is_found(
    quiet: Callable[[int | None], Quiet], process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init tells, then takes note: who looks at what the kernel knows, then at what was told, misses nothing."""
    ends = Ends()
    ends.await_end(process)
    told = quiet(ends.fileno())
    poll = select.poll

    class Slow:
        """Looks at one descriptor after the other, while init does its work in between."""

        def __init__(self) -> None:
            self._looks = (poll(), poll())
            self._next = 0

        def register(self, descriptor: int, events: int) -> None:
            self._looks[self._next].register(descriptor, events)
            self._next += 1

        def poll(self, timeout: int) -> object:
            first, second = self._looks
            seen = first.poll(timeout)
            told.tell("exited")
            ends.noted(process)
            return seen or second.poll(timeout)

    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    monkeypatch.setattr(select, "poll", Slow)
    assert told.known() in (None, "exited")


def test_what_was_told_but_not_heard_yet_is_never_overlooked(quiet: Callable[[int | None], Quiet]) -> None:
    told = quiet(Ends().fileno())
    held = threading.Event()
    original = told.client._hear

    def slowly(message: dict[str, object], descriptors: list[int]) -> None:
        held.wait(0.05)
        original(message, descriptors)  # type: ignore[arg-type]

    told.client._hear = slowly  # type: ignore[method-assign]
    for status in ("paused", "running", "exited"):
        told.tell(status)
        assert told.known() in (None, status)
    told.client.close()
    assert told.known() is None
