"""Pulling with the credentials of an ImageSpec, from a real registry that lets nobody else in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import Engine, PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.plan.events import Event, silent
from pytest_enclave.plan.image_sources import Login
from tests.images_room.builder import Built, entry, tar
from tests.images_room.registry_server import LOGIN, RegistryServer, registry_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with registry_server(tmp_path_factory.mktemp("registry"), LOGIN) as server:
        yield server


@pytest.fixture
def reference(server: RegistryServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """An image that the registry has, gone from Docker at the end."""
    reference = server.push(f"private/{request.node.originalname.replace('_', '-')}:1", Built([tar(entry("file"))]))
    yield reference
    if "docker_host" in request.fixturenames:
        with docker.APIClient(request.getfixturevalue("docker_host"), version="auto") as client:
            for image in client.images(reference):
                client.remove_image(image["Id"], force=True)


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    environ = {"DOCKER_CONFIG": str(tmp_path / "no-docker"), "HOME": str(tmp_path)}
    if request.param == "docker":
        engine: Engine = DockerEngine(request.getfixturevalue("docker_host"), environ, mirror="127.0.0.1:1/mirror")
    else:
        engine = EmbeddedEngine(environ, mirror="127.0.0.1:1/mirror", store=tmp_path / "store")
    yield engine
    assert engine.close() == []


def pulled(
    engine: Engine, reference: str, login: Login | None, policy: PullPolicy = PullPolicy.MISSING
) -> str | Problem:
    return engine.resolve_images([reference], policy, silent, {reference: login} if login else {})[reference]


def told(server: RegistryServer, password: str = LOGIN[1]) -> Login:
    return Login(server.address, LOGIN[0], password)


def test_with_them_the_image_is_pulled(engine: Engine, server: RegistryServer, reference: str):
    digest = pulled(engine, reference, told(server))
    assert isinstance(digest, str), digest
    assert engine.local_images([reference]) == {reference: digest}


def test_without_them_the_registry_wants_others(engine: Engine, server: RegistryServer, reference: str):
    problem = pulled(engine, reference, None)
    assert isinstance(problem, Problem)
    assert problem.message.startswith(f'image "{reference}": its registry ')
    assert "docker login" in problem.remedy


def test_with_wrong_ones_the_place_to_look_is_told(engine: Engine, server: RegistryServer, reference: str):
    problem = pulled(engine, reference, told(server, "wrong horse"))
    assert isinstance(problem, Problem)
    assert problem.message.startswith(f'image "{reference}": its registry ')
    assert problem.remedy == "are `username` and `password` of its ImageSpec right?"
    assert "wrong horse" not in f"{problem}"


def test_they_are_for_this_image_alone(engine: Engine, server: RegistryServer, reference: str):
    other = server.push("private/other:1", Built([tar(entry("other"))]))
    outcomes = engine.resolve_images([reference, other], PullPolicy.MISSING, silent, {reference: told(server)})
    assert isinstance(outcomes[reference], str)
    assert isinstance(outcomes[other], Problem)


def test_they_are_for_this_pull_alone(engine: Engine, server: RegistryServer, reference: str):
    assert isinstance(pulled(engine, reference, told(server)), str)
    events: list[Event] = []
    engine.resolve_images([reference], PullPolicy.ALWAYS, events.append)
    (warned,) = [event for event in events if hasattr(event, "problem")]
    assert "the image that the engine already has is used" in warned.problem.message


def test_an_image_that_is_there_needs_none(engine: Engine, server: RegistryServer, reference: str):
    digest = pulled(engine, reference, told(server))
    assert pulled(engine, reference, told(server, "wrong horse")) == digest
    assert pulled(engine, reference, None) == digest
