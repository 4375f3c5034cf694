"""HTTP to registries: proxies as the environment says, and patience with trouble that passes."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Iterator, Mapping
from threading import Event, Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_enclave.engine.http import MAX_REDIRECTS, reason
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.layers import Interrupted
from pytest_enclave.images.patience import Patience

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

CONNECT = 10.0
"""Seconds until a connection stands."""

CHUNK = 1 << 16


class ConnectionLost(Exception):
    """A connection ended before all was said. `str()` is why."""


class Transport:
    """Sends requests to any number of hosts; connections are kept and used again. Safe to use from several threads."""

    def __init__(self, patience: Patience, cancelled: Event) -> None:
        self.patience = patience
        self.cancelled = cancelled
        self._managers: dict[str, PoolManager] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Let go of kept connections."""
        for manager in self._managers.values():
            manager.clear()

    def request(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: str = "") -> Answer:
        """The answer to a request, after as many tries as patience allows; the caller closes it. Raises ImageFault.

        Answers of a server in trouble (429, 5xx) are given back when the last try has one too.
        """
        for number in range(1, self.patience.tries + 1):
            last = number == self.patience.tries
            try:
                answer = self._send(method, url, headers or {}, body)
            except ConnectionLost as lost:
                if last:
                    raise unreachable(f"{urlsplit(url).netloc}: {lost}") from None
                self.wait(number)
                continue
            if last or answer.status not in (429, 500, 502, 503, 504):
                return answer
            asked = answer.headers.get("Retry-After", "")
            answer.close()
            self.wait(number, float(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0.0)
        raise AssertionError("the last try returns or raises")

    def wait(self, number: int, at_least: float = 0.0) -> None:
        """Pause after the `number`-th try. Raises Interrupted."""
        pause = max(self.patience.pause * 2 ** (number - 1) * random.uniform(0.75, 1.25), at_least)
        if self.cancelled.wait(min(pause, self.patience.longest)):
            raise Interrupted

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: str) -> Answer:
        from urllib3 import Retry, Timeout, exceptions

        if self.cancelled.is_set():
            raise Interrupted
        sent = {"User-Agent": "pytest-enclave", "Accept-Encoding": "identity", **headers}
        if body:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        host = urlsplit(url).netloc
        try:
            response = self._manager(url).request(
                method,
                url,
                body=body or None,
                headers=sent,
                retries=Retry(total=None, connect=0, read=0, other=0, status=0, redirect=MAX_REDIRECTS),
                timeout=Timeout(connect=CONNECT, read=self.patience.stall),
                preload_content=False,
                decode_content=False,
            )
        except (exceptions.HTTPError, OSError) as error:
            raise self.fault(error, host) from None
        except ValueError as error:
            raise ImageFault(f"its registry cannot be asked: {error}") from None
        return Answer(response, self, host)

    def fault(self, error: BaseException, host: str) -> Exception:
        """What an error of the HTTP library means: ImageFault, or ConnectionLost if another try may do better."""
        from urllib3 import exceptions

        inner = error.reason if isinstance(error, exceptions.MaxRetryError) and error.reason else error
        if isinstance(inner, exceptions.SSLError):
            return ImageFault(
                f"its registry is not trusted ({host}: {_without_places(reason(inner))})",
                "let this machine trust its certificate: SSL_CERT_FILE names a file with those that are trusted",
            )
        if isinstance(inner, exceptions.ReadTimeoutError):
            return unreachable(f"{host}: the pull stands still for {self.patience.stall:g}s")
        if isinstance(inner, exceptions.NameResolutionError):
            return unreachable(f"{host}: no such host")
        if isinstance(inner, exceptions.ProtocolError):
            return ConnectionLost(reason(inner))
        return unreachable(f"{host}: {reason(error)}")

    def _manager(self, url: str) -> PoolManager:
        from urllib.request import getproxies, proxy_bypass

        from urllib3 import PoolManager, ProxyManager

        parts = urlsplit(url)
        host = parts.hostname or ""
        proxy = getproxies().get(parts.scheme, "")
        if is_loopback(host) or proxy_bypass(parts.netloc):
            proxy = ""
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = ProxyManager(proxy, maxsize=8) if proxy else PoolManager(maxsize=8)
            return self._managers[proxy]


class Answer:
    """An answer whose body is read piece by piece."""

    def __init__(self, response: BaseHTTPResponse, transport: Transport, host: str) -> None:
        self._response = response
        self._transport = transport
        self._host = host
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._response.close()
        self._response.release_conn()

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises ConnectionLost where it breaks off, ImageFault where it stands still."""
        from urllib3.exceptions import HTTPError

        while True:
            if self._transport.cancelled.is_set():
                raise Interrupted
            try:
                piece = self._response.read1(CHUNK)
            except (HTTPError, OSError) as error:
                raise self._transport.fault(error, self._host) from None
            if not piece:
                return
            yield piece

    def read(self, limit: int) -> bytes:
        """The whole body. Raises ImageFault if it is longer than `limit` bytes, or cannot be had."""
        found = bytearray()
        try:
            for piece in self.pieces():
                found += piece
                if len(found) > limit:
                    raise ImageFault(f"{self._host} answers with more than {limit >> 20} MiB, which is the limit")
        except ConnectionLost as lost:
            raise unreachable(f"{self._host}: {lost}") from None
        return bytes(found)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and so may be spoken to in plain text."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_places(said: str) -> str:
    """What OpenSSL says, without its own names and line numbers round it."""
    return re.sub(r"^\[[^]]*\] |\s*\(_ssl\.c:\d+\)$", "", said)


def unreachable(said: str) -> ImageFault:
    """The fault of a registry that does not answer."""
    return ImageFault(
        f"its registry cannot be reached ({said})",
        "is the network there? Offline, only images that the engine already has can be used",
    )
