"""Finding the engine: the only place that knows which engines there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_enclave.errors import EngineUnavailable

if TYPE_CHECKING:
    from pytest_enclave.engine.protocol import Engine, Probe
    from pytest_enclave.engine.simulated.script import Script

NAMES = ("auto", "docker", "simulated")
"""What `--enclave-engine` takes. `auto` is Docker where one answers."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine is wanted: its name, the Docker host where one was given, a registry mirror, the environment."""

    name: str = "auto"
    docker_host: str | None = None
    image_mirror: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


def probe(choice: EngineChoice) -> Probe:
    """Where the engine is and why that one, without starting or importing anything heavy.

    Raises EngineUnavailable with all that was tried.
    """
    if choice.name == "simulated":
        from pytest_enclave.engine.protocol import Probe

        return Probe("no services, virtual time", "--enclave-engine=simulated")
    from pytest_enclave.engine.docker.discovery import find_engine

    return find_engine(choice.docker_host, choice.environ).probe


def simulated(script: Script | None = None) -> Engine:
    """A simulated engine with services as scripted."""
    from pytest_enclave.engine.simulated.engine import SimulatedEngine

    return SimulatedEngine(script)


def select(choice: EngineChoice) -> Engine:
    """The engine itself. Raises EngineUnavailable."""
    if choice.name == "simulated":
        return simulated()
    if choice.name not in NAMES:
        raise EngineUnavailable(
            f"there is no engine `{choice.name}`", remedy=f"`--enclave-engine` takes {', '.join(NAMES)}"
        )
    from pytest_enclave.engine.docker.engine import DockerEngine

    return DockerEngine(host=choice.docker_host, environ=choice.environ, mirror=choice.image_mirror or "")
