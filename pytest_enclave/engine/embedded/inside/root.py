"""A service's root directory: an overlay of its image's layers, with /proc, /sys, /dev and mounted files.

What an image contains is not trusted: its links may lead anywhere. So everything that is mounted into it is opened
before, and mounted from within a chroot. There, links of /proc would still lead out, to what is open: places in the
image are looked up without following these.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.inside.directories import Directories, fill_from_image
from pytest_enclave.linux import mounts, syscalls

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}

READ_ONLY = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")

HIDDEN_FILES = (
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/kmsg",
)

HIDDEN_DIRECTORIES = ("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/fs", "/sys/kernel")
"""As Docker hides them, and what would tell of the machine's control groups and kernel."""

HOST_DIRECTORIES = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr")
"""What of the machine's root directory `host:/` shows. Everything else is empty: homes, run, var, mounted disks."""

HOST_SKELETON = ("home", "media", "mnt", "proc", "root", "run", "srv", "sys", "dev", "tmp", "var")
VAR_SKELETON = ("cache", "lib", "log", "spool", "tmp")


class Storage:
    """Where an enclave keeps the files of its services: a directory that only init's mount namespace has."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root = f"{path}/root"
        self.hosts = f"{path}/hosts"
        self.resolver = f"{path}/resolv.conf"
        self.shown = f"{path}/shown"
        self.directories = Directories(f"{path}/persistent")

    def prepare(self) -> None:
        """Make it, and mount what services are shown of it, in a way that they cannot write."""
        for directory in (self.root, f"{self.shown}/empty"):
            os.makedirs(directory)
        for file in (self.hosts, self.resolver, f"{self.shown}/hosts", f"{self.shown}/resolver"):
            _touch(file)
        for source, name in ((self.hosts, "hosts"), (self.resolver, "resolver"), (f"{self.shown}/empty", "empty")):
            mounts.bind(source, f"{self.shown}/{name}", read_only=True)


def enter_root(storage: Storage, upper: str, spec: dict[str, Any]) -> None:
    """Make the root directory of a service from its spec, and this process's root. `upper` has what the service writes.

    The process is alone in its mount namespace. Raises OSError with what could not be mounted.
    """
    if spec.get("host"):
        _overlay_host(storage, upper, spec["host_layers"])
    else:
        _overlay(spec["lowers"], upper, storage.root)
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY)
    kinds = (("artifacts", True), ("places", False))
    mounted = sorted((path, source, read_only) for kind, read_only in kinds for source, path in spec[kind])
    sources = _open_sources(storage, [source for _, source, _ in mounted])
    moved = spec.get("moved", []) if spec["seeding"] else []
    sources.update({f"moved {number}": os.open(source, os.O_PATH) for number, (source, _) in enumerate(moved)})
    os.chroot(storage.root)
    os.chdir("/")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for number, (path, _, read_only) in enumerate(mounted):
        if spec["seeding"] and not read_only:
            fill_from_image(root, path, sources[f"mount {number}"])
    _mount_system(root, sources)
    for path, is_directory in spec.get("hidden", ()):
        target = _directory(root, path) if is_directory else _file(root, path)
        _bind(root, sources["empty" if is_directory else "null"], path, target, read_only=False)
    for path in spec["volumes"]:
        # What an image has there instead is its own affair.
        with suppress(NotADirectoryError):
            os.close(_directory(root, path))
    for number, (path, _, read_only) in enumerate(mounted):
        _bind(root, sources[f"mount {number}"], path, _directory(root, path), read_only)
    for number, (_, path) in enumerate(moved):
        _copy(sources[f"moved {number}"], _file(root, path))
    for name, path in (("hosts", "/etc/hosts"), ("resolver", "/etc/resolv.conf")):
        _bind(root, sources[name], path, _file(root, path), read_only=False)
    for descriptor in (root, *sources.values()):
        os.close(descriptor)
    os.fchdir(outside)
    os.close(outside)
    os.chroot(".")
    os.chdir(storage.root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _overlay(lowers: list[str], upper: str, target: str) -> None:
    os.makedirs(f"{upper}/upper", exist_ok=True)
    os.makedirs(f"{upper}/work", exist_ok=True)
    mounts.overlay(lowers, f"{upper}/upper", f"{upper}/work", target)


def _overlay_host(storage: Storage, upper: str, layers: list[str]) -> None:
    """The machine's own programs and settings, each directory an overlay: one of all of / is refused, for what is
    mounted below it may not be uncovered. `layers` are what earlier starts wrote."""
    root = storage.root
    written = [f"{layer}/top/upper" for layer in layers]
    _overlay([f"{storage.shown}/empty", *filter(os.path.isdir, written)], f"{upper}/top", root)
    for name in HOST_DIRECTORIES:
        if not os.path.lexists(f"/{name}"):
            continue
        if os.path.islink(f"/{name}"):
            if not os.path.lexists(f"{root}/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
            continue
        os.makedirs(f"{root}/{name}", exist_ok=True)
        written = [f"{layer}/{name}/upper" for layer in layers]
        _overlay([f"/{name}", *filter(os.path.isdir, written)], f"{upper}/{name}", f"{root}/{name}")
    for name in HOST_SKELETON:
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in VAR_SKELETON:
        os.makedirs(f"{root}/var/{name}", exist_ok=True)
    for name in ("tmp", "var/tmp"):
        os.chmod(f"{root}/{name}", 0o1777)
    if not os.path.lexists(f"{root}/var/run"):
        os.symlink("/run", f"{root}/var/run")


def _open_sources(storage: Storage, mounted: list[str]) -> dict[str, int]:
    paths = {name: f"{storage.shown}/{name}" for name in ("hosts", "resolver", "empty")}
    paths.update({name: f"/dev/{name}" for name in DEVICES})
    paths.update({f"mount {number}": source for number, source in enumerate(mounted)})
    return {name: os.open(path, os.O_PATH) for name, path in paths.items()}


def _mount_system(root: int, sources: dict[str, int]) -> None:
    """Mount /proc first: it is how what was opened is named from here on."""
    for name in ("proc", "sys", "dev"):
        _make_own_directory(root, name)
    mounts.proc("/proc")
    _open_low_ports()
    mounts.sysfs_read_only("/sys")
    mounts.tmpfs("/dev", "mode=755,size=65536k")
    for name in DEVICES:
        _touch(f"/dev/{name}")
        mounts.bind(_by_descriptor(sources[name]), f"/dev/{name}")
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"/dev/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    mounts.devpts("/dev/pts")
    mounts.tmpfs("/dev/shm", "mode=1777,size=65536k")
    for path in READ_ONLY:
        if os.path.exists(path):
            mounts.bind(path, path, read_only=True)
    for path in HIDDEN_FILES:
        if os.path.exists(path):
            mounts.bind("/dev/null", path)
    for path in HIDDEN_DIRECTORIES:
        if os.path.isdir(path):
            mounts.bind(_by_descriptor(sources["empty"]), path)


def _open_low_ports() -> None:
    """Whoever a service runs as may listen on port 80, and ping, as in Docker."""
    for name, value in (("ip_unprivileged_port_start", b"0"), ("ping_group_range", b"0 0")):
        setting = os.open(f"/proc/sys/net/ipv4/{name}", os.O_WRONLY)
        os.write(setting, value)
        os.close(setting)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _by_descriptor(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _bind(root: int, source: int, path: str, target: int, read_only: bool = True) -> None:
    """Show what was opened at a path. `target` is what is there now; it is closed."""
    mounts.bind(_by_descriptor(source), _by_descriptor(target))
    os.close(target)
    if not read_only:
        return
    mounted = syscalls.open_below(root, path, os.O_PATH)
    mounts.make_read_only(_by_descriptor(mounted))
    os.close(mounted)


def _make_own_directory(root: int, name: str) -> None:
    """A directory in the root itself, in place of whatever else the image has there."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
            return
        os.unlink(name, dir_fd=root)
    os.mkdir(name, dir_fd=root)


