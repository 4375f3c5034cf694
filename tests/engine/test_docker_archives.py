"""Images from archives on a real Docker engine: loaded under names of their own, once; what cannot be is told."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.loading import REPOSITORY, Archives, Unloadable
from pytest_enclave.engine.protocol import Address, Engine, PullPolicy, ServiceSpec
from pytest_enclave.errors import ImageUnavailable, Problem
from pytest_enclave.plan.events import silent
from pytest_enclave.plan.images import Archive
from tests.engine.engine_enclave import Enclave

BUSYBOX = "enclave-test/busybox:local"


def archive(path: Path, *tags: str, images: int = 1, config: str = "") -> Path:
    """An image of one small layer as `docker save` writes it, under the names given."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(f"file-{path.name}"), io.BytesIO())
    diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    settings = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}
    files = {
        "config.json": json.dumps(settings).encode(),
        "layer/layer.tar": layer.getvalue(),
        "repositories": json.dumps({tag.split(":")[0]: {"latest": "layer"} for tag in tags}).encode(),
    }
    image = {"Config": config or "config.json", "RepoTags": list(tags), "Layers": ["layer/layer.tar"]}
    files["manifest.json"] = json.dumps([image] * images).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def client(docker_host: str) -> Iterator[docker.APIClient]:
    """A client for looking at the engine, and for removing what was loaded."""
    client = docker.APIClient(docker_host)
    before = {tag for image in client.images() for tag in image["RepoTags"] or ()}
    yield client
    for image in client.images():
        for tag in image["RepoTags"] or ():
            if tag not in before and tag.startswith(REPOSITORY):
                client.remove_image(tag)
    client.close()


def resolved(engine: DockerEngine, reference: str) -> str | Problem:
    """What resolving one image gives."""
    return engine.resolve_images([reference], PullPolicy.NEVER, silent)[reference]


def test_an_archive_is_loaded_under_a_name_made_from_its_content(
    docker_engine: DockerEngine, client: docker.APIClient, tmp_path: Path
) -> None:
    path = archive(tmp_path / "one.tar", BUSYBOX, "enclave-test/unheard-of:latest")
    reference = f"docker-archive:{path}"
    before = client.inspect_image(BUSYBOX)["Id"]
    assert docker_engine.local_images([reference]) == {reference: None}
    found = resolved(docker_engine, reference)
    assert isinstance(found, str)
    (tag,) = client.inspect_image(found)["RepoTags"]
    assert tag.startswith(f"{REPOSITORY}:")
    assert docker_engine.local_images([reference]) == {reference: found}
    assert client.inspect_image(BUSYBOX)["Id"] == before
    with pytest.raises(docker.errors.ImageNotFound):
        client.inspect_image("enclave-test/unheard-of:latest")


