"""A plan as JSON, for other tools (`Plan.to_json`). `docs/plan-json.md` describes the form, which `VERSION` names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pytest_enclave.errors import Problem
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.futures import Future, find
from pytest_enclave.plan.image_sources import CONTEXT
from pytest_enclave.plan.instruction import Instruction, Plan
from pytest_enclave.plan.values import Struct, Value, to_repr, written
from pytest_enclave.report.masking import Secrets
from pytest_enclave.source import Location

VERSION = 1
"""Grows when something that was there changes its meaning or goes; what is added leaves it as it is."""

_TELLING = frozenset({"type", "future", "dict", "float"})
"""Keys by which a reader tells what an object stands for."""


def plan_json(plan: Plan, *, secrets: bool = False) -> str:
    """The plan as text. Secrets are masked unless `secrets` says that they are wanted."""
    write = _Writer(Secrets() if secrets else Secrets.of_plan(plan))
    data = {
        "version": VERSION,
        "instructions": [write.instruction(call) for call in plan.instructions],
        "output": write.value(plan.output),
        "warnings": [write.warning(problem) for problem in plan.warnings],
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


class _Writer:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def instruction(self, call: Instruction) -> dict[str, Any]:
        description = call.get("description")
        return {
            "name": call.name,
            "position": _position(call.location),
            "description": None if description is None else self.value(description),
            "arguments": {name: self.value(item) for name, item in call.arguments.items() if name != "description"},
            "files": {name: file.digest for name, file in call.files.items()},
            "producer": call.producer,
        }

    def warning(self, problem: Problem) -> dict[str, Any]:
        return {
            "message": self._secrets.mask(problem.message),
            "position": _position(problem.location),
            "remedy": problem.remedy,
        }

    def value(self, value: Value) -> Any:
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Struct):
            return self._struct(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return self._secrets.mask(to_repr(value))

    def _struct(self, value: Struct) -> dict[str, Any]:
        told = {"type": value.kind, "fields": {name: self.value(item) for name, item in written(value).items()}}
        context = None if value.kind == "struct" else value.get(CONTEXT)
        if context is not None:
            told["files"] = {
                field.name: context["digest"] for field in CONFIG_TYPES[value.kind].fields if field.context
            }
        return told

    def _text(self, text: str) -> Any:
        future = next(find(text), None)
        if future is not None and str(future) == text:
            return _reference(future)
        return self._secrets.mask(text)

    def _mapping(self, value: Mapping[Value, Value]) -> dict[str, Any]:
        if all(isinstance(key, str) for key in value) and not _TELLING & value.keys():
            return {self._secrets.mask(key): self.value(item) for key, item in value.items()}
        return {"dict": [[self.value(key), self.value(item)] for key, item in value.items()]}


def _reference(future: Future) -> dict[str, Any]:
    return {"future": {"producer": future.producer, "field": future.field}}


def _position(location: Location | None) -> str | None:
    return None if location is None else str(location)
