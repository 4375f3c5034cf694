"""Which engine is taken, in which order they are looked at, and what is told where there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from pytest_enclave.engine import select
from pytest_enclave.engine.docker import discovery
from pytest_enclave.engine.docker.discovery import Found
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.shape import ShaperPlan
from pytest_enclave.engine.embedded import probe as embedded
from pytest_enclave.engine.embedded.probe import Examination
from pytest_enclave.engine.embedded.refusals import Refusal
from pytest_enclave.engine.protocol import Probe
from pytest_enclave.engine.select import EngineChoice, Selected, probe
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.errors import EngineUnavailable

HERE = Examination(None, "this machine, one uid", notes=("a note",))
REFUSED = Examination(Refusal("no user namespace can be made", "the kernel allows none", "`sudo sysctl -w a=1`"))
ELSEWHERE = Examination(Refusal("it needs Linux", "this is macOS"))
DOCKER = Probe("unix:///there.sock", "the default socket", "99.1")

Examine = Callable[[Examination], None]


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of a user on a machine where no Docker engine is."""
    monkeypatch.setattr(discovery, "DEFAULT_SOCKET", "/nowhere/docker.sock")
    return {"HOME": str(tmp_path)}


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Sets what the examination of this machine gives; until then, there must be none."""
    monkeypatch.setattr(embedded, "examine", lambda: pytest.fail("this machine is examined"))
    return lambda outcome: monkeypatch.setattr(embedded, "examine", lambda: outcome)


@pytest.fixture
def docker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find_engine", lambda host, environ: Found(DOCKER, "1.50"))


@pytest.mark.usefixtures("docker_answers", "examined")
@pytest.mark.parametrize("name", ["auto", "docker"])
def test_docker_is_taken_where_it_answers_and_nothing_else_is_looked_at(name: str) -> None:
    assert probe(EngineChoice(name)) == Selected("docker", DOCKER)


def test_else_it_is_the_embedded_engine(environ: Mapping[str, str], examined: Examine) -> None:
    examined(HERE)
    there = Probe("this machine, one uid", "no Docker engine answers")
    assert probe(EngineChoice(environ=environ)) == Selected("embedded", there, ("a note",))


def test_else_all_that_was_tried_is_told_in_order_with_the_remedies(
    environ: Mapping[str, str], examined: Examine
) -> None:
    examined(REFUSED)
    with pytest.raises(EngineUnavailable) as caught:
        probe(EngineChoice(environ=environ))
    assert str(caught.value) == (
        "no Docker engine answers, and the embedded engine cannot run here: no user namespace can be made"
    )
    assert caught.value.tried == (
        ("unix:///nowhere/docker.sock", "there is no such socket"),
        ("the embedded engine", "no user namespace can be made: the kernel allows none"),
    )
    assert caught.value.remedy == (
        "for Docker: start Docker, or say where it is: --enclave-docker-host or DOCKER_HOST\n"
        "for the embedded engine: `sudo sysctl -w a=1`"
    )


def test_what_has_no_remedy_is_told_without(environ: Mapping[str, str], examined: Examine) -> None:
    examined(ELSEWHERE)
    with pytest.raises(EngineUnavailable) as caught:
        probe(EngineChoice(environ=environ))
    assert str(caught.value) == "no Docker engine answers, and the embedded engine cannot run here: it needs Linux"
    assert caught.value.tried[-1] == ("the embedded engine", "it needs Linux: this is macOS")
    assert caught.value.remedy == ("for Docker: start Docker, or say where it is: --enclave-docker-host or DOCKER_HOST")


@pytest.mark.usefixtures("examined")
@pytest.mark.parametrize(
    ("host", "variables", "message"),
    [
        ("unix:///no.sock", {}, r"at unix:///no.sock \(--enclave-docker-host\): there is no such socket"),
        (None, {"DOCKER_HOST": "unix:///no.sock"}, r"at unix:///no.sock \(DOCKER_HOST\): there is no such socket"),
        (None, {"DOCKER_CONTEXT": "lab"}, "no Docker context 'lab'"),
    ],
)
def test_a_docker_engine_that_is_named_is_not_replaced(
    environ: Mapping[str, str], host: str | None, variables: Mapping[str, str], message: str
) -> None:
    with pytest.raises(EngineUnavailable, match=message):
        probe(EngineChoice("auto", host, environ={**environ, **variables}))


@pytest.mark.usefixtures("examined")
def test_docker_alone_is_tried_where_it_is_asked_for(environ: Mapping[str, str]) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        probe(EngineChoice("docker", environ=environ))
    assert str(caught.value) == "no Docker engine answers"


@pytest.mark.usefixtures("docker_answers")
def test_the_embedded_engine_is_taken_where_it_is_asked_for_although_docker_answers(examined: Examine) -> None:
    examined(HERE)
    assert probe(EngineChoice("embedded")).probe.why == "--enclave-engine=embedded"
    by_ini = EngineChoice("embedded", told_by="enclave_engine = embedded")
    assert probe(by_ini) == Selected(
        "embedded", Probe("this machine, one uid", "enclave_engine = embedded"), ("a note",)
    )


def test_the_embedded_engine_is_not_replaced_where_it_is_asked_for(examined: Examine) -> None:
    examined(REFUSED)
    with pytest.raises(EngineUnavailable) as caught:
        probe(EngineChoice("embedded"))
    assert str(caught.value) == "the embedded engine cannot run here: no user namespace can be made"
    assert caught.value.tried == (("the embedded engine", "no user namespace can be made: the kernel allows none"),)
    assert caught.value.remedy == "`sudo sysctl -w a=1`, or use Docker: `--enclave-engine=docker`"


@pytest.mark.usefixtures("examined")
def test_the_simulated_engine_needs_nothing() -> None:
    assert probe(EngineChoice("simulated")).probe.endpoint == "no services, virtual time"
    assert isinstance(select.select(EngineChoice("simulated")), SimulatedEngine)


def test_an_unknown_engine_is_told_with_those_there_are() -> None:
    with pytest.raises(EngineUnavailable, match="there is no engine `dokcer`") as caught:
        select.select(EngineChoice("dokcer"))
    assert caught.value.remedy == "`--enclave-engine` takes auto, docker, embedded, simulated"


@pytest.mark.usefixtures("docker_answers", "examined")
@pytest.mark.parametrize("name", ["auto", "docker"])
def test_the_docker_engine_gets_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr("pytest_enclave.engine.docker.engine.DockerEngine", lambda **options: given.update(options))
    choice = EngineChoice(name, "unix:///h", "mirror/x", {"A": "b"}, egress=False)
    select.select(choice)
    told = {"host": "unix:///h", "environ": {"A": "b"}, "mirror": "mirror/x", "egress": False}
    assert given == {**told, "shaper": ShaperPlan.of(None, "mirror/x")}
    select.select(replace(choice, shaper_image="shaper/x"))
    assert given == {**told, "shaper": ShaperPlan("shaper/x")}


def test_the_embedded_engine_gets_what_it_needs(
    environ: Mapping[str, str], examined: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    engine = "pytest_enclave.engine.embedded.engine.EmbeddedEngine"
    monkeypatch.setattr(engine, lambda **options: given.update(options) or Mock())
    examined(HERE)
    select.select(EngineChoice(image_mirror="mirror/x", environ=environ, egress=False))
    find_docker = given.pop("docker_endpoint")
    assert given == {"environ": environ, "mirror": "mirror/x", "egress": False}
    assert callable(find_docker)
    assert find_docker() is None
    monkeypatch.setattr(discovery, "find_engine", lambda host, environ: Found(DOCKER, "1.50"))
    assert find_docker() == "unix:///there.sock"


def test_asking_for_an_engine_connects_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find_engine", lambda host, environ: pytest.fail("asked"))
    assert isinstance(select.select(EngineChoice("docker")), DockerEngine)


def test_finding_the_engine_imports_nothing_heavy() -> None:
    script = (
        "import sys; from pytest_enclave.engine.select import EngineChoice, probe\n"
        "try: print(probe(EngineChoice('embedded')).name)\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(sorted({'docker', 'requests', 'urllib3', 'ctypes', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["embedded", "[]"]
