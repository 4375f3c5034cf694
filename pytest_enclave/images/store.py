"""The images of this user: found by name, loaded from archives, kept as layers that are unpacked once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_enclave import cache
from pytest_enclave.errors import ImageUnavailable
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.image import StoredImage, parse_config, parse_document
from pytest_enclave.images.layers import layer_path
from pytest_enclave.images.references import ArchiveReference, ImageId, Reference, RegistryReference, parse

if TYPE_CHECKING:
    from pytest_enclave.images.archive import Files
    from pytest_enclave.images.layers import LayerStore, Source
    from pytest_enclave.images.unpacker import Unpacker
    from pytest_enclave.linux.identity import IdMap

FROM_DAEMON = "docker:"
"""What the origin of an image of the local Docker begins with; the ID that Docker gave it follows."""

AT_A_TIME = 3
"""Layers of an image that are fetched and unpacked at the same time."""

Stamp = tuple[int, int, int]
"""What tells one version of a file from another: time of change in nanoseconds, size, inode."""


def default_root(environ: Mapping[str, str]) -> Path:
    """Where images are kept: below the user's cache directory. Raises EnclaveError where there is none."""
    return cache.directory(environ, "images")


class ImageStore:
    """Images below `root`, for a user who has these ids. Safe to use from several threads and processes."""

    def __init__(self, root: Path, ids: IdMap, unpacker: Unpacker | None = None) -> None:
        # Files have other owners with other ids, so each way to have them has layers of its own.
        self._root = root / "-".join([ids.kind, *(str(each.outside) for each in ids.uids[1:] if ids.kind == "range")])
        self._images = self._root / "images"
        self._names = self._root / "names"
        self._ids = ids
        self._unpacker = unpacker
        self._prepared = False
        self._preparing = Lock()
        self._known: dict[str, _Known] = {}

    @cached_property
    def layers(self) -> LayerStore:
        """The layers of all images."""
        # To find an image takes nothing of what it takes to make one.
        from pytest_enclave.images.layers import LayerStore
        from pytest_enclave.images.unpacker import Unpacker

        return LayerStore(self._root, self._unpacker or Unpacker(self._ids))

    def find(self, reference: str) -> StoredImage | None:
        """The image of this name, if it is there with all its layers; for an archive: in the state that it has now."""
        known = self._found(reference)
        return None if known is None else known.image

    def settled(self, reference: str) -> StoredImage | None:
        """The same, if nobody else need be asked: a local Docker which it came from may have another one by now."""
        known = self._found(reference)
        return None if known is None or known.origin.startswith(FROM_DAEMON) else known.image

    def _found(self, reference: str) -> _Known | None:
        known = self._known.get(reference)
        try:
            if known is None or known.stamp != _stamp(known.record):
                known = self._read(reference)
                self._known[reference] = known
        except (OSError, ValueError, KeyError, ImageFault):
            self._known.pop(reference, None)
            return None
        if known.archive and known.archive_stamp != archive_stamp(known.archive):
            return None
        return known if all(map(os.path.isdir, known.image.layers)) else None

    def references(self) -> list[str]:
        """The names of the images that are there, as people write them."""
        names = []
        for record in self._names.glob("*.json"):
            try:
                names.append(str(json.loads(record.read_bytes())["reference"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(names)

    def configuration(self, reference: str) -> bytes | None:
        """The configuration of the image of this name as it is kept, None where it is not there."""
        image = self.find(reference)
        try:
            return self._image_file(image.digest).read_bytes() if image else None
        except OSError:
            return None

    def origin(self, reference: str) -> str:
        """Where the image of this name came from, as `name` was told; empty if nothing was."""
        try:
            return str(json.loads(self._record(parse(reference)).read_bytes()).get("origin", ""))
        except (OSError, ValueError, AttributeError, ImageFault):
            return ""

    def load(self, archive: Path, reference: str | None = None, cancelled: Event | None = None) -> StoredImage:
        """Take an image from what `docker save` wrote or an OCI layout, as a tar or a directory.

        It is found under `reference` from then on; without one, under `docker-archive:PATH`. Raises ImageUnavailable.
        """
        called = reference or str(ArchiveReference("docker-archive", str(archive)))
        try:
            return self.take(archive, called, cancelled=cancelled)
        except ImageFault as fault:
            raise ImageUnavailable(f'image "{called}": {fault.meaning}', remedy=fault.remedy) from None

    def take(self, archive: Path, called: str, origin: str = "", cancelled: Event | None = None) -> StoredImage:
        """Like `load`, but raises ImageFault; `origin` is kept with the name."""
        from pytest_enclave.images.archive import opened
        from pytest_enclave.images.packed import find_image

        self.prepare()
        stamp = archive_stamp(str(archive))
        with opened(archive, self.layers.work, self.layers.limits()) as files:
            packed = find_image(files, parse(called))
            sources = [_source(files, name) for name in packed.layers]
            image = self.add(packed.config, sources, cancelled or Event())
        self.name(called, image.digest, origin, stamp)
        return image

    def add(self, config: bytes, sources: Sequence[Source], cancelled: Event) -> StoredImage:
        """Have the image with this configuration there; `sources` give its layers from the bottom.

        Raises ImageFault, and Interrupted once `cancelled` is set.
        """
        from pytest_enclave.engine.clock import RealClock

        self.prepare()
        image = self.described(config)
        digests = parse_config(parse_document(config, "its configuration"))[1]
        if len(digests) != len(sources):
            raise ImageFault(f"it has {len(sources)} layers, but its configuration tells of {len(digests)}")
        wanted = dict(zip(digests, sources, strict=True))
        RealClock().map(lambda item: self.layers.have(*item, cancelled), wanted.items(), AT_A_TIME)
        _write(self._image_file(image.digest), config)
        return image

    def described(self, config: bytes) -> StoredImage:
        """The image that a configuration describes, whether it is there or not. Raises ImageFault."""
        told, digests = parse_config(parse_document(config, "its configuration"))
        if not digests:
            raise ImageFault("it has no layers, so there is nothing in it that could run")
        for digest in digests:
            if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
                raise ImageFault("its configuration is malformed: diff_ids has what is no digest")
        # A layer that occurs twice counts where it is on top; the kernel takes no directory twice.
        once = reversed(dict.fromkeys(reversed(digests)))
        layers = tuple(layer_path(self._root, digest) for digest in once)
        return StoredImage(f"sha256:{hashlib.sha256(config).hexdigest()}", layers, told)

    def name(self, reference: str, digest: str, origin: str = "", stamp: Stamp | None = None) -> None:
        """Let the image be found under this name; for archives, as long as the file has this stamp."""
        meant = parse(reference)
        if isinstance(meant, ImageId):
            return
        record: dict[str, Any] = {"reference": reference, "image": digest, "origin": origin}
        if isinstance(meant, ArchiveReference):
            record |= {"archive": meant.path, "stamp": stamp}
        elif isinstance(meant, RegistryReference):
            record["reference"] = meant.familiar
        _write(self._record(meant), json.dumps(record).encode())

    def clear(self) -> None:
        """Remove all images with their layers, as `rm` cannot where other owners have files in them.

        No enclave may be using them. Raises ImageUnavailable.
        """
        with self._preparing:
            try:
                self.layers.clear()
            except ImageFault as fault:
                raise ImageUnavailable(fault.meaning, remedy=fault.remedy) from None
            shutil.rmtree(self._root, ignore_errors=True)
            self._known.clear()
            self._prepared = False

    def prepare(self) -> None:
        """Make the directories of the store, and clean up after those that were killed. Raises ImageFault."""
        with self._preparing:
            if self._prepared:
                return
            try:
                for folder in (self._root, self._images, self._names):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.layers.prepare()
            except OSError as error:
                raise ImageFault(
                    f"images cannot be kept in {self._root}: {(error.strerror or str(error)).lower()}",
                    "set XDG_CACHE_HOME to a directory that can be written",
                ) from None
            self._prepared = True

    def _read(self, reference: str) -> _Known:
        meant = parse(reference)
        if isinstance(meant, ImageId):
            file = self._image_file(meant.digest)
            return _Known(str(file), _stamp(str(file)), self.described(file.read_bytes()))
        file = self._record(meant)
        stamp = _stamp(str(file))
        record = json.loads(file.read_bytes())
        image = self.described(self._image_file(str(record["image"])).read_bytes())
        archive_told = tuple(record.get("stamp") or ())
        origin = str(record.get("origin", ""))
        return _Known(str(file), stamp, image, str(record.get("archive", "")), archive_told, origin)

    def _record(self, meant: Reference) -> Path:
        return self._names / f"{hashlib.sha256(str(meant).encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"

    def _image_file(self, digest: str) -> Path:
        return self._images / f"{digest.partition(':')[2]}.json"


class _Known(msgspec.Struct, frozen=True):
    """An image that was read before: the file that names it and its stamp then, the archive that it stands for."""

    record: str
    stamp: Stamp
    image: StoredImage
    archive: str = ""
    archive_stamp: tuple[int, ...] = ()
    origin: str = ""


def archive_stamp(path: str) -> Stamp | None:
    """The state of an archive: of the file, or of the document that a directory begins with. None if it is gone."""
    for name in (f"{path}/index.json", f"{path}/manifest.json", path):
        try:
            return _stamp(name)
        except OSError:
            continue
    return None


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def _source(files: Files, name: str) -> Source:
    @contextmanager
    def source() -> Iterator[tuple[int, int]]:
        descriptor, size = files.open(name)
        try:
            yield descriptor, size
        finally:
            os.close(descriptor)

    return source


def _write(file: Path, data: bytes) -> None:
    """Replace a file as a whole, for whoever reads it."""
    new = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    new.write_bytes(data)
    os.replace(new, file)
