"""What of an enclave is outside of its namespaces, and has to be removed when it has ended.

Its directory, where it has its socket, is in its home where it has one, else in that of all enclaves of the user. As
long as any process of the enclave lives, the directory is locked.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pytest_enclave.linux import identity
from pytest_enclave.linux.cgroups import Cgroups

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.embedded.inside.trees import remove_tree
remove_tree(sys.argv[2])
"""

NEW = 10.0
"""Seconds in which an enclave has come to listen, or never will."""

RACE = 5.0
"""Seconds after which it is no coincidence that others remove what is being made."""

RECORD = "remains"
"""In an enclave's directory: where else there is something of it."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Leftovers:
    """An enclave's directory on the machine (its socket), its control groups, and its files where they are on disk.

    `files` are directories: those of the enclaves that it is a fork of, and its own. Every enclave holds a lock on each
    of them as long as it lives; so the last one that ends removes it.
    """

    def __init__(self, enclave: str, directory: str, files: Sequence[str], home: str) -> None:
        self._enclave = enclave
        self._directory = directory
        self._files = files
        self._home = home
        self._cgroups = Cgroups.find()

    @classmethod
    def recorded(cls, enclave: str, directory: str, files: Sequence[str], home: str) -> Leftovers:
        """As the enclave's supervisor has recorded them; where it has not, as they would be here."""
        found = cls(enclave, directory, files, home)
        with suppress(OSError, ValueError), open(f"{directory}/{RECORD}") as file:
            told = json.load(file)
            found._files = told["files"]
            found._cgroups = Cgroups(**told["cgroups"]) if told["cgroups"] else None
        return found

    @property
    def files(self) -> Sequence[str]:
        """Where its files are, if they are on disk."""
        return self._files

    def record(self) -> None:
        """Write down what there is, for whoever else may have to remove it. Raises OSError."""
        with open(f"{self._directory}/{RECORD}", "w") as file:
            json.dump({"files": list(self._files), "cgroups": self.cgroups}, file)

    @property
    def cgroups(self) -> dict[str, Any] | None:
        """Where control groups can be made, None if nowhere."""
        found = self._cgroups
        return None if found is None else {"parents": found.parents, "unified": found.unified}

    def remove(self) -> list[dict[str, str]]:
        """Remove all of it; what could not be removed, each as kind, name, reason, command."""
        return [*self._remove_cgroups(), *self.remove_files(), *self._remove_directory()]

    def _remove_cgroups(self) -> list[dict[str, str]]:
        if self._cgroups is None:
            return []
        try:
            self._cgroups.remove(self._enclave)
        except OSError as error:
            paths = [f"{parent}/{self._enclave}" for parent in dict.fromkeys(self._cgroups.parents.values())]
            command = f"find {' '.join(paths)} -depth -type d -exec rmdir {{}} +"
            return [{"kind": "cgroup", "name": self._enclave, "reason": str(error), "command": command}]
        return []

    def remove_files(self) -> list[dict[str, str]]:
        """Whoever was killed with all of its enclave may have left some too."""
        parents = dict.fromkeys(os.path.dirname(path) for path in self._files)
        leaks: list[dict[str, str]] = []
        for parent in parents:
            with suppress(FileNotFoundError), locked(parent):
                for name in os.listdir(parent):
                    leaks += _remove_unused(f"{parent}/{name}")
            # It goes with the last one.
            with suppress(OSError):
                os.rmdir(parent)
        return leaks

    def _remove_directory(self) -> list[dict[str, str]]:
        problems: list[str] = []
        shutil.rmtree(self._directory, onerror=lambda _, path, info: problems.append(f"{path}: {info[1]}"))
        if os.path.lexists(self._directory):
            command = f"rm -rf {self._directory}"
            reason = "; ".join(problems[:3])
            return [{"kind": "directory", "name": self._directory, "reason": reason, "command": command}]
        if self._home:
            return []
        parent = os.path.dirname(self._directory)
        with suppress(OSError):
            for name in os.listdir(parent) if is_ours_alone(parent) else ():
                self._remove_abandoned(parent, name)
            # The directory of all enclaves goes with the last one.
            os.rmdir(parent)
        return []

    def _remove_abandoned(self, parent: str, name: str) -> None:
        """Another enclave that was killed together with its supervisor and its clients."""
        if is_abandoned(f"{parent}/{name}"):
            if self._cgroups is not None:
                self._cgroups.remove(name)
            shutil.rmtree(f"{parent}/{name}", ignore_errors=True)


