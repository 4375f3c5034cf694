"""The embedded Starlark interpreter, and its limits: no access to the host, bounded depth, stopped from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import starlark

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language.unit_tests import MODULE
from pytest_enclave.source import Location

PRELUDE = "<prelude>"
GENERATED = "<generated>"
"""The files that generated code seems to come from."""

_NO_MEMORY = re.compile(r"out of memory|AlignedSize|capacity overflow")

MAX_CALLS = 400
"""How deep calls may nest, the prelude's included: more than code without recursion needs, less than a stack bears."""


class Machine:
    """Evaluates texts into modules. `cancelled` is asked now and then whether to stop; what it raises comes through."""

    def __init__(self, natives: Mapping[str, Callable[..., Any]], cancelled: Callable[[], bool]) -> None:
        self._frozen: dict[str, starlark.FrozenModule] = {}
        self._loader = starlark.FileLoader(self._frozen.__getitem__)
        self._globals = _globals()
        self._dialect = _dialect()
        self._options = starlark.EvalOptions(check_cancelled=cancelled, max_callstack_size=MAX_CALLS)
        module = starlark.Module()
        for name, native in natives.items():
            module.add_callable(name, native)
        starlark.eval_with(self._options, module, _prelude(), self._globals)
        self._frozen[PRELUDE] = module.freeze()

    def load_unit_tests(self) -> None:
        """Have what files of unit tests are given."""
        module = starlark.Module()
        starlark.eval_with(self._options, module, _unit_tests(), self._globals, self._loader)
        self._frozen[MODULE] = module.freeze()

    def load(self, name: str, header: str, code: str, footer: str) -> None:
        """Evaluate a file between two generated texts, and keep it, frozen, under its name."""
        module = starlark.Module()
        for file, text in ((GENERATED, header), (name, code), (GENERATED, footer)):
            self.evaluate(file, text, module)
        self._frozen[name] = module.freeze()

    def evaluate(self, file: str, text: str, module: starlark.Module | None = None) -> None:
        """Evaluate a text.

        Raises `starlark.StarlarkError`, what a cancel check raised, and where the interpreter itself broke (it then
        says so with a BaseException that nothing else would catch) MemoryError or InterpretationError.
        """
        try:
            tree = starlark.parse(file, text, self._dialect)
            starlark.eval_with(self._options, module or starlark.Module(), tree, self._globals, self._loader)
        except BaseException as error:
            if type(error).__name__ == "PanicException":
                if _NO_MEMORY.search(str(error)):
                    raise MemoryError(str(error)) from None
                message = f"the Starlark interpreter broke: {error}"
                raise InterpretationError(message, location=Location(file)) from None
            raise


@cache
def _prelude() -> starlark.AstModule:
    return _ours(PRELUDE, "prelude.star")


@cache
def _unit_tests() -> starlark.AstModule:
    return _ours(MODULE, "unit_tests.star")


def _ours(name: str, file: str) -> starlark.AstModule:
    text = files("pytest_enclave.language").joinpath(file).read_text("utf-8")
    return starlark.parse(name, text, _dialect())


@cache
def _globals() -> starlark.Globals:
    extension = starlark.LibraryExtension
    return starlark.Globals.extended_by([extension.StructType, extension.Json, extension.CallStack])


@cache
def _dialect() -> starlark.Dialect:
    dialect = starlark.Dialect.extended()
    dialect.enable_f_strings = False
    dialect.enable_types = starlark.DialectTypes.DISABLE
    return dialect