def _copy(source: int, target: int) -> None:
    """Copy a file that was opened to what is at another path now, which is closed."""
    with open(_by_descriptor(source), "rb") as content, open(_by_descriptor(target), "wb") as copy:
        os.close(target)
        shutil.copyfileobj(content, copy)
        os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(content.fileno()).st_mode))


def _directory(root: int, path: str) -> int:
    """A directory below the root, made where it is not there. Raises NotADirectoryError."""
    path = os.path.normpath(path)
    try:
        return syscalls.open_below(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        above = _directory(root, os.path.dirname(path))
    except NotADirectoryError:
        raise _no_directory(path) from None
    try:
        os.mkdir(os.path.basename(path), dir_fd=above)
    except FileExistsError:
        # A link that leads nowhere.
        raise _no_directory(path) from None
    finally:
        os.close(above)
    return syscalls.open_below(root, path, os.O_PATH | os.O_DIRECTORY)


def _no_directory(path: str) -> NotADirectoryError:
    words = "what is mounted is a directory, and the image has something else at this path"
    return NotADirectoryError(errno.ENOTDIR, words, path)


def _file(root: int, path: str) -> int:
    """A file to mount onto, in place of a link or what else is there."""
    folder, name = os.path.split(path)
    above = _directory(root, folder)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=above)
        # One that is there already may be somebody else's, on the machine's own root directory.
        with suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=above))
        return syscalls.open_below(root, path, os.O_PATH)
    finally:
        os.close(above)
