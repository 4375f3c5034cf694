"""Services on an engine itself, without a package, a plan and a journal."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.services import AT_ONCE, Kind
from pytest_enclave.engine.protocol import EnclaveId, Engine, ServiceSpec, Site
from pytest_enclave.plan.service import PortSpec


def new_id() -> EnclaveId:
    """A name that no other enclave has."""
    return EnclaveId(f"benchmark-{uuid.uuid4().hex[:8]}")


@contextmanager
def site(engine: Engine, kind: Kind) -> Iterator[Site]:
    """An empty enclave, for services of a kind whose image the engine has."""
    if None in engine.local_images([kind.image]).values():
        raise RuntimeError(f"{kind.image} is not there: make images")
    opened = engine.open(new_id())
    try:
        yield opened
    finally:
        opened.close()


def start(site: Site, kind: Kind, names: Sequence[str]) -> None:
    """Start services of a kind under these names; nothing is waited for. Raises what went wrong."""
    ports = {"main": PortSpec(kind.port)} if kind.port else {}
    specs = [
        ServiceSpec(name, kind.image, site.reserve(name), ports, cmd=kind.command, env_vars=kind.variables)
        for name in names
    ]
    for error in site.start(specs, {}, AT_ONCE).values():
        if error is not None:
            raise error
