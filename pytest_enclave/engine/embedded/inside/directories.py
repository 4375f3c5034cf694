"""Persistent directories: each belongs to the enclave, under its key, and services get a mount of it.

What is written to one before a freeze becomes a layer that nobody writes to, and the directory goes on as an overlay of
its layers: here, and in each fork with an upper layer of its own.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress

from pytest_enclave.linux import mounts, syscalls

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Directories:
    """The persistent directories of an enclave. `path` is where they are kept, in init's mount namespace."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._layers: dict[str, list[str]] = {}
        self._places: dict[str, str] = {}
        self._uppers: dict[str, str] = {}

    def place(self, key: str) -> str:
        """Where the directory is, made if it is not there yet. Raises OSError."""
        if key not in self._places:
            layers = self._layers.setdefault(key, [])
            base = f"{self._path}/{key}/{len(layers)}"
            self._uppers[key] = f"{base}/upper"
            os.makedirs(self._uppers[key])
            if layers:
                _be_owned_as(os.stat(layers[-1]), self._uppers[key])
                for name in ("work", "mounted"):
                    os.mkdir(f"{base}/{name}")
                mounts.overlay(layers, self._uppers[key], f"{base}/work", f"{base}/mounted")
            self._places[key] = f"{base}/mounted" if layers else self._uppers[key]
        return self._places[key]

    def freeze(self) -> dict[str, list[str]]:
        """The layers of each as it is now, by key; no service may be alive. From now on all write elsewhere."""
        for key, place in self._places.items():
            if self._layers[key]:
                syscalls.umount(place, syscalls.MNT_DETACH)
            self._layers[key].append(self._uppers[key])
        self._places = {}
        return {key: list(layers) for key, layers in self._layers.items()}

    def inherit(self, layers: dict[str, list[str]]) -> None:
        """Begin, in a fork, with the directories as they were when its origin was frozen."""
        self._layers = layers


def fill_from_image(root: int, path: str, place: int) -> None:
    """Copy what an image has at a path into a persistent directory, if that is empty; to be called in its root.

    Devices, pipes and sockets are left out. Raises OSError.
    """
    try:
        source = syscalls.open_below(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    # The directory itself is open to services, which could lock it; what is above it is not.
    lock = os.open("..", _DIRECTORY, dir_fd=place)
    target = os.open(".", _DIRECTORY, dir_fd=place)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.listdir(target):
            _fill(source, target)
    finally:
        for descriptor in (source, target, lock):
            os.close(descriptor)


def _fill(source: int, target: int) -> None:
    """Copy all below a directory, and its own attributes. Another service may write to the target meanwhile: no link is
    followed, and what is there stays."""
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        # What we may not read, the service could not read in the image either.
        with suppress(FileExistsError, PermissionError):
            if stat.S_ISDIR(found.st_mode):
                _fill_directory(name, source, target)
            elif stat.S_ISREG(found.st_mode):
                _fill_file(name, source, target)
            elif stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
                with suppress(OSError):
                    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    _be_owned_as(os.stat(source), target)


def _fill_directory(name: str, source: int, target: int) -> None:
    inner = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        os.mkdir(name, dir_fd=target)
        copy = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            _fill(inner, copy)
        finally:
            os.close(copy)
    finally:
        os.close(inner)


def _fill_file(name: str, source: int, target: int) -> None:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while os.sendfile(copy, file, None, 1 << 24):
                pass
            _be_owned_as(os.fstat(file), copy)
        finally:
            os.close(copy)
    finally:
        os.close(file)


def _be_owned_as(model: os.stat_result, target: int | str) -> None:
    """Give a file the owner, mode and times of another one; the owner only where it is among the ids that we have."""
    with suppress(OSError):
        os.chown(target, model.st_uid, model.st_gid)
    os.chmod(target, stat.S_IMODE(model.st_mode))
    os.utime(target, ns=(model.st_atime_ns, model.st_mtime_ns))
