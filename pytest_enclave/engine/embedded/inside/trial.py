"""Whether this machine lets us do what the embedded engine does: everything that it needs, done once, in its order.

Theory of operation
-------------------
    probe ── trial ── boot ── init (PID 1 of the new namespaces)

As in an enclave, *boot* enters a user namespace whose maps *trial* writes, unshares the others, and forks *init*, which
does the rest. Each step is told before it is tried, on a pipe that all of them share: whatever ends the trial, by an
error or by a signal, the last step told is the one that this machine refuses. Nothing is left: all that was made goes
with init, and a directory on disk, where the kernel needs one, is the caller's to remove.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from typing import Any

from pytest_enclave.linux import capabilities, identity, mounts, seccomp, syscalls
from pytest_enclave.linux.netlink import Netlink

NEW_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWPID
)

STORAGE = "/sys"
"""Where an enclave keeps its files, in its own mount namespace."""

DEVICE = "/dev/null"


class Telling:
    """One JSON object a line: a step that begins, a fact learnt, or the error that ended the step."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def step(self, name: str) -> None:
        """A step begins."""
        self._tell({"step": name})

    def fact(self, name: str, value: Any) -> None:
        """Something that the caller wants to know."""
        self._tell({"fact": name, "value": value})

    def error(self, error: BaseException) -> None:
        """The step failed."""
        said = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        self._tell({"errno": getattr(error, "errno", None), "said": said})

    def _tell(self, line: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def main() -> None:
    """Tell on standard output; the last argument is an empty directory to keep files in where a tmpfs cannot."""
    telling = Telling(1)
    try:
        _try(telling, sys.argv[-1])
    except BaseException as error:
        telling.error(error)


def _try(telling: Telling, disk: str) -> None:
    ids = identity.own_map()
    telling.fact("kind", ids.kind)
    telling.fact("uids", [[each.inside, each.outside, each.count] for each in ids.uids])
    read, write = os.pipe()
    go, gone = os.pipe()
    boot = os.fork()
    if boot == 0:
        os.close(read)
        os.close(gone)
        _child(telling, lambda: _boot(telling, write, go, disk))
    os.close(write)
    os.close(go)
    if os.read(read, 1):
        telling.step("maps")
        try:
            identity.write_maps(boot, ids)
            os.write(gone, b".")
        finally:
            os.close(gone)
            _await(boot)
    else:
        _await(boot)


def _child(telling: Telling, work: Any) -> None:
    """What a forked process does. Never returns."""
    code = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        work()
        code = 0
    except BaseException as error:
        telling.error(error)
    finally:
        os._exit(code)


def _await(child: int) -> None:
    """Pass on the signal that ended a child: a system call filter may kill for a call."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        raise ChildProcessError(f"ended by {signal.Signals(-status).name}")


def _boot(telling: Telling, ready: int, go: int, disk: str) -> None:
    telling.step("user")
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.write(ready, b".")
    if not os.read(go, 1):
        return
    telling.step("namespaces")
    syscalls.unshare(NEW_NAMESPACES)
    init = os.fork()
    if init == 0:
        _child(telling, lambda: _init(telling, disk))
    _await(init)


def _init(telling: Telling, disk: str) -> None:
    telling.step("private")
    mounts.private_root()
    telling.step("proc")
    mounts.proc("/proc")
    telling.step("network")
    _network()
    telling.step("storage")
    mounts.tmpfs(STORAGE, "mode=755")
    _files(telling, disk)
    telling.step("rights")
    capabilities.keep_only(capabilities.DOCKER_DEFAULT)
    telling.step("seccomp")
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install()
    telling.step("done")


def _network() -> None:
    """A bridge, and a link from it into a network namespace like a service's."""
    with Netlink() as outer:
        outer.bridge("br0")
        outer.address("br0", "10.77.0.1", 16)
        outer.up("br0")
        syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            outer.veth("link", "eth0", peer_namespace_fd=own, master=outer.index("br0"))
        finally:
            os.close(own)
        outer.up("link")
        with Netlink() as inner:
            inner.up("lo")
            inner.address("eth0", "10.77.0.2", 16)
            inner.up("eth0")
            inner.gateway("10.77.0.1")


def _files(telling: Telling, disk: str) -> None:
    """An overlay with a whiteout, as the root directory, with the kernel's own file systems in it."""
    place = STORAGE if mounts.tmpfs_has_user_xattrs(STORAGE) else disk
    telling.fact("disk", place == disk)
    telling.step("overlay")
    root = f"{STORAGE}/root"
    os.mkdir(root)
    lower, upper, work = (f"{place}/{name}" for name in ("lower", "upper", "work"))
    for directory in (lower, upper, work, *(f"{lower}/{name}" for name in ("proc", "sys", "dev", "gone"))):
        os.mkdir(directory)
    with open(f"{lower}/file", "w"):
        pass
    mounts.overlay([lower], upper, work, root)
    os.unlink(f"{root}/file")
    os.rmdir(f"{root}/gone")
    if not stat.S_ISCHR(os.lstat(f"{upper}/file").st_mode):
        raise OSError("a removed file leaves no whiteout")
    telling.step("whiteout")
    os.mknod(f"{upper}/other", stat.S_IFCHR, 0)
    telling.step("device")
    with open(f"{root}/dev/null", "w"):
        pass
    mounts.bind(DEVICE, f"{root}/dev/null")
    telling.step("system")
    mounts.proc(f"{root}/proc")
    mounts.sysfs_read_only(f"{root}/sys")
    telling.step("root")
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
