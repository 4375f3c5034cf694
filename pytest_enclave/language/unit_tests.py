"""What Starlark unit tests can do beyond packages: expectations, mocks, a look at the plan; `unit_tests.star` has the
other side.

The interpreter has no exceptions, and its modules are frozen. So two things take another attempt, as an import
does that shows late:

* `expect.fails(f)`: where `f()` fails, the attempt ends. In the next one this call of `expect.fails` does not call `f`,
  for it is known how it fails. What `f` had done before it failed is thereby undone.
* `mock(module, "f")`: the first one ends the attempt. In the next one `module.f` is loaded as a function that asks, at
  each call, whether it is mocked by now. Those of `plan` always ask.

Return values and recorded calls cross the border, so functions in them become texts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from pytest_enclave.errors import ExpectationFailed, InterpretationError
from pytest_enclave.language.diagnostics import caller, callers
from pytest_enclave.language.module import Module
from pytest_enclave.language.recorder import Recorder
from pytest_enclave.plan.completion import complete
from pytest_enclave.plan.futures import find
from pytest_enclave.plan.values import Opaque, Struct, Value, find_opaque, quote, to_canonical, to_repr
from pytest_enclave.source import Frame, Location

FILES = "_test.star"
"""How the names of files with unit tests end."""

_NAMES = frozenset(("expect", "get_service_config", "kurtosistest", "mock", "verify"))
"""What these files find predeclared besides what all do; `verify` is what `assert` is read as."""

MODULE = "<unit tests>"
"""The file that `unit_tests.star` seems to be."""

_PLAN = "\0plan"
_LATER = "a value that instructions produce is not known while a plan is made: compare it with `plan.verify(…)`"
_SHORT = 60
_WORDS = {
    "eq": "{} is not {}",
    "ne": "{} is {}",
    "lt": "{} is not less than {}",
    "contains": "{} does not contain {}",
    "true": "{} is not true",
    "false": "{} is not false",
}
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "contains": "contains"}

Function = tuple[str, str]
"""A module's name, or `plan`, and the name of a function of it."""

CallPath = tuple[int, ...]
"""Which call of `expect.fails` it is: the path of the one around it, and which of those within that, from 1.

What is known of a call takes those within it away, so a number among all of them would name another one then.
"""


def predeclared(file: str) -> frozenset[str]:
    """The names that a file of that name finds predeclared besides what all do."""
    return _NAMES if file.endswith(FILES) else frozenset()


class NeedMock(Exception):
    """A function is mocked that was not loaded as one that can be: now it is known to the trial, so try again."""


