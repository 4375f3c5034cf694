"""What killed processes leave on a Docker engine: removed by a process that waits for that, or by the next run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.reaper import PROGRAM, Reaper
from tests.engine.engine_enclave import enclave_id

SESSION = Path(__file__).with_name("docker_session.py")

GONE = 5.0
"""Seconds after which nothing of a killed process is left."""


@pytest.fixture
def client(docker_host: str) -> Iterator[docker.APIClient]:
    """The engine, seen from outside."""
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


class Session:
    """A process with services, in an enclave of its own."""

    def __init__(self, client: docker.APIClient, endpoint: str, count: int) -> None:
        self.name = enclave_id().name
        self._client = client
        self.process = subprocess.Popen(
            [sys.executable, str(SESSION), endpoint, self.name, str(count)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def says(self, word: str) -> None:
        """Wait until it says that."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def kill(self) -> None:
        """Without any chance to clear up."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def left(self) -> list[str]:
        """What there is of it on the engine."""
        mine = {"label": [f"{labels.ENCLAVE}={self.name}"]}
        return [
            *(f"container {each['Names']}" for each in self._client.containers(all=True, filters=mine)),
            *(f"network {each['Name']}" for each in self._client.networks(filters=mine)),
            *(f"volume {each['Name']}" for each in self._client.volumes(filters=mine)["Volumes"] or []),
        ]

    def await_nothing(self, seconds: float = GONE) -> list[str]:
        """What there is in the end, at most so long from now."""
        deadline = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


def reapers_of(process: int) -> list[int]:
    """The processes that wait for its end."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if PROGRAM in words and any(word.startswith(f"{process} ") for word in words):
                found.append(int(path.parent.name))
    return found


@pytest.fixture
def session(client: docker.APIClient, docker_host: str) -> Iterator[Callable[..., Session]]:
    """Starts such processes; none survives the test."""
    started: list[Session] = []

    def start(count: int = 1) -> Session:
        started.append(Session(client, docker_host, count))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        assert each.await_nothing(30) == []


def test_a_killed_process_leaves_nothing(session: Callable[..., Session]) -> None:
    one, other = session(8), session(1)
    for each in (one, other):
        each.says("open")
        each.says("up")
    assert len(one.left()) == 9
    one.kill()
    assert one.await_nothing() == []
    assert len(other.left()) == 2
    deadline = time.monotonic() + 10
    while reapers_of(one.process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert reapers_of(one.process.pid) == []


@pytest.mark.parametrize("seed", range(10))
def test_a_process_killed_at_any_moment_leaves_nothing(session: Callable[..., Session], seed: int) -> None:
    killed = session(8)
    killed.says("open")
    time.sleep(random.Random(seed).uniform(0, 2.0))
    killed.kill()
    deadline = time.monotonic() + GONE
    time.sleep(0.5)
    assert killed.await_nothing(deadline - time.monotonic()) == []
    # Nor does anything come later that the engine had been asked for.
    time.sleep(0.5)
    assert killed.left() == []


def test_what_nobody_cleared_up_is_removed_by_the_next_run(
    session: Callable[..., Session], docker_host: str, client: docker.APIClient
) -> None:
    living = session(1)
    living.says("open")
    living.says("up")
    # The process that watches over it clears up after others as well, once, at the beginning.
    time.sleep(4)
    killed = session(2)
    killed.says("open")
    killed.says("up")
    for pid in reapers_of(killed.process.pid):
        os.kill(pid, signal.SIGKILL)
    killed.kill()
    time.sleep(1)
    assert len(killed.left()) == 3
    next_run = session(1)
    next_run.says("open")
    assert killed.await_nothing(15) == []
    next_run.says("up")
    assert (len(living.left()), len(next_run.left())) == (2, 2)


@pytest.mark.parametrize("hastens", [True, False])
def test_what_others_left_is_looked_for_at_once_where_an_enclave_is_made(
    monkeypatch: pytest.MonkeyPatch, hastens: bool
) -> None:
    waiting = "select.select([0], [], [], 1.0)"
    assert waiting in PROGRAM
    tells = PROGRAM.replace(waiting, f"sys.exit(3 if {waiting}[0] else 4)")
    monkeypatch.setattr("pytest_enclave.engine.docker.reaper.PROGRAM", tells)
    reaper = Reaper("", os.environ)
    if hastens:
        reaper.hasten()
    assert reaper._process.wait() == (3 if hastens else 4)
    reaper.hasten()
    reaper.dismiss()


def test_an_orderly_end_leaves_no_process(docker_host: str) -> None:
    before = reapers_of(os.getpid())
    engine = DockerEngine(docker_host)
    site = engine.open(enclave_id())
    assert len(reapers_of(os.getpid())) == len(before) + 1
    assert site.close() == []
    assert engine.close() == []
    assert reapers_of(os.getpid()) == before


def owner(**changes: str) -> Owner:
    """This process, but for these changes."""
    here = Owner.this_process()
    return Owner(**{**{name: getattr(here, name) for name in ("pid", "namespace", "boot", "began")}, **changes})


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({}, False),
        ({"began": "1"}, True),
        ({"pid": "4194304"}, True),
        ({"pid": "4194304", "boot": "another"}, False),
        ({"pid": "4194304", "namespace": "pid:[1]"}, False),
        ({"pid": "4194304", "boot": ""}, False),
        ({"pid": "4194304", "began": ""}, False),
        ({"pid": "not a number"}, False),
    ],
)
def test_only_of_processes_that_can_be_seen_from_here_it_is_known_that_they_are_gone(
    changes: dict[str, str], gone: bool
) -> None:
    assert owner(**changes).is_gone() is gone


def test_a_dead_process_that_nobody_has_waited_for_is_gone() -> None:
    child = subprocess.Popen(["sleep", "60"])
    began = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert not owner(pid=str(child.pid), began=began).is_gone()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner(pid=str(child.pid), began=began).is_gone()
    child.wait()


def test_a_process_that_cannot_be_seen_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr("pytest_enclave.engine.docker.owners._fields", lambda pid: [])
    assert not owner(pid=str(child.pid), began="17").is_gone()
    child.kill()
    child.wait()
    assert owner(pid=str(child.pid), began="17").is_gone()


def test_without_proc_nobody_reaps(docker_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Owner(str(os.getpid()), "", "", "")
    monkeypatch.setattr(Owner, "this_process", lambda: here)
    engine = DockerEngine(docker_host)
    before = reapers_of(os.getpid())
    site = engine.open(enclave_id())
    assert reapers_of(os.getpid()) == before
    assert [*site.close(), *engine.close()] == []


def test_labels_tell_the_owner() -> None:
    here = Owner.this_process()
    assert Owner.of(here.marks) == here
    assert Owner.of({"team": "shop"}) == Owner("", "", "", "")
    assert not Owner.of({}).is_gone()
