"""What of an enclave is outside of its namespaces, and has to be removed when it has ended."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import Any

from pytest_enclave.linux.cgroups import Cgroups


class Leftovers:
    """An enclave's directory on the machine (its socket, and files kept on disk), and its control groups."""

    def __init__(self, enclave: str, directory: str) -> None:
        self._enclave = enclave
        self._directory = directory
        self._cgroups = Cgroups.find()

    @property
    def cgroups(self) -> dict[str, Any] | None:
        """Where control groups can be made, None if nowhere."""
        found = self._cgroups
        return None if found is None else {"parents": found.parents, "unified": found.unified}

    def remove(self) -> list[dict[str, str]]:
        """Remove all of it; what could not be removed, each as kind, name, reason, command."""
        return [*self._remove_cgroups(), *self._remove_directory()]

    def _remove_cgroups(self) -> list[dict[str, str]]:
        if self._cgroups is None:
            return []
        try:
            self._cgroups.remove(self._enclave)
        except OSError as error:
            paths = [f"{parent}/{self._enclave}" for parent in dict.fromkeys(self._cgroups.parents.values())]
            command = f"find {' '.join(paths)} -depth -type d -exec rmdir {{}} +"
            return [{"kind": "cgroup", "name": self._enclave, "reason": str(error), "command": command}]
        return []

    def _remove_directory(self) -> list[dict[str, str]]:
        problems: list[str] = []
        shutil.rmtree(self._directory, onerror=lambda _, path, info: problems.append(f"{path}: {info[1]}"))
        if os.path.lexists(self._directory):
            command = f"rm -rf {self._directory}"
            reason = "; ".join(problems[:3])
            return [{"kind": "directory", "name": self._directory, "reason": reason, "command": command}]
        # The directory of all enclaves goes with the last one.
        with suppress(OSError):
            os.rmdir(os.path.dirname(self._directory))
        return []
