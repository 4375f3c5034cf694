"""Packages and files become one tar of a root file system. Nothing is unpacked, so no root is needed."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

import bytecode
from definitions import PATH, Image

MERGED = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib32": "usr/lib32",
    "lib64": "usr/lib64",
    "libx32": "usr/libx32",
    "var/run": "run",
}
"""Paths that are links in an installed Debian, but which packages may still ship as directories."""

UNREAD = (
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/lintian/*",
)
"""Files that no test reads."""


def write_root(stream: IO[bytes], image: Image, debs: Sequence[Path], busybox: Path) -> None:
    """Write the root of `image` to `stream` as a tar: our files, then the packages, then busybox.

    Raises subprocess.CalledProcessError if a package file is broken.
    """
    with Root(stream) as root:
        for path, target in MERGED.items():
            root.link(path, str(PurePosixPath("/") / target))
        for path in ("dev", "proc", "sys", "run", "etc"):
            root.directory(path)
        root.directory("tmp", mode=0o1777)
        root.directory("root", mode=0o700)
        _write_accounts(root, image)
        for path, file in image.files():
            root.file(path, file.read_bytes(), mode=0o755 if file.stat().st_mode & 0o100 else 0o644)
        for path, target in image.links.items():
            root.link(path, target)
        if image.user:
            for path in image.owned:
                root.directory(path, owner=image.user.number)
        for deb in (*debs, busybox):
            root.package(deb)
        if image.programs:
            for path in root.matching(image.programs):
                root.link(f"usr/local/bin/{PurePosixPath(path).name}", f"/{path}")
        for path in _commands(busybox):
            root.link(path, "/usr/bin/busybox")


def _write_accounts(root: Root, image: Image) -> None:
    shell = "/bin/sh"
    passwd = "".join(f"{u.name}:x:{u.number}:{u.number}:{u.name}:{u.home}:{shell}\n" for u in image.accounts)
    group = "".join(f"{user.name}:x:{user.number}:\n" for user in image.accounts)
    root.file("etc/passwd", passwd.encode())
    root.file("etc/group", group.encode())
    root.file("etc/profile", f"export PATH={PATH}\n".encode())
    # Without this file the C library asks the name server before it reads /etc/hosts.
    root.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")


def _commands(busybox: Path) -> list[str]:
    """Return the paths of all commands that the busybox of this package can be."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "--extract", busybox, folder], check=True)
        [program] = Path(folder).glob("**/bin/busybox")
        listing = subprocess.run([program, "--list-full"], check=True, stdout=subprocess.PIPE, text=True)
    return listing.stdout.split()


class Root:
    """A root file system under construction. The first who writes a path wins; later ones are ignored."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Write to `stream`."""
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        self._written: set[str] = set()

    def __enter__(self) -> Root:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Finish the tar."""
        self._tar.close()

    def directory(self, path: str, *, mode: int = 0o755, owner: int = 0) -> None:
        """Add a directory."""
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        entry.uid = entry.gid = owner
        self._add(entry)

    def file(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Add a file of root's."""
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), mode
        self._add(entry, io.BytesIO(content))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._add(entry)

    def package(self, deb: Path) -> None:
        """Add the files of a Debian package."""
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpacker:
            assert unpacker.stdout is not None
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as content:
                for entry in content:
                    self._packaged(entry, content.extractfile(entry) if entry.isreg() else None)
            unpacker.stdout.read()
        if unpacker.returncode:
            raise subprocess.CalledProcessError(unpacker.returncode, unpacker.args)

    def matching(self, pattern: str) -> Iterator[str]:
        """Yield the paths so far that match `pattern`, in order."""
        yield from sorted(path for path in self._written if fnmatchcase(path, pattern))

    def _packaged(self, entry: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        path = _merged(entry.name)
        if content is None or not bytecode.is_module(path):
            self._add(entry, content)
            return
        source = content.read()
        self._add(entry, io.BytesIO(source))
        if module := bytecode.compiled(path, source):
            self.file(*module)

    def _add(self, entry: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        path = _merged(entry.name)
        if not path or path in self._written or any(fnmatchcase(path, pattern) for pattern in UNREAD):
            return
        parent = str(PurePosixPath(path).parent)
        if parent != ".":
            self.directory(parent)
        self._written.add(path)
        entry.name = path
        if entry.islnk():
            entry.linkname = _merged(entry.linkname)
        self._tar.addfile(entry, content)


def _merged(path: str) -> str:
    """Return where a path of a package ends up, relative to the root."""
    path = path.removeprefix("./").strip("/")
    for directory, target in MERGED.items():
        if path.startswith(f"{directory}/"):
            return f"{target}{path[len(directory) :]}"
    return "" if path == "." else path
