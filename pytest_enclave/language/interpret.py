"""Package and arguments in, plan out.

Files are read, checked statically, rewritten where dialects differ, and evaluated in the embedded interpreter, imports
first. Then the main function is called; every `plan.*` call in it records an instruction. An import that only shows
while code runs ends the attempt, and a new one starts with that file loaded beforehand: nothing has happened yet, and
the same source gives the same plan. Code that might harm this process is evaluated in another one (`caution.py` and
the prelude find it, `confined.py` has the process).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from pytest_enclave.errors import EnclaveError, InterpretationError, PackageError
from pytest_enclave.language.attempt import Attempt
from pytest_enclave.language.confined import Unanswered, apart, resident
from pytest_enclave.language.entry import DEFAULT
from pytest_enclave.language.kept import KeptModules
from pytest_enclave.language.loader import Wanted
from pytest_enclave.language.natives import NeedCare, NeedModule
from pytest_enclave.language.sources import Sources
from pytest_enclave.language.unit_tests import NeedMock, Trial
from pytest_enclave.package.finding import Finder, NeedFetch
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.interpretation import Interpretation
from pytest_enclave.package.package import Package, Resolver
from pytest_enclave.plan.draft import Draft
from pytest_enclave.plan.instruction import Signature
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location

TIMEOUT = 60.0
"""Seconds that an interpretation may take (`--enclave-interpret-timeout`)."""

OPTION = "--enclave-interpret-timeout"
"""Where users say how long it may take, in a test session."""

TRUSTED = 256 << 20
"""Bytes that an interpretation may take before it goes on in a process of its own."""

MEMORY = 1 << 30
"""Bytes that it may take at all; half as much more of address space, so that most of what exceeds it has a place."""

_TIME = "interpretation took longer than {:g} s"
_CANCELLED = "interpretation was cancelled"
_TOO_MUCH = "interpretation needs more memory than it may have (1 GB)"
_LOOK = "look for a loop that goes on for ever, or allow more with `{}`"
_NOTHING: Mapping[str, Struct] = MappingProxyType({})
_BROKE_DOWN = "the interpreter broke down over this file: a value in it is nested too deeply, or contains itself"
_REMEDIES = {
    _TOO_MUCH: "look for texts or lists that grow with each step of a loop",
    _BROKE_DOWN: "look for a loop that puts a value into its own successor, as `x = [x]` does",
}


def interpret(
    package: Package,
    signatures: Sequence[Signature],
    arguments: Mapping[str, Value],
    *,
    main: str = "run",
    cancelled: Callable[[], bool] | None = None,
    timeout: float | None = TIMEOUT,
    setting: str = OPTION,
    resolve: Resolver | None = None,
    others: Repositories | None = None,
    kept: KeptModules | None = None,
    found: Mapping[str, Struct] = _NOTHING,
    unit_test: bool = False,
) -> Interpretation:
    """The plan of a package for these arguments. `signatures` are the instructions that `plan` has.

    `cancelled` is asked now and then, and may raise; `timeout` is in seconds, without those that fetching takes, and
    `setting` what users know it by;
    `resolve` finds other packages' files, and what it does not know is fetched into `others`; what was made of files
    in other interpretations is in `kept`; `found` are the configs of the services that the enclave has. A
    `unit_test` is interpreted with what `unit_tests.py` has for it.
    Raises InterpretationError (ScriptFailed for `fail()`), with `sources` of all files read; PackageError where the
    main file cannot be read.
    """
    finder = Finder(package, resolve, others)
    stop = _Stop(cancelled, timeout, setting, lambda: finder.waited)
    trial = Trial() if unit_test else None
    sources = Sources(package, finder, stop.check, _callable_alone(signatures, main), kept, with_tests=unit_test)

    def attempts(*, confined: bool) -> Interpretation:
        stop.confined = confined
        wanted: Wanted = {}
        if trial is not None:
            trial.forget()
        try:
            while True:
                draft = Draft(found)
                attempt = Attempt(sources, signatures, arguments, stop, wanted, draft, trial, confined=confined)
                try:
                    plan = attempt.run(main)
                except NeedModule as need:
                    wanted.setdefault(need.caller, {})[need.locator] = need.place
                    if trial is not None:
                        trial.forget()
                except NeedMock:
                    pass  # the trial knows it now
                except InterpretationError as error:
                    if trial is None or stop.stopped or not trial.catch(error):
                        raise
                else:
                    if trial is not None:
                        trial.tell()
                    plan = replace(plan, warnings=(*finder.warnings.values(), *plan.warnings))
                    files = (*sources.states.values(), *finder.states, *attempt.recorder.files.values())
                    return Interpretation(plan, files, draft.seen, finder.lasts)
        except EnclaveError as error:
            if trial is not None:
                trial.tell()
            error.sources = dict(sources.texts)
            raise stop.explain(error) from None

    def confined_attempts() -> Interpretation:
        finder.fetch_no_more()
        return attempts(confined=True)

    try:
        return attempts(confined=False)
    except NeedCare as need:
        place = need.place or Location(package.main)
    except MemoryError:
        place = Location(package.main)
    try:
        _read_ahead(sources)
        while True:
            try:
                return apart(
                    confined_attempts, memory=MEMORY + MEMORY // 2, deadline=stop.deadline, cancelled=stop.asked
                )
            except NeedFetch as need:
                finder.fetch(need.readings)
    except Unanswered as broken:
        error = stop.unanswered(broken.reason, place)
        error.sources = dict(sources.texts)
        raise error from None


def _callable_alone(signatures: Sequence[Signature], main: str) -> list[str]:
    """The instructions that a script without a main function may call without `plan`."""
    if main != DEFAULT:
        return []
    return [name for kind in signatures for name in (kind.name, *kind.aliases) if name != "assert"]


def _read_ahead(sources: Sources) -> None:
    """Read what the package's files import, so that time spent on other repositories is spent here."""
    pending = [sources.main()]
    seen = {pending[0].name}
    for module in pending:
        for wanted in module.imports:
            with contextlib.suppress(PackageError):
                if wanted.eager or sources.is_at_hand(wanted.locator, module.name):
                    found = sources.open(wanted.locator, module.name)
                    pending += [] if found.name in seen else [found]
                    seen.add(found.name)


