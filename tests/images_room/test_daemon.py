"""Images of a local Docker, and whether layers are what Docker makes of them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.image import StoredImage
from pytest_enclave.plan.events import ImageProgress, silent
from tests.images_room.builder import Built, docker_archive, entry, folder, hard_link, link, tar

NAME = f"enclave-images-room/layers:{os.getpid()}"

LAYERS = [
    tar(
        folder("./"),
        folder("etc", mode=0o750),
        entry("etc/motd", b"hello"),
        entry("etc/gone", b"gone"),
        folder("data"),
        entry("data/old"),
        folder("tree/a/b"),
        entry("tree/a/b/c"),
        entry("once"),
        entry("f", b"shared", mode=0o4755),
        hard_link("g", "f"),
        link("l", "etc/motd"),
    ),
    tar(folder("etc"), entry("etc/.wh.gone"), folder("data"), entry("data/.wh..wh..opq"), entry("data/new", b"1")),
    tar(entry(".wh.tree"), entry("etc/motd", b"changed", mode=0o600), entry(".wh.once")),
    tar(entry("once", b"again"), folder("tree"), entry("tree/other"), link("f", "g")),
]


@pytest.fixture(scope="module")
def docker_host() -> str:
    """Where the Docker for the tests is. The command that runs the tests says so; without one they fail."""
    if "DOCKER_HOST" not in os.environ:
        pytest.fail("these tests need a real Docker engine: set DOCKER_HOST to where it is")
    return os.environ["DOCKER_HOST"]


@pytest.fixture(scope="module")
def client(docker_host: str) -> Iterator[docker.DockerClient]:
    """The Docker that the tests are given."""
    client = docker.DockerClient(docker_host)
    yield client
    client.close()


@pytest.fixture
def image(client: docker.DockerClient, tmp_path: Path) -> Iterator[Built]:
    """An image of several layers that Docker has."""
    built = Built(LAYERS, {"Cmd": ["x"]})
    with open(docker_archive(tmp_path / "for-docker.tar", {NAME: built}), "rb") as file:
        client.images.load(file)
    yield built
    client.images.remove(NAME, force=True)


def seen_by_docker(client: docker.DockerClient, name: str) -> dict[str, tuple[object, ...]]:
    """What a container has, as far as it comes from the image."""
    container = client.containers.create(name, ["x"])
    try:
        archive = io.BytesIO(b"".join(container.export()))
    finally:
        container.remove()
    found = {}
    with tarfile.open(fileobj=archive) as files:
        for info in files:
            target = files.getmember(info.linkname) if info.islnk() else info
            data = files.extractfile(target).read() if target.isreg() else b""
            kind = "d" if info.isdir() else "l" if info.issym() else "f"
            path = info.name.removeprefix("./").strip("/")
            found[path] = (
                kind,
                "" if kind == "l" else target.mode & 0o7777,
                info.linkname if kind == "l" else "",
                data,
            )
    return found


def stacked(image: StoredImage) -> dict[str, tuple[object, ...]]:
    """What overlayfs makes of the layers."""
    found: dict[str, tuple[object, ...]] = {}
    for layer in image.layers:
        for folder_path, names, files in os.walk(layer):
            here = os.path.relpath(folder_path, layer).removeprefix(".").lstrip("/")
            if here and "user.overlay.opaque" in os.listxattr(folder_path):
                _remove(found, here, itself=False)
            for name in (*names, *files):
                path = Path(folder_path, name)
                status = path.lstat()
                key = f"{here}/{name}".lstrip("/")
                if not (stat.S_ISDIR(status.st_mode) and found.get(key, "d")[0] == "d"):
                    _remove(found, key, itself=True)
                if stat.S_ISCHR(status.st_mode):
                    continue
                kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(status.st_mode), "f")
                mode = "" if kind == "l" else stat.S_IMODE(status.st_mode)
                target = os.readlink(path) if kind == "l" else ""
                found[key] = (kind, mode, target, path.read_bytes() if kind == "f" else b"")
    return found


def _remove(found: dict[str, tuple[object, ...]], key: str, itself: bool) -> None:
    for each in [each for each in found if each.startswith(f"{key}/") or (itself and each == key)]:
        del found[each]


DOCKERS_OWN = {".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "etc/hostname", "etc/hosts", "etc/mtab"}
DOCKERS_OWN |= {"etc/resolv.conf", "proc", "sys", ""}
"""What Docker puts into every container."""


def test_layers_are_what_docker_makes_of_them(docker_host, client, image, sources, store):
    assert sources(daemon=docker_host).local([NAME]) == {NAME: image.id}
    docker_sees = {path: each for path, each in seen_by_docker(client, NAME).items() if path not in DOCKERS_OWN}
    we_see = {path: each for path, each in stacked(store.find(NAME)).items() if path not in DOCKERS_OWN}
    assert we_see == docker_sees
    assert set(we_see) == {"etc", "etc/motd", "data", "data/new", "once", "tree", "tree/other", "f", "g", "l"}


def test_an_image_of_the_local_docker_is_taken_and_told(docker_host, image, sources):
    events = []
    found = sources(daemon=docker_host).resolve([NAME], PullPolicy.MISSING, events.append)
    assert found == {NAME: image.id}
    assert events[-1] == ImageProgress(NAME, 0, 0, done=True)
    # From then on nobody needs that Docker.
    assert sources().local([NAME]) == {NAME: image.id}


def test_an_image_that_was_built_anew_replaces_the_one_that_was_taken_before(
    docker_host, client, image, sources, tmp_path
):
    source = sources(daemon=docker_host)
    assert source.local([NAME]) == {NAME: image.id}
    newer = Built([*LAYERS, tar(entry("newer"))], {"Cmd": ["x"]})
    with open(docker_archive(tmp_path / "newer.tar", {NAME: newer}), "rb") as file:
        client.images.load(file)
    assert source.local([NAME]) == {NAME: newer.id}


def test_what_the_local_docker_does_not_have_is_asked_for_elsewhere(docker_host, sources, registry):
    reference = registry.push("shop/api:1", Built(LAYERS))
    found = sources(daemon=docker_host).resolve([reference], PullPolicy.MISSING, silent)
    assert found == {reference: Built(LAYERS).id}


@pytest.mark.parametrize("endpoint", ["unix:///nowhere.sock", "tcp://127.0.0.1:1"])
def test_a_docker_that_does_not_answer_counts_as_none(sources, endpoint):
    found = sources(daemon=endpoint).resolve(["shop/api:1"], PullPolicy.NEVER, silent)["shop/api:1"]
    assert isinstance(found, Problem)
    assert "is not on the engine, and pulling is off" in found.message


def test_a_docker_that_gives_half_an_image_is_told(docker_host, sources, monkeypatch):
    monkeypatch.setattr("pytest_enclave.images.daemon.Daemon._copy", _half)
    source = sources(daemon=docker_host)
    found = source.resolve(["enclave-test/busybox:local"], PullPolicy.MISSING, silent)
    problem = found["enclave-test/busybox:local"]
    assert isinstance(problem, Problem)
    assert "the archive is cut off" in problem.message


def _half(self: object, name: str, write, advance) -> None:
    write(tar(entry("a", bytes(5000)))[:2000])
