"""Processes that init forks: in other namespaces of processes, and for work that its clients need not wait for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from pytest_enclave.linux import syscalls

LOOKS = 100
"""How often it is looked for more processes of a session that is killed: they may be forking meanwhile."""


def fork_into(processes: int | None) -> int:
    """Fork a child as a member of a PID namespace (a descriptor), or as the first process of a new one (None).

    0 in the child. Later children are in our own namespace again. Raises OSError.
    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        if processes is None:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        else:
            syscalls.setns(processes)
        child = -1
        try:
            child = os.fork()
        finally:
            # The child is to stay where it is.
            if child != 0:
                syscalls.setns(own)
    finally:
        os.close(own)
    return child


def do_aside(work: Callable[[], None], descriptors: Sequence[int]) -> None:
    """Have a child do it; errors of the system are nobody's. Where there can be no child, it is done here.

    The descriptors are closed, last of all in the child: the kernel may have much to do then, as with the mounts of a
    namespace.
    """
    pipe: list[int] = []
    child = -1
    with suppress(OSError):
        pipe += os.pipe()
        child = os.fork()
    if child == 0:
        try:
            begin, over = pipe
            os.close(over)
            os.read(begin, 1)
            # What else was open would stay in use for as long as the work takes.
            syscalls.close_others()
            with suppress(OSError):
                work()
        finally:
            os._exit(0)
    for descriptor in (*descriptors, *pipe):
        os.close(descriptor)
    if child < 0:
        with suppress(OSError):
            work()


def signal_session(leader: int, number: int) -> None:
    """Send a signal to all processes of a session, whatever groups they have made and whether its leader lives."""
    told: set[int] = set()
    for _ in range(LOOKS):
        processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        found = {process for process in processes if _session(process) == leader}
        if found <= told:
            return
        for process in found - told:
            with suppress(OSError):
                os.kill(process, number)
        told |= found


def _session(process: int) -> int:
    """The id of its session; 0 where it has just ended."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # Its name, in brackets, may contain anything.
            return int(file.read().rpartition(b")")[2].split()[3])
    except (OSError, IndexError):
        return 0