def test_what_is_there_is_not_loaded_again(
    docker_engine: DockerEngine, client: docker.APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"docker-archive:{archive(tmp_path / 'two.tar')}"
    found = resolved(docker_engine, reference)
    monkeypatch.setattr(Archives, "load", lambda *_: pytest.fail("loaded again"))
    assert resolved(docker_engine, reference) == found


def test_a_changed_archive_is_another_image(
    docker_engine: DockerEngine, client: docker.APIClient, tmp_path: Path
) -> None:
    path = archive(tmp_path / "three.tar")
    first = resolved(docker_engine, f"docker-archive:{path}")
    archive(tmp_path / "four.tar").replace(path)
    second = resolved(docker_engine, f"docker-archive:{path}")
    assert isinstance(second, str)
    assert second != first


def test_a_compressed_archive_is_loaded(docker_engine: DockerEngine, client: docker.APIClient, tmp_path: Path) -> None:
    path = archive(tmp_path / "five.tar")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert isinstance(resolved(docker_engine, f"docker-archive:{path}"), str)


def test_a_service_runs_from_an_archive(
    docker_engine: DockerEngine,
    open_enclave: Callable[[Engine], Enclave],
    client: docker.APIClient,
    tmp_path: Path,
) -> None:
    path = tmp_path / "busybox.tar"
    with path.open("wb") as file:
        for chunk in client.get_image(BUSYBOX):
            file.write(chunk)
    reference = f"docker-archive:{path}"
    found = resolved(docker_engine, reference)
    site = open_enclave(docker_engine).site
    spec = ServiceSpec("s", reference, site.reserve("s"), cmd=("sleep", "60"))
    assert site.start([spec], {}, 1) == {"s": None}
    assert site.observe()["s"].image == found
    path.unlink()
    error = site.start([spec], {}, 1)["s"]
    assert isinstance(error, ImageUnavailable)
    assert str(error) == f'image "{reference}" is not on the engine'


@pytest.mark.parametrize(
    ("write", "reason", "remedy"),
    [
        (
            lambda path: path.write_text("no tar"),
            "it is no tar archive",
            "write it with `docker save --output FILE IMAGE`",
        ),
        (
            lambda path: tarfile.open(path, "w").close(),
            "`docker save` did not write it",
            "write it with `docker save --output FILE IMAGE`",
        ),
        (
            lambda path: archive(path, images=2),
            "it holds 2 images, where one is meant",
            "`docker save` only that one into the file",
        ),
        (
            lambda path: archive(path, config="nowhere"),
            "`docker save` did not write it",
            "write it with `docker save --output FILE IMAGE`",
        ),
        (lambda path: None, "it cannot be read: No such file or directory", ""),
    ],
)
def test_what_is_no_archive_of_an_image_is_told(docker_engine: DockerEngine, tmp_path: Path, write, reason, remedy):
    path = tmp_path / "image.tar"
    write(path)
    reference = f"docker-archive:{path}"
    assert resolved(docker_engine, reference) == Problem(
        f'image "{reference}": {reason}', subject=reference, remedy=remedy
    )
    assert docker_engine.local_images([reference]) == {reference: None}


def test_what_the_engine_does_not_take_is_told_in_its_words(
    docker_engine: DockerEngine, client: docker.APIClient, tmp_path: Path
) -> None:
    path = tmp_path / "broken.tar"
    with tarfile.open(archive(tmp_path / "whole.tar")) as whole, tarfile.open(path, "w") as broken:
        for member in whole:
            if member.name != "layer/layer.tar":
                broken.addfile(member, whole.extractfile(member))
    problem = resolved(docker_engine, f"docker-archive:{path}")
    assert isinstance(problem, Problem)
    assert problem.message.startswith(f'image "docker-archive:{path}": the engine does not load it: ')


def test_a_layout_is_refused_with_what_to_do(docker_engine: DockerEngine) -> None:
    assert resolved(docker_engine, "oci:/p/app") == Problem(
        'image "oci:/p/app": the Docker engine loads no OCI image layouts',
        subject="oci:/p/app",
        remedy="`skopeo copy oci:/p/app docker-archive:FILE.tar`, or `--enclave-engine=embedded`",
    )


HOST = 'image "host:/" is the root file system of this machine, which only the embedded engine can use'
REMEDY = "`--enclave-engine=embedded`, or name an image of a registry"


def test_the_root_of_the_machine_is_refused_and_no_registry_is_asked(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docker.APIClient.inspect_image", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("pytest_enclave.engine.docker.pulling.Puller.pull", lambda *_: pytest.fail("pulled"))
    assert docker_engine.local_images(["host:/"]) == {"host:/": None}
    assert docker_engine.resolve_images(["host:/"], PullPolicy.ALWAYS, silent) == {
        "host:/": Problem(HOST, subject="host:/", remedy=REMEDY)
    }
    assert docker_engine.check(ServiceSpec("s", "host:/", Address("s", ""))) == [
        Problem(HOST, subject="s", remedy=REMEDY)
    ]


def test_the_name_is_that_of_the_configuration(tmp_path: Path) -> None:
    path = archive(tmp_path / "app.tar")
    with tarfile.open(path) as tar:
        config = tar.extractfile("config.json")
        assert config is not None
        digest = hashlib.sha256(config.read()).hexdigest()
    archives = Archives()
    assert archives.name_of(Archive("docker-archive", str(path))) == f"{REPOSITORY}:{digest}"
    path.unlink()
    with pytest.raises(Unloadable, match="it cannot be read"):
        archives.name_of(Archive("docker-archive", str(path)))
