"""The files of one interpretation: each read and checked once, and remembered for errors and for reuse."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language import unit_tests
from pytest_enclave.language.kept import KeptModules
from pytest_enclave.language.module import Module
from pytest_enclave.language.predeclared import PREDECLARED
from pytest_enclave.package.files import FileState, read_text
from pytest_enclave.package.finding import Finder
from pytest_enclave.package.package import Found, Package


class Sources:
    """Reads files that `finder` finds. `states` are those of all files read, `texts` the Starlark among them by name.

    `instructions` are the names of those that old scripts may call without `plan`. `go_on` is called between steps,
    and raises where no more are wanted. What was made of files before is in `kept`. `with_tests`, files of those
    find more names predeclared.
    """

    def __init__(
        self,
        package: Package,
        finder: Finder,
        go_on: Callable[[], None],
        instructions: Sequence[str] = (),
        kept: KeptModules | None = None,
        *,
        with_tests: bool = False,
    ) -> None:
        self.package = package
        self.states: dict[str, FileState] = {}
        self.texts: dict[str, str] = {}
        self.modules: dict[str, Module] = {}
        self._finder = finder
        self._go_on = go_on
        self._names = instructions
        self._kept = kept
        self._with_tests = with_tests
        self._older: frozenset[str] = frozenset()
        self._remember(package.manifest)

    def main(self) -> Module:
        """The main file. Raises PackageError, or InterpretationError where it is not Starlark."""
        if self.package.main not in self.modules:
            text, state = self.package.read_main()
            self._remember(state)
            return self._main(text)
        return self.modules[self.package.main]

    def open(self, locator: str, caller: str) -> Module:
        """The Starlark file that a locator written in the file `caller` stands for. Raises as `main` does."""
        found = self._finder.find(locator, caller, in_package=True)
        if found.name not in self.modules:
            text, state = read_text(found.path, found.name)
            self._remember(state)
            return self._module(found.name, text)
        return self.modules[found.name]

    def read(self, locator: str, caller: str) -> str:
        """The text of any file of the package. Raises PackageError."""
        found = self._finder.find(locator, caller, in_package=True)
        text, state = read_text(found.path, found.name)
        self._remember(state)
        return text

    def find(self, locator: str, caller: str) -> Found:
        """What a locator written in the file `caller` stands for. Raises PackageError."""
        return self._finder.find(locator, caller)

    def is_fetched(self, name: str) -> bool:
        """Whether the file of that name came through git."""
        return self._finder.is_fetched(name)

    def is_at_hand(self, locator: str, caller: str) -> bool:
        """Whether it can be looked for without a network. Raises PackageError where it is malformed."""
        return self._finder.is_at_hand(locator, caller)

    def _remember(self, state: FileState | None) -> None:
        if state is not None:
            self.states[str(state.path)] = state

    def _main(self, text: str) -> Module:
        """The main file, which in old scripts has no function `run`, and its instructions as globals."""
        try:
            return self._module(self.package.main, text)
        except InterpretationError as error:
            if not self._names or not any(problem.message.startswith("undefined name") for problem in error.problems):
                raise
            self._older = frozenset((*self._names, "print"))
            with contextlib.suppress(InterpretationError):
                module = self._module(self.package.main, text)
                if not {"run", "plan"} & set(module.names):
                    return module
            self._older = frozenset()
            raise

    def _module(self, name: str, text: str) -> Module:
        self.texts[name] = text
        predeclared = PREDECLARED | self._older
        if self._with_tests:
            predeclared |= unit_tests.predeclared(name)
        module = self._kept.find(name, text, predeclared) if self._kept else None
        if module is None:
            module = Module.of(name, text, predeclared, self._go_on)
            if self._kept:
                self._kept.keep(module, predeclared)
        self.modules[name] = replace(module, instructions=self._older.difference(module.names))
        return self.modules[name]
