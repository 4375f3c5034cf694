"""Unpacking one layer into a directory, as overlayfs wants to see it: this is a process of its own.

It runs as `python -I -S`, where need be as root of a user namespace, on nothing but the standard library. The layer
comes from standard input; one line of JSON on standard output tells how it went. `remove` is its other work, because
nobody else may remove what the owners of such a namespace own.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.stream import Limits, Stream
from pytest_enclave.images.tar import BLOCKS, CHARACTERS, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Entry, TarReader
from pytest_enclave.images.tree import OPEN_DIRECTORY, ThroughLink, Tree, remove

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
RESERVED = b".wh..wh."

OPAQUE_MARK = b"user.overlay.opaque"


class Unpacking:
    """Entries of a layer, put into `tree`. With `owners`, files get the owners that the layer says."""

    def __init__(self, tree: Tree, owners: bool, limits: Limits) -> None:
        self._tree = tree
        self._owners = owners
        self._limits = limits
        self._directories: dict[tuple[bytes, ...], Entry] = {}
        self._entries = 0

    def unpack(self, archive: TarReader) -> None:
        """Put everything there. Raises ImageFault, naming the entry that cannot be."""
        for entry in archive:
            self._entries += 1
            if self._entries > self._limits.entries:
                raise ImageFault(f"it has more than {self._limits.entries} entries, which is the limit here")
            try:
                self._put(entry, archive)
            except ThroughLink as link:
                raise ImageFault(
                    f'entry {entry.told}: its path leads through "{link}", which is no directory'
                ) from None
            except OSError as error:
                raise ImageFault(f"entry {entry.told}: {explained(error)}", _remedy(error)) from None
        for path, entry in reversed(self._directories.items()):
            self._finish_directory(path, entry)

    def _put(self, entry: Entry, archive: TarReader) -> None:
        path = components(entry.name, entry)
        if not path:
            if entry.kind != DIRECTORY:
                raise ImageFault(f"entry {entry.told}: it would take the place of the root directory")
            self._directories[path] = entry
        elif path[-1].startswith(WHITEOUT):
            self._white_out(path, entry)
        elif entry.kind == DIRECTORY:
            self._make_directory(path)
            self._directories[path] = entry
        elif entry.kind not in (CHARACTERS, BLOCKS):
            # Devices would be of no use: services see layers without devices.
            self._make(path, entry, archive)

    def _make(self, path: tuple[bytes, ...], entry: Entry, archive: TarReader) -> None:
        try:
            self._make_new(path, entry, archive)
        except FileExistsError:
            self._tree.clear(path)
            self._make_new(path, entry, archive)

    def _make_new(self, path: tuple[bytes, ...], entry: Entry, archive: TarReader) -> None:
        if entry.kind == HARD_LINK:
            self._link(path, entry)
            return
        parent, name = self._tree.parent(path), path[-1]
        if entry.kind == FILE:
            file = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            try:
                for piece in archive.data():
                    write_all(file, piece)
                self._finish(file, entry)
            finally:
                os.close(file)
            return
        if entry.kind == SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
            os.chmod(name, entry.mode, dir_fd=parent)
        self._give(entry, name, parent)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _link(self, path: tuple[bytes, ...], entry: Entry) -> None:
        target = components(entry.link, entry)
        if not target or target == path:
            raise ImageFault(f"entry {entry.told}: a hard link to itself or to the root directory")
        try:
            source = os.dup(self._tree.parent(target, make=False))
        except (FileNotFoundError, ThroughLink):
            raise ImageFault(f"entry {entry.told}: a hard link to what the layer does not have") from None
        try:
            if stat.S_ISDIR(os.stat(target[-1], dir_fd=source, follow_symlinks=False).st_mode):
                raise ImageFault(f"entry {entry.told}: a hard link to a directory")
            parent = self._tree.parent(path)
            os.link(target[-1], path[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            self._finish_link(path[-1], entry, parent)
        except FileNotFoundError:
            raise ImageFault(f"entry {entry.told}: a hard link to what the layer does not have") from None
        finally:
            os.close(source)

    def _finish_link(self, name: bytes, entry: Entry, parent: int) -> None:
        """What the entry of the link says of the file counts, as for Docker. What is so already stays untouched.

        A change of the owner would take capabilities away.
        """
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISREG(there.st_mode):
            return
        if (there.st_uid, there.st_gid) != (entry.uid, entry.gid):
            self._give(entry, name, parent)
        os.chmod(name, entry.mode, dir_fd=parent)

    def _make_directory(self, path: tuple[bytes, ...], over_whiteout: bool = False) -> None:
        parent = self._tree.parent(path)
        try:
            os.mkdir(path[-1], 0o755, dir_fd=parent)
        except FileExistsError:
            there = os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                return
            self._tree.clear(path)
            self._make_directory(path, is_whiteout(there))
        if over_whiteout:
            # What the layers below have there is gone, and the directory that takes its place must not show it again.
            self._hide_below(path)

    def _white_out(self, path: tuple[bytes, ...], entry: Entry) -> None:
        if path[-1] == OPAQUE:
            if path[:-1]:
                self._make_directory(path[:-1])
            self._hide_below(path[:-1])
            return
        hidden = path[-1][len(WHITEOUT) :]
        if path[-1].startswith(RESERVED):
            return
        if hidden in (b"", b".", b".."):
            raise ImageFault(f"entry {entry.told}: it removes no file that there could be")
        path = (*path[:-1], hidden)
        parent = self._tree.parent(path)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # Only layers below are meant. A file of this layer hides what they have; a directory would show it.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                self._hide_below(path)

    def _hide_below(self, path: tuple[bytes, ...]) -> None:
        directory = self._tree.directory(path)
        try:
            os.setxattr(directory, OPAQUE_MARK, b"y")
        finally:
            os.close(directory)

    def _finish(self, file: int, entry: Entry) -> None:
        """Owner, mode, attributes, time: in this order, because each of them is undone by the one before."""
        self._give(entry, file)
        os.fchmod(file, entry.mode)
        for key, value in entry.xattrs.items():
            if not key.startswith((b"user.overlay.", b"trusted.")):
                try:
                    os.setxattr(file, key, value)
                except OSError:
                    # Not every file system and not every user can have them; images work without.
                    continue
        os.utime(file, ns=(entry.mtime, entry.mtime))

    def _give(self, entry: Entry, file: int | bytes, parent: int | None = None) -> None:
        if not self._owners:
            return
        try:
            os.chown(file, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=isinstance(file, int))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ImageFault(
                f"entry {entry.told}: its owner {entry.uid}:{entry.gid} is none that this user can give files to",
                "a longer range for this user in /etc/subuid and /etc/subgid",
            ) from None

    def _finish_directory(self, path: tuple[bytes, ...], entry: Entry) -> None:
        try:
            directory = self._tree.directory(path)
        except (ThroughLink, FileNotFoundError):
            # A later entry took its place.
            return
        try:
            self._finish(directory, entry)
        except OSError as error:
            raise ImageFault(f"entry {entry.told}: {explained(error)}", _remedy(error)) from None
        finally:
            os.close(directory)


def components(name: bytes, entry: Entry) -> tuple[bytes, ...]:
    """The path below the layer's root that a name means. Raises ImageFault for one that leads out of it."""
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise ImageFault(f'entry {entry.told}: ".." in a path')
    return parts


