"""Capabilities: the parts of root's power, by the kernel's numbers."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pytest_enclave.linux.syscalls import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    c_library,
    failure,
    prctl,
)

if TYPE_CHECKING:
    from collections.abc import Set

CHOWN = 0
DAC_OVERRIDE = 1
FOWNER = 3
FSETID = 4
KILL = 5
SETGID = 6
SETUID = 7
SETPCAP = 8
NET_BIND_SERVICE = 10
NET_RAW = 13
SYS_CHROOT = 18
MKNOD = 27
AUDIT_WRITE = 29
SETFCAP = 31

DOCKER_DEFAULT = frozenset(
    {
        CHOWN,
        DAC_OVERRIDE,
        FOWNER,
        FSETID,
        KILL,
        SETGID,
        SETUID,
        SETPCAP,
        NET_BIND_SERVICE,
        NET_RAW,
        SYS_CHROOT,
        MKNOD,
        AUDIT_WRITE,
        SETFCAP,
    }
)
"""What root has in a container of Docker's."""

_VERSION_3 = 0x20080522
_MOST = 64


def keep_only(capabilities: Set[int]) -> None:
    """Give up every other capability, for good: nothing that is executed later can have it, whatever its file says."""
    bound(capabilities)
    hold_only(capabilities)


def bound(capabilities: Set[int]) -> None:
    """Let no program that this thread or its children execute have others. What is held now is held until then."""
    for capability in range(_MOST):
        if capability not in capabilities:
            try:
                prctl(PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # From here on this kernel knows no more.
                return


def hold_only(capabilities: Set[int]) -> None:
    """Give up every other capability, until something is executed.

    Those kept are permitted and effective now, where this thread had them. None is inheritable or ambient: a later
    program has them if it runs as root, and a change from root to another user takes them away.
    """
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _, permitted, _ = held()
    _set(permitted & frozenset(capabilities))


def held() -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    """What this thread has: effective, permitted, inheritable."""
    from ctypes import byref, c_uint32

    words = (c_uint32 * 6)()
    if c_library().capget(byref((c_uint32 * 2)(_VERSION_3, 0)), byref(words)) != 0:
        raise failure("capget")
    low, high = list(words[:3]), list(words[3:])
    effective, permitted, inheritable = (
        frozenset(number for number in range(_MOST) if (each | high[at] << 32) >> number & 1)
        for at, each in enumerate(low)
    )
    return effective, permitted, inheritable


def _set(capabilities: Set[int]) -> None:
    from ctypes import byref, c_uint32

    mask = sum(1 << number for number in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    words = (c_uint32 * 6)(low, low, 0, high, high, 0)
    if c_library().capset(byref((c_uint32 * 2)(_VERSION_3, 0)), byref(words)) != 0:
        raise failure("capset")
