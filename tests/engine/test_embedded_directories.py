"""Persistent directories of the embedded engine: what is copied from an image that nobody trusts, and on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.embedded.inside.directories import fill_from_image
from tests.engine.engine_enclave import Enclave, enclave_id


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root of an image, beside which there is a secret."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    root = tmp_path / "image"
    root.mkdir()
    return root


@pytest.fixture
def fill(image: Path) -> Callable[[str], dict[str, str]]:
    """Fills a persistent directory from a path of the image; what is in it then, links by what they lead to."""
    place = image.parent / "persistent" / "place"
    place.mkdir(parents=True)

    def filled(path: str) -> dict[str, str]:
        opened = [os.open(each, os.O_PATH | os.O_DIRECTORY) for each in (image, place)]
        try:
            fill_from_image(opened[0], path, opened[1])
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return {
            each.relative_to(place).as_posix(): os.readlink(each) if each.is_symlink() else each.read_text()
            for each in sorted(place.rglob("*"))
            if each.is_symlink() or each.is_file()
        }

    return filled


def test_links_in_the_way_do_not_lead_out_of_the_image(image: Path, fill: Callable[[str], dict[str, str]]):
    (image / "up").symlink_to("../../secret")
    (image / "absolute").symlink_to(image.parent / "secret")
    opened = os.open(image.parent / "secret", os.O_PATH)
    (image / "kernel").symlink_to(f"/proc/self/fd/{opened}")
    try:
        assert [fill(path) for path in ("/up", "/absolute", "/kernel", "/../secret")] == [{}, {}, {}, {}]
    finally:
        os.close(opened)
    (image / "secret").mkdir()
    (image / "secret" / "file").write_text("of the image")
    assert fill("/up") == {"file": "of the image"}


def test_links_in_the_directory_are_copied_as_they_are(image: Path, fill: Callable[[str], dict[str, str]]):
    (image / "data" / "deep").mkdir(parents=True)
    (image / "data" / "deep" / "file").write_text("content")
    (image / "data" / "out").symlink_to(image.parent / "secret" / "file")
    (image / "data" / "folder").symlink_to(image.parent / "secret")
    secret = str(image.parent / "secret")
    assert fill("/data") == {"deep/file": "content", "folder": secret, "out": f"{secret}/file"}


def test_modes_and_times_are_copied_and_what_is_no_file_is_left_out(image: Path, fill: Callable[[str], dict[str, str]]):
    data = image / "data"
    data.mkdir(mode=0o700)
    (data / "program").write_text("#!/bin/sh")
    (data / "program").chmod(0o4751)
    os.mkfifo(data / "pipe")
    for path in (data / "program", data):
        os.utime(path, (1, 2))
    assert fill("/data") == {"program": "#!/bin/sh"}
    place = image.parent / "persistent" / "place"
    assert [path.name for path in place.iterdir()] == ["program"]
    found = [(path.stat().st_mode & 0o7777, path.stat().st_mtime) for path in (place / "program", place)]
    assert found == [(0o4751, 2.0), (0o700, 2.0)]


def test_what_is_not_empty_is_left_alone(image: Path, fill: Callable[[str], dict[str, str]]):
    (image / "data").mkdir()
    (image / "data" / "file").write_text("of the image")
    (image.parent / "persistent" / "place" / "mine").write_text("mine")
    assert fill("/data") == {"mine": "mine"}


def test_a_file_or_nothing_at_the_path_fills_nothing(image: Path, fill: Callable[[str], dict[str, str]]):
    (image / "file").write_text("x")
    assert [fill("/file"), fill("/nothing")] == [{}, {}]


@pytest.fixture
def on_disk() -> Iterator[EmbeddedEngine]:
    """The engine as it is where the kernel cannot keep files in memory."""
    engine = EmbeddedEngine(storage="disk")
    yield engine
    assert engine.close() == []


def test_they_are_kept_and_forked_on_disk_too(on_disk: EmbeddedEngine):
    enclaves = []
    try:
        id_ = enclave_id()
        origin = Enclave(on_disk.open(id_), id_)
        enclaves.append(origin)
        origin.up("s", directories={"/data": "data"})
        origin.sh("s", "mkdir /data/deep && echo old > /data/deep/file && chmod 700 /data/deep")
        origin.site.freeze()
        id_ = enclave_id()
        copy = Enclave(origin.site.fork(id_), id_)
        enclaves.append(copy)
        origin.sh("s", "echo new > /data/deep/file")
        assert copy.sh("s", "cat /data/deep/file") == "old"
        copy.sh("s", "rm -r /data/deep")
        assert origin.sh("s", "cat /data/deep/file") == "new"
    finally:
        leaks = [leak for enclave in enclaves for leak in enclave.site.close()]
    assert leaks == []
