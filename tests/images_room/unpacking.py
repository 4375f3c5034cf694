"""Unpacking a layer in this process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pytest_enclave.images.stream import Limits, Stream
from pytest_enclave.images.tar import TarReader
from pytest_enclave.images.tree import Tree
from pytest_enclave.images.unpack import Unpacking

GENEROUS = Limits(1 << 30, 10_000, 1000)


def unpack(layer: bytes, into: Path, owners: bool = False, limits: Limits = GENEROUS) -> Path:
    """Unpack a layer into a new directory. Raises ImageFault."""
    into.mkdir(parents=True)
    with tempfile.TemporaryFile() as file, Tree(str(into)) as tree:
        file.write(layer)
        file.seek(0)
        stream = Stream(file.fileno(), None, limits, os.getppid())
        Unpacking(tree, owners, limits).unpack(TarReader(stream))
        stream.digest()
    return into


def is_root() -> bool:
    return os.geteuid() == 0
