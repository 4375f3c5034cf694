"""User and group ids in a user namespace: which the present user can have, and how a new namespace gets them.

Root maps every id to itself. Others get a range of ids with the help of `newuidmap` and `newgidmap` (package uidmap),
if /etc/subuid and /etc/subgid give them one; else a single id, their own, which is 0 inside.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import CompletedProcess
    from typing import IO, Literal

    Kind = Literal["root", "range", "single"]

RANGE = 65536
"""How many subordinate ids make a range: enough for the ids that images use, nobody's 65534 among them."""

HELPER_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
"""Where newuidmap can be besides PATH."""

_CAP_SETGID, _CAP_SETUID = 6, 7

_ENTER = """
import ctypes, os, sys
library = ctypes.CDLL(None, use_errno=True)
told, wait = int(sys.argv[1]), int(sys.argv[2])
failed = library.unshare(0x10000000) != 0
os.write(told, str(ctypes.get_errno() if failed else 0).encode())
if failed or not os.read(wait, 1):
    sys.exit(1)
os.close(told)
os.close(wait)
os.setgid(0)
os.setuid(0)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(sys.argv[3] + ": " + error.strerror)
"""
"""What `run_mapped` starts first: forked from a process with threads, only a program of its own is safe."""


class Range:
    """`count` ids from `inside` on in a user namespace are those from `outside` on in the one above it."""

    __slots__ = ("count", "inside", "outside")

    def __init__(self, inside: int, outside: int, count: int) -> None:
        self.inside = inside
        self.outside = outside
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Range) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.count}"

    __repr__ = __str__


class IdMap:
    """The ids of a user namespace. `kind` is how they are to be had: "root", "range" or "single"."""

    __slots__ = ("gids", "kind", "uids")

    def __init__(self, kind: Kind, uids: Sequence[Range], gids: Sequence[Range]) -> None:
        self.kind = kind
        self.uids = tuple(uids)
        self.gids = tuple(gids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self.kind}: uids {self.uids}, gids {self.gids}"

    __repr__ = __str__


def own_map() -> IdMap:
    """The best map that the present user can have."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _holds(_CAP_SETUID) and _holds(_CAP_SETGID):
        return IdMap("root", _identity("/proc/self/uid_map"), _identity("/proc/self/gid_map"))
    uids = subordinate_ids("/etc/subuid", uid)
    gids = subordinate_ids("/etc/subgid", uid)
    if uids and gids and _helpers_work():
        return IdMap("range", (Range(0, uid, 1), uids), (Range(0, gid, 1), gids))
    return IdMap("single", (Range(0, uid, 1),), (Range(0, gid, 1),))


def subordinate_ids(file: str, uid: int) -> Range | None:
    """The first 65,536 ids that /etc/subuid or /etc/subgid gives to a user, by name or number, as those from 1 on."""
    owners = {str(uid), _user_name(uid)}
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            rows = [line.strip().split(":") for line in lines]
    except OSError:
        return None
    for row in rows:
        if len(row) == 3 and row[0] in owners and row[1].isdigit() and row[2].isdigit() and int(row[2]) >= RANGE:
            return Range(1, int(row[1]), RANGE)
    return None


def helper(name: str) -> str | None:
    """The path of `newuidmap` or `newgidmap`, which often is not on the PATH of a service; None if there is none."""
    for directory in (*os.environ.get("PATH", "").split(":"), *HELPER_DIRECTORIES):
        path = f"{directory}/{name}"
        if directory and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def write_maps(pid: int, ids: IdMap) -> None:
    """Give its ids to a process that has entered a new user namespace. Raises OSError.

    To be called by a process of the namespace above that runs as the user who made the namespace.
    """
    if ids.kind == "range":
        _map_by_helpers(pid, ids)
        return
    if ids.kind == "single":
        _write(pid, "setgroups", "deny")
    _write(pid, "uid_map", "\n".join(map(str, ids.uids)))
    _write(pid, "gid_map", "\n".join(map(str, ids.gids)))


def run_mapped(
    ids: IdMap,
    argv: Sequence[str],
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> CompletedProcess[bytes]:
    """Run a command as root of a new user namespace with these ids, and wait for its end. Safe with threads.

    Streams are as in `subprocess.run`. A command that cannot be executed says so on standard error, with code 1.
    Raises OSError if the namespace cannot be had.
    """
    import subprocess

    ready, told = os.pipe()
    wait, go = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ENTER, str(told), str(wait), *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            pass_fds=(told, wait, *pass_fds),
        )
        os.close(told)
        told = -1
        try:
            answer = os.read(ready, 16)
            if answer != b"0":
                number = int(answer or errno.ECHILD)
                raise OSError(number, os.strerror(number), "unshare user")
            write_maps(process.pid, ids)
            os.write(go, b".")
            output, errors = process.communicate()
            return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)
        except BaseException:
            process.kill()
            process.communicate()
            raise
    finally:
        for descriptor in (ready, told, wait, go):
            if descriptor >= 0:
                os.close(descriptor)


def _map_by_helpers(pid: int, ids: IdMap) -> None:
    """Run both at once; their standard errors are told."""
    reading, writing = os.pipe()
    started: list[tuple[str, int]] = []
    try:
        for name, ranges in (("newuidmap", ids.uids), ("newgidmap", ids.gids)):
            path = helper(name)
            if path is None:
                raise OSError(errno.ENOENT, "not found: install the package uidmap", name)
            argv = [name, str(pid), *(number for each in ranges for number in str(each).split())]
            redirected = [(os.POSIX_SPAWN_DUP2, writing, 2)]
            started.append((name, os.posix_spawn(path, argv, os.environ, file_actions=redirected)))
    finally:
        os.close(writing)
        with open(reading, "rb") as errors:
            words = errors.read().decode(errors="replace").strip()
        failed = [name for name, child in started if os.waitpid(child, 0)[1] != 0]
    if failed:
        raise OSError(errno.EPERM, words or "failed without a word", " and ".join(failed))


def _write(pid: int, name: str, text: str) -> None:
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{name} of process {pid}") from None


def _identity(file: str) -> list[Range]:
    """What is mapped here, mapped to itself."""
    with open(file) as lines:
        rows = [line.split() for line in lines]
    return [Range(int(inside), int(inside), int(count)) for inside, _, count in rows]


def _holds(capability: int) -> bool:
    return bool(int(_status("CapEff"), 16) >> capability & 1)


def _helpers_work() -> bool:
    """Whether newuidmap and newgidmap are there, and would gain the privileges they need."""
    return _status("NoNewPrivs") == "0" and all(_is_privileged(helper(name)) for name in ("newuidmap", "newgidmap"))


def _is_privileged(path: str | None) -> bool:
    if path is None:
        return False
    status = os.stat(path)
    if status.st_uid == 0 and status.st_mode & stat.S_ISUID:
        return True
    return "security.capability" in os.listxattr(path)


def _status(name: str) -> str:
    """A line of /proc/self/status."""
    with open("/proc/self/status", errors="replace") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:")), "0")


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
