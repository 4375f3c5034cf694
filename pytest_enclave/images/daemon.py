"""Images of a local Docker: looked up and taken out of it over its socket, in plain HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from pytest_enclave.images.faults import ImageFault

CHUNK = 1 << 20

PATIENCE = 5.0
"""Seconds for an answer to a question; a daemon that needs longer counts as none."""


NO_HEADERS: Mapping[str, str] = {}


class DaemonImage(msgspec.Struct, frozen=True):
    """An image that the daemon has: the ID that it calls it by, and about how many bytes it has."""

    id: str
    size: int


class Daemon(msgspec.Struct, frozen=True):
    """The Docker that answers at `endpoint`, a `unix://` or `tcp://` address; it may be silent for `stall` seconds."""

    endpoint: str
    stall: float = 60.0

    def inspect(self, name: str) -> DaemonImage | None:
        """The image of this name; None if the daemon does not have it, or does not answer."""
        if urlsplit(self.endpoint).scheme not in ("unix", "tcp", "http"):
            return None
        try:
            with self._ask("GET", f"/images/{quote(name)}/json", PATIENCE) as response:
                if response.status != 200:
                    return None
                told = json.loads(response.read())
                return DaemonImage(str(told["Id"]), int(told.get("Size") or 0))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def saved(self, name: str, work: Path, advance: Callable[[int], None]) -> Iterator[Path]:
        """The image as `docker save` writes it, in a file that is gone at the end. Raises ImageFault.

        `work` is a directory on the disk that the file goes to. `advance` is told how many bytes came.
        """
        # A file without a name: nothing is left of it, however this process ends.
        with tempfile.TemporaryFile(dir=work) as target:
            try:
                self._copy(name, target.write, advance)
                target.flush()
            except (OSError, http.client.HTTPException) as error:
                said = str(error) or type(error).__name__
                raise ImageFault(f"the local Docker does not give it away: {said}") from None
            yield Path(f"/proc/self/fd/{target.fileno()}")

    def answers(self) -> bool:
        """Whether a Docker is there."""
        try:
            with self._ask("GET", "/_ping", PATIENCE) as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False

    def build(
        self, parameters: Mapping[str, str], headers: Mapping[str, str], context: IO[bytes], silence: float
    ) -> Generator[dict[str, Any], None, None]:
        """Build an image; what the daemon tells meanwhile, which may be silent for so many seconds. Raises ImageFault.

        Closing the iterator ends the build.
        """
        path = f"/build?{urlencode(parameters)}"
        try:
            with self._ask("POST", path, silence, context, headers) as response:
                if response.status != 200:
                    raise ImageFault(_message(response.read()) or f"the local Docker answers {response.status}")
                for line in response:
                    if line.strip():
                        yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImageFault(f"the local Docker stops answering: {str(error) or type(error).__name__}") from None

    def _copy(self, name: str, write: Callable[[bytes], object], advance: Callable[[int], None]) -> None:
        with self._ask("GET", f"/images/{quote(name)}/get", self.stall) as response:
            if response.status != 200:
                raise ImageFault(f"the local Docker does not give it away: it answers {response.status}")
            while piece := response.read(CHUNK):
                write(piece)
                advance(len(piece))

    @contextmanager
    def _ask(
        self,
        method: str,
        path: str,
        timeout: float,
        body: IO[bytes] | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self.endpoint, timeout)
        try:
            connection.request(method, path, body, dict(headers))
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


class _Connection(http.client.HTTPConnection):
    """A connection to a unix socket, or to a host."""

    def __init__(self, endpoint: str, timeout: float) -> None:
        parts = urlsplit(endpoint)
        super().__init__(parts.hostname or "localhost", parts.port or 2375, timeout=timeout)
        self._path = parts.path if parts.scheme == "unix" else ""

    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
