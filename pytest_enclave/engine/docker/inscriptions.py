"""What a service's container says of itself in a label, so that another process can go on with the service.

Values of environment variables are left out: they may be secrets, and labels are copied to more places (events, lists,
monitoring) than a container's environment, where they can be looked up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.protocol import Address, Exit, ServiceSpec
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import Gpu, PortSpec

_UNSAID = ServiceSpec("", "", Address("", ""))

_ELSEWHERE = ("env_vars", "labels")
"""What the container has anyway."""


class Inscription(msgspec.Struct, frozen=True):
    """A service as its container tells of it: its image's digest, and what it does if it is not to be started.

    It was made `at` that time (seconds since the epoch).
    """

    service: Service
    image: str
    at: float
    resting: ContainerState | None


def inscribe(
    spec: ServiceSpec, image: str, artifacts: Mapping[str, Path], resting: ContainerState | None = None
) -> dict[str, str]:
    """The label; `image` is the digest of the service's image."""
    said = {
        name: _plain(value)
        for name in spec.__struct_fields__
        if name not in _ELSEWHERE and (value := getattr(spec, name)) != getattr(_UNSAID, name)
    }
    told: dict[str, Any] = {
        "spec": said,
        "variables": list(spec.env_vars),
        "image": image,
        "at": time.time(),
        "artifacts": {name: str(artifacts[name]) for name in dict.fromkeys(spec.files.values())},
    }
    if resting is not None:
        end = resting.exit
        told["resting"] = [resting.status.value, *([end.code, end.out_of_memory] if end else [])]
    return {labels.SPEC: json.dumps(told, separators=(",", ":"))}


def read_inscription(container: str, marks: Mapping[str, str]) -> Inscription:
    """What a container with these labels says. Raises EngineError where it says nothing that is understood."""
    try:
        told = json.loads(marks[labels.SPEC])
        spec = _spec(told, {name: value for name, value in marks.items() if not name.startswith(labels.PREFIX)})
        artifacts = {name: Path(path) for name, path in told["artifacts"].items()}
        resting = None
        if (rest := told.get("resting")) is not None:
            end = Exit(*rest[1:]) if rest[1:] else None
            resting = ContainerState(told["image"], spec.address.ip_address, Status(rest[0]), exit=end)
        return Inscription(Service(spec, container, artifacts), told["image"], told["at"], resting)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise EngineError(
            f"the container {container[:12]} does not say what it was started from",
            remedy="another version of pytest-enclave may have made it: remove its enclave with --enclave-clean",
        ) from None


def with_environment(spec: ServiceSpec, variables: list[str]) -> ServiceSpec:
    """The service with the values that its container's environment (`NAME=VALUE`) has for it."""
    values = dict(each.partition("=")[::2] for each in variables)
    return replace(spec, env_vars={name: values.get(name, value) for name, value in spec.env_vars.items()})


def _plain(value: Any) -> Any:
    """A field as JSON has it."""
    if isinstance(value, (Address, Gpu)):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: asdict(each) if isinstance(each, PortSpec) else each for key, each in value.items()}
    return value


def _spec(told: Mapping[str, Any], marks: Mapping[str, str]) -> ServiceSpec:
    said = dict(told["spec"])
    said["address"] = Address(**said["address"])
    for name in ("ports", "public_ports"):
        said[name] = {key: PortSpec(**port) for key, port in said.get(name, {}).items()}
    for name in ("entrypoint", "cmd", "devices", "capabilities"):
        said[name] = tuple(said.get(name, ()))
    if gpu := said.get("gpu"):
        said["gpu"] = Gpu(**{**gpu, "ids": tuple(gpu["ids"])})
    return ServiceSpec(**said, env_vars=dict.fromkeys(told["variables"], ""), labels=marks)
