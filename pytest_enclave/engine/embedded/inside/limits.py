"""What services may use of memory and CPU: control groups, where this user may make them.

Where not, memory is watched: a service that has more than it may is killed. CPU is not limited then.
"""

from __future__ import annotations

import os
from typing import Any

from pytest_enclave.engine.embedded.inside.loop import Loop
from pytest_enclave.linux.cgroups import Cgroup, Cgroups

PAGE = os.sysconf("SC_PAGE_SIZE")

PAUSE = 0.02
"""Seconds between two attempts to remove a group whose processes are just ending."""

ATTEMPTS = 100
"""How many there are, before that is left to the supervisor."""


class Limits:
    """The control groups of an enclave's services; only services with a limit have one."""

    def __init__(self, enclave: str, cgroups: Cgroups | None, loop: Loop) -> None:
        self._enclave = enclave
        self._cgroups = cgroups
        self._loop = loop
        self._made = 0
        self._of: dict[str, Cgroup] = {}

    def enter(self, service: str, spec: dict[str, Any]) -> list[str]:
        """The files that the service's processes write themselves into; none without a limit. Raises OSError."""
        if not spec.get("memory") and not spec.get("cpu"):
            return []
        if self._cgroups is None:
            return []
        self.remove(service)
        # A name of its own, for the former one may still be going.
        self._made += 1
        name = f"{self._enclave}/{service}.{self._made}"
        group = self._cgroups.create(name, spec.get("memory"), spec.get("cpu"))
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
        """Remove its control group, now or soon. Its processes have ended; nobody waits for the kernel to see it."""
        if group := self._of.pop(service, None):
            self._take_away(group, ATTEMPTS)

    def _take_away(self, group: Cgroup, attempts: int) -> None:
        try:
            group.remove()
        except OSError:
            if attempts > 1:
                self._loop.after(PAUSE, lambda: self._take_away(group, attempts - 1))


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
