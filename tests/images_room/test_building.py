"""Building by the Docker API: what is sent, and what is made of the answers."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.images.building import BuildFailed, BuildLog, headers, parameters, write_context
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.package.context import read_context
from pytest_enclave.plan.events import BuildProgress
from pytest_enclave.plan.image_sources import Build

Describe = Callable[..., Build]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    def make(files: Mapping[str, str], **settings: Any) -> Build:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        known = {"build_file": "Dockerfile", "target": "", "arguments": {}, "place": "api", **settings}
        digest, _ = read_context(tmp_path, known["build_file"], "api")
        return Build("shop/api", str(tmp_path), digest=digest, **known)

    return make


def failure(build: Build, messages: list[dict[str, str]]) -> Any:
    with pytest.raises(BuildFailed) as caught:
        BuildLog(build, lambda _: None).follow(messages)
    return caught.value.problem


def test_what_is_asked_for(describe: Describe):
    build = describe({"Api": "FROM a\n"}, build_file="Api", target="run", arguments={"V": "1"})
    asked = parameters(build, pull=True)
    labels = {"org.pytest-enclave.build": build.key, "org.pytest-enclave.image-name": "shop/api"}
    assert json.loads(asked.pop("labels")) == labels
    assert asked == {
        **{"t": build.name, "dockerfile": "Api", "target": "run", "buildargs": '{"V": "1"}'},
        **{"rm": "1", "forcerm": "1", "pull": "1"},
    }
    assert {"target", "buildargs", "pull"}.isdisjoint(parameters(describe({"Dockerfile": ""}), pull=False))


def test_base_images_are_pulled_with_what_docker_login_left(describe: Describe, tmp_path: Path):
    build = describe(
        {"Dockerfile": "FROM --platform=x r.example/a AS b\nFROM busybox\nFROM $C/d\nFROM other.example/e\n"}
    )
    login = base64.b64encode(b"ann:s3cret").decode()
    auths = {"r.example": {"auth": login}, "https://index.docker.io/v1/": {"identitytoken": "t"}, "no.example": {}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    found = headers(build, {"DOCKER_CONFIG": str(tmp_path)})
    assert json.loads(base64.urlsafe_b64decode(found["X-Registry-Config"])) == {
        "r.example": {"username": "ann", "password": "s3cret"},
        "https://index.docker.io/v1/": {"identitytoken": "t"},
    }


def test_the_context_is_an_archive_that_root_owns(describe: Describe):
    build = describe({"Dockerfile": "", "app": "1", "no": "", ".dockerignore": "no\n"})
    target = io.BytesIO()
    write_context(build, target)
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert tar.getnames() == [".dockerignore", "Dockerfile", "app"]
        assert {(member.uid, member.gid, member.uname) for member in tar} == {(0, 0, "")}


def test_a_context_that_has_changed_is_not_built(describe: Describe, tmp_path: Path):
    build = describe({"Dockerfile": ""})
    (tmp_path / "new").touch()
    with pytest.raises(ImageFault, match="its build context changes while it is built"):
        write_context(build, io.BytesIO())


@pytest.mark.parametrize("step", ["Step {} : {}", "STEP {}: {}"])
def test_steps_are_told_without_those_for_labels(describe: Describe, step: str):
    told: list[Any] = []
    log = BuildLog(describe({"Dockerfile": "FROM a\nRUN b\n"}), told.append)
    steps = [step.format("1/4", "FROM a"), step.format("2/4", "RUN b"), step.format("4/4", "LABEL x")]
    log.follow({"stream": f"{text}\n"} for text in steps)
    log.done()
    assert [(event.step, event.steps, event.done) for event in told if isinstance(event, BuildProgress)] == [
        *((0, 0, False), (1, 2, False), (2, 2, False), (2, 2, False), (2, 2, True)),
    ]


def test_a_failure_has_the_last_lines_of_its_step_alone(describe: Describe):
    build = describe({"Dockerfile": "FROM a\n\nRUN make\n"}, place=".")
    said = [{"stream": f"line {number}\n"} for number in range(30)]
    steps = [{"stream": "Step 1/4 : FROM a\n"}, {"stream": " ---> 12ab\n"}, {"stream": "early\n"}]
    reason = "The command '/bin/sh -c make' returned a non-zero code: 2"
    found = failure(build, [*steps, {"stream": "Step 2/4 : RUN make\n"}, *said, {"error": reason}])
    assert found.message == "image `shop/api` cannot be built in step 2 of 2 (`RUN make`, Dockerfile:3): exit code 2"
    assert found.output.splitlines() == [f"line {number}" for number in range(10, 30)]


def test_a_stage_whose_name_is_near_is_told_with_the_rest_of_the_remedy(describe: Describe):
    build = describe({"Dockerfile": "FROM a AS build\nFROM b\nCOPY --from=biuld /a /b\n"})
    steps = [{"stream": f"Step {number}/5 : {doing}\n"} for number, doing in enumerate(["FROM a", "FROM b", "COPY"], 1)]
    reason = {"error": "invalid from flag value biuld: pull access denied for biuld"}
    assert failure(build, [*steps, reason]).remedy == (
        f"did you mean the stage `build`? Else: `docker build --file Dockerfile .` in {build.directory} tells all of it"
    )
    assert "did you mean" not in failure(build, [*steps[:2], reason]).remedy
    log = BuildLog(build, lambda _: None)
    log.begin(3, 3, "COPY --from=biuld /a /b", 3)
    assert log.problem("no such image", "").remedy == "did you mean the stage `build`?"


def test_warnings_of_builds_with_one_title_are_told_apart(describe: Describe):
    told: list[Any] = []
    one = describe({"Dockerfile": "FROM a\n"}, arguments={"A": "1"})
    other = describe({"Dockerfile": "FROM a\n"}, arguments={"A": "2"})
    for build in (one, other):
        BuildLog(build, told.append).review()
    assert [event.problem.subject for event in told] == [one.name, other.name]
    assert {event.problem.message for event in told} == {
        "image `shop/api`: no `ARG` in api/Dockerfile takes build argument `A`"
    }


def test_a_failure_before_the_first_step_is_told(describe: Describe):
    build = describe({"Dockerfile": "FROM a\nBOOM\n"})
    found = failure(build, [{"error": "dockerfile parse error line 2: unknown instruction: BOOM"}])
    assert found.message == "image `shop/api` cannot be built at api/Dockerfile:2: unknown instruction: BOOM"
    assert failure(build, [{"error": "no space left"}]).message == "image `shop/api` cannot be built: no space left"
