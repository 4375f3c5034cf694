"""The bytes of a layer's archive: unpacked if need be, counted and hashed, and given up if they grow without measure.

Standard library alone: this runs in the unpacking process.
"""

from __future__ import annotations

import hashlib
import os
import zlib

from pytest_enclave.images.faults import ImageFault

CHUNK = 1 << 20

RATIO_FROM = 1 << 30
"""Bytes of unpacked data up to which any ratio of compression is taken for honest."""


class Limits:
    """What a layer may grow to: bytes of files, number of entries, bytes for each byte it had when compressed."""

    def __init__(self, size: int, entries: int, ratio: int) -> None:
        self.size = size
        self.entries = entries
        self.ratio = ratio

    def check(self, size: int, packed: int | None = None) -> None:
        """Whether there may be `size` bytes, of `packed` ones if they were compressed. Raises ImageFault."""
        if size > self.size:
            raise too_large(self.size)
        if packed is not None and size > max(RATIO_FROM, self.ratio * packed):
            raise ImageFault(f"it unpacks to more than {self.ratio} times its size, as only a trap does")


class Stream:
    """The layer's archive out of a file descriptor: unpacked if it is gzip, counted and hashed on the way.

    `length` is the number of bytes to read from the descriptor, None for all there are. The process ends when its
    parent is not `parent` any more, because then nobody waits for what it does.
    """

    def __init__(self, descriptor: int, length: int | None, limits: Limits, parent: int) -> None:
        self._descriptor = descriptor
        self._left = length
        self._limits = limits
        self._parent = parent
        self._inflate: zlib._Decompress | None = None
        self._buffer = memoryview(b"")
        self._hash = hashlib.sha256()
        self._packed = 0
        self.size = 0
        start = self._read()
        if start[:2] == b"\x1f\x8b":
            self._inflate = zlib.decompressobj(31)
        self._pending = start

    def take(self, count: int) -> bytes:
        """The next bytes, fewer only at the end."""
        if len(self._buffer) >= count:
            taken, self._buffer = self._buffer[:count], self._buffer[count:]
            return bytes(taken)
        pieces = []
        while count and (len(self._buffer) or self._fill()):
            pieces.append(self._buffer[:count])
            self._buffer = self._buffer[count:]
            count -= len(pieces[-1])
        return b"".join(pieces)

    def skip(self, count: int) -> int:
        """Pass over bytes; how many there were, fewer only at the end."""
        passed = 0
        while passed < count and (piece := len(self.take(min(CHUNK, count - passed)))):
            passed += piece
        return passed

    def digest(self) -> str:
        """Read to the end; the digest of the archive."""
        while len(self._buffer) or self._fill():
            self._buffer = memoryview(b"")
        if self._inflate is not None and not self._inflate.eof:
            raise ImageFault("the layer is cut off")
        return f"sha256:{self._hash.hexdigest()}"

    def _fill(self) -> bool:
        data = self._inflated() if self._inflate else self._plain()
        self._hash.update(data)
        self.size += len(data)
        self._limits.check(self.size, self._packed if self._inflate else None)
        self._buffer = memoryview(data)
        return bool(data)

    def _plain(self) -> bytes:
        data, self._pending = self._pending or self._read(), b""
        return data

    def _inflated(self) -> bytes:
        assert self._inflate is not None
        while True:
            packed = self._pending or self._read()
            if self._inflate.eof:
                if not packed.strip(b"\0"):
                    return b""
                # A gzip file may have several members.
                self._inflate = zlib.decompressobj(31)
            try:
                data = self._inflate.decompress(packed, CHUNK)
            except zlib.error as error:
                raise ImageFault(f"the layer is damaged: {error}") from None
            self._pending = self._inflate.unconsumed_tail or self._inflate.unused_data
            if data or not packed:
                return data

    def _read(self) -> bytes:
        if os.getppid() != self._parent:
            raise SystemExit
        data = os.read(self._descriptor, CHUNK if self._left is None else min(CHUNK, self._left))
        self._packed += len(data)
        if self._left is not None:
            self._left -= len(data)
        return data


def too_large(limit: int) -> ImageFault:
    """The fault of a layer or an archive with more than `limit` bytes."""
    told = f"{limit / (1 << 30):.3g} GiB" if limit >= 1 << 30 else f"{limit / (1 << 20):.3g} MiB"
    return ImageFault(
        f"it is larger than {told} when unpacked, which is the limit here",
        "if it is meant to be so large: make room on the disk, or set XDG_CACHE_HOME to a larger one",
    )
