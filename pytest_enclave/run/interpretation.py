"""Loading and interpreting, with a memory: an unchanged package with the same arguments yields the same plan."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from pytest_enclave.errors import PackageError
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.package.arguments import parse_arguments
from pytest_enclave.package.interpretation import Interpretation
from pytest_enclave.package.locators import is_remote
from pytest_enclave.package.package import Resolver, Source
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.store.plans import KeptPlans, Settled

if TYPE_CHECKING:
    from pytest_enclave.language.kept import KeptModules
    from pytest_enclave.package.git.repositories import Repositories

OPTION = "--enclave-interpret-timeout"
"""Where users say how long an interpretation may take, in a test session."""

PackageLike: TypeAlias = "str | Path | Source"
"""A package: the path of a directory or a `.star` file, a locator, or `Source("…")` with the text itself."""

NOTHING_FOUND: Mapping[str, Struct] = MappingProxyType({})
"""The services of an enclave in which nothing has run."""

LONGEST_SHOWN = 80
"""Characters that an error message shows of a path that cannot be one."""


class Request(msgspec.Struct, frozen=True, dict=True):
    """What is to be run: a package, the arguments, and the name of the main function, which may be a unit test.

    Which package it is, is found out once: every further test asks for its key several times.
    """

    package: PackageLike
    arguments: Mapping[str, Value]
    main: str = "run"
    unit_test: bool = False

    @classmethod
    def of(cls, package: PackageLike, args: Mapping[str, Value] | str | None = None, main: str = "run") -> Request:
        """A request with its arguments parsed.

        Raises PackageError where they are no object, or where the package is no path that could be; TypeError where it
        is neither a path nor a Source, or `main` is no text.
        """
        __tracebackhide__ = True
        if not isinstance(package, (str, Path, Source)):
            raise TypeError(f"a package is a path or a Source, not {package!r}")
        if not isinstance(main, str):
            raise TypeError(f"main is the name of a function, not {main!r}")
        request = cls(package, parse_arguments(args), main)
        _ = request.path  # found now, and kept
        return request

    @cached_property
    def path(self) -> Path | None:
        """The package's path with all links resolved; there may be nothing at it. None for a Source or locator.

        Raises PackageError where there cannot be anything.
        """
        if isinstance(self.package, Source) or is_remote(self.package):
            return None
        return _resolved(self.package)

    @cached_property
    def key(self) -> str:
        """Equal for requests that ask for the same."""
        package = str(self.path) if self.path else self.package
        kind = " as a test" if self.unit_test else ""
        return f"{package!r} {self.main}{kind} {json.dumps(self.arguments, sort_keys=True, default=repr)}"


def _resolved(package: str | Path) -> Path:
    try:
        path = Path(package).resolve()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, RuntimeError, ValueError) as error:
        text = repr(str(package))[1:-1]
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
        # What Python says of a null byte differs from version to version.
        reason = getattr(error, "strerror", None) or ("embedded null byte" if "\0" in str(package) else str(error))
        raise PackageError(f"there is no package at {shown}: {reason}") from None
    return path


class Interpretations:
    """Remembers the latest interpretation of each request, as long as nothing that it has read is changed."""

    def __init__(
        self,
        timeout: float | None = 60.0,
        resolve: Resolver | None = None,
        others: Repositories | None = None,
        kept: KeptModules | None = None,
        setting: str = OPTION,
    ) -> None:
        """`timeout` is for one interpretation, in seconds; `resolve` finds what lies outside a package.

        `setting` is what users set the timeout with.
        What it does not know is fetched into `others`, and what was made of files is in `kept`: by default this user's.
        """
        self._timeout = timeout
        self._setting = setting
        self._resolve = resolve
        self._others = others
        self._kept = kept
        self._lock = threading.Lock()
        self._known: dict[str, Interpretation] = {}

    def interpret(
        self,
        request: Request,
        types: Registry,
        found: Mapping[str, Struct] = NOTHING_FOUND,
        plans: KeptPlans | None = None,
    ) -> Plan:
        """The plan, for an enclave that has these services. Raises PackageError or InterpretationError.

        `plans` are those that other processes have made for the same enclave.
        """
        key, plans = _key(request), plans if _lasts(request, types) else None
        with self._lock:
            known = self._known.get(key)
            if known is None and plans is not None:
                known = plans.find(key)
            if known is None or not known.holds(found):
                known = self._interpret(request, types, found)
                if plans is not None:
                    plans.keep(key, known)
            self._known[key] = known
        return known.plan

    def settled(self, request: Request, types: Registry, plan: Plan, plans: KeptPlans | None) -> Settled | None:
        """What was found by a run of this plan, in whatever process, that had nothing to do for this request."""
        return plans.settled(_key(request), plan) if plans is not None and _lasts(request, types) else None

    def settle(self, request: Request, types: Registry, plan: Plan, plans: KeptPlans | None, settled: Settled) -> None:
        """Keep that for the next process."""
        if plans is not None and _lasts(request, types):
            plans.settle(_key(request), plan, settled)

    def _interpret(self, request: Request, types: Registry, found: Mapping[str, Struct]) -> Interpretation:
        # Where the plan is known already, the interpreter is not even imported.
        from pytest_enclave.language.interpret import interpret
        from pytest_enclave.language.kept import KeptModules
        from pytest_enclave.package.git.repositories import Repositories
        from pytest_enclave.package.load import load

        self._others = self._others or Repositories.of(os.environ)
        self._kept = self._kept or KeptModules.of(os.environ)
        return interpret(
            load(request.package, self._resolve, self._others),
            tuple(types.values()),
            request.arguments,
            main=request.main,
            timeout=self._timeout,
            setting=self._setting,
            resolve=self._resolve,
            others=self._others,
            kept=self._kept,
            found=found,
            unit_test=request.unit_test,
        )


def _key(request: Request) -> str:
    """The order of a dict's entries can reach the plan, though it does not tell requests apart."""
    return f"{request.key} {request.arguments!r}"


def _lasts(request: Request, types: Registry) -> bool:
    """Whether another process comes to the same. Of what others have written, nobody knows whether it is as it was."""
    return not (request.unit_test or types.is_extended or is_remote(request.package))
