"""Scripted answers: whom a rule is about, what it fits, and what the n-th one who asks is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from types import EllipsisType
from typing import Generic, NoReturn, TypeAlias, TypeVar

import msgspec

from pytest_enclave.engine.protocol import (
    DeadlineExceeded,
    ExecResult,
    HttpRequest,
    HttpResponse,
    NotReached,
)

Command: TypeAlias = tuple[str, ...]
Asked = TypeVar("Asked")
Given = TypeVar("Given", ExecResult, HttpResponse)

Trouble: TypeAlias = "NotReached | DeadlineExceeded"
"""What a scripted answer may be instead of a result: it is raised."""

ExecTurn: TypeAlias = "ExecResult | Trouble | Callable[[Command, float], ExecResult]"
"""One answer to a command; a callable is given the command, and when (`Clock.now()`) it was asked."""

ExecAnswer: TypeAlias = "ExecTurn | Sequence[ExecTurn]"
"""An answer to a command, or several: the n-th call gets the n-th, all later ones the last."""

RequestTurn: TypeAlias = "HttpResponse | Trouble | Callable[[HttpRequest, float], HttpResponse]"
"""One answer to a request; a callable is given the request, and when (`Clock.now()`) it was asked."""

RequestAnswer: TypeAlias = "RequestTurn | Sequence[RequestTurn]"
"""An answer to a request, or several, as for commands."""

CommandPattern: TypeAlias = "Sequence[str | EllipsisType] | Callable[[Command], bool] | None"
"""Commands: all words, where a last `...` stands for any further ones; a predicate; None for every one."""

EndpointPattern: TypeAlias = "str | Callable[[HttpRequest], bool] | None"
"""Requests: a path, whatever the query; a path with a query; a predicate; or None for every one."""


class Rule(msgspec.Struct, Generic[Asked, Given], frozen=True, eq=False):
    """Answers of the services whose name fits the glob `service`, to what `fits`.

    `takes` is in virtual seconds, None: as the script's timing has it. Rules are equal only to themselves:
    the calls of each are counted.
    """

    service: str
    fits: Callable[[Asked], bool]
    turns: tuple[Callable[[Asked, float], Given], ...]
    takes: float | None = None

    def concerns(self, service: str, asked: Asked) -> bool:
        """Whether this rule is about that service and what it was asked."""
        return fnmatchcase(service, self.service) and self.fits(asked)

    def answer(self, earlier: int, asked: Asked, at: float) -> Given:
        """What to tell after so many earlier calls. Raises the trouble that was scripted."""
        return self.turns[min(earlier, len(self.turns) - 1)](asked, at)


ExecRule: TypeAlias = Rule[Command, ExecResult]
RequestRule: TypeAlias = Rule[HttpRequest, HttpResponse]


def fits_command(pattern: CommandPattern) -> Callable[[Command], bool]:
    """The predicate that a command pattern stands for. Raises ValueError where `...` is not its last word."""
    if pattern is None:
        return lambda _: True
    if callable(pattern):
        return pattern
    if isinstance(pattern, str):
        raise ValueError(f"a command is a list of words, not a text: {pattern!r}")
    words = tuple(pattern)
    if ... in words[:-1]:
        raise ValueError(f"in a command pattern, `...` can only be the last word: {list(words)}")
    if words and words[-1] is ...:
        return lambda command: command[: len(words) - 1] == words[:-1]
    return lambda command: command == words


def fits_endpoint(pattern: EndpointPattern, method: str | None) -> Callable[[HttpRequest], bool]:
    """The predicate that an endpoint pattern, and a method unless it is None, stand for."""
    if callable(pattern):
        fits = pattern
    elif pattern is None:
        fits = _any_request
    elif "?" in pattern:
        fits = _with_query(pattern)
    else:
        fits = _with_path(pattern)
    return lambda request: method in (None, request.method) and fits(request)


def turns_of(
    answer: Given
    | Trouble
    | Callable[[Asked, float], Given]
    | Sequence[Given | Trouble | Callable[[Asked, float], Given]],
) -> tuple[Callable[[Asked, float], Given], ...]:
    """An answer as functions, one per turn. Raises ValueError where it is an empty sequence."""
    if not isinstance(answer, Sequence):
        return (_turn(answer),)
    if not answer:
        raise ValueError("an empty sequence of answers answers nothing")
    return tuple(_turn(each) for each in answer)


def _turn(answer: Given | Trouble | Callable[[Asked, float], Given]) -> Callable[[Asked, float], Given]:
    if isinstance(answer, (NotReached, DeadlineExceeded)):
        return _raising(answer)
    if isinstance(answer, (ExecResult, HttpResponse)):
        return _giving(answer)
    return answer


def _raising(trouble: Trouble) -> Callable[[object, float], NoReturn]:
    def turn(_: object, __: float) -> NoReturn:
        # The one scripted exception is raised many times; it must not collect the tracebacks of all of them.
        raise trouble.with_traceback(None)

    return turn


def _giving(result: Given) -> Callable[[Asked, float], Given]:
    return lambda _asked, _at: result


def _any_request(_: HttpRequest) -> bool:
    return True


def _with_query(endpoint: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.endpoint == endpoint


def _with_path(path: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.endpoint.partition("?")[0] == path
