"""System calls that Python's `os` has not, or not in every version that is supported: namespaces, mounts, prctl.

Each raises OSError with the call and what it was for as the file name. The C library is loaded on the first call, so
a process that gives up its root directory makes one before.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctypes import CDLL
    from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWTIME = 0x00000080

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000

MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_TIMERSLACK = 29
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

CLOSE_RANGE = 436
OPENAT2 = 437
"""Numbers of calls, the same on all architectures."""

LAST_DESCRIPTOR = 0xFFFFFFFF

_NAMESPACES = {
    CLONE_NEWNS: "mount",
    CLONE_NEWCGROUP: "cgroup",
    CLONE_NEWUTS: "uts",
    CLONE_NEWIPC: "ipc",
    CLONE_NEWUSER: "user",
    CLONE_NEWPID: "pid",
    CLONE_NEWNET: "net",
    CLONE_NEWTIME: "time",
}


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for new ones. For a user namespace, the process must have a single thread."""
    _check(c_library().unshare(flags), f"unshare {_namespaces(flags)}")


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace of a descriptor of /proc/PID/ns/…, or those in `flags` of a pidfd's process."""
    _check(c_library().setns(fd, flags), f"setns {_namespaces(flags)}".rstrip())


def mount(source: str, target: str, fstype: str | None, flags: int = 0, data: str = "") -> None:
    """Mount a file system, or with MS_BIND, MS_REMOUNT, MS_PRIVATE and the like change what is mounted."""
    result = c_library().mount(
        os.fsencode(source), os.fsencode(target), fstype and os.fsencode(fstype), flags, os.fsencode(data) or None
    )
    _check(result, f"mount {fstype or source} at {target}")


def umount(target: str, flags: int = 0) -> None:
    """Take away a mount; with MNT_DETACH even while it is in use."""
    _check(c_library().umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make the mount at `new` the root, and put the root there was at `old`; both may be "."."""
    _check(c_library().pivot_root(os.fsencode(new), os.fsencode(old)), f"pivot_root {new}")


def prctl(option: int, *args: int) -> int:
    """Read or set a property of this thread or process. Missing arguments are 0."""
    result: int = c_library().prctl(option, *_longs((*args, 0, 0, 0, 0)[:4]))
    return _check(result, f"prctl {option}")


def close_others(*kept: int) -> None:
    """Close all descriptors but those kept, and standard input, output and error."""
    bounds = [2, *sorted(each for each in set(kept) if each > 2), LAST_DESCRIPTOR + 1]
    for below, above in pairwise(bounds):
        if below + 1 < above:
            call("close_range", CLOSE_RANGE, below + 1, above - 1, 0)


def open_below(root: int, path: str, flags: int) -> int:
    """Open a path below a directory as if that were the root: no link leads out, those of /proc are not followed.

    Raises OSError; ELOOP where the path leads through a link of /proc that is none.
    """
    from ctypes import create_string_buffer

    how = create_string_buffer(
        struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), 24
    )
    name = path.strip("/") or "."
    try:
        return call("openat2", OPENAT2, root, os.fsencode(name), how, 24)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def set_hostname(name: str) -> None:
    """Name the machine, in this UTS namespace. At most 64 bytes."""
    encoded = os.fsencode(name)
    _check(c_library().sethostname(encoded, len(encoded)), f"sethostname {name}")


def call(what: str, number: int, *args: Any) -> int:
    """A system call by its number, for those without a function. `what` names it in errors."""
    result: int = c_library().syscall(*_longs((number, *args)))
    return _check(result, what)


@cache
def c_library() -> CDLL:
    """The functions of the C library, whose errors `failure` tells."""
    from ctypes import CDLL, c_long

    library = CDLL(None, use_errno=True)
    library.syscall.restype = c_long
    return library


def failure(what: str) -> OSError:
    """The error of the call that this thread made last."""
    from ctypes import get_errno

    number = get_errno()
    return OSError(number, os.strerror(number), what)


def _check(result: int, what: str) -> int:
    if result < 0:
        raise failure(what)
    return result


def _longs(args: tuple[Any, ...]) -> list[Any]:
    """Numbers in full width: these functions take any number of arguments, so nothing else widens them."""
    from ctypes import c_ulong

    return [c_ulong(each) if isinstance(each, int) else each for each in args]


def _namespaces(flags: int) -> str:
    return "+".join(name for flag, name in _NAMESPACES.items() if flags & flag)
