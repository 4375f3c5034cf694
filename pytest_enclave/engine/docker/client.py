"""The engine as this folder asks it: whatever only looks goes over its socket, whatever is done through the SDK.

A session that finds its enclave as it was left only looks, and importing the SDK takes longer than all its questions.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import Found
from pytest_enclave.engine.docker.translation import accepted
from pytest_enclave.engine.docker.wire import Lines, Wire

if TYPE_CHECKING:
    from docker import APIClient

NEWEST = (1, 44)
"""The newest version of the engine's API whose answers are known here."""

Filters = Mapping[str, list[str]]


class Client:
    """An engine. Its answers are those of the SDK's methods of the same names; `translate` knows what they raise.

    Behind TLS and `ssh://`, everything goes through the SDK. `timeout` is how long one call may take, in seconds;
    `endpoint` is where the engine is, if that is known.
    """

    def __init__(
        self, wire: Wire | None, connect: Callable[[], APIClient], timeout: float = 60.0, endpoint: str = ""
    ) -> None:
        self.timeout = timeout
        self.endpoint = endpoint
        self._wire = wire
        self._connect = connect
        self._lock = threading.Lock()
        self._sdk: APIClient | None = None

    @classmethod
    def of(cls, found: Found, environ: Mapping[str, str]) -> Client:
        """The client of an engine that was found. Nothing is asked of that yet."""
        return cls(_wire(found, environ), lambda: connect(found, environ), endpoint=found.probe.endpoint)

    @classmethod
    def over(cls, sdk: APIClient) -> Client:
        """The same as an SDK's client."""
        return cls(None, lambda: sdk)

    @property
    def sdk(self) -> APIClient:
        """The SDK's client, for all else. Raises EngineUnavailable."""
        with self._lock:
            if self._sdk is None:
                self._sdk = self._connect()
            return self._sdk

    def info(self) -> dict[str, Any]:
        """What the engine tells of itself."""
        return dict(self._get("/info"))

    def containers(self, filters: Filters) -> list[dict[str, Any]]:
        """All such containers, whatever they do."""
        return list(self._get(f"/containers/json?{_query(filters, all=1)}"))

    def inspect_container(self, container: str) -> dict[str, Any]:
        """What there is to say of a container."""
        return dict(self._get(f"/containers/{quote(container, safe='')}/json"))

    def inspect_image(self, name: str) -> dict[str, Any]:
        """What there is to say of an image."""
        return dict(self._get(f"/images/{quote(name, safe='')}/json"))

    def inspect_network(self, name: str) -> dict[str, Any]:
        """What there is to say of a network."""
        return dict(self._get(f"/networks/{quote(name, safe='')}"))

    def events(self, filters: Filters) -> AbstractContextManager[Lines | Any]:
        """The engine's events from now on, as they come; any thread may `close` them, which ends them."""
        if self._wire is not None:
            return self._wire.lines(f"/events?{_query(filters)}", self.timeout)
        return closing(self.sdk.events(filters=dict(filters), decode=True))

    def close(self) -> None:
        """Let go of all connections."""
        if self._wire is not None:
            self._wire.close()
        with self._lock:
            if self._sdk is not None:
                self._sdk.close()

    def _get(self, path: str) -> Any:
        if self._wire is not None:
            return self._wire.get(path, self.timeout)
        sdk = self.sdk
        with accepted(sdk.get(f"{sdk.base_url}/v{sdk.api_version}{path}", timeout=self.timeout)) as response:
            return response.json()


def _wire(found: Found, environ: Mapping[str, str]) -> Wire | None:
    scheme = found.probe.endpoint.partition("://")[0]
    if scheme not in ("unix", "tcp", "http") or found.tls is not None:
        return None
    return Wire(found.probe.endpoint, _prefix(found.api_version, environ))


def _prefix(api_version: str, environ: Mapping[str, str]) -> str:
    """The start of all paths: the version of the API that users want, else the newest that both know."""
    pinned = environ.get("DOCKER_API_VERSION")
    if pinned and pinned != "auto":
        return f"/v{pinned}"
    theirs = tuple(int(part) for part in api_version.split("."))
    return "/v" + ".".join(map(str, min(theirs, NEWEST)))


def _query(filters: Filters, **others: int) -> str:
    return urlencode({**others, "filters": json.dumps(filters)})
