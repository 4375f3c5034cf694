"""The public function `interpret`: what a package would do, without any engine."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_enclave.instructions.registry import Registry
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Value
from pytest_enclave.run.interpretation import Interpretations, PackageLike, Request


def interpret(
    package: PackageLike, args: Mapping[str, Value] | str | None = None, *, main: str = "run", timeout: float = 60.0
) -> Plan:
    """The plan of a package for these arguments. Nothing is started or validated, and no engine is needed.

    `package` is a path, `github.com/…`, or `Source("…")` with the text of a package; `args` a dict, JSON or YAML text,
    or `@FILE`; `main` the name of its main function. Paths are relative to the working directory. It may take `timeout`
    seconds. There are the built-in instructions; those of plugins are known in test sessions only.
    Raises PackageError where the package or the arguments are wrong, InterpretationError where the package's Starlark
    yields no plan (ScriptFailed where it calls `fail`), TypeError for arguments of other types, and ValueError for a
    timeout that is not more than 0.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is a number of seconds, not {timeout!r}")
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout is a number of seconds, more than 0 and finite, not {timeout!r}")
    request = Request.of(package, args, main)
    return Interpretations(timeout, setting="timeout=").interpret(request, Registry())
