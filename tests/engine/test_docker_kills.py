"""Processes that are killed while they use a Docker engine, at any moment, with enclaves that are in a ledger."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.reaper import PROGRAM
from pytest_enclave.engine.docker.scratch import make_scratch, sweep_scratch
from pytest_enclave.engine.protocol import EnclaveId
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.ledger.locks import is_locked
from tests.engine.engine_enclave import Enclave, enclave_id

SESSION = Path(__file__).with_name("docker_session.py")

KILLS = 100
SERVICES = 8
LONGEST_LIFE = 1.5
"""Seconds after its network was asked for that a process is killed at the latest: then all its services are up."""

GONE = 5.0
"""Seconds after which nothing of a killed process is left."""


@dataclass
class World:
    """A ledger of its own, and what there is on the engine and on the machine of the enclaves in it."""

    client: docker.APIClient
    endpoint: str
    state: Path
    names: list[str] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return Ledger.of({"XDG_STATE_HOME": str(self.state)})

    def start(self, count: int, *arguments: str) -> tuple[str, subprocess.Popen[str]]:
        """Start a process with an enclave that has so many services; the enclave's name."""
        name = enclave_id().name
        self.names.append(name)
        process = subprocess.Popen(
            [sys.executable, str(SESSION), self.endpoint, name, str(count), "--ledger", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "XDG_STATE_HOME": str(self.state), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return name, process

    def left(self, name: str) -> list[str]:
        """What there is of an enclave."""
        mine = {"label": [f"{labels.ENCLAVE}={name}"]}
        return [
            *(f"container {each['Names']} {each['State']}" for each in self.client.containers(all=True, filters=mine)),
            *(f"network {each['Name']}" for each in self.client.networks(filters=mine)),
            *(f"volume {each['Name']}" for each in self.client.volumes(filters=mine)["Volumes"] or []),
            *(["home"] if self.ledger.path(name).exists() else []),
        ]

    def await_nothing(self, name: str, seconds: float) -> list[str]:
        """What there is of an enclave in the end, at most so long from now."""
        deadline = time.monotonic() + seconds
        while (left := self.left(name)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def says(process: subprocess.Popen[str], word: str) -> None:
    """Wait until it says that."""
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def kill(process: subprocess.Popen[str]) -> None:
    """Without any chance to clear up."""
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def reapers_of(processes: set[int]) -> list[int]:
    """Those of the processes that somebody waits for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if PROGRAM in words:
                found += [int(word.split()[0]) for word in words if word.split(" ")[0].isdecimal() and " " in word]
    return [pid for pid in found if pid in processes]


@pytest.fixture
def world(docker_host: str, tmp_path: Path) -> Iterator[World]:
    with docker.APIClient(docker_host, version="auto", timeout=120) as client:
        world = World(client, docker_host, tmp_path / "state")
        yield world
        engine = DockerEngine(docker_host)
        assert [leak for name in world.names for leak in engine.remove(EnclaveId(name))] == []
        engine.close()


@pytest.fixture
def living(world: World) -> Iterator[Callable[..., tuple[str, subprocess.Popen[str]]]]:
    """Processes that live on until the end of the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(count: int, *arguments: str) -> tuple[str, subprocess.Popen[str]]:
        name, process = world.start(count, *arguments)
        processes.append(process)
        says(process, "open")
        says(process, "up")
        return name, process

    yield start
    for process in processes:
        kill(process)


def keep(world: World, seconds: float) -> str:
    """An enclave with a service that stays so long."""
    name, process = world.start(1, "--keep", str(seconds))
    assert process.communicate()[0] == "open\nup\n"
    assert process.returncode == 0
    return name


@pytest.mark.timeout(900)
def test_processes_killed_at_any_moment_leave_nothing_and_others_alone(world, living):
    other, _ = living(2)
    kept = keep(world, 3600)
    there = {name: world.left(name) for name in (other, kept)}
    assert [len(each) for each in there.values()] == [4, 3]
    processes: set[int] = set()

    for seed in range(KILLS):
        name, process = world.start(SERVICES)
        processes.add(process.pid)
        says(process, "open")
        time.sleep(random.Random(seed).uniform(0, LONGEST_LIFE))
        kill(process)
        killed = time.monotonic()
        # What the engine was asked for at the moment may come later.
        time.sleep(1)
        assert world.await_nothing(name, killed + GONE - time.monotonic()) == []
    assert len(processes) == KILLS
    deadline = time.monotonic() + 10
    while reapers_of(processes) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert reapers_of(processes) == []
    assert {name: world.left(name) for name in world.names if world.left(name)} == there
    homes = {path.name for path in (world.ledger.root / "enclaves").iterdir()}
    assert homes == {other, kept}
    locked = [path for path in world.ledger.root.rglob("*") if path.is_file() and is_locked(path)]
    assert locked == [world.ledger.path(other) / "lease"]


def test_a_killed_process_takes_its_own_enclave_along_and_not_the_one_its_session_shares(world, docker_engine):
    session = world.ledger.begin_session()
    shared, worker = world.start(2, "--session", session.id)
    own, other = world.start(1)
    for process in (worker, other):
        says(process, "open")
        says(process, "up")
        kill(process)
    assert world.await_nothing(own, GONE) == []
    time.sleep(1)
    assert len(world.left(shared)) == 4
    attached = Enclave(docker_engine.attach(EnclaveId(shared, str(world.ledger.path(shared)))), EnclaveId(shared))
    assert attached.sh("s0", "hostname") == "s0"
    attached.site.leave()
    session.end()
    # Whoever is killed next, or begins, finds that nobody lives for it any more.
    _, last = world.start(0)
    says(last, "open")
    kill(last)
    assert world.await_nothing(shared, GONE + 5) == []


def test_a_worker_killed_in_the_middle_of_a_start_leaves_an_enclave_that_can_be_used(world, docker_engine):
    session = world.ledger.begin_session()
    name, worker = world.start(SERVICES, "--session", session.id)
    says(worker, "open")
    # Its home, its network and the first of the services are there.
    while len(world.left(name)) < 3:
        time.sleep(0.02)
    kill(worker)
    time.sleep(1.5)
    home = EnclaveId(name, str(world.ledger.path(name)))
    attached = Enclave(docker_engine.attach(home), home)
    specs = [attached.spec(f"s{number}") for number in range(SERVICES)]
    assert set(attached.start(*specs).values()) == {None}
    assert len({spec.address.ip_address for spec in specs}) == SERVICES
    assert attached.sh("s7", "hostname") == "s7"
    assert attached.site.close() == []
    session.end()


def test_what_was_kept_goes_with_the_next_session_after_its_time(world, living):
    kept, long = keep(world, 1.0), keep(world, 3600)
    time.sleep(1.0)
    living(0)
    assert world.await_nothing(kept, 15) == []
    assert len(world.left(long)) == 3


def test_what_lost_its_home_goes_with_its_owner(world, living):
    name, process = world.start(1)
    says(process, "open")
    says(process, "up")
    world.ledger.path(name).rename(world.state / "elsewhere")
    living(0)
    time.sleep(1)
    # It lives.
    assert len(world.left(name)) == 2
    kill(process)
    assert world.await_nothing(name, GONE) == []


def test_directories_of_processes_that_have_gone_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = make_scratch()
    (directory / "files").mkdir()
    (tmp_path / "pytest-enclave-scratch.of-somebody-else").mkdir()
    sweep_scratch(Owner.is_gone)
    assert directory.exists()
    assert directory.stat().st_mode & 0o777 == 0o755
    sweep_scratch(lambda owner: owner == Owner.this_process())
    assert [path.name for path in tmp_path.iterdir()] == ["pytest-enclave-scratch.of-somebody-else"]
