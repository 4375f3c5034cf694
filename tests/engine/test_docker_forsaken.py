"""A command in a container whose caller was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import docker
import pytest

from pytest_enclave.engine.docker.carried import Carried, connected
from pytest_enclave.engine.docker.commands import kill_command
from pytest_enclave.engine.docker.forsaken import Watch
from pytest_enclave.errors import EngineError
from tests.engine.engine_enclave import BUSYBOX

CALLER = """
import sys, time
from docker import APIClient
from pytest_enclave.engine.docker.conversation import DockerConversation
from pytest_enclave.engine.docker.terminal import DockerTerminal

host, container, kind, command = sys.argv[1:]
client = APIClient(host, version="auto")
told = (client, host, container, ["sh", "-c", command])
talk = DockerTerminal(*told, {}, "it") if kind == "terminal" else DockerConversation(*told, "it")
print("begun", flush=True)
sys.stdin.read()
talk.close()
talk.close()
"""


@pytest.fixture
def client(docker_host: str) -> Iterator[docker.APIClient]:
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


@pytest.fixture
def container(client: docker.APIClient) -> Iterator[str]:
    made: str = client.create_container(BUSYBOX, ["sh", "-c", "while true; do sleep 1; done"])["Id"]
    client.start(made)
    yield made
    client.remove_container(made, force=True)


@pytest.fixture
def call(docker_host: str, container: str) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Have another process call a command in the container that starts two that last."""
    callers: list[subprocess.Popen[bytes]] = []

    def begin(kind: str) -> subprocess.Popen[bytes]:
        command = "sleep 4321 & sleep 4321"
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, docker_host, container, kind, command],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        callers.append(caller)
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"begun\n"
        return caller

    yield begin
    for each in callers:
        with each:
            each.kill()


def sleepers(client: docker.APIClient, container: str) -> int:
    return sum("sleep 4321" in " ".join(row) for row in client.top(container)["Processes"])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.docker
@pytest.mark.parametrize("kind", ["terminal", "conversation"])
@pytest.mark.parametrize("number", [signal.SIGKILL, None], ids=["killed", "orderly"])
def test_the_command_and_its_jobs_end_with_their_caller(
    client: docker.APIClient, container: str, call: Callable, kind: str, number: signal.Signals | None
):
    caller = call(kind)
    until(lambda: sleepers(client, container) >= 2)
    if number is None:
        caller.communicate(timeout=60)
        assert caller.returncode == 0
    else:
        os.kill(caller.pid, number)
    until(lambda: not sleepers(client, container))


@pytest.mark.docker
def test_a_command_is_killed_however_early(client: docker.APIClient, container: str):
    for _ in range(10):
        run = client.exec_create(container, ["sleep", "4321"], stdin=True)["Id"]
        response = connected(client, run, tty=False)
        kill_command(client, container, run)
        response.close()
    until(lambda: not sleepers(client, container))


@pytest.mark.parametrize("endpoint", ["", "tcp://far:2375", "ssh://far", "npipe:////./pipe/docker_engine"])
def test_nobody_waits_for_what_could_not_be_ended(endpoint: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    Watch(endpoint, "container", "run").dismiss()


def test_a_command_that_nobody_can_look_after_does_not_go_on(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    ended: list[object] = []
    monkeypatch.setattr("pytest_enclave.engine.docker.carried.Watch", refuse)
    monkeypatch.setattr("pytest_enclave.engine.docker.carried.kill_command", lambda *told: ended.append(told))
    response = SimpleNamespace(close=lambda: ended.append("connection"))
    with pytest.raises(EngineError) as caught:
        Carried("client", "unix:///x", "container", "run", response, lambda _: None, "terminal in `db`")
    assert str(caught.value) == "cannot have a terminal in `db`: Too many open files"
    assert ended == [("client", "container", "run"), "connection"]


def test_at_an_orderly_end_nobody_is_left_waiting():
    watch = Watch("unix:///nowhere", "container", "run")
    assert watch._watchdog is not None
    process = watch._watchdog._process
    assert process.poll() is None
    watch.dismiss()
    assert process.returncode == -signal.SIGKILL
