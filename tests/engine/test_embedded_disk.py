"""Files of services on disk, for kernels whose memory cannot carry an overlay: they go with the last that uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import Action
from tests.engine.enclave_processes import Processes, kill
from tests.engine.engine_enclave import BUSYBOX, Enclave, enclave_id
from tests.engine.made_images import MadeImages
from tests.images_room.builder import entry


@pytest.fixture
def images(tmp_path: Path) -> Iterator[MadeImages]:
    """Images of our own making, and an engine that keeps files next to them."""
    made = MadeImages(tmp_path, storage="disk")
    yield made
    made.close()
    assert not (tmp_path / "files").exists()


@pytest.fixture
def enclave(images: MadeImages) -> Enclave:
    """An enclave with a service that has written files."""
    enclave = images.open()
    passwd = entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
    enclave.up("a", images.make(passwd), cmd=("sleep", "1000000"))
    # Of other owners, closed to everybody, and deep.
    enclave.sh("a", "mkdir -p /d/e/f; echo 1 >/d/e/f/1; touch /d/2; chown 33:44 /d/2 /d/e; chmod 0 /d/e /d; rm -r /var")
    return enclave


def fork(images: MadeImages, enclave: Enclave) -> Enclave:
    """A fork of an enclave."""
    images.opened.append(enclave.fork())
    return images.opened[-1]


def kept(tmp_path: Path) -> list[str]:
    """Enclaves whose files are on the disk."""
    return sorted(path.name.rpartition("-")[0] for path in (tmp_path / "files").glob("*"))


def test_files_are_on_disk_as_long_as_the_enclave_lives(images: MadeImages, enclave: Enclave, tmp_path: Path):
    assert kept(tmp_path) == [enclave.id.name]
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700
    enclave.site.act("a", Action.STOP)
    enclave.site.act("a", Action.START)
    assert enclave.sh("a", "cat /d/e/f/1") == "1"
    assert enclave.site.close() == []
    assert not (tmp_path / "files").exists()


def test_the_engine_works_on_disk_as_in_memory(images: MadeImages, enclave: Enclave):
    assert b"".join(enclave.site.read("a", "/d/e/f/1"))
    enclave.up("host", "host:/")
    enclave.sh("host", "echo 2 >/tmp/2")
    enclave.site.freeze()
    copy = fork(images, enclave)
    assert copy.sh("host", "cat /tmp/2") == "2"
    assert copy.sh("a", "ls /d; ls /var 2>/dev/null || true").split() == ["2", "e"]
    copy.sh("a", "echo changed >/d/e/f/1")
    assert enclave.sh("a", "cat /d/e/f/1") == "1"
    assert copy.site.close() == []
    assert enclave.sh("a", "cat /d/e/f/1") == "1"


def test_a_fork_keeps_its_files_when_its_origin_is_closed_first(images: MadeImages, enclave: Enclave, tmp_path: Path):
    enclave.site.freeze()
    copy = fork(images, enclave)
    copy.sh("a", "echo 2 >>/d/e/f/1")
    copy.site.freeze()
    second = fork(images, copy)
    assert enclave.site.close() == []
    assert copy.sh("a", "cat /d/e/f/1").split() == ["1", "2"]
    assert second.sh("a", "cat /d/e/f/1").split() == ["1", "2"]
    assert len(kept(tmp_path)) == 3
    assert copy.site.close() == []
    second.site.act("a", Action.STOP)
    second.site.act("a", Action.START)
    assert second.sh("a", "cat /d/e/f/1; ls /var 2>/dev/null || true").split() == ["1", "2"]
    assert second.site.close() == []
    assert not (tmp_path / "files").exists()


def test_what_a_fork_has_written_goes_with_it(images: MadeImages, enclave: Enclave, tmp_path: Path):
    enclave.site.freeze()
    for _ in range(3):
        copy = fork(images, enclave)
        copy.sh("a", "echo new >/new")
        assert copy.site.close() == []
    assert kept(tmp_path) == [enclave.id.name]


def test_files_of_a_killed_supervisor_are_removed(images: MadeImages, enclave: Enclave, tmp_path: Path):
    kill(Processes(images.engine).supervisor)
    assert enclave.site.close() == []
    assert not (tmp_path / "files").exists()


def test_files_that_nobody_uses_go_with_the_next_enclave(images: MadeImages, enclave: Enclave, tmp_path: Path):
    (tmp_path / "files" / "left-by-a-crash").mkdir()
    other = images.open()
    assert other.site.close() == []
    assert kept(tmp_path) == [enclave.id.name]


def test_what_forks_write_in_memory_goes_with_them():
    engine = EmbeddedEngine()
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    try:
        enclave.up("a", BUSYBOX)
        enclave.site.freeze()
        init = Processes(engine).init
        storage = f"/proc/{init}/root/sys"
        before = os.statvfs(storage).f_bfree
        for _ in range(3):
            id_ = enclave_id()
            copy = Enclave(enclave.site.fork(id_), id_)
            copy.sh("a", "dd if=/dev/zero of=/file bs=1M count=8 2>/dev/null")
            assert copy.site.close() == []
        assert (before - os.statvfs(storage).f_bfree) * os.statvfs(storage).f_frsize < 1 << 20
    finally:
        assert enclave.site.close() == []
        engine.close()
