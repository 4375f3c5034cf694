"""Compressed archives: what they are compressed with, and their plain content in a nameless file."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any, BinaryIO

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.stream import CHUNK, Limits

FEED = 1 << 16
"""Bytes that a program is given at once: they count as read, and may unpack to a multiple."""

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


def kind_of(descriptor: int) -> str:
    """What the bytes at the descriptor's position are compressed with; empty for nothing known."""
    head = os.pread(descriptor, 6, os.lseek(descriptor, 0, os.SEEK_CUR))
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def decompressed(descriptor: int, size: int, work: Path, limits: Limits) -> BinaryIO:
    """A file without a name in `work` with the plain content of the next `size` bytes. Raises ImageFault.

    It stands at its beginning. What grows beyond the limits is refused as soon as it does.
    """
    kind = kind_of(descriptor)
    plain = tempfile.TemporaryFile(dir=work)  # noqa: SIM115
    try:
        part = _Part(descriptor, size)
        if reader := _reader(kind, part):
            _copy(reader, plain, part, limits)
        elif kind == "zstd":
            _zstd_program(part, plain, limits)
        else:
            raise ImageFault(
                f"it is compressed with {kind}, which is not supported", "uncompressed, gzip and zstd are supported"
            )
        plain.flush()
        plain.seek(0)
    except BaseException:
        plain.close()
        raise
    return plain


class _Part(io.RawIOBase):
    """The next `size` bytes of a descriptor as a file; `passed` is how many have been read."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size
        self.passed = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        self.passed += len(data)
        return len(data)


def _reader(kind: str, part: _Part) -> Any:
    """What decompresses it inside this process; None if nothing here does."""
    if kind == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=part)
    if kind == "zstd" and (library := _library("compression.zstd")):
        return library.ZstdFile(part)
    if kind == "zstd" and (library := _library("zstandard")):
        return library.ZstdDecompressor().stream_reader(part, read_across_frames=True)
    return None


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _copy(reader: Any, plain: BinaryIO, part: _Part, limits: Limits) -> None:
    size = 0
    while True:
        try:
            piece = reader.read(CHUNK)
        except EOFError:
            raise ImageFault("it is cut off") from None
        except Exception as error:
            # Each library has its own error for damaged data, without a common base.
            raise ImageFault(f"it is damaged: {error}") from None
        if not piece:
            return
        size += len(piece)
        limits.check(size, part.passed)
        plain.write(piece)


def _zstd_program(part: _Part, plain: BinaryIO, limits: Limits) -> None:
    program = shutil.which("zstd")
    if program is None:
        raise ImageFault(
            "it is compressed with zstd, which this Python cannot read",
            "`pip install zstandard`, or install the program zstd",
        )
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([program, "-dcq"], stdin=pipe, stdout=pipe, stderr=said) as zstd,
    ):
        assert zstd.stdin is not None
        feeder = Thread(target=_feed, args=(part, zstd.stdin))
        feeder.start()
        try:
            _copy(zstd.stdout, plain, part, limits)
        except BaseException:
            zstd.kill()
            raise
        finally:
            feeder.join()
        zstd.wait()
        said.seek(0)
        words = said.read().decode(errors="replace").strip()
    if zstd.returncode:
        raise ImageFault(f"it is damaged: {words or 'zstd cannot read it'}")


def _feed(part: _Part, stdin: IO[bytes]) -> None:
    # The program may end before it has read everything; then it says why.
    with suppress(BrokenPipeError), stdin:
        while piece := part.read(FEED):
            stdin.write(piece)
            stdin.flush()
