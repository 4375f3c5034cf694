"""The seal of a journal: the number of its latest write, in a file of eight bytes beside it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import crc32

_NUMBER = struct.Struct(">I")


class Seal:
    """The seal at a path. It is written after the write that it counts, so it is never ahead of the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        """Whether there is one."""
        return self._path.exists()

    def read(self) -> int | None:
        """The number; None where there is no seal, or a broken one."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        number = int.from_bytes(content[:4], "big")
        return number if content == _content(number) else None

    def begin(self) -> None:
        """Make the seal of a new journal: nothing is written yet."""
        scratch = self._path.with_name(f"{self._path.name}.new")
        scratch.write_bytes(_content(0))
        scratch.replace(self._path)

    def write(self, number: int) -> None:
        """Set the number. Whoever reads meanwhile sees the one before, or this one."""
        handle = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(handle, _content(number), 0)
        finally:
            os.close(handle)


def _content(number: int) -> bytes:
    digits = _NUMBER.pack(number % 2**32)
    return digits + _NUMBER.pack(crc32(digits))
