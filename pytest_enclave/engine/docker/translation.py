"""What the SDK and our own questions raise, turned into this project's: short texts, no traceback of layers below.

Inside this folder the two classes here are told apart by what can be done about them; outside, both are EngineErrors.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from requests import Response

BROKEN_OFF = "its answer broke off"
HUNG_UP = "it hung up without an answer"

_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_RUNTIME_NOISE = re.compile(
    r"(failed to create (shim task|task for container): |OCI runtime (create|exec) failed: |runc create failed: "
    r"|exec failed: |unable to start container process: |container_linux\.go:\d+: |starting container process caused: "
    r"|error during container init: )"
)


class Refused(EngineError):
    """The engine answered, and said no. `status` is its HTTP status, `explanation` its own words, cleaned."""

    def __init__(self, doing: str, status: int, explanation: str) -> None:
        super().__init__(f"{doing}: {explanation}")
        self.status = status
        self.explanation = explanation


class Unanswered(EngineError):
    """The engine did not answer, or stopped answering."""


class Declined(Exception):
    """The engine answered over its socket, and said no: its HTTP status, and what it said."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


@contextmanager
def translate(doing: str) -> Iterator[None]:
    """Ask the engine; what that raises becomes Refused or Unanswered, beginning with what was being done.

    The exception stays reachable as `__context__`, but no traceback shows it: the SDK's are 25 lines of its insides.
    """
    try:
        yield
    except Declined as declined:
        raise Refused(doing, declined.status, clean(_message(declined.body, declined.status))) from None
    except EngineError:
        raise
    except Exception as error:
        if (told := _translated(doing, error)) is None:
            raise
        raise told from None


def _translated(doing: str, error: Exception) -> EngineError | None:
    # Nobody raises what the SDK raises before somebody has imported it, which takes its time.
    if "docker" in sys.modules and (told := _of_sdk(doing, error)) is not None:
        return told
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return _lost(doing, BROKEN_OFF)
    if isinstance(error, TimeoutError):
        return _silent(doing)
    if isinstance(error, (http.client.HTTPException, OSError)):
        return _lost(doing, _last(error))
    return None


def _of_sdk(doing: str, error: Exception) -> EngineError | None:
    """What the SDK and the layers below it raise; None for all else."""
    import docker.errors
    import requests
    import urllib3.exceptions

    if isinstance(error, docker.errors.APIError):
        status = error.response.status_code if error.response is not None else 0
        return Refused(doing, status, clean(str(error.explanation or error)))
    if isinstance(error, docker.errors.DockerException):
        return Unanswered(f"{doing}: {clean(str(error))}")
    if isinstance(error, requests.HTTPError):
        status = error.response.status_code
        return Refused(doing, status, clean(_message(error.response.text, status)))
    if isinstance(error, (requests.JSONDecodeError, docker.errors.StreamParseError)):
        return _lost(doing, BROKEN_OFF)
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return _silent(doing)
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        return _lost(doing, _last(error))
    return None


def _silent(doing: str) -> Unanswered:
    return Unanswered(f"{doing}: the Docker engine does not answer")


def _lost(doing: str, reason: str) -> Unanswered:
    return Unanswered(f"{doing}: the connection to the Docker engine is lost ({reason})")


def clean(text: str) -> str:
    """The engine's words without the names of its layers, and with ids as short as the CLI shows them."""
    text = _LONG_ID.sub(r"\1", _RUNTIME_NOISE.sub("", text.strip()))
    return text.removesuffix(": unknown").strip()


def accepted(response: Response) -> Response:
    """The response if it reports no error; raises what `translate` understands if it does.

    The error's text is read at once: later, the stream may be closed.
    """
    if not response.ok:
        response.content  # noqa: B018
    response.raise_for_status()
    return response


def _message(body: str, status: int) -> str:
    """What the engine says in an answer that reports an error."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body or f"status {status}"


def _last(error: BaseException) -> str:
    """The innermost reason that has words."""
    inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
    if inner is None:
        inner = error.__cause__ or getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _last(inner)
    if isinstance(error, http.client.IncompleteRead):
        return BROKEN_OFF
    if isinstance(error, http.client.RemoteDisconnected):
        return HUNG_UP
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