class Trial:
    """What the attempts at one unit test share: which functions are mocked, and which `expect.fails` fail, and how."""

    def __init__(self) -> None:
        self.mocked: set[Function] = set()
        self.known: dict[CallPath, str] = {}
        self.told: list[str] = []
        self._counts = [0]
        self._answers: dict[Function, str] = {}
        self._calls: dict[Function, list[Value]] = {}
        self._traces: dict[int, tuple[str, str]] = {}

    def begin(self) -> None:
        """Another attempt begins."""
        self.told = []
        self._counts = [0]
        self._answers = {}
        self._calls = {}
        self._traces = {}

    def catch(self, error: InterpretationError) -> bool:
        """Whether the error was expected where it came from, so that another attempt has to be made."""
        if len(self._counts) == 1:
            return False
        self._counts.pop()
        self.known[tuple(self._counts)] = error.message
        return True

    def forget(self) -> None:
        """Modules are loaded in another order from now on, and what is known of the calls in them is known no more."""
        self.known = {}

    def tell(self) -> None:
        """Write what was to be shown in the last attempt."""
        for line in self.told:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def callers(self, recorder: Recorder, modules: Mapping[str, Module]) -> Mapping[Location, tuple[Frame, ...]]:
        """The calls that led to the instructions at each place."""
        found: dict[Location, tuple[Frame, ...]] = {}
        for index, call in enumerate(recorder.instructions):
            name, stack = self._traces[index]
            frames = callers(stack, name, modules)
            found[call.location] = found.get(call.location, ()) + frames
        return found

    def functions_of(self, module: str) -> list[str]:
        """The names of the functions of a module that are mocked."""
        return sorted(name for owner, name in self.mocked if owner == module)

    def natives(self, recorder: Recorder) -> dict[str, Callable[..., Any]]:
        """What `unit_tests.star` calls, without `native_`."""
        return {
            "test_known": self._is_known,
            "test_failed": self._failed,
            "test_nothing_failed": self._nothing_failed,
            "test_equal": lambda crossing: _are_equal(*recorder.decode(crossing)),
            "test_unexpected": lambda name, crossing, text: _unexpected(name, recorder.decode(crossing), text),
            "test_mock": self._mock,
            "test_answer": lambda module, name: self._answers.get((module, name)),
            "test_return": lambda module, name, crossing: self._return(recorder, (module, name), crossing),
            "test_called": lambda module, name, crossing: self._calls[module, name].append(recorder.decode(crossing)),
            "test_calls": lambda module, name: recorder.encode(list(map(_recorded, self._calls[module, name]))),
            "test_trace": lambda name, stack: self._trace(recorder, name, stack),
            "test_config": lambda crossing: recorder.encode(_config(recorder, *recorder.decode(crossing))),
            "test_debug": self._debug,
            "test_refuse": _refuse,
            "refuse_print": _refuse_print,
        }

    # expect.fails

    def _is_known(self) -> bool:
        self._counts[-1] += 1
        path = tuple(self._counts)
        self._counts.append(0)
        return path in self.known

    def _nothing_failed(self) -> NoReturn:
        self._counts.pop()
        raise ExpectationFailed("expect.fails: nothing failed")

    def _failed(self, pattern: object) -> None:
        self._counts.pop()
        message = self.known[tuple(self._counts)]
        if not isinstance(pattern, str):
            raise InterpretationError(f"expect.fails: the pattern must be a string, not {to_repr(pattern)}")
        try:
            matches = re.search(pattern, message)
        except re.error as error:
            raise InterpretationError(f"expect.fails: `{pattern}` is no regular expression: {error}") from None
        if not matches:
            raise ExpectationFailed(f"expect.fails: it fails with {quote(message)}, which does not match `{pattern}`")

    # mock

    def _mock(self, module: str, name: str) -> None:
        function = (module, name)
        if module != "plan" and function not in self.mocked:
            self.mocked.add(function)
            raise NeedMock
        self._answers.setdefault(function, "")
        self._calls[function] = []

    def _return(self, recorder: Recorder, function: Function, crossing: str) -> None:
        values = recorder.decode(crossing)
        if len(values) > 1:
            raise InterpretationError(f"mock_return_value: takes one value, or none, not {len(values)}")
        opaque = next(find_opaque(values), None)
        if opaque is not None:
            raise InterpretationError(
                f"mock_return_value: {opaque[1].text} ({opaque[1].kind}) cannot be what a mock returns",
                remedy="return values without functions in them",
            )
        self._answers[function] = recorder.encode(values[0]) if values else ""

    # the rest

    def _trace(self, recorder: Recorder, name: str, stack: str) -> None:
        self._traces[len(recorder.instructions)] = name, stack

    def _debug(self, text: str, call: str) -> None:
        place = caller(call)
        self.told.append(f"{place.file}:{place.line}: {text}")


def _recorded(call: list[Value]) -> list[Value]:
    """A call as it goes back: `plan` among its arguments is told by a mark, and becomes itself again."""
    args, kwargs, result = call
    return [list(map(_marked, args)), {name: _marked(value) for name, value in kwargs.items()}, result]


def _marked(value: Value) -> Value:
    return Struct("struct", {_PLAN: True}) if isinstance(value, Opaque) and value.kind == "plan" else value


def _refuse(message: str) -> NoReturn:
    raise InterpretationError(message)


def _refuse_print() -> NoReturn:
    raise InterpretationError(
        "`print` is not available in packages",
        remedy="write `kurtosistest.debug(…)` in a unit test, and `plan.print(…)` elsewhere",
    )


def _unexpected(name: str, values: list[Value], text: str) -> NoReturn:
    shown = list(map(to_repr, values))
    if name == "fail":
        message = text or "`expect.fail()` was called"
    elif max(map(len, shown)) > _SHORT:
        message = {"eq": "the values differ", "ne": "the values are equal"}.get(name, "it does not hold")
    else:
        message = _WORDS[name].format(*shown)
    remedy = _LATER if next(find(values), None) is not None else ""
    if name in _SIGNS:
        comparison = (values[0], _SIGNS[name], values[1])
        raise ExpectationFailed(f"expect.{name}: {message}", comparison=comparison, remedy=remedy)
    raise ExpectationFailed(f"expect.{name}: {message}{f': {text}' if text and name != 'fail' else ''}", remedy=remedy)


def _are_equal(left: Value, right: Value) -> bool:
    """Whether typed values are equal that are two to the interpreter: one read, and one as it was constructed."""
    if any(opaque.kind != "plan" for _, opaque in find_opaque([left, right])):
        return False
    return to_canonical(complete(left)) == to_canonical(complete(right))


def _config(recorder: Recorder, name: Value) -> Value:
    config = recorder.draft.service(name) if isinstance(name, str) else None
    if config is None:
        known = ", ".join(f"`{known}`" for known in recorder.draft.services())
        raise InterpretationError(
            f"get_service_config: the plan has no service {to_repr(name)} so far",
            remedy=f"there are {known}" if known else "it is asked for behind the call that adds the service",
        )
    return complete(config)
