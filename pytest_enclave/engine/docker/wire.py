"""Questions over the engine's socket itself, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pytest_enclave.engine.docker.ping import connection_to
from pytest_enclave.engine.docker.translation import Declined


class Lines:
    """An answer of JSON values, a line each, as they come: read by one thread, hung up on by any."""

    def __init__(self, line: socket.socket, response: http.client.HTTPResponse) -> None:
        self._socket = line
        self._response = response

    def __iter__(self) -> Iterator[Any]:
        while line := self._response.readline():
            if line.strip():
                yield json.loads(line)

    def close(self) -> None:
        """End it, for whoever reads."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Wire:
    """Connections to the engine at `unix://PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`, kept for the next question.

    `prefix` is that of all paths. Raises what `translate` understands. Safe to use from several threads.
    """

    def __init__(self, endpoint: str, prefix: str) -> None:
        self._endpoint = endpoint
        self._prefix = prefix
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def get(self, path: str, timeout: float) -> Any:
        """The answer's JSON; `timeout` is how long the engine may be silent, in seconds."""
        connection = self._connection(timeout)
        try:
            body = self._answer(connection, path).read()
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)
        return json.loads(body)

    @contextmanager
    def lines(self, path: str, timeout: float) -> Iterator[Lines]:
        """An answer that goes on; once it has begun, the engine may be silent for as long as it likes."""
        connection = self._connection(timeout)
        try:
            if connection.sock is None:
                connection.connect()
            # The connection forgets it where the engine says that this is its last answer.
            line = connection.sock
            with self._answer(connection, path) as response:
                line.settimeout(None)
                yield Lines(line, response)
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of the connections, as soon as nobody uses them."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        with self._lock:
            while self._idle:
                if _is_open(connection := self._idle.pop(), timeout):
                    return connection
                connection.close()
        return connection_to(self._endpoint, None, timeout)

    def _answer(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", self._prefix + path)
        response = connection.getresponse()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise Declined(response.status, response.read().decode(errors="replace"))
        return response


def _is_open(connection: http.client.HTTPConnection, timeout: float) -> bool:
    """Whether the engine has not hung up meanwhile."""
    line: socket.socket | None = connection.sock
    if line is None:
        # It was to be used once.
        return False
    line.settimeout(0)
    try:
        line.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        line.settimeout(timeout)
        return True
    except OSError:
        pass
    return False
