"""From an image to what a service begins with: its layers, and what it says about the program to run."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from functools import cache
from typing import Any

from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import ImageUnavailable
from pytest_enclave.images.image import StoredImage
from pytest_enclave.plan.images import HOST_ROOT

HOST_COMMAND = ("/bin/sh", "-c", "while :; do sleep 3600; done")
"""What a service from the machine's root directory runs if nothing is said: it waits for commands."""

HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start_spec(spec: ServiceSpec, find: Callable[[str], StoredImage | None]) -> dict[str, Any]:
    """What init needs to start a service, without its artifacts. Raises ImageUnavailable."""
    common = {
        "name": spec.name,
        "memory": spec.max_memory * (1 << 20) if spec.max_memory else None,
        "cpu": spec.max_cpu,
        "directories": [[key, path] for path, key in spec.directories.items()],
        "seeding": True,
    }
    if spec.image == HOST_ROOT:
        return {
            **common,
            "image": HOST_ROOT,
            "host": True,
            "host_layers": [],
            "hidden": [*map(list, secrets_of_the_machine())],
            "volumes": [],
            "argv": [*spec.entrypoint, *spec.cmd] or list(HOST_COMMAND),
            "env": {"PATH": HOST_PATH, **spec.env_vars},
            "directory": "/",
            "user": "",
            "stop_signal": signal.SIGTERM,
        }
    image = find(spec.image)
    if image is None:
        raise ImageUnavailable(f'image "{spec.image}" is not on the engine')
    config = image.config
    entrypoint = spec.entrypoint or tuple(config.entrypoint)
    # With an entrypoint of its own, a service does without the image's cmd, as in Docker.
    cmd = spec.cmd or (() if spec.entrypoint else tuple(config.cmd))
    return {
        **common,
        "image": image.digest,
        "host": False,
        "lowers": list(image.layers),
        "argv": [*entrypoint, *cmd],
        "env": {**dict(variable.partition("=")[::2] for variable in config.env), **spec.env_vars},
        "volumes": list(config.volumes),
        "directory": config.working_dir or "/",
        "user": config.user,
        "stop_signal": signal_number(config.stop_signal),
    }


@cache
def secrets_of_the_machine(directory: str = "/etc") -> tuple[tuple[str, bool], ...]:
    """Paths that not everybody on this machine may read, each with whether it is a directory: nor may services.

    For root alone: others could not read them either.
    """
    if os.geteuid() != 0:
        return ()
    found: list[tuple[str, bool]] = []
    for place, directories, files in os.walk(directory):
        for name in [*directories, *files]:
            try:
                mode = os.lstat(f"{place}/{name}").st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(mode) and not mode & stat.S_IXOTH:
                found.append((f"{place}/{name}", True))
                directories.remove(name)
            elif stat.S_ISREG(mode) and not mode & stat.S_IROTH:
                found.append((f"{place}/{name}", False))
    return tuple(found)


def signal_number(text: str) -> int:
    """An image's STOPSIGNAL: a name with or without SIG, or a number. What is unknown is SIGTERM."""
    if text.isdigit():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    found = getattr(signal, name, signal.SIGTERM)
    return int(found) if isinstance(found, signal.Signals) else int(signal.SIGTERM)
