"""Limits on memory and processor time, by control groups: version 2, version 1, or both side by side.

All groups are below one, `pytest-enclave`, as near to this process's own group as they can be made.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PARENT = "pytest-enclave"

CONTROLLERS = ("memory", "cpu")

PERIOD = 100_000
LONG_PERIOD = 1_000_000
SHORTEST_QUOTA = 1_000
"""Microseconds: how often processor time is dealt out, the longest such period, and the least share of one."""

PATIENCE = 2.0
"""Seconds until the processes of a group, killed before, must be gone; and for which a group is tried to be made whose
parent others remove meanwhile."""

_WHERE = {"memory": "the memory of", "cpu": "the processor time of"}


class Cgroup:
    """A group of processes with limits. Its directories are one in version 2, one a controller in version 1."""

    __slots__ = ("_directories", "_unified")

    def __init__(self, directories: Mapping[str, str], unified: bool) -> None:
        self._directories = dict(directories)
        self._unified = unified

    def entry_files(self) -> list[str]:
        """The files that a process writes "0" into to become a member, with all its later children."""
        return [f"{directory}/cgroup.procs" for directory in dict.fromkeys(self._directories.values())]

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        directory = self._directories.get("memory")
        if directory is None:
            return 0
        return _counter(f"{directory}/{'memory.events' if self._unified else 'memory.oom_control'}", "oom_kill")

    def remove(self) -> None:
        """Remove the group, if it is there. Raises OSError (EBUSY) as long as it has processes."""
        for directory in dict.fromkeys(self._directories.values()):
            with suppress(FileNotFoundError):
                os.rmdir(directory)


class Cgroups:
    """Where this process can make groups.

    `parents` are the directories by controller, of "memory" and "cpu" those that there are.
    """

    __slots__ = ("controllers", "parents", "unified")

    def __init__(self, parents: Mapping[str, str], unified: bool) -> None:
        self.parents = dict(parents)
        self.unified = unified
        self.controllers = frozenset(parents)

    @classmethod
    def find(cls, mounts: str = "/proc/self/mountinfo", membership: str = "/proc/self/cgroup") -> Cgroups | None:
        """What there is on this machine for the present user; None if no limits can be set at all.

        Nothing is changed by looking.
        """
        mounted = _mounted(mounts)
        own = _own_groups(membership)
        found: dict[str, str] = {}
        for controller in CONTROLLERS:
            if controller in mounted:
                parent = _parent_in_version_1(_own_directory(mounted[controller], own.get(controller, "/")))
                if parent is not None:
                    found[controller] = parent
        if found:
            return cls(found, unified=False)
        if "" not in mounted:
            return None
        root = mounted[""][0]
        directory = _own_directory(mounted[""], own.get("", "/"))
        while directory.startswith(root):
            controllers = _can_be_enabled(directory)
            if controllers:
                parent = f"{directory}/{PARENT}"
                return cls(dict.fromkeys(controllers, parent), unified=True)
            if directory == root:
                break
            directory = os.path.dirname(directory)
        return None

    def create(self, name: str, memory_bytes: int | None = None, cpu_millicores: int | None = None) -> Cgroup:
        """Make a group with these limits; None is no limit. `name` may have parts, as in `enclave/service`.

        Raises OSError if it exists, or if a limit cannot be set.
        """
        limits: dict[str, list[tuple[str, str]]] = {}
        if memory_bytes is not None:
            limits["memory"] = _memory_limits(memory_bytes, self.unified)
        if cpu_millicores is not None:
            limits["cpu"] = _cpu_limits(cpu_millicores, self.unified)
        for controller in limits:
            if controller not in self.controllers:
                raise OSError(errno.EOPNOTSUPP, f"{_WHERE[controller]} a service cannot be limited here", name)
        directories: dict[str, str] = {}
        group = Cgroup(directories, self.unified)
        try:
            for controller in self.controllers if self.unified else limits:
                parent = self.parents[controller]
                if f"{parent}/{name}" not in directories.values():
                    self._make_directories(parent, name)
                directories[controller] = f"{parent}/{name}"
                group = Cgroup(directories, self.unified)
            for controller, settings in limits.items():
                for file, value in settings:
                    _set(f"{directories[controller]}/{file}", value)
        except OSError:
            # What stays goes with all that has the name's beginning.
            with suppress(OSError):
                group.remove()
            raise
        return group

    def remove(self, name: str) -> None:
        """Remove a group of that name and all below it, if there are any: what a process that was killed has left."""
        deadline = time.monotonic() + PATIENCE
        for parent in dict.fromkeys(self.parents.values()):
            for directory, _, _ in os.walk(f"{parent}/{name}", topdown=False):
                _remove(directory, deadline)
            # It goes with the last enclave; others may have groups in it.
            with suppress(OSError):
                os.rmdir(parent)

    def _make_directories(self, parent: str, name: str) -> None:
        *above, last = name.split("/")
        deadline = time.monotonic() + PATIENCE
        while True:
            directory = parent
            try:
                if self.unified:
                    _enable(os.path.dirname(parent), self.controllers)
                for part in ("", *above):
                    directory = f"{directory}/{part}" if part else directory
                    with suppress(FileExistsError):
                        os.mkdir(directory)
                    if self.unified:
                        _enable(directory, self.controllers)
                os.mkdir(f"{directory}/{last}")
                return
            except OSError as error:
                # Another process has removed the parent as it was empty.
                if error.errno not in (errno.ENOENT, errno.ENODEV) or time.monotonic() > deadline:
                    raise


def _memory_limits(size: int, unified: bool) -> list[tuple[str, str]]:
    """Swap is not extra memory; it is set where the kernel counts it. The order matters in version 1."""
    if unified:
        return [("memory.max", str(size)), ("memory.swap.max?", "0")]
    return [("memory.limit_in_bytes", str(size)), ("memory.memsw.limit_in_bytes?", str(size))]


def _cpu_limits(millicores: int, unified: bool) -> list[tuple[str, str]]:
    period = PERIOD if millicores * PERIOD >= SHORTEST_QUOTA * 1000 else LONG_PERIOD
    quota = max(SHORTEST_QUOTA, millicores * period // 1000)
    if unified:
        return [("cpu.max", f"{quota} {period}")]
    return [("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(quota))]


def _set(file: str, value: str) -> None:
    """Write a limit. A file that ends in `?` need not be there."""
    path = file.removesuffix("?")
    if file != path and not os.path.exists(path):
        return
    _write(path, value)


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _counter(path: str, name: str) -> int:
    try:
        rows = [line.split() for line in _read(path).splitlines()]
    except OSError:
        return 0
    return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), 0)


def _remove(directory: str, deadline: float) -> None:
    pause = 0.0005
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _mounted(file: str) -> dict[str, tuple[str, str]]:
    """Where each controller is mounted, and which group is the root there. Version 2 is under the name ""."""
    found: dict[str, tuple[str, str]] = {}
    for line in _read(file).splitlines():
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if len(fields) < 5 or len(kinds) < 3 or kinds[0] not in ("cgroup", "cgroup2"):
            continue
        where = (_unescaped(fields[4]), _unescaped(fields[3]))
        names = [""] if kinds[0] == "cgroup2" else kinds[-1].split(",")
        for name in names:
            found.setdefault(name, where)
    return found


def _unescaped(path: str) -> str:
    """Spaces and the like are octal in the table of mounts."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _own_groups(file: str) -> dict[str, str]:
    """The group of this process by controller; under "" that of version 2."""
    found: dict[str, str] = {}
    for line in _read(file).splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _own_directory(mount: tuple[str, str], group: str) -> str:
    """The directory of a group. It is the mount's own where the group is not below what is mounted."""
    directory, root = mount
    root = root.rstrip("/")
    below = group[len(root) :] if f"{group}/".startswith(f"{root}/") else ""
    path = f"{directory}{below}".rstrip("/")
    return path if os.path.isdir(path) else directory


