"""Persistent directories: volumes of the enclave, one for each key, which stay when the services that mount them go.

The engine fills a new volume with what the image of the first container has at the path. The volumes of a fork are
filled with what its origin's had, through a container that is created but never started.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.containers import create_helper, remove_helper
from pytest_enclave.engine.docker.frozen import FrozenDirectory
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.docker.volumes import put_volume, take_volumes

INSIDE = "/enclave-files"
"""Where a volume is mounted while its content is copied."""


class PersistentVolumes:
    """The persistent directories of one enclave. `marks` are its labels."""

    def __init__(self, client: Client, enclave: str, marks: Mapping[str, str]) -> None:
        self._client = client
        self._enclave = enclave
        self._marks = dict(marks)
        self._first = threading.Lock()
        self._lock = threading.Lock()
        self._images: dict[str, str] = {}
        self._any_image = ""

    def mounts(self, directories: Mapping[str, str], filled: bool) -> list[dict[str, Any]]:
        """The mounts of a service, by path and key; one that is `filled` takes nothing from the image."""
        return [self._mount(path, key, filled) for path, key in directories.items()]

    @contextmanager
    def using(self, directories: Mapping[str, str], image: str) -> Iterator[None]:
        """While a container of that image is created: one at a time fills volumes. They are there afterwards."""
        if not directories:
            yield
            return
        with self._first:
            yield
            self.learn(directories, image)

    def learn(self, directories: Mapping[str, str], image: str) -> None:
        """A service of that image has these."""
        with self._lock:
            self._images |= {key: image for key in directories.values() if key not in self._images}
            self._any_image = image

    def take(self) -> Iterator[FrozenDirectory]:
        """Every directory that there is, while nobody writes to it. Raises EngineError."""
        for key, image in self._known().items():
            doing = f'cannot read the persistent directory "{key}"'
            with translate(doing), self._holder(key, image) as holder:
                mounts = [{"Type": "volume", "Destination": INSIDE}]
                [content] = take_volumes(self._client.sdk, holder, mounts, (), doing)
            yield FrozenDirectory(key, image, content)

    def put(self, frozen: FrozenDirectory) -> None:
        """Make a directory as it was in another enclave. Raises EngineError."""
        with (
            translate(f'cannot fill the persistent directory "{frozen.key}"'),
            self._holder(frozen.key, frozen.image) as holder,
        ):
            put_volume(self._client.sdk, holder, frozen.content)
        with self._lock:
            self._images[frozen.key] = frozen.image

    def _known(self) -> Mapping[str, str]:
        """The image for each directory, also for those that other processes have made and no service has any more."""
        with self._lock:
            images, any_image = dict(self._images), self._any_image
        if any_image:
            with translate("cannot list the enclave's persistent directories"):
                volumes = self._client.sdk.volumes(filters=dict(labels.of_enclave(self._enclave)))["Volumes"] or []
            start = self._name("")
            names = [volume["Name"] for volume in volumes if volume["Name"].startswith(start)]
            images = {**dict.fromkeys((name.removeprefix(start) for name in names), any_image), **images}
        return images

    def _mount(self, path: str, key: str, filled: bool) -> dict[str, Any]:
        options = {"NoCopy": filled, "Labels": self._marks}
        return {"Type": "volume", "Source": self._name(key), "Target": path, "VolumeOptions": options}

    def _name(self, key: str) -> str:
        return f"{self._enclave}-persistent-{key}"

    @contextmanager
    def _holder(self, key: str, image: str) -> Iterator[str]:
        """A container that has the volume, and does not run."""
        config = {
            "Image": image,
            "Cmd": ["true"],
            "Labels": self._marks,
            "HostConfig": {"Mounts": [self._mount(INSIDE, key, True)], "NetworkMode": "none"},
        }
        name = f"{self._name(key)}-holder"
        container = create_helper(self._client.sdk, config, name)
        try:
            yield container
        finally:
            remove_helper(self._client.sdk, container)
