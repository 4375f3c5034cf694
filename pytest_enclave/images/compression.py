"""Compressed archives: what they are compressed with, and their plain content in a nameless file."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.stream import CHUNK, too_large

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


def kind_of(descriptor: int) -> str:
    """What the bytes at the descriptor's position are compressed with; empty for nothing known."""
    head = os.pread(descriptor, 6, os.lseek(descriptor, 0, os.SEEK_CUR))
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def decompressed(descriptor: int, size: int, work: Path, limit: int) -> BinaryIO:
    """A file without a name in `work` with the plain content of the next `size` bytes. Raises ImageFault.

    It stands at its beginning. More than `limit` bytes are refused.
    """
    kind = kind_of(descriptor)
    plain = tempfile.TemporaryFile(dir=work)  # noqa: SIM115
    try:
        if reader := _reader(kind, _Part(descriptor, size)):
            _copy(reader, plain, limit)
        elif kind == "zstd":
            _zstd_program(descriptor, size, plain, limit)
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
    """The next `size` bytes of a descriptor as a file."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
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


def _copy(reader: Any, plain: BinaryIO, limit: int) -> None:
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
        plain.write(piece)
        size += len(piece)
        _check(size, limit)


def _zstd_program(descriptor: int, size: int, plain: BinaryIO, limit: int) -> None:
    program = shutil.which("zstd")
    if program is None:
        raise ImageFault(
            "it is compressed with zstd, which this Python cannot read",
            "`pip install zstandard`, or install the program zstd",
        )
    part = _Part(descriptor, size)
    with subprocess.Popen([program, "-dcq"], stdin=subprocess.PIPE, stdout=plain, stderr=subprocess.PIPE) as zstd:
        assert zstd.stdin is not None
        assert zstd.stderr is not None
        try:
            while piece := part.read(CHUNK):
                zstd.stdin.write(piece)
                _check(os.fstat(plain.fileno()).st_size, limit)
            zstd.stdin.close()
        except BrokenPipeError:
            pass
        except BaseException:
            zstd.kill()
            raise
        said = zstd.stderr.read().decode(errors="replace").strip()
    if zstd.returncode:
        raise ImageFault(f"it is damaged: {said or 'zstd cannot read it'}")
    _check(os.fstat(plain.fileno()).st_size, limit)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise too_large(limit)
