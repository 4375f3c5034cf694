"""The image that traffic is shaped from where pytest is not root: built by us, and used by somebody who is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker.shape import BASE, IMAGE, ShaperPlan
from pytest_enclave.engine.docker.sidecar_image import DOCKERFILE, have_image
from pytest_enclave.errors import EngineError
from pytest_enclave.linux.fates import LOST, Fates, Figures
from tests.engine.engine_enclave import PYTHON
from tests.engine.plain_user_session import SEED
from tests.engine.shaped_services import LATE

SESSION = Path(__file__).with_name("plain_user_session.py")

NOBODY = 64323
"""A user without a name, and without any rights."""

ASIDE = "enclave-test/shaper-aside:local"


@pytest.fixture
def client(docker_host: str) -> Iterator[docker.APIClient]:
    with docker.APIClient(docker_host, version="auto") as client:
        yield client


@pytest.fixture
def image(client: docker.APIClient) -> Iterator[str]:
    """The name of our image, which the engine does not have; at the end it has what it had."""
    was_there = bool(client.images(IMAGE))
    if was_there:
        client.tag(IMAGE, *ASIDE.split(":"))
        client.remove_image(IMAGE, force=True)
    yield IMAGE
    with suppress(docker.errors.ImageNotFound):
        client.remove_image(IMAGE, force=True)
    if was_there:
        client.tag(ASIDE, *IMAGE.split(":"))
        client.remove_image(ASIDE)


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory of that user."""
    path = Path(tempfile.mkdtemp(prefix="plain-user-"))
    if not os.geteuid():
        os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def as_plain_user(endpoint: str, command: list[str]) -> list[str]:
    """The command as one who may use the engine's socket, and read the interpreter wherever it is, and nothing else."""
    if os.geteuid():
        return command
    scheme, _, path = endpoint.partition("://")
    assert scheme == "unix", "where the engine is elsewhere, nobody is root on its machine"
    found = os.stat(path)
    assert found.st_mode & 0o060 == 0o060, "the engine's socket is root's alone"
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--no-new-privs"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={found.st_gid}", *rights, *command]


def test_a_plain_user_has_the_image_built_and_its_sidecars_delay_and_lose_packets(
    client: docker.APIClient, docker_host: str, image: str, state: Path
) -> None:
    done = subprocess.run(
        as_plain_user(docker_host, [sys.executable, str(SESSION), docker_host, PYTHON]),
        env={"PATH": os.environ["PATH"], "XDG_STATE_HOME": str(state), "HOME": str(state)}
        | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["user"] == (os.geteuid() or NOBODY)
    assert told["sidecars"] == {"a": image, "b": image}
    assert 200 <= told["round_trip"] < 200 + LATE
    fates = Fates(SEED, "a", "b", Figures(50))
    assert told["arrived"] == [number for number in range(100) if fates.next() != LOST]
    assert told["leaks"] == []
    built = client.inspect_image(image)
    assert built["Config"]["Labels"]["org.pytest-enclave.shaper-image"] == "1"
    assert built["RootFS"] == client.inspect_image(PYTHON)["RootFS"]


def test_it_is_built_once(client: docker.APIClient, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have_image(client, ShaperPlan(image, base=PYTHON))
    monkeypatch.setattr(client, "build", lambda **_: pytest.fail("it is built again"))
    have_image(client, ShaperPlan(image, base=PYTHON))


def test_by_hand_the_dockerfile_builds_the_same() -> None:
    assert DOCKERFILE.read_text().splitlines()[1:3] == [f"ARG BASE={BASE}", "FROM ${BASE}"]


def test_users_who_name_none_get_ours_and_any_other_is_never_built() -> None:
    assert ShaperPlan.of(None, "mirror") == ShaperPlan(IMAGE, base=BASE, mirror="mirror")
    assert ShaperPlan.of("python:3", "mirror") == ShaperPlan("python:3")


def test_a_base_that_cannot_be_had_is_told(client: docker.APIClient, image: str) -> None:
    with pytest.raises(EngineError) as raised:
        have_image(client, ShaperPlan(image, base="localhost:1/nothing:none"))
    assert raised.value.message.startswith(
        "cannot shape the enclave's traffic: this process is not root on the engine's machine, and the image "
        f'"{image}", to do it from containers, cannot be built: image "localhost:1/nothing:none"'
    )
    assert raised.value.remedy == (
        "name an image that the engine has, and that has python3, in the ini option enclave_shaper_image; or build it: "
        f"`docker build --build-arg BASE=… -t {image} {DOCKERFILE.parent}`"
    )
    assert client.images(image) == []


def test_a_build_that_the_engine_refuses_is_told(
    client: docker.APIClient, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM nothing:none AS\n")
    monkeypatch.setattr("pytest_enclave.engine.docker.sidecar_image.DOCKERFILE", broken)
    with pytest.raises(EngineError, match=r"cannot be built: .*FROM requires either one or three arguments"):
        have_image(client, ShaperPlan(image, base=PYTHON))
    broken.write_text("ARG BASE\nFROM ${BASE}\nRUN exit 3\n")
    with pytest.raises(EngineError, match=r"cannot be built: .*returned a non-zero code: 3"):
        have_image(client, ShaperPlan(image, base=PYTHON))
