"""From a service as plans have it to a container as the engine's API has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.limits import limits_of
from pytest_enclave.engine.docker.networks import Network
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.service import Gpu, PortSpec

if TYPE_CHECKING:
    from docker import APIClient


NAME_TAKEN = "is already in use by container"
"""What engines say about the name of a container that is there."""


def container_name(enclave: str, service: str) -> str:
    """What a service's container is called on the engine."""
    return f"{enclave}-{service}"


def port_key(port: PortSpec) -> str:
    """A port as the engine's API writes it: `8080/tcp`."""
    return f"{port.number}/{port.transport_protocol.lower()}"


def create_helper(client: APIClient, config: dict[str, Any], name: str) -> str:
    """The ID of a new container that never runs. One of that name is left from a call whose answer was lost: it goes.

    Raises what the SDK raises.
    """
    from docker.errors import APIError

    try:
        return str(client.create_container_from_config(config, name)["Id"])  # type: ignore[no-untyped-call]
    except APIError as error:
        if NAME_TAKEN not in str(error.explanation):
            raise
    client.remove_container(name, force=True, v=True)
    return str(client.create_container_from_config(config, name)["Id"])  # type: ignore[no-untyped-call]


def remove_helper(client: APIClient, container: str) -> None:
    """Remove such a container, with the volumes that its image declares. If that fails, it goes with the enclave."""
    with suppress(EngineError), translate("cannot remove a container"):
        client.remove_container(container, force=True, v=True)


def container_config(
    spec: ServiceSpec,
    network: Network,
    mounts: Sequence[Mapping[str, Any]],
    marks: Mapping[str, str],
    capacity: Capacity,
    pod: str | None = None,
) -> dict[str, Any]:
    """The body of the engine's call that creates the container, in the network namespace of a pod if there is one.

    The image's own entry point and command are kept where the service says nothing; as with the engine itself, a
    service's entry point without a command drops the image's command.
    """
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.env_vars.items()],
        "Labels": {**spec.labels, **marks},
        "HostConfig": {"NetworkMode": f"container:{pod}", "Mounts": list(mounts), **limits_of(spec, capacity)},
        **extras(spec),
    }
    config["HostConfig"] |= host_extras(spec)
    if pod is None:
        config["HostConfig"] |= {"NetworkMode": network.name, "PortBindings": port_bindings(spec, network)}
        config |= _identity(spec, network)
    if spec.entrypoint:
        config["Entrypoint"] = list(spec.entrypoint)
    if spec.cmd:
        config["Cmd"] = list(spec.cmd)
    return config


def extras(spec: ServiceSpec) -> dict[str, Any]:
    """What a service asks for about its process, and few do."""
    found: dict[str, Any] = {}
    if spec.user:
        found["User"] = spec.user
    if spec.terminal:
        found["Tty"] = True
    return found


def host_extras(spec: ServiceSpec) -> dict[str, Any]:
    """What a service asks for of the engine's machine, and few do."""
    found: dict[str, Any] = {}
    if spec.init:
        found["Init"] = True
    if spec.capabilities:
        found["CapAdd"] = list(spec.capabilities)
    if spec.devices:
        found["Devices"] = [_device(text) for text in spec.devices]
    if spec.gpu is not None:
        found |= _graphics(spec.gpu)
    return found


def _device(text: str) -> dict[str, str]:
    """A device as `docker run --device` has it: `HOST`, `HOST:INSIDE` or `HOST:INSIDE:RIGHTS`."""
    outside, _, rest = text.partition(":")
    inside, _, rights = rest.partition(":")
    if inside and not inside.startswith("/") and not rights:
        inside, rights = "", inside
    return {"PathOnHost": outside, "PathInContainer": inside or outside, "CgroupPermissions": rights or "rwm"}


def _graphics(gpu: Gpu) -> dict[str, Any]:
    request: dict[str, Any] = {"Driver": gpu.driver, "Capabilities": [["gpu"]]}
    if gpu.ids:
        request["DeviceIDs"] = list(gpu.ids)
    else:
        request["Count"] = -1 if gpu.count is None else gpu.count
    found: dict[str, Any] = {"DeviceRequests": [request]} if gpu.ids or gpu.count != 0 else {}
    if gpu.shared_memory is not None:
        found["ShmSize"] = gpu.shared_memory << 20
    if gpu.limits:
        found["Ulimits"] = [{"Name": name, "Soft": limit, "Hard": limit} for name, limit in gpu.limits.items()]
    return found


def _identity(spec: ServiceSpec, network: Network) -> dict[str, Any]:
    """What a container with a network namespace of its own is on the network."""
    address = spec.address
    endpoint = {"IPAMConfig": {"IPv4Address": address.ip_address}, "Aliases": [address.hostname]}
    return {
        "Hostname": address.hostname,
        "ExposedPorts": {port_key(port): {} for port in (*spec.ports.values(), *_public(spec))},
        "NetworkingConfig": {"EndpointsConfig": {network.name: endpoint}},
    }


def port_bindings(spec: ServiceSpec, network: Network) -> dict[str, list[dict[str, str]]]:
    """Which ports are published, and where: public ones at their number, others only if there is no other way.

    Where the number is 0, the engine chooses one.
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    if not network.reach.direct:
        for port in spec.ports.values():
            bindings[port_key(port)] = [{"HostIp": network.reach.publish_on, "HostPort": ""}]
    for name, port in spec.public_ports.items():
        private = spec.ports.get(name, port)
        bindings[port_key(private)] = [{"HostIp": network.reach.publish_on, "HostPort": str(port.number or "")}]
    return bindings


def _public(spec: ServiceSpec) -> list[PortSpec]:
    """Public ports that are not also declared as private ones."""
    return [port for name, port in spec.public_ports.items() if name not in spec.ports]
