"""Layers as directories, each unpacked once and shared by all processes of a user.

A layer is unpacked under another name and renamed when it is complete, so whoever sees its directory may use it. A
lock for each layer keeps two processes from doing the same work; it is free again when its holder dies.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TypeAlias

from pytest_enclave.images.faults import ImageFault

if TYPE_CHECKING:
    from pytest_enclave.images.stream import Limits
    from pytest_enclave.images.unpacker import Unpacker

UNFINISHED = ".new"

KEPT = 24 * 3600.0
"""Seconds for which the beginning of a download that broke off is kept, for the next pull to go on with."""

Source: TypeAlias = "Callable[[], AbstractContextManager[tuple[int, int]]]"
"""Opens a layer's archive: a descriptor that stands where it begins, and its size."""


class Interrupted(Exception):
    """What was going on is to be given up."""


def layer_path(root: Path, digest: str) -> str:
    """Where the layer with this digest of its unpacked archive is below `root`, or will be."""
    return f"{root}/layers/{_short(digest)}"


class LayerStore:
    """The layers below `root`; `unpacker` makes and removes them."""

    def __init__(self, root: Path, unpacker: Unpacker) -> None:
        self._root = root
        self._layers = root / "layers"
        self._locks = root / "locks"
        self._unpacker = unpacker
        self._blobs = root / "blobs"
        self.work = root / "work"

    def limits(self) -> Limits:
        """What one layer, or an archive of them, may grow to when it is unpacked now."""
        return self._unpacker.limits(self.work)

    def path(self, digest: str) -> str:
        """Where the layer with this digest of its unpacked archive is, or will be."""
        return layer_path(self._root, digest)

    def has(self, digest: str) -> bool:
        """Whether the layer is there."""
        return os.path.isdir(self.path(digest))

    def blob(self, digest: str, packed: str) -> Path:
        """Where the layer's archive with the digest `packed` is downloaded to, by whoever has its lock."""
        return self._blobs / f"{_short(digest)}-{_short(packed)}"

    def prepare(self) -> None:
        """Make the directories, and remove what others left behind when they were killed. Raises OSError."""
        for folder in (self._layers, self._locks, self._blobs, self.work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._layers.glob(f"*{UNFINISHED}"):
            with self._lock_if_free(leftover.name.partition(".")[0]) as free:
                if free:
                    self._remove(leftover)
        for old in self._blobs.iterdir():
            with self._lock_if_free(old.name.partition("-")[0]) as free:
                if free and _age(old) > KEPT:
                    old.unlink(missing_ok=True)

    def have(self, digest: str, source: Source, cancelled: Event) -> None:
        """Have the layer there; `source` is asked for it only if it is not. Raises ImageFault, Interrupted."""
        if self.has(digest):
            return
        with self._lock(_short(digest), cancelled):
            if self.has(digest):
                return
            with source() as (descriptor, size):
                self._unpack(digest, descriptor, size)

    def clear(self) -> None:
        """Remove all layers, whoever owns what is in them. Raises ImageFault."""
        self._unpacker.remove(self._layers)

    def _unpack(self, digest: str, descriptor: int, size: int) -> None:
        # Most layers are there already.
        from pytest_enclave.images.compression import decompressed, kind_of

        unfinished = self._layers / f"{_short(digest)}.{uuid.uuid4().hex[:8]}{UNFINISHED}"
        try:
            if kind_of(descriptor) in ("", "gzip"):
                self._unpacker.unpack(descriptor, size, digest, unfinished)
            else:
                with decompressed(descriptor, size, self.work, self.limits()) as plain:
                    self._unpacker.unpack(plain.fileno(), None, digest, unfinished)
            os.rename(unfinished, self.path(digest))
        except BaseException:
            self._remove(unfinished)
            raise

    def _remove(self, unfinished: Path) -> None:
        try:
            self._unpacker.remove(unfinished)
        except (ImageFault, OSError):
            # Whoever was unpacking may not have ended yet. The next one to prepare removes it.
            return

    @contextmanager
    def _lock(self, name: str, cancelled: Event) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self._locks / name)
        while True:
            if cancelled.is_set():
                raise Interrupted
            try:
                lock.acquire(timeout=0.5, poll_interval=0.02)
                break
            except Timeout:
                continue
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _lock_if_free(self, name: str) -> Iterator[bool]:
        from filelock import FileLock, Timeout

        lock = FileLock(self._locks / name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def _short(digest: str) -> str:
    """A name short enough for many of them to fit into one mount's options, long enough to stand for the digest."""
    return digest.partition(":")[2][:16]


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
