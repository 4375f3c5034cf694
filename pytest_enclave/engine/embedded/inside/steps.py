"""Steps of a build inside of an enclave: files put into a service that runs nothing, and what a service has changed.

Both are done by a process forked from init, which tells on a channel how it went.
"""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import signal
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any, NoReturn

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.file_rights import TarFile, give
from pytest_enclave.engine.embedded.inside.users import find_user
from pytest_enclave.linux import syscalls

MADE_BY_US = frozenset(("dev", "proc", "sys", "etc/hosts", "etc/resolv.conf"))
"""What a service's root directory has because it is a service's."""

TOLD = 10
"""How many files are told of."""

WHITEOUT = ".wh."
OPAQUE = f"{WHITEOUT}{WHITEOUT}.opq"

OPAQUE_MARK = "user.overlay.opaque"
WHITEOUT_MARK = "user.overlay.whiteout"


def become_collector(upper: str, stream: int, report: Channel) -> NoReturn:
    """Write a tar of what a service has changed, removed files as image layers tell of them."""

    def collect() -> None:
        os.stat(upper)
        report.send({})
        report.close()
        with (
            open(stream, "wb", buffering=0) as sink,
            TarFile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, path in _changed(upper, ""):
                if posixpath.basename(name).startswith(WHITEOUT):
                    tar.addfile(tarfile.TarInfo(name), io.BytesIO())
                else:
                    tar.add(path, name, recursive=False)

    _do(collect, report)


def become_putter(mount_namespace: int, message: dict[str, Any], stream: int, report: Channel) -> NoReturn:
    """Put the files of a tar into a service: `target` is a path in it, a directory if `directory` says so or it is one.

    `owner` is `user:group`, by name or number, empty for what the tar says; `mode` None for what the tar says. Told are
    files that could not be given their capabilities.
    """

    def put() -> None:
        syscalls.setns(mount_namespace)
        user = find_user(message["owner"]) if message["owner"] else None
        owner = (user.uid, user.gid) if user else None
        with open(stream, "rb", buffering=0) as source, tarfile.open(fileobj=source, mode="r|") as tar:
            target = message["target"]
            if message["directory"] or os.path.isdir(target):
                os.makedirs(target, exist_ok=True)
                without = _put_all(tar, target, "", owner, message["mode"])
            else:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                folder, name = os.path.split(target)
                without = _put_all(tar, folder, name, owner, message["mode"])
        report.send({"without": without[:TOLD]})

    _do(put, report)


def _do(work: Callable[[], None], report: Channel) -> NoReturn:
    # Names of users would be looked up by the C library, with settings and code from inside of the service.
    tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        work()
    except BaseException as error:
        if report.fileno() >= 0:
            report.send({"error": _words(error)})
    finally:
        os._exit(0)


def _changed(directory: str, prefix: str) -> Iterator[tuple[str, str]]:
    """What an upper directory has, by the names that a layer has for it."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        name = f"{prefix}{entry.name}"
        if name in MADE_BY_US:
            continue
        status = entry.stat(follow_symlinks=False)
        if _is_whiteout(status, entry.path):
            yield f"{prefix}{WHITEOUT}{entry.name}", entry.path
            continue
        yield name, entry.path
        if stat.S_ISDIR(status.st_mode):
            if _attribute(entry.path, OPAQUE_MARK) == b"y":
                yield f"{name}/{OPAQUE}", entry.path
            yield from _changed(entry.path, f"{name}/")


def _is_whiteout(status: os.stat_result, path: str) -> bool:
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    return stat.S_ISREG(status.st_mode) and status.st_size == 0 and _attribute(path, WHITEOUT_MARK) is not None


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def _put_all(
    tar: tarfile.TarFile, folder: str, only: str, owner: tuple[int, int] | None, mode: int | None
) -> list[str]:
    """Put every entry below `folder`; where `only` is a name, the one entry gets it. Gives those without all rights."""
    without = []
    for entry in tar:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts or not (parts or entry.isdir()):
            raise OSError(f"{entry.name}: a path that leads out")
        path = os.path.join(folder, only or "/".join(parts))
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        new = _make(tar.extractfile(entry) if entry.isreg() else None, entry, path, folder)
        if new:
            _give(path, entry, owner or (entry.uid, entry.gid), mode)
            if entry.isreg() and not give(path, entry):
                without.append(path)
    return without


def _make(content: IO[bytes] | None, entry: tarfile.TarInfo, path: str, folder: str) -> bool:
    """Make what an entry says; whether it is new: a directory may be there already."""
    if entry.isdir() and os.path.isdir(path):
        return False
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    if entry.isdir():
        os.mkdir(path)
    elif entry.issym():
        os.symlink(entry.linkname, path)
    elif entry.islnk():
        os.link(os.path.join(folder, entry.linkname), path)
        return False
    elif content is not None:
        with open(path, "xb") as file:
            shutil.copyfileobj(content, file)
    else:
        return False
    return True


def _give(path: str, entry: tarfile.TarInfo, owner: tuple[int, int], mode: int | None) -> None:
    # Where there is one user id only, everything is its.
    with suppress(OSError):
        os.lchown(path, *owner)
    if not entry.issym():
        os.chmod(path, entry.mode if mode is None else mode)
        os.utime(path, (entry.mtime, entry.mtime))


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
