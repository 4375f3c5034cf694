"""Images built from Dockerfiles by a real Docker, for its engine and for the one that takes images from it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from msgspec.structs import replace

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import Engine, PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.package.context import read_context
from pytest_enclave.plan.events import BuildProgress, Event, Warned, silent
from pytest_enclave.plan.image_sources import Build
from tests.engine.engine_enclave import BUSYBOX

pytestmark = pytest.mark.docker

Describe = Callable[..., Build]


@pytest.fixture
def describe(tmp_path: Path, docker_host: str) -> Iterator[Describe]:
    """Write a build context, and describe the build; what was built is removed at the end."""
    described: list[Build] = []

    def make(files: Mapping[str, str], **settings: Any) -> Build:
        directory = tmp_path / "context"
        for name, text in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        known = {"build_file": "Dockerfile", "target": "", "arguments": {}, **settings}
        digest, _ = read_context(directory, known["build_file"], "images/api")
        build = Build("shop/api:1", str(directory), "images/api", digest=digest, **known)
        described.append(build)
        return build

    yield make
    with docker.APIClient(docker_host, version="auto") as client:
        for name in {build.name for build in described}:
            for image in client.images(name):
                client.remove_image(image["Id"], force=True)


@pytest.fixture(params=["docker", "embedded"])
def engine(request: pytest.FixtureRequest, docker_host: str, tmp_path: Path) -> Iterator[Engine]:
    """Docker, and the embedded engine with a local Docker beside it."""
    if request.param == "docker":
        engine: Engine = DockerEngine(docker_host)
    else:
        engine = EmbeddedEngine(docker_endpoint=lambda: docker_host, store=tmp_path / "store")
    yield engine
    assert engine.close() == []


def built(engine: Engine, build: Build, emit: Any = silent, policy: PullPolicy = PullPolicy.MISSING) -> str | Problem:
    return engine.build_images([build], policy, emit)[build.name]


def content(docker_host: str, build: Build, path: str) -> str:
    """A file of the image, by Docker."""
    with docker.APIClient(docker_host, version="auto") as client:
        container = client.create_container(build.name, "true")
        try:
            stream, _ = client.get_archive(container, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
                return tar.extractfile(tar.next()).read().decode()
        finally:
            client.remove_container(container)


def test_an_image_is_built_of_its_context_arguments_and_stage(engine: Engine, docker_host: str, describe: Describe):
    dockerfile = f"""
