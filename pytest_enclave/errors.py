"""Everything that can go wrong, as a tree.

    EnclaveError
    ├── PackageError                 the package, its manifest, a locator or the arguments are wrong
    │   ├── InterpretationError      its Starlark does not yield a plan
    │   │   ├── ScriptFailed *       … because it called `fail()`
    │   │   └── ExpectationFailed *  … because a Starlark unit test is not as it expects
    │   └── ValidationError          its plan cannot work; carries every problem found
    ├── ExecutionError               an instruction of a valid plan did not succeed
    │   ├── VerifyFailed *           `plan.assert` / `plan.verify`
    │   ├── WaitTimedOut *           `plan.wait` or a ready condition
    │   ├── UnacceptableCode *       `exec`, `request`, `run_sh`: the code is not an acceptable one
    │   ├── RecipeFailed             a recipe could not be carried out at all
    │   ├── UnknownService           a test names a service that the enclave does not have
    │   └── ServiceError             a service did not come up or did not stay up
    │       ├── ServiceExited        its process ended (exit code, signal, out of memory)
    │       └── PortNeverOpened      it runs, but does not listen where it should
    ├── RunTimedOut                  the whole run took longer than it may
    └── EngineError                  the engine, not the package, is the reason
        ├── EngineUnavailable        no engine answers
        ├── HalfStarted              a run in the enclave was killed: what is there is not known
        └── ImageUnavailable         an image is neither local nor pullable

Those marked * are assertions as well: pytest reports a test that meets one as FAILED, and every other as ERROR.
Errors carry data; how they are told to users is the business of `pytest_enclave.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.source import Frame, Location

if TYPE_CHECKING:
    from pytest_enclave.plan.instruction import Instruction
    from pytest_enclave.plan.record import Origin


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, found before anything was started.

    `subject` is what it is about in a few words (`add_service("api")`), `remedy` what to do about it.
    A problem of severity `warning` is told, but stops nothing. `output` is what a program said that it comes from.
    """

    message: str
    location: Location | None = None
    subject: str = ""
    remedy: str = ""
    severity: str = "error"
    output: str = ""