class _Stop:
    """The cancel check that evaluations ask: it remembers why it said yes.

    `waited` tells seconds that do not count. Outside of a confined process it also looks whether the code had better
    be evaluated in one.
    """

    def __init__(
        self, cancelled: Callable[[], bool] | None, timeout: float | None, setting: str, waited: Callable[[], float]
    ) -> None:
        self.confined = False
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._waited = waited
        self._cancelled = cancelled
        self._timeout = timeout
        self._look = _LOOK.format(setting)
        self._memory = resident()
        self._reason = ""

    def __call__(self) -> bool:
        grown = resident() - self._memory
        deadline = self.deadline
        if deadline is not None and time.monotonic() > deadline:
            self._reason = _TIME.format(self._timeout)
        elif self.asked():
            self._reason = _CANCELLED
        elif grown > MEMORY:
            self._reason = _TOO_MUCH
        elif grown > TRUSTED and not self.confined:
            raise NeedCare
        return bool(self._reason)

    @property
    def stopped(self) -> bool:
        """Whether it has said yes."""
        return bool(self._reason)

    @property
    def deadline(self) -> float | None:
        """When time is up, by `time.monotonic`."""
        return None if self._deadline is None else self._deadline + self._waited()

    def asked(self) -> bool:
        """Whether the caller wants no more of it; what the caller's own check raises comes through."""
        return self._cancelled is not None and self._cancelled()

    def check(self) -> None:
        """Raises InterpretationError where it is time to stop."""
        if self():
            raise InterpretationError(self._reason)

    def explain(self, error: EnclaveError) -> EnclaveError:
        """The error itself, or, where this check ended the evaluation, one that says so."""
        if not self._reason:
            return error
        frames = error.frames if isinstance(error, InterpretationError) else ()
        stopped = InterpretationError(
            self._reason, location=error.location, remedy=_REMEDIES.get(self._reason, self._look), frames=frames
        )
        stopped.sources = error.sources
        return stopped

    def unanswered(self, reason: str, place: Location | None) -> InterpretationError:
        """The error for a confined process that ended without an answer; `place` is where it began to need care."""
        message = {
            "time": _TIME.format(self._timeout or 0),
            "cancelled": _CANCELLED,
            "depth": _BROKE_DOWN,
        }.get(reason, _TOO_MUCH)
        return InterpretationError(message, location=place, remedy=_REMEDIES.get(message, self._look))
