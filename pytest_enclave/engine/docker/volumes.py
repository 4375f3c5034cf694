"""The content of the volumes that an image declares: images made from containers lack it, so it is kept beside them.

It is kept in unnamed files, which go with this process at the latest, where temporary files are on this machine.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING, Any

import msgspec

from pytest_enclave.engine.docker.archives import CHUNK, read_archive
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import NotReached
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient


class FrozenVolume(msgspec.Struct, frozen=True):
    """What was in a volume: where it was mounted, and a tar file with the mount point as its only entry at the top."""

    path: str
    content: IO[bytes]


def volume_mount(path: str) -> dict[str, Any]:
    """The mount of a new volume, which goes with its container, without what the image has at that path."""
    return {"Type": "volume", "Target": path, "VolumeOptions": {"NoCopy": True}}


def take_volumes(
    client: APIClient, container: str, mounts: Sequence[Mapping[str, Any]], named: Sequence[str], doing: str
) -> Iterator[FrozenVolume]:
    """The content of a stopped container's volumes, except of those at `named` paths, which are not its own.

    `mounts` are the container's, as the engine tells them; `doing` is what errors begin with. Raises EngineError.
    """
    paths = [str(mount["Destination"]) for mount in mounts]
    own = [str(mount["Destination"]) for mount in mounts if mount["Type"] == "volume"]
    for path in own:
        if path not in named:
            inside = [other for other in paths if other.startswith(f"{path}/")]
            yield FrozenVolume(path, _taken(client, container, path, inside, doing))


def put_volume(client: APIClient, container: str, volume: FrozenVolume) -> None:
    """Fill the volume of a container that does not run. Raises EngineError."""
    with translate(f"cannot fill the volume at {volume.path}"):
        client.put_archive(container, posixpath.dirname(volume.path), _pieces(volume.content))


def _taken(client: APIClient, container: str, path: str, mounted_inside: Sequence[str], doing: str) -> IO[bytes]:
    with ExitStack() as on_failure:
        content: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        on_failure.callback(_drop, content)
        try:
            for piece in read_archive(client, container, path, doing):
                content.write(piece)
            content.flush()
            if mounted_inside:
                return _without(content, posixpath.dirname(path), mounted_inside)
        except NotReached as missing:
            raise EngineError(f"cannot read the volume at {path}: {missing}") from None
        except OSError as error:
            raise EngineError(
                f"cannot keep the content of the volume at {path}: {error.strerror or error}",
                remedy=f"it is kept in {tempfile.gettempdir()}; TMPDIR says where else there is room",
            ) from None
        on_failure.pop_all()
    return content


def _drop(content: IO[bytes]) -> None:
    """Close a file, whatever of it could not be written."""
    with suppress(OSError):
        content.close()


def _without(content: IO[bytes], top: str, paths: Sequence[str]) -> IO[bytes]:
    """The archive without what is mounted inside the volume: it gets there by itself, and may be read-only."""
    left_out = [posixpath.relpath(path, top) for path in paths]
    rest: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
    content.seek(0)
    with ExitStack() as on_failure:
        on_failure.callback(_drop, rest)
        with tarfile.open(fileobj=content) as archive, tarfile.open(fileobj=rest, mode="w") as kept:
            for member in archive:
                if not any(member.name == path or member.name.startswith(f"{path}/") for path in left_out):
                    kept.addfile(member, archive.extractfile(member) if member.isreg() else None)
        rest.flush()
        on_failure.pop_all()
    return rest


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    """The file from its beginning, whoever else reads it at the same time."""
    position = 0
    while piece := os.pread(content.fileno(), CHUNK, position):
        yield piece
        position += len(piece)
