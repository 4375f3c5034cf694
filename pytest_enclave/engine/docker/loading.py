"""Images from archives that `docker save` wrote: loaded under a name made from their content, whatever theirs are.

So nothing that the engine has under the archive's own names is replaced, and what is there already is not loaded again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.translation import Refused, accepted, translate
from pytest_enclave.plan.images import OCI_LAYOUT, Archive

if TYPE_CHECKING:
    from docker import APIClient

REPOSITORY = "pytest-enclave-archive"
"""What loaded images are called on the engine; their tag is the digest of their configuration."""

MANIFEST = "manifest.json"
NAMES = "repositories"

_CHUNK = 1 << 20


class Unloadable(Exception):
    """An archive that cannot become an image of the engine: why, and what to do about it."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Archives:
    """What archives hold, read once for as long as they stay as they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[tuple[str, int, int, int], str] = {}

    def name_of(self, archive: Archive) -> str:
        """The name that the archive's image has, or will have, on the engine. Raises Unloadable."""
        if archive.kind == OCI_LAYOUT:
            raise Unloadable(
                "the Docker engine loads no OCI image layouts",
                f"`skopeo copy {archive} docker-archive:FILE.tar`, or `--enclave-engine=embedded`",
            )
        try:
            status = os.stat(archive.path)
            key = (archive.path, status.st_ino, status.st_mtime_ns, status.st_size)
            with self._lock:
                if key not in self._names:
                    self._names[key] = f"{REPOSITORY}:{_configuration(archive.path)}"
                return self._names[key]
        except OSError as error:
            raise Unloadable(f"it cannot be read: {error.strerror or error}") from None
        except (tarfile.TarError, EOFError):
            raise Unloadable("it is no tar archive", "write it with `docker save --output FILE IMAGE`") from None

    def load(self, client: APIClient, archive: Archive) -> None:
        """Have the archive's image on the engine, under its `name_of`. Raises Unloadable, EngineError."""
        name = self.name_of(archive)
        try:
            with translate(f"cannot load {archive}"):
                response = client.post(
                    f"{client.base_url}/v{client.api_version}/images/load",
                    params={"quiet": 1},
                    data=_renamed(archive.path, name),
                    stream=True,
                    timeout=client.timeout,
                )
                with accepted(response):
                    messages = [json.loads(line) for line in response.iter_lines() if line]
        except Refused as refused:
            raise Unloadable(f"the engine does not load it: {refused.explanation}") from None
        for message in messages:
            if "error" in message:
                raise Unloadable(f"the engine does not load it: {message['error']}")


def _configuration(path: str) -> str:
    """The digest of the image's configuration, which names all that is in the image."""
    with tarfile.open(path) as tar:
        images = _manifest(tar)
        if len(images) != 1:
            raise Unloadable(
                f"it holds {len(images)} images, where one is meant", "`docker save` only that one into the file"
            )
        try:
            member = tar.extractfile(images[0]["Config"])
        except (KeyError, TypeError):
            member = None
        if member is None:
            raise _not_saved()
        return hashlib.sha256(member.read()).hexdigest()


def _manifest(tar: tarfile.TarFile) -> list[Any]:
    try:
        member = tar.extractfile(MANIFEST)
        images = json.loads(member.read()) if member is not None else None
    except (KeyError, ValueError):
        images = None
    if not isinstance(images, list):
        raise _not_saved()
    return images


def _not_saved() -> Unloadable:
    return Unloadable("`docker save` did not write it", "write it with `docker save --output FILE IMAGE`")


def _renamed(path: str, name: str) -> Iterator[bytes]:
    """The archive as it is, but for the name of its image."""
    with tarfile.open(path) as tar:
        (image,) = _manifest(tar)
        manifest = json.dumps([{**image, "RepoTags": [name]}]).encode()
        for member in tar:
            if member.name == MANIFEST:
                member.size = len(manifest)
                yield from _entry(member, io.BytesIO(manifest))
            elif member.name != NAMES:
                yield from _entry(member, tar.extractfile(member) if member.isreg() else None)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(member: tarfile.TarInfo, content: Any) -> Iterator[bytes]:
    yield member.tobuf(tarfile.PAX_FORMAT)
    if content is not None:
        while chunk := content.read(_CHUNK):
            yield chunk
        yield bytes(-member.size % tarfile.BLOCKSIZE)
