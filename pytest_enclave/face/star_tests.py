"""Unit tests in Starlark: each function `test_…` of a file `*_test.star` is an item."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from glob import iglob
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_enclave.face.demands import nearest_package
from pytest_enclave.face.session import SESSION

if TYPE_CHECKING:
    from pytest_enclave.errors import EnclaveError
    from pytest_enclave.language.unit_test_files import UnitTest
    from pytest_enclave.plan.instruction import Plan
    from pytest_enclave.run.interpretation import Request

SUFFIX = "_test.star"

_NONE = "there is no function `test_…` in it"
_WRITE = "write `def test_…(plan)`, or for a script that is to be run `def run(plan)`"

_TEST = r"(?m)^def test_"
_MAIN = r"(?m)^def run\b"


def is_script(path: Path) -> bool:
    """Whether a file of such a name is one to be run nevertheless: it has a function `run`, and no tests."""
    text = ""
    with suppress(OSError):  # what cannot be read is told when it is collected
        text = path.read_text("utf-8", "replace")
    return re.search(_TEST, text) is None and re.search(_MAIN, text) is not None


def are_wanted(path: Path, config: pytest.Config, *, named: bool) -> bool:
    """Whether the file's tests are to be collected.

    It is in a package, below one of the ini file's `testpaths`, or `named` on the command line.
    """
    if config.stash[SESSION].settings.star_tests == "off":
        return False
    return named or nearest_package(path.parent, config.rootpath) is not None or _is_in_testpaths(path, config)


def _is_in_testpaths(path: Path, config: pytest.Config) -> bool:
    base = config.inipath.parent if config.inipath is not None else config.rootpath
    patterns = [os.path.normpath(base / pattern) for pattern in config.getini("testpaths")]
    places = {place for pattern in patterns for place in iglob(pattern, recursive=True)}
    return not places.isdisjoint(map(str, (path, *path.parents)))


class StarTestFile(pytest.File):
    """A file of unit tests; one that was `named` on the command line has to have some."""

    def __init__(self, *, named: bool = False, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self._named = named

    def collect(self) -> Iterator[StarTest]:
        """Its tests, in its order. A mistake in the file is a collection error."""
        from pytest_enclave.errors import EnclaveError, PackageError
        from pytest_enclave.language.unit_test_files import unit_tests_of
        from pytest_enclave.package.load import load
        from pytest_enclave.report.failure import render
        from pytest_enclave.source import Location

        try:
            package = load(self.path)
            tests = unit_tests_of(package.main, package.read_main()[0])
            if self._named and not tests:
                raise PackageError(_NONE, location=Location(package.main), remedy=_WRITE)
        except EnclaveError as error:
            raise self.CollectError(str(render(error))) from None
        for test in tests:
            yield StarTest.from_parent(self, name=test.name, test=test)


class StarTest(pytest.Item):
    """A test function: it passes if the function returns, and the plan that it has made can be executed."""

    def __init__(self, *, test: UnitTest, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self._test = test

    def runtest(self) -> None:
        """Interpret the function, and execute its plan in an enclave of its own."""
        __tracebackhide__ = True
        from pytest_enclave.errors import EnclaveError, EngineError, InterpretationError
        from pytest_enclave.plan.instruction import Plan
        from pytest_enclave.run.interpretation import Request

        request = Request(self.path, {}, self.name, unit_test=True)
        failure = self._test.failure
        if failure is None:
            self._run(request)
            return
        error: EnclaveError | None = None
        try:
            self._run(request)
        except EngineError:
            raise
        except EnclaveError as raised:
            error = raised
        plan = Plan() if isinstance(error, InterpretationError) else self._plan(request)
        if error is None or not failure.is_met_by(error, plan.callers):
            executed = self.config.stash[SESSION].settings.star_tests != "plan"
            other = failure.otherwise(error, plan.callers, executed=executed)
            other.sources = other.sources or plan.sources
            raise other

    def _run(self, request: Request) -> None:
        __tracebackhide__ = True
        from pytest_enclave.enclave.demand import Demand

        session = self.config.stash[SESSION]
        how = session.settings.star_tests
        if how == "plan":
            session.tools.interpretations.interpret(request, session.tools.types)
            return
        enclaves = session.enclaves() if how == "engine" else session.without_services()
        demand = Demand(request, isolate=True, here=self.path.parent)
        session.obtain(demand, on=enclaves, own=True)

    def _plan(self, request: Request) -> Plan:
        """The plan that was made for the request; one that says nothing where there is none."""
        from pytest_enclave.errors import EnclaveError
        from pytest_enclave.plan.instruction import Plan

        session = self.config.stash[SESSION]
        try:
            return session.tools.interpretations.interpret(request, session.tools.types)
        except EnclaveError:
            return Plan()

    def reportinfo(self) -> tuple[Path, int, str]:
        """The line that the function begins in."""
        return self.path, self._test.line - 1, self.name
