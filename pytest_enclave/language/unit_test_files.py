"""What a file with Starlark unit tests says: which tests it has, and which of them are to fail, where and how."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import tokenize
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from pytest_enclave.errors import EnclaveError, ExpectationFailed, InterpretationError, PackageError, ValidationError
from pytest_enclave.language.module import Module
from pytest_enclave.language.normalise import normalise
from pytest_enclave.language.predeclared import PREDECLARED
from pytest_enclave.language.syntax import statements
from pytest_enclave.language.unit_tests import predeclared
from pytest_enclave.source import Frame, Location

PREFIX = "test_"

Callers: TypeAlias = Mapping[Location, tuple[Frame, ...]]
"""The calls that led to the instructions at a place, by that place (`Plan.callers`)."""

NOBODY: Callers = MappingProxyType({})

_COMMENT = re.compile(r"""###\s*(?P<pattern>"(?:[^"\\]|\\.)*"|`[^`]*`)\s*$""")


class ExpectedFailure(msgspec.Struct, frozen=True):
    """A comment `### "regular expression"`: at its place the test has to fail, with a message that matches."""

    place: Location
    pattern: str

    def is_met_by(self, error: EnclaveError, callers: Callers = NOBODY) -> bool:
        """Whether the error happened in that line, or in something that was called from it, with such a message.

        `callers` are those of the plan's instructions.
        """
        return any(re.search(self.pattern, told) for place, told in _told(error, callers) if self._is_here(place))

    def otherwise(
        self, error: EnclaveError | None, callers: Callers = NOBODY, *, executed: bool = True
    ) -> ExpectationFailed:
        """The failure of a test that failed otherwise, or not at all; `executed` says whether plans are."""
        wanted = f"a message that matches `{self.pattern}` in line {self.place.line}"
        if error is None:
            return ExpectationFailed(
                f"the test was to fail with {wanted}, and passed",
                location=self.place,
                phase="execution" if executed else "interpretation",
            )
        here = any(self._is_here(place) for place, _ in _told(error, callers))
        where = "there with another one" if here else f"at {error.location}" if error.location else "elsewhere"
        message = f"the test was to fail with {wanted}, and failed {where}: {error.message}"
        place = error.location or self.place
        failed = ExpectationFailed(message, location=place, remedy=error.remedy, phase=_phase(error))
        failed.sources = error.sources
        return failed

    def _is_here(self, place: Location | None) -> bool:
        return place is not None and (place.file, place.line) == (self.place.file, self.place.line)


class UnitTest(msgspec.Struct, frozen=True):
    """A top-level function `test_…`: its name, the line it begins in, and how it is to fail, if it is."""

    name: str
    line: int
    failure: ExpectedFailure | None = None


def unit_tests_of(name: str, text: str) -> list[UnitTest]:
    """The tests of a file, in its order.

    Raises InterpretationError where the file is not as it must be.
    """
    try:
        Module.of(name, text, PREDECLARED | predeclared(name))
        found = statements(normalise(text))
    except InterpretationError as error:
        error.sources = {name: text}
        raise
    lines = text.split("\n")
    functions = [node for node in found if isinstance(node, ast.FunctionDef)]
    return [_unit_test(name, node, lines) for node in functions if node.name.startswith(PREFIX)]


def _unit_test(file: str, function: ast.FunctionDef, lines: list[str]) -> UnitTest:
    failures, beside = [], _comments_beside_code(lines)
    for number in range(function.lineno, (function.end_lineno or function.lineno) + 1):
        comment = _COMMENT.search(lines[number - 1])
        if comment is not None:
            failures.append(_failure(Location(file, number, comment.start() + 1), comment["pattern"], lines))
        elif (column := beside.get(number)) is not None:
            raise _wrong(
                "a comment `###` beside code says how the test is to fail, and this one does not",
                Location(file, number, column + 1),
                lines,
                "write a regular expression in double quotes or backquotes behind it; `#` begins any other comment",
            )
    if len(failures) > 1:
        first, second = failures[0].place, failures[1].place
        raise _wrong(
            f"`{function.name}` is to fail in line {first.line} and in line {second.line}",
            second,
            lines,
            "a test ends where it fails first: make two tests of it, or use `expect.fails`",
        )
    return UnitTest(function.name, function.lineno, failures[0] if failures else None)


def _comments_beside_code(lines: list[str]) -> dict[int, int]:
    """Where comments that begin with `###` stand in lines that are not theirs alone: line from 1 → column from 0."""
    found = {}
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
            row, column = token.start
            if token.type == tokenize.COMMENT and token.string.startswith("###") and lines[row - 1][:column].strip():
                found[row] = column
    return found


def _failure(place: Location, literal: str, lines: list[str]) -> ExpectedFailure:
    pattern = literal[1:-1]
    if literal[0] == '"':
        # `\d` is no escape of JSON: the text is then the expression as it stands.
        with contextlib.suppress(ValueError):
            pattern = json.loads(literal)
    try:
        re.compile(pattern)
    except re.error as error:
        raise _wrong(f"`{pattern}` is no regular expression: {error}", place, lines) from None
    return ExpectedFailure(place, pattern)


def _wrong(message: str, place: Location, lines: list[str], remedy: str = "") -> InterpretationError:
    error = InterpretationError(message, location=place, remedy=remedy)
    error.sources = {place.file: "\n".join(lines)}
    return error


def _phase(error: EnclaveError) -> str:
    if isinstance(error, ValidationError):
        return "validation"
    return "interpretation" if isinstance(error, PackageError) else "execution"


def _told(error: EnclaveError, callers: Callers) -> list[tuple[Location | None, str]]:
    """Each place that the error is about, or from which that was called, and what is told of it."""
    told = [] if isinstance(error, ValidationError) else [(error.location, error.message)]
    if isinstance(error, InterpretationError):
        told += [(frame.location, error.message) for frame in error.frames]
    if isinstance(error, (InterpretationError, ValidationError)):
        told += [(problem.location, problem.message) for problem in error.problems]
    calls = [(frame.location, text) for place, text in told if place for frame in callers.get(place, ())]
    return [*told, *calls]
