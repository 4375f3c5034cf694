"""Why a machine does not let the embedded engine run, and what can be done about it.

A trial tells the step that was refused, and with which error; `machine` tells what may be the reason. Both together
become three texts: what is missing, why, and the remedy.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from pytest_enclave.engine.embedded.machine import APPARMOR, MOST_NAMESPACES, UNPRIVILEGED, Machine

OLDEST_KERNEL = (5, 11)
"""The first in which overlays can be mounted in a user namespace."""

MISSING: Mapping[str, str] = MappingProxyType(
    {
        "start": "its trial does not start",
        "user": "no user namespace can be made",
        "maps": "user ids cannot be mapped into a new user namespace",
        "namespaces": "no mount, network and process namespaces can be made",
        "private": "mounts cannot be kept to a namespace",
        "proc": "/proc cannot be mounted in a new process namespace",
        "network": "no network bridge with links can be made",
        "storage": "no tmpfs can be mounted",
        "overlay": "no overlay file system can be mounted",
        "whiteout": "no overlay whiteout can be made",
        "device": "device files cannot be bind-mounted",
        "system": "/proc and /sys cannot be mounted for a service",
        "root": "the root directory cannot be changed (pivot_root)",
        "rights": "capabilities cannot be given up",
        "seccomp": "no system call filter can be installed",
    }
)
"""What is missing where a step of the trial fails."""

REFUSED = (errno.EPERM, errno.EACCES)

DOCKER_RUN = "`docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined --tmpfs /tmp`"
PODMAN_RUN = "`podman run --security-opt seccomp=unconfined --security-opt unmask=ALL --tmpfs /tmp`"
KUBERNETES = "in the pod's securityContext: `seccompProfile: {type: Unconfined}` and `procMount: Unmasked`"
NO_APPARMOR = " with `--security-opt apparmor=unconfined`"


class Failure(msgspec.Struct, frozen=True):
    """The step of the trial that failed: its name, the error number where there was one, what was said of it."""

    step: str
    number: int | None
    said: str


class Refusal(msgspec.Struct, frozen=True):
    """What is missing, why, and what can be done about it ("" where nothing can)."""

    missing: str
    why: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.missing}: {self.why}"


def not_linux(machine: Machine) -> Refusal | None:
    """The refusal where nothing need be tried."""
    if machine.system == "Linux":
        return None
    return Refusal("it needs Linux", f"this is {machine.system}")


def refusal(machine: Machine, failure: Failure) -> Refusal:
    """What a failure means on this machine."""
    missing = MISSING.get(failure.step, f"the trial's step {failure.step!r} fails")
    for rule in _RULES:
        if found := rule(machine, failure):
            return Refusal(missing, *found)
    words = failure.said if failure.number is None else f"{_symbol(failure.number)}, {failure.said}"
    return Refusal(missing, words, "" if machine.root else "run as root")


_Found = tuple[str, str] | None


def _old_kernel(machine: Machine, failure: Failure) -> _Found:
    if machine.kernel >= OLDEST_KERNEL or machine.kernel == (0, 0):
        return None
    return f"the kernel is {_dotted(machine.kernel)}, and {_dotted(OLDEST_KERNEL)} is the oldest that does", ""


def _no_namespaces_left(machine: Machine, failure: Failure) -> _Found:
    if failure.step not in ("user", "namespaces") or failure.number not in (errno.ENOSPC, errno.EUSERS):
        return None
    remedy = f"`sudo sysctl -w {MOST_NAMESPACES}=15000`"
    most = machine.settings.get(MOST_NAMESPACES)
    if most == 0:
        return f"the kernel allows none ({MOST_NAMESPACES} = 0)", remedy
    allowed = "as many as the kernel allows are in use"
    return (f"{allowed} ({MOST_NAMESPACES} = {most})", remedy) if most is not None else (allowed, remedy)


def _for_root_only(machine: Machine, failure: Failure) -> _Found:
    if failure.step != "user" or machine.root or machine.settings.get(UNPRIVILEGED) != 0:
        return None
    return (
        f"the kernel keeps user namespaces to root ({UNPRIVILEGED} = 0)",
        f"`sudo sysctl -w {UNPRIVILEGED}=1`, or run as root",
    )


def _not_built(machine: Machine, failure: Failure) -> _Found:
    if failure.step == "user" and failure.number in (errno.EINVAL, errno.ENOSYS):
        return "the kernel is built without user namespaces", ""
    if failure.step == "overlay" and failure.number == errno.ENODEV:
        return "the kernel has no overlay file system loaded", "`sudo modprobe overlay`"
    if failure.step == "network" and failure.number in (errno.EOPNOTSUPP, errno.ENODEV, errno.EPROTONOSUPPORT):
        return f"the kernel has no bridges or no links loaded ({failure.said})", "`sudo modprobe --all bridge veth`"
    return None


def _range_refused(machine: Machine, failure: Failure) -> _Found:
    if failure.step != "maps" or not re.search("new[ug]idmap", failure.said):
        return None
    return (
        f"the programs of the package uidmap refuse it ({failure.said})",
        "correct the user's ranges in /etc/subuid and /etc/subgid, or take them out",
    )


def _apparmor(machine: Machine, failure: Failure) -> _Found:
    if machine.container or machine.root or machine.settings.get(APPARMOR) != 1 or failure.number not in REFUSED:
        return None
    return (
        f"AppArmor lets no program without a profile do it ({APPARMOR} = 1, as on Ubuntu since 23.10)",
        f"`sudo sysctl -w {APPARMOR}=0`, or run as root",
    )


def _container(machine: Machine, failure: Failure) -> _Found:
    """The defaults of containers: a filter of system calls, masked parts of /proc, an AppArmor profile."""
    if not machine.container or not (failure.number in REFUSED or failure.step == "overlay"):
        return None
    how = {"docker": DOCKER_RUN, "podman": PODMAN_RUN, "kubernetes": KUBERNETES}.get(
        machine.container, f"allow {machine.container} all system calls, and an unmasked /proc"
    )
    if failure.number == errno.EACCES and machine.profile:
        by = f"the AppArmor profile of its container ({machine.profile}) refuses it"
        how += NO_APPARMOR if machine.container in ("docker", "podman") else ""
    elif failure.step in ("proc", "system"):
        by = "parts of /proc and /sys are masked in its container"
    elif failure.step == "overlay":
        by = f"there is no place for one in its container ({failure.said})"
    elif machine.filtered:
        by = "the seccomp filter of its container refuses it"
    else:
        by = f"its container refuses it ({failure.said})"
    return by, how


def _chroot(machine: Machine, failure: Failure) -> _Found:
    if failure.step != "user" or failure.number != errno.EPERM or not machine.chroot:
        return None
    return "the kernel makes none for programs in a chroot", "run outside of it, or in a container"


def _filtered(machine: Machine, failure: Failure) -> _Found:
    if not machine.filtered or not (failure.number in REFUSED or "SIGSYS" in failure.said):
        return None
    return (
        "a seccomp filter refuses it, as sandboxes and services of systemd have one",
        "run outside of it, or allow it the system calls of namespaces and mounts",
    )


_RULES: tuple[Callable[[Machine, Failure], _Found], ...] = (
    _no_namespaces_left,
    _for_root_only,
    _apparmor,
    _container,
    _chroot,
    _old_kernel,
    _not_built,
    _range_refused,
    _filtered,
)


def _symbol(number: int) -> str:
    return errno.errorcode.get(number, os.strerror(number))


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
