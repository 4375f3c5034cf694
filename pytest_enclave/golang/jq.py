"""Extraction: a jq query on the body of an HTTP response, or on the output of a command, by Kurtosis' rules.

The body must be one JSON document, and its numbers are float64 before jq sees them. Outputs that are null are
dropped, an error ends the outputs; nothing left is an error, one output is the value, several are a list. Source:
Kurtosis' recipe extractor with gojq (`behaviour.md` §2.4); the golden file `jq_extract.json` holds its answers.
"""

from __future__ import annotations

import json
import re

from pytest_enclave.golang import json_text
from pytest_enclave.golang.floats import json_float
from pytest_enclave.golang.jq_process import ExtractionCrash, ExtractionError, ExtractionTimeout, JqChannel

__all__ = [
    "BodyError", "ExtractionCrash", "ExtractionError", "ExtractionTimeout", "JqProcess", "NoResultError",
    "QuerySyntaxError",
]  # fmt: skip

TIMEOUT = 10.0
"""Seconds that one query may take."""

_STRING_OR_EXPONENT = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9.]+e[-+][0-9]+')


class QuerySyntaxError(ExtractionError):
    """The query is no jq program. (An unknown function is not that: it finds nothing.)"""


class BodyError(ExtractionError):
    """The body is not one JSON document; the message is Go's."""


class NoResultError(ExtractionError):
    """No output other than null. `told` is Kurtosis' text, `reason` jq's error if there was one, else empty."""

    def __init__(self, query: str, body: str, reason: str = "") -> None:
        self.told = f"No field '{query}' was found on input '{body}'"
        super().__init__(f"{self.told} ({_first_line(reason)})" if reason else self.told)
        self.reason = reason


class JqProcess:
    """Runs queries in a child process of its own, which is started by the first query and can be killed.

    Safe to share between threads (queries wait for each other). Close it, or use it as a context manager.
    """

    def __init__(self, seconds: float = TIMEOUT) -> None:
        self._channel = JqChannel(seconds)

    @property
    def pid(self) -> int | None:
        """The process id of the child, None while there is none."""
        return self._channel.pid

    def extract(self, query: str, body: str | bytes) -> object:
        """What `query` finds in `body`: bool, int, float, str, list, or dict with sorted keys.

        An integral number within 64 bits is an int, also when it was written `1.0`; a null inside a list or dict
        becomes the text `<nil>`. Bytes that are not UTF-8 become U+FFFD. Raises `QuerySyntaxError`, `BodyError`,
        `NoResultError`, `ExtractionTimeout`, or `ExtractionCrash`.
        """
        text = body if isinstance(body, str) else body.decode("utf-8", "replace")
        try:
            document = _document(text)
        except json_text.JsonError as error:
            # Kurtosis reads the query first, so a bad one is reported even for a bad body. Nothing runs on no input.
            self._ask(query, "")
            raise BodyError(str(error)) from error
        answer = self._ask(query, document)
        outputs = answer["outputs"]
        assert isinstance(outputs, list)
        found = [_value(output) for output in outputs if output is not None]
        if not found:
            raise NoResultError(query, text, str(answer.get("error", "")))
        return found[0] if len(found) == 1 else found

    def close(self) -> None:
        """End the child process."""
        self._channel.close()

    def __enter__(self) -> JqProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, query: str, document: str) -> dict[str, object]:
        answer = self._channel.ask(query if _has_code(query) else "empty", document)
        if "syntax" in answer:
            raise QuerySyntaxError(_first_line(str(answer["syntax"])))
        return answer


def _has_code(query: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in query.splitlines())


def _first_line(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()]
    return lines[0].removeprefix("jq: error: ") if lines else message


def _document(text: str) -> str:
    """The body as Go would write it after decoding: jq gives numbers back as they are written (`1e3`, `1.50`)."""
    written = json.dumps(json_text.loads(text, _float64), sort_keys=True)
    if "e+" in written or "e-" in written:
        written = _STRING_OR_EXPONENT.sub(_without_exponent, written)
    return written


def _float64(text: str) -> int | float:
    value = json_text.finite_float(text)
    return int(value) if value.is_integer() and abs(value) < 1e16 else value  # beyond it floats have exponents


def _without_exponent(found: re.Match[str]) -> str:
    """Python turns to exponents earlier than Go."""
    piece = found.group()
    return piece if piece.startswith('"') else json_float(float(piece))


def _value(output: object) -> object:
    if output is None:
        return "<nil>"
    if isinstance(output, bool):
        return output
    if isinstance(output, (int, float)):
        return _number(output)
    if isinstance(output, list):
        return [_value(item) for item in output]
    if isinstance(output, dict):
        return {key: _value(output[key]) for key in sorted(output)}
    return output


def _number(number: int | float) -> int | float:
    value = float(number)
    if value.is_integer() and -(2**63) <= value < 2**63:
        return int(value)
    return value
