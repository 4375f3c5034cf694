"""Finding the engine: the only place that knows which engines there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.protocol import Probe
from pytest_enclave.errors import EngineUnavailable

if TYPE_CHECKING:
    from pytest_enclave.engine.protocol import Engine
    from pytest_enclave.engine.simulated.script import Script

NAMES = ("auto", "docker", "embedded", "simulated")
"""What `--enclave-engine` takes. `auto` is Docker where one answers, else embedded."""

NO_DOCKER = "no Docker engine answers"


class EngineChoice(msgspec.Struct, frozen=True):
    """Which engine is wanted: its name, and what gave that name (`--enclave-engine=embedded`) where it was told.

    `docker_host` is the Docker host where one was given, `image_mirror` a registry mirror; without `egress`, services
    do not reach the outside. `shaper_image` is what shapes connections on a Docker engine that is elsewhere.
    """

    name: str = "auto"
    docker_host: str | None = None
    image_mirror: str | None = None
    environ: Mapping[str, str] = msgspec.field(default_factory=dict)
    egress: bool = True
    told_by: str = ""
    shaper_image: str | None = None


class Selected(msgspec.Struct, frozen=True):
    """The engine that is going to be used: its name, where it is and why, and what of it works in part only."""

    name: str
    probe: Probe
    notes: tuple[str, ...] = ()


def probe(choice: EngineChoice) -> Selected:
    """Which engine it is, without starting or importing anything heavy.

    A Docker engine that users name by an option, a variable or a context is not replaced by another engine.
    Raises EngineUnavailable with all that was tried.
    """
    if choice.name == "simulated":
        return Selected("simulated", Probe("no services, virtual time", choice.told_by or "--enclave-engine=simulated"))
    if choice.name not in NAMES:
        raise EngineUnavailable(
            f"there is no engine `{choice.name}`", remedy=f"`--enclave-engine` takes {', '.join(NAMES)}"
        )
    if choice.name == "embedded":
        return _embedded(choice.told_by or "--enclave-engine=embedded")
    from pytest_enclave.engine.docker.discovery import find_engine, is_told

    try:
        return Selected("docker", find_engine(choice.docker_host, choice.environ).probe)
    except EngineUnavailable as no_docker:
        if choice.name == "docker" or is_told(choice.docker_host, choice.environ):
            raise
        return _instead_of(no_docker)


def simulated(script: Script | None = None) -> Engine:
    """A simulated engine with services as scripted."""
    from pytest_enclave.engine.simulated.engine import SimulatedEngine

    return SimulatedEngine(script)


def select(choice: EngineChoice, opens: Callable[[Engine], bool] = lambda _: True) -> Engine:
    """The engine itself. Raises EngineUnavailable, at the latest where its first enclave is opened.

    `opens` tells whether an enclave is soon going to be opened on it, as far as that is known.
    """
    if choice.name == "simulated":
        return simulated()
    mirror = choice.image_mirror or ""
    if choice.name == "docker" or probe(choice).name == "docker":
        from pytest_enclave.engine.docker.engine import DockerEngine
        from pytest_enclave.engine.docker.shape import ShaperPlan

        shaper = ShaperPlan.of(choice.shaper_image, mirror)
        return DockerEngine(
            host=choice.docker_host, environ=choice.environ, mirror=mirror, egress=choice.egress, shaper=shaper
        )
    from pytest_enclave.engine.embedded.engine import EmbeddedEngine

    engine = EmbeddedEngine(
        environ=choice.environ, mirror=mirror, egress=choice.egress, docker_endpoint=_docker_endpoint(choice)
    )
    if opens(engine):
        # There is something to import until then.
        engine.prepare(())
    return engine


def place_of(engine: str, endpoint: str) -> str:
    """An engine in a few words, with its endpoint where that is not the usual one."""
    if engine == "docker":
        from pytest_enclave.engine.docker.discovery import DEFAULT_SOCKET

        return engine if endpoint == f"unix://{DEFAULT_SOCKET}" else f"{engine} {endpoint}"
    return engine


def _docker_endpoint(choice: EngineChoice) -> Callable[[], str | None]:
    """Where a Docker engine answers whose images can be taken; asked when it is called."""

    def endpoint() -> str | None:
        from pytest_enclave.engine.docker.discovery import find_engine

        try:
            return find_engine(choice.docker_host, choice.environ).probe.endpoint
        except EngineUnavailable:
            return None

    return endpoint


def _embedded(why: str) -> Selected:
    from pytest_enclave.engine.embedded.probe import examine, unavailable

    found = examine()
    if found.refusal is not None:
        raise unavailable(found.refusal)
    return Selected("embedded", Probe(found.endpoint, why), found.notes)


def _instead_of(docker: EngineUnavailable) -> Selected:
    """The embedded engine, where no Docker engine answers. Raises EngineUnavailable with what was tried of both."""
    from pytest_enclave.engine.embedded.probe import examine, unavailable

    found = examine()
    if found.refusal is None:
        return Selected("embedded", Probe(found.endpoint, NO_DOCKER), found.notes)
    embedded = unavailable(found.refusal)
    remedies = [f"for Docker: {docker.remedy}"]
    if found.refusal.remedy:
        remedies.append(f"for the embedded engine: {found.refusal.remedy}")
    raise EngineUnavailable(
        f"{docker.message}, and {embedded.message}",
        tried=[*docker.tried, *embedded.tried],
        remedy="\n".join(remedies),
    ) from None
