"""Package and arguments in, plan out.

Files are read, checked statically, rewritten where dialects differ, and evaluated in the embedded interpreter, imports
first. Then the main function is called; every `plan.*` call in it records an instruction. An import that only shows
while code runs ends the attempt, and a new one starts with that file loaded beforehand: nothing has happened yet, and
the same source gives the same plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_enclave.errors import EnclaveError, InterpretationError
from pytest_enclave.language.attempt import Attempt
from pytest_enclave.language.loader import Wanted
from pytest_enclave.language.natives import NeedModule
from pytest_enclave.language.sources import Sources
from pytest_enclave.package.files import FileState
from pytest_enclave.package.finding import Finder
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.package import Package, Resolver
from pytest_enclave.plan.instruction import Plan, Signature
from pytest_enclave.plan.values import Value

TIMEOUT = 60.0
"""Seconds that an interpretation may take (`--enclave-interpret-timeout`)."""


@dataclass(frozen=True, slots=True)
class Interpretation:
    """A plan, and the states of all files it came from: while these are `unchanged`, so is the plan."""

    plan: Plan
    files: tuple[FileState, ...]


def interpret(
    package: Package,
    signatures: Sequence[Signature],
    arguments: Mapping[str, Value],
    *,
    main: str = "run",
    cancelled: Callable[[], bool] | None = None,
    timeout: float | None = TIMEOUT,
    resolve: Resolver | None = None,
    others: Repositories | None = None,
) -> Interpretation:
    """The plan of a package for these arguments. `signatures` are the instructions that `plan` has.

    `cancelled` is asked now and then, and may raise; `timeout` is in seconds, without those that fetching takes;
    `resolve` finds other packages' files, and what it does not know is fetched into `others`.
    Raises InterpretationError (ScriptFailed for `fail()`), with `sources` of all files read; PackageError where the
    main file cannot be read.
    """
    wanted: Wanted = {}
    finder = Finder(package, resolve, others)
    stop = _Stop(cancelled, timeout, lambda: finder.waited)
    sources = Sources(package, finder, stop.check)
    try:
        while True:
            attempt = Attempt(sources, signatures, arguments, stop, wanted)
            try:
                plan = attempt.run(main)
            except NeedModule as need:
                wanted.setdefault(need.caller, {})[need.locator] = need.place
            else:
                plan = replace(plan, warnings=(*finder.warnings.values(), *plan.warnings))
                files = (*sources.states.values(), *finder.states, *attempt.recorder.files.values())
                return Interpretation(plan, files)
    except EnclaveError as error:
        error.sources = dict(sources.texts)
        raise stop.explain(error) from None


class _Stop:
    """The cancel check that evaluations ask: it remembers why it said yes. `waited` tells seconds that do not count."""

    def __init__(
        self, cancelled: Callable[[], bool] | None, timeout: float | None, waited: Callable[[], float]
    ) -> None:
        self._cancelled = cancelled
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._waited = waited
        self._reason = ""

    def __call__(self) -> bool:
        if self._deadline is not None and time.monotonic() - self._waited() > self._deadline:
            self._reason = f"interpretation took longer than {self._timeout:g} s"
        elif self._cancelled is not None and self._cancelled():
            self._reason = "interpretation was cancelled"
        return bool(self._reason)

    def check(self) -> None:
        """Raises InterpretationError where it is time to stop."""
        if self():
            raise InterpretationError(self._reason)

    def explain(self, error: EnclaveError) -> EnclaveError:
        """The error itself, or, where this check ended the evaluation, one that says so."""
        if not self._reason:
            return error
        frames = error.frames if isinstance(error, InterpretationError) else ()
        remedy = "look for a loop that goes on for ever, or allow more with `--enclave-interpret-timeout`"
        stopped = InterpretationError(self._reason, location=error.location, remedy=remedy, frames=frames)
        stopped.sources = error.sources
        return stopped
