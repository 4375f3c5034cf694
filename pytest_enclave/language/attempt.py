"""One attempt at an interpretation: a fresh machine, all modules evaluated in it, and the main function called."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import starlark

from pytest_enclave.errors import InterpretationError, PackageError, Problem
from pytest_enclave.language import diagnostics
from pytest_enclave.language.entry import Entry, entry
from pytest_enclave.language.loader import Loader, Wanted
from pytest_enclave.language.machine import GENERATED, PRELUDE, Machine
from pytest_enclave.language.module import Module
from pytest_enclave.language.natives import Natives, NeedCare, NeedModule
from pytest_enclave.language.recorder import Recorder
from pytest_enclave.language.sources import Sources
from pytest_enclave.language.unit_tests import MODULE, NeedMock, Trial
from pytest_enclave.package.finding import NeedFetch
from pytest_enclave.plan.draft import Draft
from pytest_enclave.plan.instruction import Plan, Signature
from pytest_enclave.plan.values import Value, quote
from pytest_enclave.source import Frame, Location


class Attempt:
    """What the parts of one attempt share; `recorder` has what it leaves behind."""

    def __init__(
        self,
        sources: Sources,
        signatures: Sequence[Signature],
        arguments: Mapping[str, Value],
        cancelled: Callable[[], bool],
        wanted: Wanted,
        draft: Draft,
        trial: Trial | None = None,
        *,
        confined: bool,
    ) -> None:
        self.recorder = Recorder(signatures, sources.modules, sources.find, sources.is_fetched, draft)
        self._sources = sources
        self._confined = confined
        self._natives = Natives(self.recorder, sources.read, confined=confined)
        self._trial = trial
        self._machine = Machine(self._natives.table(trial.natives(self.recorder) if trial else {}), cancelled)
        self._loader = Loader(self._machine, self._open, sources.is_at_hand, wanted, self._failure, trial)
        self._arguments = arguments

    def run(self, main: str) -> Plan:
        """Load everything, call the main function, and give the plan.

        Raises InterpretationError, PackageError, `natives.NeedModule`, `natives.NeedCare`, `finding.NeedFetch`, and
        whatever the cancel check raised.
        """
        with _uncollected():
            return self._run(main)

    def _run(self, main: str) -> Plan:
        if self._trial is not None:
            self._trial.begin()
            self._machine.load_unit_tests()
        module = self._safe(self._sources.main())
        self._loader.load(module)
        if module.instructions:
            return self._plan(_without_plan(module))
        called = entry(module, main, self._arguments, self._sources.package.title)
        self._natives.arguments = called.arguments
        try:
            self._machine.evaluate(GENERATED, _call(module.name, called, self._trial))
        except starlark.StarlarkError as error:
            failure = self._failure(error)
            if isinstance(failure, InterpretationError) and failure.location is None:
                # It is about what the function was given or has returned, when none of its lines runs.
                failure.location = module.definition_place(called.function)
            if isinstance(failure, InterpretationError):
                failure.warnings = called.warnings
            raise failure from None
        return self._plan(*called.warnings)

    def _plan(self, *warnings: Problem) -> Plan:
        return Plan(
            instructions=tuple(self.recorder.instructions),
            output=self._natives.output,
            sources=dict(self._sources.texts),
            warnings=(*warnings, *self.recorder.warnings),
            callers=self._trial.callers(self.recorder, self._sources.modules) if self._trial else {},
        )

    def _open(self, locator: str, caller: str) -> Module:
        return self._safe(self._sources.open(locator, caller))

    def _safe(self, module: Module) -> Module:
        if module.risky and not self._confined:
            raise NeedCare(Location(module.name))
        return module

    def _failure(self, error: starlark.StarlarkError) -> BaseException:
        """What to raise for an interpreter error: what a native raised, placed; or the error in the user's words."""
        diagnosis = diagnostics.read(str(error))
        raised, self._natives.raised = self._natives.raised, None
        explained = diagnostics.explain(diagnosis, self._sources.modules, self.recorder.names)
        if raised is None:
            return explained
        if isinstance(raised, (NeedMock, NeedFetch)):
            return raised
        if isinstance(raised, NeedModule):
            raised.place = explained.location or raised.place
        elif isinstance(raised, NeedCare):
            raised.place = explained.location
        elif isinstance(raised, InterpretationError):
            raised.location = raised.location or explained.location or Location(self._sources.package.main)
            raised.frames = raised.frames or _ending_at(raised.location, explained.frames)
        elif isinstance(raised, PackageError):
            return InterpretationError(
                raised.message, location=explained.location, remedy=raised.remedy, frames=explained.frames
            )
        elif isinstance(raised, Exception):
            explained.__cause__ = raised
            return explained
        return raised


@contextmanager
def _uncollected() -> Iterator[None]:
    """Spare the garbage collector: a plan only grows and has no cycles, and it would be walked again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_plan(module: Module) -> Problem:
    return Problem(
        "a script without `run`, with instructions as globals, is deprecated",
        Location(module.name),
        remedy="put them into `def run(plan):`, and write `plan.` before each",
        severity="warning",
    )


def _ending_at(place: Location, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The innermost frame, when it is in the same line, gets the exact place."""
    if frames and (frames[-1].location.file, frames[-1].location.line) == (place.file, place.line):
        return (*frames[:-1], Frame(place, frames[-1].function))
    return frames


def _call(module: str, called: Entry, trial: Trial | None) -> str:
    """Generated code that calls the main function."""
    flags = f"with_plan = {called.with_plan}, whole = {called.whole}"
    tests = ""
    if trial is not None:
        tests = f'load({quote(MODULE)}, T__ = "unit_tests__")\n'
        flags += ", plan = T__.plan"
    return (
        f'load({quote(PRELUDE)}, P__ = "prelude__")\n'
        f"{tests}"
        f'load({quote(module)}, m__ = "module__")\n'
        f"P__.run(m__.{called.function}, {quote(called.function)}, {flags})\n"
    )