FROM {BUSYBOX} AS base
ARG GREETING=none
RUN echo $GREETING > /greeting
COPY . /app
FROM base AS unwanted
RUN exit 1
"""
    files = {"docker/Api.dockerfile": dockerfile, "app.conf": "port=1", "secret.env": "x", ".dockerignore": "*.env\n"}
    build = describe(files, build_file="docker/Api.dockerfile", target="base", arguments={"GREETING": "hello"})
    assert engine.local_images([build.name]) == {build.name: None}
    events: list[Event] = []
    digest = built(engine, build, events.append)
    assert isinstance(digest, str), digest
    assert engine.local_images([build.name]) == {build.name: digest}
    assert content(docker_host, build, "/greeting") == "hello\n"
    assert content(docker_host, build, "/app/app.conf") == "port=1"
    with pytest.raises(docker.errors.NotFound):
        content(docker_host, build, "/app/secret.env")
    told = [event for event in events if isinstance(event, BuildProgress)]
    assert [(event.image, event.step, event.steps, event.done) for event in told][1:4] == [
        ("shop/api:1", 1, 4, False),
        ("shop/api:1", 2, 4, False),
        ("shop/api:1", 3, 4, False),
    ]
    assert told[-1].done
    assert told[-1].duration > 0
    with docker.APIClient(docker_host, version="auto") as client:
        labels = client.inspect_image(build.name)["Config"]["Labels"]
    assert labels["org.pytest-enclave.build"] == build.key
    assert labels["org.pytest-enclave.image-name"] == "shop/api:1"


def test_the_same_is_not_built_again(engine: Engine, describe: Describe):
    build = describe({"Dockerfile": f"FROM {BUSYBOX}\nRUN cat /proc/sys/kernel/random/uuid > /once\n"})
    first = built(engine, build)
    events: list[Event] = []
    assert isinstance(first, str)
    assert built(engine, replace(build, title="shop/api:1"), events.append) == first
    assert events == []


def test_a_change_of_the_context_makes_another_image(engine: Engine, describe: Describe):
    before = describe({"Dockerfile": f"FROM {BUSYBOX}\nCOPY app /app\n", "app": "1"})
    first = built(engine, before)
    after = describe({"app": "2"})
    assert before.name != after.name
    assert built(engine, after) != first
    assert engine.local_images([before.name]) == {before.name: first}, "the earlier one stays"


def test_a_step_that_fails_is_told_with_its_line_and_what_it_wrote(engine: Engine, describe: Describe):
    step = "# compile\nRUN echo one >&2 && \\\n    echo two >&2 && exit 3\n"
    build = describe({"Dockerfile": f"FROM {BUSYBOX}\n\n{step}"})
    problem = built(engine, build)
    assert isinstance(problem, Problem)
    assert problem.message == (
        "image `shop/api:1` cannot be built in step 2 of 2 "
        "(`RUN echo one >&2 && echo two >&2 && exit 3`, images/api/Dockerfile:4): exit code 3"
    )
    assert problem.output == "one\ntwo"
    assert problem.remedy == f"`docker build --file Dockerfile .` in {build.directory} tells all of it"


def test_what_is_no_dockerfile_is_told_with_its_line(engine: Engine, describe: Describe):
    problem = built(engine, describe({"Dockerfile": f"FROM {BUSYBOX}\nBOOM now\n"}))
    assert isinstance(problem, Problem)
    assert problem.message == (
        "image `shop/api:1` cannot be built at images/api/Dockerfile:2: unknown instruction: BOOM"
    )


def test_a_base_image_that_is_nowhere_is_told(engine: Engine, describe: Describe):
    problem = built(engine, describe({"Dockerfile": "FROM 127.0.0.1:1/nothing:1\n"}))
    assert isinstance(problem, Problem)
    assert problem.message.startswith(
        "image `shop/api:1` cannot be built in step 1 of 1 (`FROM 127.0.0.1:1/nothing:1`, images/api/Dockerfile:1): "
    )
    assert "connection refused" in problem.message


def test_what_only_buildkit_knows_is_told_with_what_to_do_instead(engine: Engine, describe: Describe):
    problem = built(engine, describe({"Dockerfile": f"FROM {BUSYBOX}\nRUN --mount=type=cache,target=/c true\n"}))
    assert isinstance(problem, Problem)
    assert problem.remedy == (
        "the builder of the Docker API does not know what BuildKit added: write it without, or let CI build the image "
        "and write its name"
    )


def test_a_stage_that_does_not_exist_is_told_with_what_was_meant(engine: Engine, describe: Describe):
    problem = built(engine, describe({"Dockerfile": f"FROM {BUSYBOX} AS base\n"}, target="bsae"))
    assert isinstance(problem, Problem)
    assert problem.message == "image `shop/api:1` cannot be built: there is no stage `bsae` in Dockerfile"
    assert problem.remedy == "did you mean `base`?"


def test_no_registry_is_asked_for_what_is_built_here(engine: Engine, describe: Describe):
    """Not even for one that the engine has."""
    other = describe({"Dockerfile": f"FROM {BUSYBOX}\nLABEL other=1\n"})
    assert isinstance(built(engine, other), str)
    problem = built(engine, describe({"Dockerfile": f"# first\nFROM {other.name}\nRUN true\n"}))
    assert isinstance(problem, Problem)
    assert problem.message == (
        f'image `shop/api:1` cannot be built at images/api/Dockerfile:2: image "{other.name}": names '
        "that begin with `pytest-enclave-build/` belong to images that are built here, and cannot be pulled"
    )
    assert problem.remedy == "make both images by stages of one Dockerfile"


def test_build_arguments_that_nothing_takes_are_warned_of(engine: Engine, describe: Describe):
    events: list[Event] = []
    build = describe({"Dockerfile": f"FROM {BUSYBOX}\nARG VERSION\n"}, arguments={"VERISON": "1", "VERSION": "2"})
    assert isinstance(built(engine, build, events.append), str)
    (warning,) = [event.problem for event in events if isinstance(event, Warned)]
    assert warning.severity == "warning"
    assert warning.message == ("image `shop/api:1`: no `ARG` in images/api/Dockerfile takes build argument `VERISON`")
    assert warning.remedy == "did you mean `VERSION`?"


@pytest.mark.parametrize(
    "line", ["EXPOSE web", "STOPSIGNAL SIGNONE", "HEALTHCHECK true", "HEALTHCHECK --interval=5 CMD true"]
)
def test_values_that_docker_does_not_take_are_told(engine: Engine, describe: Describe, line: str):
    problem = built(engine, describe({"Dockerfile": f"FROM {BUSYBOX}\n{line}\n"}))
    assert isinstance(problem, Problem)
    assert "images/api/Dockerfile:2" in problem.message


def test_a_context_that_changes_meanwhile_is_told(engine: Engine, describe: Describe):
    build = replace(describe({"Dockerfile": f"FROM {BUSYBOX}\n"}), digest="0" * 64)
    problem = built(engine, build)
    assert isinstance(problem, Problem)
    assert problem.message == "image `shop/api:1` cannot be built: its build context changes while it is built"
    assert problem.remedy == "let nothing write to it meanwhile"


def test_one_failure_does_not_keep_others_from_being_built(engine: Engine, describe: Describe):
    good = describe({"Dockerfile": f"FROM {BUSYBOX}\n"})
    bad = describe({"Bad": f"FROM {BUSYBOX}\nRUN exit 1\n"}, build_file="Bad")
    good = describe({})
    outcomes = engine.build_images([good, bad, good], PullPolicy.MISSING, silent)
    assert isinstance(outcomes[good.name], str)
    assert isinstance(outcomes[bad.name], Problem)


def test_always_asks_the_builder_again(engine: Engine, describe: Describe):
    build = describe({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    first = built(engine, build)
    events: list[Event] = []
    assert built(engine, build, events.append, PullPolicy.ALWAYS) == first, "the builder has kept every step"
    assert isinstance(events[-1], BuildProgress) or events[-1].done


def test_without_a_docker_the_embedded_engine_builds_by_itself(describe: Describe, tmp_path: Path):
    build = describe({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    for endpoint in (None, f"unix://{tmp_path}/nothing.sock"):
        engine = EmbeddedEngine(
            docker_endpoint=lambda found=endpoint: found, store=tmp_path / f"store-{endpoint is None}"
        )
        digest = built(engine, build)
        assert isinstance(digest, str)
        assert engine.local_images([build.name]) == {build.name: digest}
        engine.close()
