"""From an image to what a service begins with: its layers, and what it says about the program to run."""

from __future__ import annotations

import os
import signal
import stat
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import ImageUnavailable
from pytest_enclave.images.image import StoredImage
from pytest_enclave.plan.images import HOST_ROOT

HOST_COMMAND = ("/bin/sh", "-c", "while :; do sleep 3600; done")
"""What a service from the machine's root directory runs if nothing is said: it waits for commands."""

MAY_BE_CLOSED = ("/etc", "/opt", "/usr/local")
"""What `host:/` shows that people, and not distributions, put files into."""

MOST_LOOKED_AT = 50_000
"""Files of each: some 0.2 s."""

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
            "user": spec.user,
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
        "user": spec.user or config.user,
        "stop_signal": signal_number(config.stop_signal),
    }


@cache
def secrets_of_the_machine(directories: tuple[str, ...] = MAY_BE_CLOSED) -> tuple[tuple[str, bool], ...]:
    """Paths that not everybody on this machine may read, each with whether it is a directory: nor may services.

    For root alone: others could not read them either. Of each directory what is nearest to the top is looked at, and
    no more than `MOST_LOOKED_AT` files.
    """
    if os.geteuid() != 0:
        return ()
    return tuple(found for directory in directories for found in _closed_below(directory))


def _closed_below(directory: str) -> Iterator[tuple[str, bool]]:
    left = MOST_LOOKED_AT
    waiting = deque([directory])
    while waiting:
        try:
            entries = os.scandir(waiting.popleft())
        except OSError:
            continue
        with entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return
                try:
                    mode = entry.stat(follow_symlinks=False).st_mode
                except OSError:
                    continue
                if stat.S_ISDIR(mode) and mode & stat.S_IXOTH:
                    waiting.append(entry.path)
                elif stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and not mode & stat.S_IROTH):
                    yield entry.path, stat.S_ISDIR(mode)


def signal_number(text: str) -> int:
    """An image's STOPSIGNAL: a name with or without SIG, or a number. What is unknown is SIGTERM."""
    if text.isdigit():
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    found = getattr(signal, name, signal.SIGTERM)
    return int(found) if isinstance(found, signal.Signals) else int(signal.SIGTERM)
