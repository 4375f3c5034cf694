"""Loading and interpreting, with a memory: an unchanged package with the same arguments yields the same plan."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pytest_enclave.instructions.registry import Registry
from pytest_enclave.language.interpret import Interpretation, interpret
from pytest_enclave.package.arguments import parse_arguments
from pytest_enclave.package.files import unchanged
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Resolver, Source
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Value

PackageLike: TypeAlias = "str | Path | Source"
"""A package: the path of a directory or a `.star` file, or `Source("…")` with the text itself."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be run: a package, the arguments, and the name of the main function."""

    package: PackageLike
    arguments: Mapping[str, Value]
    main: str = "run"

    @classmethod
    def of(cls, package: PackageLike, args: Mapping[str, Value] | str | None = None, main: str = "run") -> Request:
        """A request with its arguments parsed. Raises PackageError where they are no object."""
        return cls(package, parse_arguments(args), main)

    @property
    def key(self) -> str:
        """Equal for requests that ask for the same."""
        package = self.package if isinstance(self.package, Source) else str(Path(self.package).resolve())
        return f"{package!r} {self.main} {json.dumps(self.arguments, sort_keys=True, default=repr)}"


class Interpretations:
    """Remembers the latest interpretation of each request, as long as none of the files it read has changed."""

    def __init__(self, timeout: float | None = 60.0, resolve: Resolver | None = None) -> None:
        """`timeout` is for one interpretation, in seconds; `resolve` finds what lies outside a package."""
        self._timeout = timeout
        self._resolve = resolve
        self._lock = threading.Lock()
        self._known: dict[str, Interpretation] = {}

    def interpret(self, request: Request, types: Registry) -> Plan:
        """The plan. Raises PackageError or InterpretationError."""
        # The order of a dict's entries can reach the plan, though it does not tell requests apart.
        key = f"{request.key} {request.arguments!r}"
        with self._lock:
            known = self._known.get(key)
            if known is None or not unchanged(known.files):
                known = interpret(
                    load(request.package),
                    tuple(types.values()),
                    request.arguments,
                    main=request.main,
                    timeout=self._timeout,
                    resolve=self._resolve,
                )
                self._known[key] = known
        return known.plan
