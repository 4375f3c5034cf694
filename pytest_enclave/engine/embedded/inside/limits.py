"""What services may use of memory and CPU: control groups, where this user may make them.

Where not, memory is watched: a service that has more than it may is killed. CPU is not limited then.
"""

from __future__ import annotations

import os
from typing import Any

from pytest_enclave.linux.cgroups import Cgroup, Cgroups

PAGE = os.sysconf("SC_PAGE_SIZE")


class Limits:
    """The control groups of an enclave's services; only services with a limit have one."""

    def __init__(self, enclave: str, cgroups: Cgroups | None) -> None:
        self._enclave = enclave
        self._cgroups = cgroups
        self._of: dict[str, Cgroup] = {}

    def enter(self, service: str, spec: dict[str, Any]) -> list[str]:
        """The files that the service's processes write themselves into; none without a limit. Raises OSError."""
        if not spec.get("memory") and not spec.get("cpu"):
            return []
        if self._cgroups is None:
            return []
        self.remove(service)
        group = self._cgroups.create(f"{self._enclave}/{service}", spec.get("memory"), spec.get("cpu"))
        self._of[service] = group
        return list(group.entry_files())

    def must_be_watched(self, spec: dict[str, Any]) -> bool:
        """Whether nothing but us keeps the service to its limit of memory."""
        return self._cgroups is None and bool(spec.get("memory"))

    def ran_out(self, service: str) -> bool:
        """Whether the kernel has killed a process of it for want of memory."""
        group = self._of.get(service)
        return group is not None and group.oom_kills() > 0

    def remove(self, service: str) -> None:
        """Remove its control group. Its processes have ended."""
        if group := self._of.pop(service, None):
            group.remove()


def resident(process: int) -> int:
    """Bytes of memory that a process has for itself; none if it is gone."""
    try:
        with open(f"/proc/{process}/statm") as file:
            fields = file.read().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * PAGE if len(fields) > 2 else 0


def seen_from_inside(found: dict[str, Any] | None, outside: str, inside: str) -> Cgroups | None:
    """The groups that the supervisor found, where their directories are mounted inside of the enclave."""
    if found is None:
        return None
    parents = {name: inside + path.removeprefix(outside) for name, path in found["parents"].items()}
    return Cgroups(parents, found["unified"])