def make_directory(path: str, home: str) -> int:
    """Make an enclave's directory, and lock it for as long as the descriptor that is returned is open somewhere.

    Without a home it is in that of all enclaves, which must be ours alone, whoever made it. Raises OSError.
    """
    parent = os.path.dirname(path)
    until = time.monotonic() + RACE
    while True:
        try:
            if not home:
                _make(parent)
                if not is_ours_alone(parent):
                    raise OSError(f"{parent} is not a directory of ours alone: remove it")
            os.mkdir(path, mode=0o700)
            break
        except FileNotFoundError:
            if home:
                raise OSError(f"{home}, the enclave's home, is not there any more") from None
            # The last enclave of another session has just removed it.
            if time.monotonic() > until:
                raise OSError(f"{path} cannot be made: {parent} is removed again and again") from None
    descriptor = os.open(path, _DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def is_in_use(directory: str) -> bool:
    """Whether a process of the enclave that has this directory lives, or is just about to."""
    try:
        descriptor = os.open(directory, _DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It is locked as soon as it has been made.
        return not os.listdir(descriptor) and time.time() - os.fstat(descriptor).st_mtime < 1
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def remove_home(home: str) -> None:
    """Remove an enclave's home after all else, unless anybody uses it: then it is theirs to remove."""
    try:
        lease = os.open(f"{home}/lease", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with suppress(OSError):
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under that name nobody puts anything into it meanwhile.
            going = os.path.join(os.path.dirname(home), f".{os.path.basename(home)}")
            with suppress(OSError):
                os.rename(home, going)
            for each in (home, going):
                shutil.rmtree(each, ignore_errors=True)
    finally:
        os.close(lease)


def is_ours_alone(directory: str) -> bool:
    """Whether it is a directory, no link to one, that nobody but this user can look or write into. Raises OSError."""
    found = os.lstat(directory)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def is_abandoned(directory: str) -> bool:
    """Whether an enclave's directory is not quite new, and nobody listens there any more. Raises OSError."""
    if time.time() - os.stat(directory).st_mtime < NEW:
        return False
    # The path of a socket may have 107 bytes only.
    place = os.open(directory, _DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(f"/proc/self/fd/{place}/socket")
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        finally:
            os.close(place)
    return False


def use_files(files: Sequence[str]) -> None:
    """Make the last directory if it is not there, and keep all from being removed as long as this process lives.

    To be called by init, whose end is that of the enclave. Raises OSError.
    """
    *others, own = files
    parent = os.path.dirname(own)
    while True:
        with suppress(FileNotFoundError):
            _make(parent)
        with suppress(FileNotFoundError), locked(parent):
            os.mkdir(own, mode=0o700)
            _hold(own)
            break
    for path in others:
        with suppress(FileNotFoundError):
            _hold(path)


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Be the only one that makes or removes files of enclaves there. Raises OSError: FileNotFoundError if it goes."""
    descriptor = os.open(directory, _DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.path.samestat(os.fstat(descriptor), os.stat(directory)):
            # It was removed while we waited, and another one is there.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        yield
    finally:
        os.close(descriptor)


def _make(directory: str) -> None:
    """Make a directory, and those above it, where they are not there. Raises FileNotFoundError if one is removed.

    `os.makedirs` takes one that goes while it looks for an error of another kind.
    """
    try:
        os.mkdir(directory, mode=0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make(os.path.dirname(directory))
        os.mkdir(directory, mode=0o700)


def _hold(path: str) -> None:
    # Never closed: the lock is as old as the enclave gets.
    fcntl.flock(os.open(path, _DIRECTORY), fcntl.LOCK_SH)


def _remove_unused(path: str) -> list[dict[str, str]]:
    try:
        descriptor = os.open(path, _DIRECTORY)
    except OSError:
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_mapped(path)
    except BlockingIOError:
        return []
    except OSError as error:
        command = f"unshare --map-auto --map-root-user rm -rf {path}"
        return [{"kind": "directory", "name": path, "reason": str(error), "command": command}]
    finally:
        os.close(descriptor)
    return []


def _remove_mapped(path: str) -> None:
    """As whoever services could be: their files have owners that are not ours. Raises OSError."""
    import subprocess

    package = __file__.removesuffix("/pytest_enclave/engine/embedded/inside/leftovers.py")
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, package, path]
    done = identity.run_mapped(identity.own_map(), command, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.PIPE)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise OSError(said[0] if said else f"removing ended with {done.returncode}")
