"""HTTP as `plan.request` and `plan.wait` speak it: straight to the service, whatever proxies are configured.

Up to ten redirects are followed, compressed bodies are unpacked (behaviour.md §1.6), and what goes wrong is said in
a few words.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from pytest_enclave.engine.protocol import DeadlineExceeded, Endpoint, HttpRequest, HttpResponse, NotReached

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

MAX_REDIRECTS = 10

REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "no route to host",
    errno.ETIMEDOUT: "no answer to the connection attempt",
}
"""What to call the errors of a connection."""


class HttpClient:
    """Sends requests; connections are kept and used again. Safe to use from several threads."""

    def __init__(self) -> None:
        self._opened: PoolManager | None = None

    def send(self, endpoint: Endpoint, request: HttpRequest, deadline: float | None) -> HttpResponse:
        """The response to a request; `deadline` is in monotonic seconds.

        Raises DeadlineExceeded, or NotReached with the reason in a few words.
        """
        from urllib3.exceptions import HTTPError

        begun = time.monotonic()
        try:
            response = self._respond(endpoint, request, deadline)
            try:
                body = _body(response, deadline)
            finally:
                response.release_conn()
        except (HTTPError, OSError) as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise _too_late(begun, deadline) from None
            raise NotReached(reason(error)) from error
        except ValueError as error:
            # What no client can send, such as a line break in a header; checked before, but texts are filled in later.
            raise NotReached(f"the request cannot be sent: {_first_line(error)}") from None
        if body is None:
            raise _too_late(begun, deadline or begun)
        return HttpResponse(response.status, dict(response.headers), body)

    def close(self) -> None:
        """Let go of kept connections."""
        if self._opened is not None:
            self._opened.clear()

    def _respond(self, endpoint: Endpoint, request: HttpRequest, deadline: float | None) -> BaseHTTPResponse:
        from urllib3 import Retry, Timeout

        path = request.endpoint if request.endpoint.startswith(("/", "?")) else f"/{request.endpoint}"
        return self._pool().request(
            request.method,
            f"http://{endpoint.host}:{endpoint.port}{path}",
            body=request.body,
            headers=dict(request.headers),
            retries=Retry(total=None, connect=0, read=0, other=0, status=0, redirect=MAX_REDIRECTS),
            timeout=Timeout(total=None if deadline is None else max(0.001, deadline - time.monotonic())),
            preload_content=False,
        )

    def _pool(self) -> PoolManager:
        if self._opened is None:
            from urllib3 import PoolManager

            self._opened = PoolManager(num_pools=32, maxsize=16)
        return self._opened


def _too_late(begun: float, deadline: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the answer took longer than {max(0.0, deadline - begun):.3g} s")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _body(response: BaseHTTPResponse, deadline: float | None) -> bytes | None:
    """The whole body; None for one that drips in and is given up at the deadline."""
    chunks = []
    while chunk := response.read1(1 << 16):
        chunks.append(chunk)
        if deadline is not None and time.monotonic() >= deadline:
            response.close()
            return None
    return b"".join(chunks)


def reason(error: BaseException) -> str:
    """What went wrong, in a few words, dug out of the layers that urllib3 wraps round it."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.MaxRetryError) and error.reason is not None:
        if isinstance(error.reason, exceptions.ResponseError):
            return f"more than {MAX_REDIRECTS} redirects"
        return reason(error.reason)
    if isinstance(error, exceptions.NameResolutionError):
        return "its address is a name that does not resolve here"
    # A connection that could not be made counts as a timeout for urllib3, even if it was refused.
    if isinstance(error, exceptions.TimeoutError) and not isinstance(error, exceptions.NewConnectionError):
        return "no answer"
    cause = _cause(error)
    if isinstance(cause, OSError) and cause.errno in REASONS:
        return REASONS[cause.errno]
    if type(cause).__name__ == "RemoteDisconnected":
        return "connection closed without an answer"
    if type(cause).__name__ in ("BadStatusLine", "LineTooLong", "UnknownProtocol"):
        return "the answer is not HTTP"
    return str(cause).strip() or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    """The innermost exception, be it chained or carried among the arguments."""
    inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
    inner = inner or error.__cause__
    return error if inner is None else _cause(inner)
