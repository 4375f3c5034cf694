"""The Docker SDK's exceptions, turned into this project's: short texts, and no traceback of layers below.

Inside this folder the two classes here are told apart by what can be done about them; outside, both are EngineErrors.
"""

from __future__ import annotations

import http.client
import json
import re
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


@contextmanager
def translate(doing: str) -> Iterator[None]:
    """Run SDK calls; what they raise becomes Refused or Unanswered, beginning with what was being done.

    The SDK's exception stays reachable as `__context__`, but no traceback shows it: it is 25 lines of its insides.
    """
    import docker.errors
    import requests
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        status = error.response.status_code if error.response is not None else 0
        raise Refused(doing, status, clean(str(error.explanation or error))) from None
    except docker.errors.DockerException as error:
        raise Unanswered(f"{doing}: {clean(str(error))}") from None
    except requests.HTTPError as error:
        raise Refused(doing, error.response.status_code, clean(_message(error.response))) from None
    except (json.JSONDecodeError, docker.errors.StreamParseError):
        raise Unanswered(f"{doing}: the connection to the Docker engine is lost ({BROKEN_OFF})") from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise Unanswered(f"{doing}: the Docker engine does not answer") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise Unanswered(f"{doing}: the connection to the Docker engine is lost ({_last(error)})") from None


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


def _message(response: Response) -> str:
    """What the engine says in a response that reports an error."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text or f"status {response.status_code}"


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
