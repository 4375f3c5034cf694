"""Typed views of `ServiceConfig` and `PortSpec`, defaults applied, durations in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pytest_enclave.golang.duration import parse
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.image_sources import ImageSource, image_name, image_source
from pytest_enclave.plan.recipes import ReadyCondition
from pytest_enclave.plan.values import Struct, Value

SERVICE_NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
"""RFC 1035 labels, 1 to 63 characters (behaviour.md §5.3)."""

PORT_NAME = r"[a-z]([-a-z0-9]{0,13}[a-z0-9])?"
"""1 to 15 characters (behaviour.md §5.3)."""


PERSISTENT_KEY = SERVICE_NAME
"""As the name of a service (behaviour.md §2.6)."""


def seconds(duration: str) -> float:
    """A Go duration's length in seconds."""
    return parse(duration) / 1e9


def field(struct: Struct, name: str) -> Value:
    """The field's value, or its declared default where it was not set."""
    fields = struct.fields
    return fields[name] if name in fields else CONFIG_TYPES[struct.kind].defaults[name]


def artifacts_of(mounted: Value) -> tuple[str, ...]:
    """The files artifacts that one value of `files` names, in their order; none for a persistent directory."""
    return (mounted,) if isinstance(mounted, str) else tuple(mounted.get("artifact_names", ()))


def name_of_merged(artifacts: Sequence[str]) -> str:
    """What several artifacts in one directory are called together. No artifact's own name has a `/`."""
    return "/".join(artifacts)


class PortSpec(msgspec.Struct, frozen=True):
    """A port a service listens on. `wait` is how long to wait for it to open, in seconds; None: not at all."""

    number: int
    transport_protocol: str = "TCP"
    application_protocol: str | None = None
    wait: float | None = 120.0
    url: str | None = None

    @classmethod
    def of(cls, struct: Struct) -> PortSpec:
        """The view of a `PortSpec` value."""
        wait = field(struct, "wait")
        return cls(
            number=struct.fields["number"],
            transport_protocol=field(struct, "transport_protocol"),
            application_protocol=struct.get("application_protocol"),
            wait=None if wait is None else seconds(wait),
            url=struct.get("url"),
        )


def scheduling(fields: Mapping[str, Value]) -> tuple[str, ...]:
    """Those of the fields that say where in a Kubernetes cluster something runs."""
    return tuple(name for name in ("tolerations", "node_selectors") if fields.get(name))


def _user(user: Struct | None) -> str:
    return "" if user is None else ":".join(str(user.fields[name]) for name in ("uid", "gid") if name in user.fields)


class Gpu(msgspec.Struct, frozen=True):
    """The graphics processors that a service is given: so many (-1: all), or those with these ids.

    Shared memory in megabytes, None for the engine's own; `limits` as `ulimit` has them; the driver's name, or nothing.
    """

    count: int | None
    ids: tuple[str, ...]
    shared_memory: int | None
    limits: Mapping[str, int]
    driver: str

    @classmethod
    def of(cls, struct: Struct) -> Gpu:
        """The view of a `GpuConfig` value."""
        driver = struct.get("driver", "")
        return cls(
            count=struct.get("count"),
            ids=tuple(struct.get("device_ids", ())),
            shared_memory=struct.get("shm_size"),
            limits=struct.get("ulimits", {}),
            driver=driver if isinstance(driver, str) else driver.get("docker", ""),
        )


class ServiceConfig(msgspec.Struct, frozen=True):
    """What a service is made of. CPU in millicores, memory in megabytes; None: unlimited, or the image's own.

    `image` is what engines call it, `image_source` what else is needed to have it, None where the name is enough.
    `files` maps a mount path to the artifacts in it, `directories` to the key of a persistent directory. `user` is
    empty, `uid` or `uid:gid`. `init` is for a first process that is not the service's own, `terminal` for a terminal
    that it writes to. `moved` maps the path of a mounted file to the one that it is to have. `scheduling` names the
    fields that are set of those that only Kubernetes knows.
    """

    image: str
    image_source: ImageSource | None
    ports: Mapping[str, PortSpec]
    public_ports: Mapping[str, PortSpec]
    files: Mapping[str, tuple[str, ...]]
    directories: Mapping[str, str]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env_vars: Mapping[str, str]
    ip_address_placeholder: str
    max_cpu: int | None
    min_cpu: int
    max_memory: int | None
    min_memory: int
    ready_conditions: ReadyCondition | None
    labels: Mapping[str, str]
    user: str
    devices: tuple[str, ...]
    capabilities: tuple[str, ...]
    gpu: Gpu | None
    init: bool
    terminal: bool
    moved: Mapping[str, str]
    scheduling: tuple[str, ...]

    @classmethod
    def of(cls, struct: Struct) -> ServiceConfig:
        """The view of a `ServiceConfig` value; the deprecated `*_allocation` fields give way to `max_*`."""
        ready = struct.get("ready_conditions")
        files = struct.get("files", {})
        return cls(
            image=image_name(struct.fields["image"]),
            image_source=image_source(struct.fields["image"]),
            ports={name: PortSpec.of(port) for name, port in struct.get("ports", {}).items()},
            public_ports={name: PortSpec.of(port) for name, port in struct.get("public_ports", {}).items()},
            files={path: names for path, mounted in files.items() if (names := artifacts_of(mounted))},
            directories={
                path: mounted.fields["persistent_key"] for path, mounted in files.items() if not artifacts_of(mounted)
            },
            entrypoint=tuple(struct.get("entrypoint", ())),
            cmd=tuple(struct.get("cmd", ())),
            env_vars=struct.get("env_vars", {}),
            ip_address_placeholder=field(struct, "private_ip_address_placeholder"),
            max_cpu=struct.get("max_cpu", struct.get("cpu_allocation")) or None,
            min_cpu=struct.get("min_cpu", 0),
            max_memory=struct.get("max_memory", struct.get("memory_allocation")) or None,
            min_memory=struct.get("min_memory", 0),
            ready_conditions=None if ready is None else ReadyCondition.of(ready),
            labels=struct.get("labels", {}),
            user=_user(struct.get("user")),
            devices=tuple(struct.get("devices", ())),
            capabilities=tuple(struct.get("capabilities", ())),
            gpu=None if struct.get("gpu") is None else Gpu.of(struct.get("gpu")),
            init=struct.get("tini_enabled", False),
            terminal=struct.get("tty_enabled", False),
            moved=struct.get("files_to_be_moved", {}),
            scheduling=scheduling(struct.fields),
        )
