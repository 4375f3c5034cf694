"""Files of artifacts that a service is to have at places of their own, in the middle of what its image has there."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path

from pytest_enclave.engine.protocol import ServiceSpec
from pytest_enclave.errors import ServiceError


def moved_files(spec: ServiceSpec, artifacts: Mapping[str, Path]) -> list[tuple[Path, str]]:
    """Where each file lies on this machine, and the path that the service is to have it at.

    Raises ServiceError where an artifact has no such file. What a link in an artifact leads to outside of it is none.
    """
    mounts = {posixpath.normpath(path): artifacts[name] for path, name in spec.files.items()}
    found = []
    for path, target in spec.moved.items():
        normal = posixpath.normpath(path)
        mount = max((each for each in mounts if normal.startswith(f"{each}/")), key=len)
        root = mounts[mount].resolve()
        file = (root / posixpath.relpath(normal, mount)).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            raise ServiceError(
                f'service "{spec.name}" did not start: there is no file "{path}" to be moved', service=spec.name
            )
        found.append((file, posixpath.normpath(target)))
    return found
