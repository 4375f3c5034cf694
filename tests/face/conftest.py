"""Packages and tests in a directory of their own, run by a pytest of their own on the simulated engine."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from textwrap import dedent, indent

import pytest

import pytest_enclave

WritePackage = Callable[..., Path]
RunPytest = Callable[..., pytest.RunResult]

# pytester forgets what was imported during a session that it ran; extension modules do not bear being imported again.
for name in (
    "yaml",
    "starlark",
    *(module.name for module in walk_packages(pytest_enclave.__path__, "pytest_enclave.")),
):
    import_module(name)


@pytest.fixture
def package(pytester: pytest.Pytester) -> WritePackage:
    """Write a package into a directory (default: where pytest runs); `body` is that of its function `run(plan, …)`."""

    def write(directory: str = ".", body: str = 'plan.print("hello")', parameters: str = "") -> Path:
        root = pytester.path / directory
        root.mkdir(parents=True, exist_ok=True)
        (root / "kurtosis.yml").write_text(f"name: github.com/face/{root.name.replace('_', '-')}\n")
        signature = f"plan, {parameters}" if parameters else "plan"
        (root / "main.star").write_text(f"def run({signature}):\n{indent(dedent(body).strip(), '    ')}\n")
        return root

    return write


@pytest.fixture
def run(pytester: pytest.Pytester) -> RunPytest:
    """Run pytest on the simulated engine, in this process."""

    def run(*arguments: object) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--enclave-engine=simulated", *arguments)

    return run
