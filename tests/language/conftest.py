"""Interpreting texts and small packages with the real instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source
from pytest_enclave.plan.instruction import Plan

PlanOf = Callable[..., Plan]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, str]], Path]:
    """Writes a package `github.com/test/package` of the given files; gives its directory."""

    def write_files(files: Mapping[str, str]) -> Path:
        for name, text in {"kurtosis.yml": "name: github.com/test/package\n", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, "utf-8")
        return tmp_path

    return write_files


@pytest.fixture
def plan_of(write: Callable[[Mapping[str, str]], Path]) -> PlanOf:
    """The plan of a text, or of a package given by its files."""

    def interpreted(package: str | Mapping[str, str], args: Mapping[str, Any] | None = None, **options: Any) -> Plan:
        target = Source(package) if isinstance(package, str) else write(package)
        return interpret(load(target), built_in(), args or {}, **options).plan

    return interpreted


@pytest.fixture
def evaluated(plan_of: PlanOf) -> Callable[[str], Any]:
    """The value of one expression."""

    def value(expression: str) -> Any:
        return plan_of(f"def run(plan):\n    return {expression}\n").output

    return value
