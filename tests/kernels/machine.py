"""A machine with another kernel: one of Debian's, emulated, with the files of the Python test image and our package.

It is for what the kernel below these tests may not have. The emulator needs neither root nor any right to virtual
machines, and takes some five seconds to start.
"""

from __future__ import annotations

import io
import json
import lzma
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.images.debian import AptError, Downloads

ROOT = Path(__file__).parents[2]

EMULATOR, PACKAGE = "qemu-system-x86_64", "qemu-system-x86"
KERNEL = "linux-image-cloud-amd64"

MEMORY = "1024"
"""Megabytes that it has; its files are in there."""

PATIENCE = 300.0
"""Seconds that a program may take."""

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for each in {modules}; do insmod /modules/$each.ko || poweroff -f; done
cd /project && echo BEGUN && python3 -B program.py && echo ENDED
poweroff -f
"""


class MachineError(Exception):
    """The emulator or the kernel cannot be had."""


def install() -> None:
    """Install the emulator, if it is missing. Raises MachineError."""
    if platform.machine() != "x86_64":
        raise MachineError("only machines of the kind x86_64 are emulated here")
    if shutil.which(EMULATOR):
        return
    for command in (["update"], ["install", "-y", "--no-install-recommends", PACKAGE]):
        done = subprocess.run(["apt-get", "-qq", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(f"apt-get {' '.join(command)} failed:\n{done.stderr.strip()}")


def run(program: str, modules: Sequence[str], beside: Sequence[str], scratch: Path) -> str:
    """What a Python program prints, as root of the machine, in a directory with `pytest_enclave`.

    Before it the kernel takes in `modules`, each after those that it needs; those `beside` lie in /modules, as files.
    Raises MachineError, also where the program fails.
    """
    saved = _python_image()
    kernel = _kernel(saved.parents[1], [*modules, *beside])
    files = {f"modules/{Path(name).name}": body for name, body in kernel.items() if name.endswith(".ko")}
    for path in sorted((ROOT / "pytest_enclave").rglob("*.py")):
        files[f"project/{path.relative_to(ROOT)}"] = path.read_bytes()
    files["project/program.py"] = program.encode()
    image, memory = scratch / "vmlinuz", scratch / "files"
    image.write_bytes(next(body for name, body in kernel.items() if "/vmlinuz-" in name))
    with memory.open("wb") as stream:
        archive = Archive(stream)
        _copy_image(saved, archive)
        for name, body in files.items():
            archive.file(name, body)
        archive.file("init", INIT.format(modules=" ".join(modules)).encode(), mode=0o755)
        archive.end()
    command = [EMULATOR, "-accel", "tcg", "-smp", "2", "-m", MEMORY, "-nographic", "-no-reboot"]
    command += ["-kernel", str(image), "-initrd", str(memory), "-append", "console=ttyS0 quiet panic=-1"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # Before it has spoken what looks for something to start.
    printed, ended, _ = done.stdout.partition("BEGUN")[2].partition("ENDED")
    if not ended:
        raise MachineError(f"the program failed:\n{done.stdout}{done.stderr}")
    return printed


def _kernel(cache: Path, modules: Sequence[str]) -> dict[str, bytes]:
    """The kernel and those of its modules, by their names in its package. Raises MachineError."""
    try:
        # What it depends on is for machines that install it.
        closure = Downloads(cache / "apt").closure([KERNEL], ["[!l]*", "lib*", KERNEL])
    except AptError as error:
        raise MachineError(str(error)) from None
    [package] = [each for each in closure if each.name.startswith("linux-image-")]
    wanted = {f"{name}.ko" for name in modules}
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        found = {}
        for entry in tar:
            name = entry.name.removesuffix(".xz")
            if "/vmlinuz-" in name or Path(name).name in wanted:
                body = tar.extractfile(entry).read()
                found[name] = lzma.decompress(body) if name != entry.name else body
    if missing := wanted - {Path(name).name for name in found}:
        raise MachineError(f"{package.name} has no {', '.join(sorted(missing))}")
    return found


def _python_image() -> Path:
    """The Python test image, as a file in the cache. Raises MachineError."""
    command = [sys.executable, str(ROOT / "tests" / "images" / "build.py"), "python"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(done.stderr)
    return Path(done.stdout.strip())


def _copy_image(saved: Path, archive: Archive) -> None:
    """The files of an image that was saved."""
    with tarfile.open(saved) as outer:
        [about] = json.load(outer.extractfile("manifest.json"))
        for layer in about["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(outer.extractfile(layer).read())) as tar:
                for entry in tar:
                    archive.copy(entry, tar)


class Archive:
    """What the kernel makes its first file system of: an archive of cpio, of the kind `newc`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._directories: set[str] = set()
        self._entries = 0
        for each in ("dev", "proc", "tmp"):
            self._directory(each)
        # What the first process prints goes there.
        self._add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def file(self, name: str, body: bytes, mode: int = 0o644) -> None:
        """A file, and the directories that it is in."""
        for each in reversed(Path(name).parents[:-1]):
            self._directory(str(each))
        self._add(name, stat.S_IFREG | mode, body)

    def copy(self, entry: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        """What a tar has."""
        name = entry.name.removeprefix("./").strip("/")
        if entry.isdir():
            self._directory(name, entry.mode)
        elif entry.issym():
            self._add(name, stat.S_IFLNK | 0o777, entry.linkname.encode())
        elif entry.isfile() or entry.islnk():
            self._add(name, stat.S_IFREG | entry.mode, tar.extractfile(entry).read())

    def end(self) -> None:
        """There is no more."""
        self._add("TRAILER!!!", 0)

    def _directory(self, name: str, mode: int = 0o755) -> None:
        if name and name not in self._directories:
            self._directories.add(name)
            self._add(name, stat.S_IFDIR | mode)

    def _add(self, name: str, mode: int, body: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._entries += 1
        called = name.encode() + b"\0"
        # Number, mode, user, group, links, time, size, device it is on, device it is, length of the name, checksum.
        fields = (self._entries, mode, 0, 0, 1, 0, len(body), 0, 0, *device, len(called), 0)
        self._write(b"070701" + b"".join(b"%08x" % each for each in fields) + called)
        self._write(body)

    def _write(self, part: bytes) -> None:
        self._stream.write(part + b"\0" * (-len(part) % 4))
