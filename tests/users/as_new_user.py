"""Run commands as a user who was made for this, in a copy of the project, and remove the user. For root.

    python tests/users/as_new_user.py [--with-ids COMMAND] [--without-ids COMMAND]

A COMMAND is a line of shell. The user has 65,536 subordinate ids for the first one, as most people's accounts have,
and only their own id for the second. In the copy there is a virtual environment that the user can read, and in the
user's cache are the test images.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info")
"""What the copy goes without."""

CACHE = "pytest-enclave-dev"
RANGE = 65536
PATIENCE = 10.0
"""Seconds that processes of the user may take to end after the commands."""

INTERPRETERS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
NEEDED = "import ensurepip, sys; sys.exit(sys.version_info < (3, 10))"
PASSED_ON = ("CI", "COLUMNS", "LANG", "LC_ALL", "TERM")
"""Variables that the commands get as they are here; of the others they have what a login gives."""


class UserError(Exception):
    """The user cannot be made, or has left something."""


@dataclass(frozen=True)
class User:
    """An account of this machine."""

    name: str
    number: int
    group: int
    home: Path

    @property
    def project(self) -> Path:
        """Where the user's copy of the project is."""
        return self.home / "project"

    def run(self, *command: str, **options: object) -> int:
        """Run a command as this user; its exit code."""
        environment = {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            **{"HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "SHELL": "/bin/sh"},
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command,
            cwd=self.home,
            env=environment,
            user=self.number,
            group=self.group,
            extra_groups=[],
            check=False,
            **options,  # type: ignore[call-overload]
        )
        return done.returncode

    def processes(self) -> dict[int, str]:
        """The processes that this user runs, also those with one of the user's subordinate ids: number and command.

        One that has ended is none, though whoever is to be told of it has not asked yet.
        """
        mine = {self.number, *_subordinate(self.name)}
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
                command = (folder / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
            if mine & {int(number) for number in status["Uid"].split()} and not status["State"].startswith("Z"):
                found[int(folder.name)] = command or status["Name"]
        return found


@contextmanager
def new_user() -> Iterator[User]:
    """Make a user with subordinate ids, and remove them with all that is theirs.

    Raises UserError, also if processes of the user are left in the end.
    """
    name = f"enclave-test-{os.getpid()}"
    # Only where these files are, useradd gives new users a range.
    for file in ("/etc/subuid", "/etc/subgid"):
        Path(file).touch()
    counts = [f"-K{kind}_COUNT={RANGE}" for kind in ("SUB_UID", "SUB_GID")]
    _run("useradd", "--create-home", "--shell", "/bin/sh", "-KHOME_MODE=0755", *counts, name)
    entry = pwd.getpwnam(name)
    user = User(name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))
    try:
        yield user
    finally:
        left = _end(user)
        for folder in (user.home, *_owned(Path(tempfile.gettempdir()), user)):
            shutil.rmtree(folder)
        _run("userdel", "--force", name)
    _refuse(left)


def _end(user: User) -> dict[int, str]:
    """End the processes that the user still has after a while, and tell which they were."""
    deadline = time.monotonic() + PATIENCE
    while (left := user.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for number in left:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return left


def _refuse(left: dict[int, str]) -> None:
    if left:
        told = (f"{command} ({number})" for number, command in left.items())
        raise UserError(f"processes were left: {', '.join(told)}")


def _owned(folder: Path, user: User) -> list[Path]:
    return [path for path in folder.iterdir() if path.lstat().st_uid == user.number and path.is_dir()]


def settle(user: User) -> None:
    """Give the user a copy of the project, with a virtual environment, and of the test images. Raises UserError."""
    shutil.copytree(ROOT, user.project, ignore=shutil.ignore_patterns(*LEFT_OUT))
    # The index settings that root has are not the user's, so root installs.
    _run("make", "-C", str(user.project), "venv", f"PYTHON={_interpreter(user)}")
    ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", CACHE)
    shutil.copytree(ours, user.home / ".cache" / CACHE, ignore=shutil.ignore_patterns("apt", "roots"))
    _run("chown", "-R", f"{user.number}:{user.group}", str(user.home))


def take_ids(user: User) -> None:
    """Leave the user only with their own id. Raises UserError, also if the user still has processes."""
    _refuse(_end(user))
    ranges = _ranges(user.name)
    for option, file in (("--del-subuids", "/etc/subuid"), ("--del-subgids", "/etc/subgid")):
        for first, count in ranges[file]:
            _run("usermod", option, f"{first}-{first + count - 1}", user.name)


def _interpreter(user: User) -> str:
    """A Python for virtual environments that the user can run: root's own may be below root's home directory."""
    base = str(Path(sys.base_prefix, "bin", "python3"))
    for path in (base, *INTERPRETERS):
        try:
            if user.run(path, "-I", "-c", NEEDED, stderr=subprocess.DEVNULL) == 0:
                return path
        except OSError:
            continue
    raise UserError("there is no Python 3.10 or newer with `venv` that a plain user can run: install python3-venv")


def _subordinate(name: str) -> Iterator[int]:
    for first, count in _ranges(name)["/etc/subuid"]:
        yield from range(first, first + count)


def _ranges(name: str) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for file in ("/etc/subuid", "/etc/subgid"):
        rows = [line.split(":") for line in Path(file).read_text().splitlines()]
        found[file] = [(int(row[1]), int(row[2])) for row in rows if row[0] == name]
    return found


def _install() -> None:
    """Have what gives users their subordinate ids, and Debian's part of Python that makes environments."""
    missing = [package for package, program in (("uidmap", "newuidmap"), ("passwd", "useradd")) if not _has(program)]
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True, check=False).returncode:
        missing.append("python3-venv")
    if not missing:
        return
    if not _has("apt-get"):
        raise UserError(f"missing: {', '.join(missing)} (Debian's names; only with apt-get they are installed here)")
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing)


def _has(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is not None


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed:\n{done.stdout.strip()}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Run commands as a user who is made for this.")
    parser.add_argument("--with-ids", metavar="COMMAND", help="run this while the user has subordinate ids")
    parser.add_argument("--without-ids", metavar="COMMAND", help="then run this, with the user's own id only")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can make users")
    # Leave through every `finally`.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    codes = []
    try:
        _install()
        with new_user() as user:
            settle(user)
            for command, before in ((options.with_ids, None), (options.without_ids, take_ids)):
                if command is None:
                    continue
                if before:
                    before(user)
                print(f"as {user.name}, {'with its own id only' if before else 'with subordinate ids'}: {command}")
                sys.stdout.flush()
                codes.append(user.run("sh", "-c", f"cd project && {command}"))
    except UserError as problem:
        sys.exit(str(problem))
    sys.exit(next((code for code in codes if code), 0))


if __name__ == "__main__":
    main()
