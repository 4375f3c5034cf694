"""Reading files out of a container, as a tar stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import NotReached

if TYPE_CHECKING:
    from docker import APIClient

CHUNK = 1 << 18
"""Bytes that are read at a time."""


def read_archive(client: APIClient, container: str, path: str, doing: str) -> Iterator[bytes]:
    """A tar stream of the file or directory, itself its only entry at the top; a symbolic link is followed.

    Works on stopped containers as well. `doing` is what errors begin with. Raises NotReached where there is none, and
    EngineError.
    """
    try:
        with translate(doing):
            stream, stat = client.get_archive(container, path, chunk_size=CHUNK)
            if stat.get("linkTarget"):
                _drop(stream)
                stream, _ = client.get_archive(container, stat["linkTarget"], chunk_size=CHUNK)
    except Refused as refused:
        if refused.status == 404:
            raise NotReached(f"there is no {path}") from None
        raise
    return _translated(stream, doing)


def _translated(stream: Iterator[bytes], doing: str) -> Iterator[bytes]:
    with translate(doing):
        try:
            yield from stream
        finally:
            _drop(stream)


def _drop(stream: Iterator[bytes]) -> None:
    """End a stream that may not have been read to its end."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()
