"""Pulling from a registry server as it is used in earnest: Debian's docker-registry on the loopback address."""

from __future__ import annotations

import os

import pytest

from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.patience import Patience
from pytest_enclave.plan.events import ImageProgress, silent
from tests.images_room.builder import (
    ARCHITECTURE,
    OCI,
    Built,
    descriptor,
    digest_of,
    entry,
    folder,
    gzipped,
    index,
    tar,
)
from tests.images_room.conftest import QUICK

DOCKER = "application/vnd.docker"

BASE = tar(folder("./"), entry("base", os.urandom(1 << 20)))


def docker_image(*layers: bytes) -> Built:
    return Built(
        layers,
        {"Cmd": ["serve"]},
        layer_type=f"{DOCKER}.image.rootfs.diff.tar.gzip",
        config_type=f"{DOCKER}.container.image.v1+json",
        manifest_type=f"{DOCKER}.distribution.manifest.v2+json",
    )


def resolve(sources, reference, policy=PullPolicy.MISSING, emit=silent):
    return sources.resolve([reference], policy, emit)[reference]


@pytest.mark.parametrize("image", [docker_image(BASE, tar(entry("top"))), Built([BASE, tar(entry("top"))])])
def test_an_image_that_was_pushed_is_pulled(server, sources, store, image):
    reference = server.push("shop/api:1", image)
    events = []
    assert resolve(sources(), reference, emit=events.append) == image.id
    found = store.find(reference)
    assert [os.listdir(layer) for layer in found.layers] == [["base"], ["top"]]
    assert events[-1] == ImageProgress(reference, 0, 0, done=True)


def test_by_digest_and_by_platform(server, sources):
    mine, other = Built([BASE]), Built([BASE], architecture="mips")
    entries = []
    for image in (other, mine):
        server.push(f"shop/index:{image.architecture}", image)
        told = {"os": "linux", "architecture": image.architecture}
        entries.append(descriptor(image.manifest, image.manifest_type, platform=told))
    digest = server.put_manifest("shop/index", "all", index(*entries), f"{OCI}.index.v1+json")
    assert resolve(sources(), f"{server.address}/shop/index:all") == mine.id
    assert resolve(sources(), f"{server.address}/shop/index@{digest}") == mine.id
    assert resolve(sources(), f"{server.address}/shop/index:{ARCHITECTURE}") == mine.id


def test_the_rest_of_a_download_is_asked_for(server, sources, store):
    image = Built([tar(entry("big", os.urandom(2 << 20)))])
    reference = server.push("shop/big:1", image)
    store.prepare()
    (layer,) = image.layers
    packed = gzipped(layer)
    store.layers.blob(digest_of(layer), digest_of(packed)).write_bytes(packed[: 1 << 20])
    events = []
    assert resolve(sources(), reference, emit=events.append) == image.id
    assert min(event.current for event in events[:-1]) >= 1 << 20


@pytest.mark.parametrize("name", ["shop/api:none", "nobody/nothing:1"])
def test_what_it_does_not_have_is_told(server, sources, name):
    server.push("shop/api:1", Built([BASE]))
    found = resolve(sources(), f"{server.address}/{name}")
    assert isinstance(found, Problem)
    assert found.message == f'image "{server.address}/{name}": its registry has no such image or tag'


def test_many_images_at_once(server, sources):
    images = {f"shop/{number}:1": Built([BASE, tar(entry(str(number)))]) for number in range(8)}
    references = [server.push(name, image) for name, image in images.items()]
    patience = Patience(stall=10, tries=2, pause=QUICK.pause)
    found = sources(patience=patience).resolve(references, PullPolicy.ALWAYS, silent)
    assert list(found.values()) == [image.id for image in images.values()]