def _parent_in_version_1(directory: str) -> str | None:
    parent = f"{directory}/{PARENT}"
    return parent if os.access(parent if os.path.isdir(parent) else directory, os.W_OK) else None


def _can_be_enabled(directory: str) -> list[str]:
    """The controllers of version 2 that groups in a directory can have.

    Empty if the directory is not ours, or has processes: then it can have no groups with limits.
    """
    parent = f"{directory}/{PARENT}"
    settings = f"{directory}/cgroup.subtree_control"
    try:
        available = _read(f"{directory}/cgroup.controllers").split()
        wanted = [controller for controller in CONTROLLERS if controller in available]
        # A process may come into a group only from one whose members we may move.
        ours = (f"{directory}/cgroup.procs", parent if os.path.isdir(parent) else directory)
        if not wanted or not all(os.access(path, os.W_OK) for path in ours):
            return []
        if set(wanted) <= set(_read(settings).split()):
            return wanted
        # The machine's root group, which alone is of no type, may have processes besides.
        free = not os.path.exists(f"{directory}/cgroup.type") or not _read(f"{directory}/cgroup.procs")
        return wanted if free and os.access(settings, os.W_OK) else []
    except OSError:
        return []


def _enable(directory: str, controllers: Iterable[str]) -> None:
    file = f"{directory}/cgroup.subtree_control"
    enabled = _read(file).split()
    missing = [f"+{controller}" for controller in sorted(controllers) if controller not in enabled]
    if missing:
        _write(file, " ".join(missing))
