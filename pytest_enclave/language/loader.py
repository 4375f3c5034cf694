"""Files that import each other, each evaluated once, before the first one that needs it (behaviour.md §3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import starlark

from pytest_enclave.errors import InterpretationError, PackageError
from pytest_enclave.language.desugar import NAMES
from pytest_enclave.language.machine import PRELUDE, Machine
from pytest_enclave.language.module import Import, Module
from pytest_enclave.language.predeclared import REPLACED
from pytest_enclave.language.unit_tests import MODULE, Trial, predeclared
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.values import quote
from pytest_enclave.source import Frame, Location

Wanted = dict[str, dict[str, Location]]
"""By file: locators that turned out, while it ran, to be imported from it, and where."""


class Loader:
    """Evaluates modules in a machine.

    `open_module` reads and checks the file behind a locator, or says it cannot; `is_at_hand` tells whether it would
    have to be fetched for that.
    """

    def __init__(
        self,
        machine: Machine,
        open_module: Callable[[str, str], Module],
        is_at_hand: Callable[[str, str], bool],
        wanted: Wanted,
        failure: Callable[[starlark.StarlarkError], BaseException],
        trial: Trial | None = None,
    ) -> None:
        self._machine = machine
        self._open = open_module
        self._is_at_hand = is_at_hand
        self._wanted = wanted
        self._failure = failure
        self._trial = trial
        self._loaded: set[str] = set()
        self._loading: list[str] = []

    def load(self, module: Module) -> None:
        """Evaluate a module, and before it what it imports. Raises InterpretationError."""
        if module.name in self._loaded:
            return
        self._loading.append(module.name)
        try:
            imported = self._imported(module)
            header, footer = _header(module, imported), _footer(module)
            if self._trial is not None:
                header += _test_header(module)
                footer = _test_footer(module, self._trial)
            self._machine.load(module.name, header, module.evaluated.text, footer)
        except starlark.StarlarkError as error:
            raise self._failure(error) from None
        finally:
            self._loading.pop()
        self._loaded.add(module.name)

    def _imported(self, module: Module) -> dict[str, str]:
        """The modules it imports, by locator. What is imported inside functions only may fail, and is not fetched."""
        found: dict[str, str] = {}
        run = [Import(locator, place, eager=True) for locator, place in self._wanted.get(module.name, {}).items()]
        for wanted in (*run, *module.imports):
            if wanted.locator in found:
                continue
            try:
                if wanted.eager or self._is_at_hand(wanted.locator, module.name):
                    found[wanted.locator] = self._import(module, wanted)
            except PackageError:
                if wanted.eager:
                    raise
        return found

    def _import(self, module: Module, wanted: Import) -> str:
        try:
            target = self._open(wanted.locator, module.name)
            if target.name in self._loading:
                raise _cycle([*self._loading[self._loading.index(target.name) :], target.name])
            self.load(target)
        except PackageError as error:
            raise _imported_by(error, module, wanted) from None
        return target.name


def _imported_by(error: PackageError, module: Module, wanted: Import) -> InterpretationError:
    """The error with the importing call as its outermost frame, and in words that name the import."""
    frame = Frame(wanted.place, module.function_at(wanted.place.line))
    if isinstance(error, InterpretationError):
        error.frames = (frame, *error.frames)
        error.location = error.location or wanted.place
        return error
    return InterpretationError(
        f"cannot import {quote(wanted.locator)}: {error.message}",
        location=error.location or wanted.place,
        remedy=error.remedy,
        frames=(frame,),
    )


def _cycle(names: list[str]) -> InterpretationError:
    way = " → ".join(f"`{name}`" for name in names)
    return InterpretationError(f"files import each other: {way}", remedy="move what both need into a third file")


def _header(module: Module, imported: Mapping[str, str]) -> str:
    """Generated code that gives a module its predeclared names; imported modules come in as `m0__`, `m1__` …"""
    wanted = ", ".join(quote(name) for name in NAMES)
    lines = [f'load({quote(PRELUDE)}, {wanted}, P__ = "prelude__")']
    lines += [f'load({quote(name)}, m{n}__ = "module__")' for n, name in enumerate(imported.values())]
    table = ", ".join(f"{quote(locator)}: m{n}__" for n, locator in enumerate(imported))
    lines += [f"{name} = P__.{name}" for name in (*REPLACED, *CONFIG_TYPES)]
    lines.append(f"import_module = P__.importer({quote(module.name)}, {{{table}}})")
    lines += [f"{name} = P__.plan.{name}" for name in sorted(module.instructions)]
    lines.append(f"read_file = P__.reader({quote(module.name)})")
    return "\n".join(lines) + "\n"


def _footer(module: Module) -> str:
    """Generated code that gathers a module's globals; `load` could not fetch those that begin with `_`."""
    return f"module__ = P__.module({_globals(module)})\n"


def _globals(module: Module) -> str:
    return "{" + ", ".join(f"{quote(name)}: {name}" for name in module.names) + "}"


def _test_header(module: Module) -> str:
    """Generated code that gives a file of unit tests what it finds predeclared besides."""
    names = [f"{name} = T__.{name}" for name in sorted(predeclared(module.name))]
    return "\n".join([f'load({quote(MODULE)}, T__ = "unit_tests__")', *names]) + "\n"


def _test_footer(module: Module, trial: Trial) -> str:
    """The same as the footer, for a module of which functions may be mocked."""
    mocked = ", ".join(map(quote, trial.functions_of(module.name)))
    return f"module__ = T__.module({quote(module.name)}, {_globals(module)}, [{mocked}])\n"
