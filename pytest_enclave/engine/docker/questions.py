"""Questions that come before every test, asked over the engine's socket itself.

The SDK needs longer to ask one than the engine to answer.
"""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import quote

from pytest_enclave.engine.docker.ping import UnixConnection


class Questions:
    """One connection to the engine behind a unix socket, kept. Safe to use from several threads."""

    def __init__(self, socket: str, api_version: str) -> None:
        self._connection = UnixConnection(socket)
        self._prefix = f"/v{api_version}" if api_version else ""
        self._lock = threading.Lock()

    def image(self, name: str) -> dict[str, Any] | None:
        """What the engine says of an image; None where it has none of this name, or does not say: the SDK tells why."""
        with self._lock:
            try:
                self._connection.request("GET", f"{self._prefix}/images/{quote(name, safe='')}/json")
                response = self._connection.getresponse()
                body = response.read()
                return dict(json.loads(body)) if response.status == http.HTTPStatus.OK else None
            except (OSError, http.client.HTTPException, ValueError):
                self._connection.close()
                return None

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._connection.close()