def is_whiteout(there: os.stat_result) -> bool:
    """Whether a file is what overlayfs takes for a removed one."""
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def write_all(file: int, data: bytes) -> None:
    """Write everything. Raises OSError."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])


def explained(error: OSError) -> str:
    """An error of the system in words for users."""
    return (error.strerror or str(error)).lower()


def _remedy(error: OSError) -> str:
    if error.errno == errno.EOPNOTSUPP:
        return "keep the images on a file system with extended attributes: set XDG_CACHE_HOME"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on the disk, or set XDG_CACHE_HOME to a larger one"
    return ""


def unpack(into: str, length: int | None, digest: str, owners: bool, limits: Limits, parent: int) -> dict[str, object]:
    """Unpack what comes from standard input into a new directory; what to tell about it. Raises ImageFault."""
    os.mkdir(into, 0o755)
    os.chmod(into, 0o755)
    stream = Stream(0, length, limits, parent)
    with Tree(into) as tree:
        Unpacking(tree, owners, limits).unpack(TarReader(stream))
    found = stream.digest()
    if found != digest:
        raise ImageFault(f"its content is not what the image says: {found[:19]}… instead of {digest[:19]}…")
    return {"size": stream.size}


def take_away(path: str) -> dict[str, object]:
    """Remove what is at `path`, if anything is."""
    folder, _, name = path.rpartition("/")
    parent = os.open(folder, OPEN_DIRECTORY)
    try:
        remove(parent, os.fsencode(name))
    except FileNotFoundError:
        pass
    finally:
        os.close(parent)
    return {}


def main(arguments: list[str]) -> None:
    """The process: one argument, a JSON object that tells what to do."""
    work = json.loads(arguments[0])
    try:
        remove_it = work.pop("do") == "remove"
        answer = take_away(**work) if remove_it else unpack(limits=Limits(*work.pop("limits")), **work)
    except ImageFault as fault:
        answer = {"meaning": fault.meaning, "remedy": fault.remedy}
    except OSError as error:
        answer = {"meaning": f"{error.filename or 'the layer'}: {explained(error)}", "remedy": _remedy(error)}
    sys.stdout.write(json.dumps(answer))