class EnclaveError(Exception):
    """Base of all errors of this package. `str()` is one line; `remedy` says what to do, if known.

    `sources` holds the text of the Starlark files involved, by name. `enclave` is the enclave's name, and `reported_by`
    names who was told of this error before, so that it need not be told in full again.
    """

    def __init__(self, message: str, *, location: Location | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.remedy = remedy
        self.sources: Mapping[str, str] = {}
        self.enclave: str = ""
        self.reported_by: str = ""

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """How it is pickled, for other processes: with all its data, whatever its class takes to be made."""
        return _made_again, (type(self), self.args), dict(vars(self))


def _made_again(kind: type[EnclaveError], args: tuple[object, ...]) -> EnclaveError:
    return kind.__new__(kind, *args)


class PackageError(EnclaveError):
    """The package cannot be used as it is: manifest, locator, file or arguments."""


class InterpretationError(PackageError):
    """Evaluating the package's Starlark failed; `frames` run from the outermost call to the innermost.

    `warnings` are about the main function: there is no plan that has them.
    """

    def __init__(
        self,
        message: str,
        *,
        location: Location | None = None,
        remedy: str = "",
        frames: Sequence[Frame] = (),
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message, location=location, remedy=remedy)
        self.frames = tuple(frames)
        self.problems = tuple(problems)
        self.warnings: tuple[Problem, ...] = ()


class ScriptFailed(InterpretationError, AssertionError):
    """The package itself gave up, by calling Starlark's `fail()`."""


class ExpectationFailed(InterpretationError, AssertionError):
    """A Starlark unit test is not as it expects; `comparison` is value, comparison and target, where there is one.

    `phase` is how far it came: `interpretation`, `validation` or `execution`.
    """

    def __init__(
        self,
        message: str,
        *,
        location: Location | None = None,
        remedy: str = "",
        comparison: tuple[object, str, object] | None = None,
        phase: str = "interpretation",
    ) -> None:
        super().__init__(message, location=location, remedy=remedy)
        self.comparison = comparison
        self.phase = phase


class ValidationError(PackageError):
    """The plan cannot work. `problems` holds all that was found, in plan order; nothing was started."""

    def __init__(self, problems: Sequence[Problem], *, instructions: int = 0) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        listed = "; ".join(f"{p.location}: {p.message}" if p.location else p.message for p in problems)
        super().__init__(f"{count} in the plan: {listed}")
        self.problems = tuple(problems)
        self.instructions = instructions


class ExecutionError(EnclaveError):
    """An instruction did not succeed. `instruction` is set by the executor; `service` names the one involved."""

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        details: Sequence[tuple[str, str]] = (),
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.service = service
        self.details = tuple(details)
        self.instruction: Instruction | None = None
        self.logs: Mapping[str, Sequence[str]] = {}
        self.origins: Sequence[Origin] = ()


class VerifyFailed(ExecutionError, AssertionError):
    """A comparison of `plan.assert` / `plan.verify` does not hold."""

    def __init__(self, message: str, *, value: object, assertion: str, target: object) -> None:
        super().__init__(message)
        self.value = value
        self.assertion = assertion
        self.target = target


class Attempt(msgspec.Struct, frozen=True):
    """One try of a wait: seconds since its start, and what came of it in one line."""

    at: float
    outcome: str


class WaitTimedOut(ExecutionError, AssertionError):
    """A `wait` or a ready condition did not hold in time; `attempts` tells every try."""

    def __init__(
        self,
        message: str,
        *,
        service: str,
        condition: str,
        timeout: float,
        interval: float,
        attempts: Sequence[Attempt],
        remedy: str = "",
    ) -> None:
        super().__init__(message, service=service, remedy=remedy)
        self.condition = condition
        self.timeout = timeout
        self.interval = interval
        self.attempts = tuple(attempts)


class UnacceptableCode(ExecutionError, AssertionError):
    """A command's exit code, or a response's status, is not among the acceptable ones."""

    def __init__(
        self, message: str, *, service: str, code: int, acceptable: Sequence[int], output: str, remedy: str = ""
    ) -> None:
        super().__init__(message, service=service, remedy=remedy)
        self.code = code
        self.acceptable = tuple(acceptable)
        self.output = output


class RecipeFailed(ExecutionError):
    """A recipe could not be carried out: connection refused, deadline, extraction without a result."""


class UnknownService(ExecutionError, ValueError, KeyError):
    """A test names a service that the enclave does not have; `known` are those it has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.known = tuple(known)
        there = f"it has {', '.join(f'`{each}`' for each in self.known)}" if self.known else "it has none"
        super().__init__(f"the enclave has no service `{name}`: {there}", service=name)


class ServiceError(ExecutionError):
    """A service did not come up, or did not stay up."""


class ServiceExited(ServiceError):
    """The service's process ended. `code` is its exit code (128 + signal where one killed it)."""

    def __init__(self, message: str, *, service: str, code: int, out_of_memory: bool = False, remedy: str = "") -> None:
        super().__init__(message, service=service, remedy=remedy)
        self.code = code
        self.out_of_memory = out_of_memory


class PortNeverOpened(ServiceError):
    """The service runs, but nothing accepted a connection on the port in time (seconds)."""

    def __init__(self, message: str, *, service: str, port: str, timeout: float, remedy: str = "") -> None:
        super().__init__(message, service=service, remedy=remedy)
        self.port = port
        self.timeout = timeout


class RunTimedOut(EnclaveError):
    """The whole run took longer than `--enclave-timeout` allows (seconds)."""


class EngineError(EnclaveError):
    """The engine could not do what was asked, for a reason that lies outside the package."""


class EngineUnavailable(EngineError):
    """No engine answers. `tried` tells, one by one, what was tried and why it did not do."""

    def __init__(self, message: str, *, tried: Sequence[tuple[str, str]] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.tried = tuple(tried)


class HalfStarted(EngineError):
    """A process was killed in the middle of a run in the enclave: nobody can tell what of it there is."""


class ImageUnavailable(EngineError):
    """An image is neither local nor to be had from its registry."""
