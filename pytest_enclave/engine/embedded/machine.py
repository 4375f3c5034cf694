"""What can be read about this machine that explains why it refuses namespaces: settings, kernel, container."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec

UNPRIVILEGED = "kernel.unprivileged_userns_clone"
MOST_NAMESPACES = "user.max_user_namespaces"
APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"

SYSTEMS = {"darwin": "macOS", "win32": "Windows"}


class Machine(msgspec.Struct, frozen=True):
    """`system` is a name for people, `kernel` its two first numbers, `settings` are sysctls as text.

    `container` is the kind of container that we seem to be in ("" for none): `docker`, `podman`, `kubernetes`, or what
    else calls itself one. `filtered`: system calls pass a seccomp filter; `profile` is the AppArmor profile that
    confines this process, "" for none.
    """

    system: str = "Linux"
    kernel: tuple[int, int] = (6, 1)
    root: bool = False
    settings: Mapping[str, int] = msgspec.field(default_factory=dict)
    container: str = ""
    filtered: bool = False
    profile: str = ""
    chroot: bool = False


def look(root: str = "/") -> Machine:
    """What this machine is. Reads small files only; `root` is where its file system is."""
    if sys.platform != "linux":
        return Machine(SYSTEMS.get(sys.platform, sys.platform))
    names = (UNPRIVILEGED, MOST_NAMESPACES, APPARMOR)
    settings = {name: _read(root, f"proc/sys/{name.replace('.', '/')}") for name in names}
    status = dict(line.split(":", 1) for line in _read(root, "proc/self/status").splitlines() if ":" in line)
    mounted = [line.split()[4] for line in _read(root, "proc/self/mountinfo").splitlines()]
    return Machine(
        kernel=_version(_read(root, "proc/sys/kernel/osrelease")),
        root=os.geteuid() == 0,
        settings={name: int(text) for name, text in settings.items() if text.isdigit()},
        container=_container(root),
        filtered=status.get("Seccomp", "").strip() == "2",
        profile=_profile(_read(root, "proc/self/attr/current")),
        chroot=bool(mounted) and "/" not in mounted,
    )


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _version(release: str) -> tuple[int, int]:
    numbers = [int(part) for part in release.replace("-", ".").split(".")[:2] if part.isdigit()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _container(root: str) -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if os.path.exists(os.path.join(root, "run/.containerenv")):
        return "podman"
    if os.path.exists(os.path.join(root, ".dockerenv")):
        return "docker"
    return _read(root, "run/systemd/container")


def _profile(current: str) -> str:
    """`docker-default (enforce)` without the mode; nothing where no profile is in force."""
    name, _, mode = current.partition(" (")
    return name if mode.startswith("enforce") else ""
