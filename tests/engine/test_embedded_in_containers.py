"""The embedded engine's examination inside of real containers: what their defaults refuse, and what allows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest

import pytest_enclave

PYTHON = "enclave-test/python:local"

SCRIPT = """
import json, sys
sys.path.insert(0, "/library")
from pytest_enclave.engine.embedded.probe import attempt, examine
failure, found = attempt().failure, examine()
remedy = found.refusal and found.refusal.remedy
print(json.dumps([failure and failure.step, str(found.refusal or found.endpoint), remedy]))
"""

DOCKER_RUN = "`docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined --tmpfs /tmp`"
MASKED = "/proc cannot be mounted in a new process namespace: parts of /proc and /sys are masked in its container"
FILTERED = "no user namespace can be made: the seccomp filter of its container refuses it"

NO_FILTER = {"SecurityOpt": ["seccomp=unconfined"]}
UNMASKED: dict[str, Any] = {"MaskedPaths": [], "ReadonlyPaths": []}
"""What the command line's `--security-opt systempaths=unconfined` asks of the engine."""


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(docker_host)
    if any("apparmor" in option for option in client.info()["SecurityOptions"]):
        pytest.skip("AppArmor confines this engine's containers further")
    yield client
    client.close()


def examined(client: docker.APIClient, host: dict[str, Any], user: str = "") -> list[str | None]:
    """The step that failed, the outcome in words, and the remedy, in a container that the engine makes so."""
    packages = [Path(package.__file__).parent for package in (pytest_enclave, msgspec)]
    host = {**host, "Binds": [f"{path}:/library/{path.name}:ro" for path in packages]}
    config = {"Image": PYTHON, "Entrypoint": ["python3", "-B", "-c", SCRIPT], "Cmd": [], "User": user}
    container = client.create_container_from_config({**config, "HostConfig": host})["Id"]
    try:
        client.start(container)
        client.wait(container)
        told: list[str | None] = json.loads(client.logs(container))
    finally:
        client.remove_container(container, force=True)
    return told


@pytest.mark.parametrize(
    ("host", "step", "words"),
    [
        pytest.param({}, "user", FILTERED, id="nothing asked for"),
        pytest.param({"CapAdd": ["SYS_ADMIN"]}, "proc", MASKED, id="SYS_ADMIN"),
        pytest.param(NO_FILTER, "proc", MASKED, id="without a filter"),
    ],
)
def test_the_defaults_of_containers_are_told_with_the_remedy(
    client: docker.APIClient, host: dict[str, Any], step: str, words: str
) -> None:
    assert examined(client, host) == [step, words, DOCKER_RUN]
    assert examined(client, host, "1000")[2] == DOCKER_RUN


def test_the_remedy_is_one(client: docker.APIClient) -> None:
    host = {**NO_FILTER, **UNMASKED, "Tmpfs": {"/tmp": ""}}
    assert examined(client, host) == [None, "this machine, as root", None]
    assert examined(client, host, "1000") == [None, "this machine, one uid", None]
