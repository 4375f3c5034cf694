"""The limits a service runs with, and what of a service this engine cannot do, known before it is started."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import Problem
from pytest_enclave.plan.facts import Capacity

LEAST_MEMORY = 6
"""Megabytes; the engine takes no lower limit."""


LEAST_CPU = 10
"""Millicores; the kernel takes no shorter share of a period."""

NANO_CPUS_PER_MILLICORE = 1_000_000
MEGABYTE = 1 << 20


def limits_of(spec: ServiceSpec, capacity: Capacity) -> dict[str, int]:
    """Limits that the engine accepts: it refuses more CPUs than it has, so as many as it has is no limit."""
    limits = {}
    if spec.max_cpu is not None and spec.max_cpu < capacity.cpu:
        limits["NanoCpus"] = max(spec.max_cpu, LEAST_CPU) * NANO_CPUS_PER_MILLICORE
    if spec.max_memory is not None:
        # Without the second, as much again could be swapped out, and a leak would take long to show.
        limits["Memory"] = limits["MemorySwap"] = min(spec.max_memory, max(capacity.memory, LEAST_MEMORY)) * MEGABYTE
    return limits


def problems_of(spec: ServiceSpec, capacity: Capacity) -> list[Problem]:
    """Warnings and errors about one service."""
    return [*_cpu(spec, capacity), *_memory(spec, capacity), *_ports(spec)]


def _cpu(spec: ServiceSpec, capacity: Capacity) -> Iterator[Problem]:
    if spec.max_cpu is not None and spec.max_cpu > capacity.cpu:
        yield Problem(
            f"max_cpu is {spec.max_cpu} millicores, but the engine has {capacity.cpu}: it runs without a limit",
            subject=spec.name,
            severity="warning",
        )
    elif spec.max_cpu is not None and spec.max_cpu < LEAST_CPU:
        yield Problem(
            f"max_cpu is {spec.max_cpu} millicores, but the engine takes no limit below {LEAST_CPU}: this is it",
            subject=spec.name,
            severity="warning",
        )


def _memory(spec: ServiceSpec, capacity: Capacity) -> Iterator[Problem]:
    if spec.max_memory is None:
        return
    if spec.max_memory < LEAST_MEMORY:
        yield Problem(
            f"max_memory is {spec.max_memory} MB, and the engine takes no limit below {LEAST_MEMORY} MB",
            subject=spec.name,
            remedy=f"at least {LEAST_MEMORY}",
        )
    if spec.max_memory > capacity.memory:
        yield Problem(
            f"max_memory is {spec.max_memory} MB, but the engine has {capacity.memory} MB: the limit will not be felt",
            subject=spec.name,
            severity="warning",
        )


def _ports(spec: ServiceSpec) -> Iterator[Problem]:
    for name, port in {**spec.ports, **spec.public_ports}.items():
        if port.transport_protocol == "SCTP" and port.wait is not None:
            yield Problem(
                f'port "{name}" ({port.number}/SCTP) is not waited for: whether it is open cannot be seen',
                subject=spec.name,
                remedy="wait for what listens there with a ready condition",
                severity="warning",
            )
