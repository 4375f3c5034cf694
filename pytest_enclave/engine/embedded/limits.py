"""What of a service this engine cannot do, known before it is started."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import Problem
from pytest_enclave.plan.facts import Capacity

LEAST_MEMORY = 6
"""Megabytes; with less hardly any program starts."""


def problems_of(spec: ServiceSpec, capacity: Capacity, *, groups: bool) -> list[Problem]:
    """Warnings and errors about one service; `groups`: whether there are control groups to set limits by."""
    cpu = _cpu(spec, capacity) if groups else _no_groups(spec)
    return [*cpu, *_memory(spec, capacity), *_ports(spec), *_lacking(spec)]


def _no_groups(spec: ServiceSpec) -> Iterator[Problem]:
    """Memory is limited without control groups too."""
    if spec.max_cpu is not None:
        yield Problem(
            f"max_cpu is {spec.max_cpu} millicores, but this user can make no control groups: it will not be felt",
            subject=spec.name,
            remedy="run as root, or on Docker: --enclave-engine=docker",
            severity="warning",
        )


def _cpu(spec: ServiceSpec, capacity: Capacity) -> Iterator[Problem]:
    if spec.max_cpu is not None and spec.max_cpu > capacity.cpu:
        yield Problem(
            f"max_cpu is {spec.max_cpu} millicores, but this machine has {capacity.cpu}: the limit will not be felt",
            subject=spec.name,
            severity="warning",
        )


def _memory(spec: ServiceSpec, capacity: Capacity) -> Iterator[Problem]:
    if spec.max_memory is None:
        return
    if spec.max_memory < LEAST_MEMORY:
        yield Problem(
            f"max_memory is {spec.max_memory} MB, and hardly any program starts with less than {LEAST_MEMORY} MB",
            subject=spec.name,
            remedy=f"at least {LEAST_MEMORY}",
        )
    if spec.max_memory > capacity.memory:
        yield Problem(
            f"max_memory is {spec.max_memory} MB, but this machine has {capacity.memory} MB: it will not be felt",
            subject=spec.name,
            severity="warning",
        )


def _lacking(spec: ServiceSpec) -> Iterator[Problem]:
    """What services can ask of Docker, and there is nothing of here."""
    wanted = {
        "capabilities": (
            bool(spec.capabilities),
            "it gets the capabilities that Docker gives by default, and no others",
        ),
        "devices": (bool(spec.devices), "it gets the devices that Docker gives by default, and no others"),
        "gpu": (spec.gpu is not None, "it gets no graphics processors"),
        "tini_enabled": (spec.init, "its own program is its first process"),
        "tty_enabled": (spec.terminal, "it writes to a file, not to a terminal"),
    }
    for name, (asked, instead) in wanted.items():
        if asked:
            yield Problem(
                f"`{name}` has no effect with the embedded engine: {instead}",
                subject=spec.name,
                remedy="run on Docker if it needs that: --enclave-engine=docker",
                severity="warning",
            )


def _ports(spec: ServiceSpec) -> Iterator[Problem]:
    for name, port in {**spec.ports, **spec.public_ports}.items():
        if port.transport_protocol == "SCTP":
            yield Problem(
                f'port "{name}" ({port.number}/SCTP) is reached by other services only, not from the test, and is not '
                "waited for",
                subject=spec.name,
                severity="warning",
            )
