"""The files of one interpretation: each read and checked once, and remembered for errors and for reuse."""

from __future__ import annotations

from collections.abc import Callable

from pytest_enclave.language.module import Module
from pytest_enclave.language.predeclared import PREDECLARED
from pytest_enclave.package.files import FileState, read_text
from pytest_enclave.package.finding import Finder
from pytest_enclave.package.package import Found, Package


class Sources:
    """Reads files that `finder` finds. `states` are those of all files read, `texts` the Starlark among them by name.

    `go_on` is called between steps, and raises where no more are wanted.
    """

    def __init__(self, package: Package, finder: Finder, go_on: Callable[[], None]) -> None:
        self.package = package
        self.states: dict[str, FileState] = {}
        self.texts: dict[str, str] = {}
        self.modules: dict[str, Module] = {}
        self._finder = finder
        self._go_on = go_on
        self._remember(package.manifest)

    def main(self) -> Module:
        """The main file. Raises PackageError, or InterpretationError where it is not Starlark."""
        if self.package.main not in self.modules:
            text, state = self.package.read_main()
            self._remember(state)
            return self._module(self.package.main, text)
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

    def is_at_hand(self, locator: str, caller: str) -> bool:
        """Whether it can be looked for without a network. Raises PackageError where it is malformed."""
        return self._finder.is_at_hand(locator, caller)

    def _remember(self, state: FileState | None) -> None:
        if state is not None:
            self.states[str(state.path)] = state

    def _module(self, name: str, text: str) -> Module:
        self.texts[name] = text
        self.modules[name] = Module.of(name, text, PREDECLARED, self._go_on)
        return self.modules[name]
