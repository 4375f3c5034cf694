"""One question to a possible engine: do you answer? Asked with the standard library alone: it is asked often."""

from __future__ import annotations

import errno
import http.client
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    import ssl

PATIENCE = 2.0
"""Seconds that an engine has to answer."""

REASONS = {
    errno.ENOENT: "there is no such socket",
    errno.ECONNREFUSED: "nothing listens there",
    errno.EACCES: "permission denied",
    errno.EHOSTUNREACH: "no route to it",
    errno.ENETUNREACH: "no route to it",
}


class NoAnswer(Exception):
    """No engine answers there; the text says why in a few words."""


class Tls(msgspec.Struct, frozen=True):
    """Where the certificates for a `tcp://` engine are. Without `verify`, the engine may be anybody."""

    directory: Path
    verify: bool = True


class Answer(msgspec.Struct, frozen=True):
    """What an engine says of itself: its version, and that of its API (`1.41`); both "" where it was not asked."""

    version: str
    api_version: str


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a unix socket, at whose other end a Docker engine is thought to be."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ping(endpoint: str, tls: Tls | None = None) -> Answer:
    """Ask the engine at `unix://PATH`, `tcp://HOST:PORT` or `http(s)://HOST:PORT`. Raises NoAnswer.

    Behind `ssh://` and `npipe://` nobody is asked: whether one answers shows when it is first used.
    """
    scheme = endpoint.partition("://")[0]
    if scheme in ("ssh", "npipe"):
        return Answer("", "")
    if scheme not in ("unix", "tcp", "http", "https"):
        raise NoAnswer(f"{scheme}:// is not an address that can be connected to")
    try:
        connection = connection_to(endpoint, tls)
        try:
            connection.request("GET", "/_ping")
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoAnswer(_reason(error)) from error
    api_version = response.headers.get("Api-Version", "")
    if response.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise NoAnswer(f"what answers is out of order (status {response.status})")
    if response.status != http.HTTPStatus.OK or not api_version:
        raise NoAnswer(f"what answers is not a Docker engine (status {response.status})")
    product = response.headers.get("Server", "").partition(" ")[0]
    return Answer(product.removeprefix("Docker/"), api_version)


def connection_to(endpoint: str, tls: Tls | None, timeout: float = PATIENCE) -> http.client.HTTPConnection:
    """A connection that is made when it is first used; `timeout` is how long the engine may be silent, in seconds."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "unix":
        return UnixConnection(rest, timeout)
    address = urlsplit(endpoint)
    host = address.hostname or "localhost"
    if tls is None and scheme != "https":
        return http.client.HTTPConnection(host, address.port or 2375, timeout=timeout)
    return http.client.HTTPSConnection(host, address.port or 2376, timeout=timeout, context=_tls_context(tls))


def _tls_context(tls: Tls | None) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    if tls is None:
        return context
    if (authority := tls.directory / "ca.pem").exists():
        context.load_verify_locations(authority)
    if (certificate := tls.directory / "cert.pem").exists():
        context.load_cert_chain(certificate, tls.directory / "key.pem")
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g}s"
    if isinstance(error, OSError) and error.errno in REASONS:
        return REASONS[error.errno]
    if isinstance(error, http.client.RemoteDisconnected):
        return "it hung up without an answer"
    if isinstance(error, http.client.HTTPException):
        return "what answers does not speak HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
