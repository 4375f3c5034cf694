"""Errors of the enclave's processes, in the words of the protocol's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import EngineError, ServiceError


def start_failure(spec: ServiceSpec, answer: Mapping[str, Any]) -> ServiceError:
    """What it means that a service could not be started."""
    said, remedy = str(answer["error"]), ""
    if answer.get("kind") == "not found":
        said = f"its command is not in the image: {said}"
        remedy = f'is that program in "{spec.image}"? See its entrypoint and cmd'
    elif answer.get("kind") == "not executable":
        said = f"its command may not be executed: {said}"
    return ServiceError(f'service "{spec.name}" did not start: {said}', service=spec.name, remedy=remedy)


def refused(what: str, answer: Mapping[str, Any]) -> EngineError:
    """An enclave's processes cannot answer; `what` says what they were asked for."""
    return EngineError(f"{what}: {answer['error']}")


def no_service(name: str) -> ServiceError:
    """There is none of this name."""
    return ServiceError(f'there is no service "{name}"', service=name)


def does_not_run(name: str) -> ServiceError:
    """There is one, but it has ended."""
    return ServiceError(f'service "{name}" does not run', service=name)
