"""The files artifacts of one enclave, as directories named by a digest of their content.

New content goes into a new directory, so that services which mount the old one keep seeing it until they are replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_enclave.errors import ExecutionError
from pytest_enclave.plan.service import name_of_merged
from pytest_enclave.store.journal import Journal

if TYPE_CHECKING:
    from tarfile import TarInfo

    from pytest_enclave.plan.addresses import NewAddresses

LONGEST_PATH = 4096
"""Bytes with the null at its end: beyond that the kernel follows no path, nor tells what is there."""

MOST_LINKS = 40
"""On the way to one file, as the kernel has it."""


class ArtifactStore:
    """Files artifacts by name. `root` is a directory of the enclave's own; the index is in its journal."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self._root = root
        self._journal = journal
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """The names of all artifacts."""
        return tuple(self._journal.artifacts)

    def missing(self) -> tuple[str, ...]:
        """The names of those whose files are not there any more: the enclave cannot be used then."""
        return tuple(name for name, place in self.directories().items() if not place.is_dir())

    def directory(self, name: str) -> Path:
        """The directory with the artifact's files. Raises KeyError for an unknown name."""
        return self._place(name, self._journal.artifacts[name])

    def directories(self) -> Mapping[str, Path]:
        """Every artifact's directory, by name."""
        return {name: self._place(name, digest) for name, digest in self._journal.artifacts.items()}

    def merged(self, groups: Iterable[Sequence[str]]) -> Mapping[str, Path]:
        """Directories with the files of several artifacts each, by `name_of_merged`; of equal paths the last one wins.

        Raises ExecutionError.
        """
        return {name_of_merged(names): self._merge(names) for names in groups if len(names) > 1}

    def digests(self) -> Mapping[str, str]:
        """The digest of every artifact's content as it is now, by name."""
        return self._journal.artifacts

    def adopt(self, origin: ArtifactStore, digests: Mapping[str, str], addresses: NewAddresses) -> None:
        """Copy artifacts of another store, each with the content of that digest, which it once had there.

        Addresses in its text files are replaced. Raises ExecutionError where something cannot be copied.
        """
        # Imported here as below: where nothing has changed, nothing is stored.
        from pytest_enclave.plan.addresses import LONGEST_TEXT

        def copy(source: str, target: str) -> None:
            shutil.copy2(source, target)
            if addresses and os.stat(target).st_size <= LONGEST_TEXT:
                content = Path(target).read_bytes()
                if (moved := addresses.content(content)) != content:
                    Path(target).write_bytes(moved)

        for name, digest in digests.items():
            place = origin._place(name, digest)
            try:
                shutil.copytree(place, self._place(name, digest), symlinks=True, copy_function=copy)
            except OSError as error:
                raise ExecutionError(f"files artifact `{name}` cannot be copied: {error.strerror or error}") from None
        self._journal.put_artifacts(digests)

    def _place(self, name: str, digest: str) -> Path:
        """Names are any text: what cannot be in a file's name is left out, and a digest of it all tells them apart."""
        readable = re.sub(r"[^a-zA-Z0-9]+", "-", name)[:40]
        return self._root / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{digest[:16]}"

    def store_path(self, name: str, source: Path) -> str:
        """Copy a file, under its own name, or a directory's content; symbolic links stay links."""

        def fill(directory: Path) -> None:
            if source.is_dir():
                shutil.copytree(source, directory, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(source, directory / source.name)

        return self._store(name, fill)

    def store_files(self, name: str, files: Mapping[str, bytes]) -> str:
        """Write files given by relative path and content."""

        def fill(directory: Path) -> None:
            for path, content in files.items():
                target = directory / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

        return self._store(name, fill)

    def store_tar(self, name: str, stream: Iterator[bytes], *, content_only: bool) -> str:
        """Unpack a tar stream; entries that would leave the artifact, and devices, are left out.

        Raises ExecutionError where the stream breaks off.
        """

        def fill(directory: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self._root, prefix=".tar-") as scratch:
                _unpack(stream, Path(scratch))
                tops = list(Path(scratch).iterdir())
                inner = tops[0] if content_only and len(tops) == 1 and tops[0].is_dir() else Path(scratch)
                for entry in inner.iterdir():
                    shutil.move(entry, directory / entry.name)

        return self._store(name, fill)

    def _merge(self, names: Sequence[str]) -> Path:
        name = name_of_merged(names)
        with self._lock:
            digests = self._journal.artifacts
            places = [self._place(each, digests[each]) for each in names]
            target = self._place(name, hashlib.sha256(" ".join(place.name for place in places).encode()).hexdigest())
            if target.exists():
                return target
            scratch = Path(tempfile.mkdtemp(dir=self._root, prefix=".new-"))
            try:
                for place in places:
                    _lay_over(place, scratch)
                _make_readable(scratch)
                scratch.rename(target)
            except OSError as error:
                listed = ", ".join(f"`{each}`" for each in names)
                reason = error.strerror or error
                raise ExecutionError(f"files artifacts {listed} cannot be put together: {reason}") from None
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            return target

    def _store(self, name: str, fill: Callable[[Path], None]) -> str:
        from pytest_enclave.package.digest import digest_of

        self._root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=self._root, prefix=".new-"))
        try:
            fill(scratch)
            _make_readable(scratch)
            digest, _ = digest_of(scratch, name)
            with self._lock:
                target = self._place(name, digest)
                if not target.exists():
                    scratch.rename(target)
                self._journal.put_artifacts({name: digest})
        except OSError as error:
            raise ExecutionError(f"files artifact `{name}` cannot be stored: {error.strerror or error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return digest


def _lay_over(source: Path, target: Path) -> None:
    """Copy a directory's content over that of another one; only directories are merged, all else is replaced."""
    for entry in source.iterdir():
        place = target / entry.name
        if entry.is_dir() and not entry.is_symlink():
            if place.is_symlink() or not place.is_dir():
                place.unlink(missing_ok=True)
                place.mkdir()
            _lay_over(entry, place)
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        shutil.copy2(entry, place, follow_symlinks=False)


def _unpack(stream: Iterator[bytes], directory: Path) -> None:
    """Unpack what stays inside. No link is ever followed; those that lead out in the end are taken away."""
    import tarfile

    # Pythons without the filters of `tarfile` do not take the argument, later ones warn without it.
    trust: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
    top = os.path.realpath(directory)
    with tempfile.TemporaryFile(dir=directory.parent) as spooled:
        for chunk in stream:
            spooled.write(chunk)
        spooled.seek(0)
        try:
            with tarfile.open(fileobj=spooled) as archive:
                for member in archive:
                    if _make_safe(member, top):
                        archive.extract(member, top, set_attrs=True, numeric_owner=True, **trust)
        except tarfile.ReadError:
            raise ExecutionError("the files break off: what was sending them has ended") from None
    for place, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = os.path.join(place, name)
            if os.path.islink(path) and not _stays_inside(os.path.relpath(path, top), top):
                os.unlink(path)


def _make_safe(member: TarInfo, top: str) -> bool:
    """Whether the member can be unpacked: a file, directory or link with no link on its way. It is the user's own then.

    `tarfile.data_filter` would look where paths lead, and is misled by those that get too long on the way.
    """
    member.name = member.name.strip("/")
    place = _place(member.name, top)
    if place is None or not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return False
    if (member.issym() or member.islnk()) and os.path.isabs(member.linkname):
        return False
    if member.islnk():
        target = _place(member.linkname, top)
        # A link to a link would lead elsewhere; and of what is not there `tarfile` would unpack the member as it is.
        if target is None or os.path.islink(target) or not os.path.isfile(target):
            return False
    if os.path.islink(place):
        # What comes later replaces it, and is not written to where it leads.
        os.unlink(place)
    member.uid, member.gid = os.geteuid(), os.getegid()
    if member.isdir():
        member.mode = 0o755
    elif not member.issym():
        executable = 0o755 if member.mode & 0o100 else 0o644
        member.mode = (member.mode & executable) | 0o600
    return True


def _place(name: str, top: str) -> str | None:
    """Where a member is; None if that is outside, is too long a path, or has a link on the way."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    path = os.path.join(top, *parts)
    if ".." in parts or len(os.fsencode(path)) >= LONGEST_PATH:
        return None
    if any(os.path.islink(os.path.join(top, *parts[:count])) for count in range(1, len(parts))):
        return None
    return path


def _stays_inside(path: str, top: str) -> bool:
    """Whether a path below a directory leads to something below it, link by link. One that is too long does not."""
    here: list[str] = []
    waiting = path.split("/")[::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            if not here:
                return False
            here.pop()
        elif part not in ("", "."):
            here.append(part)
            place = os.path.join(top, *here)
            if len(os.fsencode(place)) >= LONGEST_PATH:
                return False
            if os.path.islink(place):
                links += 1
                target = os.readlink(place)
                if links > MOST_LINKS or os.path.isabs(target):
                    return False
                here.pop()
                waiting += target.split("/")[::-1]
    return True


def _make_readable(directory: Path) -> None:
    """Services run under users of their own: whatever is in an artifact, each of them may read it."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            readable = 0o555 if path.is_dir() or mode & 0o100 else 0o444
            os.chmod(path, mode | readable | 0o200)
