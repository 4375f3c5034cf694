"""Images for tests, made from busybox and whatever else is to be in them, in a store of their own."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from pathlib import Path

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.images.store import ImageStore, default_root
from pytest_enclave.linux.identity import own_map
from tests.engine.engine_enclave import BUSYBOX, Enclave, enclave_id
from tests.images_room.builder import Built, docker_archive, folder, tar

Entry = tuple[tarfile.TarInfo, bytes]


class MadeImages:
    """Makes images, and opens enclaves that have them."""

    def __init__(self, directory: Path, storage: str | None = None) -> None:
        self._directory = directory
        self._store = ImageStore(directory / "images", own_map())
        self._numbers = itertools.count(1)
        self.opened: list[Enclave] = []
        found = ImageStore(default_root(os.environ), own_map()).find(BUSYBOX)
        assert found is not None
        self._base = [_packed(layer) for layer in found.layers]
        self.busybox = next(
            path for layer in found.layers if (path := Path(layer, "usr/bin/busybox")).is_file()
        ).read_bytes()
        self.engine = EmbeddedEngine(store=directory / "images", storage=storage)

    def make(self, *entries: Entry, base: bool = True, **config: object) -> str:
        """An image with the files of busybox and with these entries above; its name."""
        layers = [*(self._base if base else ()), tar(folder("tmp", mode=0o1777), *entries)]
        name = f"made/image:{next(self._numbers)}"
        archive = docker_archive(self._directory / "image.tar", {name: Built(layers, config)})
        self._store.load(archive, name)
        return name

    def open(self) -> Enclave:
        """An enclave that has these images."""
        id_ = enclave_id()
        self.opened.append(Enclave(self.engine.open(id_), id_))
        return self.opened[-1]

    def close(self) -> None:
        """Close the enclaves; nothing may be left."""
        assert [leak for enclave in self.opened for leak in enclave.site.close()] == []
        assert self.engine.close() == []


def _packed(directory: str) -> bytes:
    """A layer again, all of it root's."""

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(directory, ".", filter=owned)
    return file.getvalue()
