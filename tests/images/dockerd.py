"""A Docker daemon of our own, for machines where none runs: Debian or Ubuntu, as root or with sudo."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import docker

STATE = Path("/var/lib/pytest-enclave-dev")
"""Where images survive from one run to the next."""

PACKAGES = ("docker.io", "iptables")
SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Where daemons and file system tools are, also for a user whose PATH leaves that out."""

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class DaemonError(Exception):
    """The daemon cannot be had, or did not start."""


def answers(address: str | None = None) -> bool:
    """Tell whether an engine answers at `address`, or where $DOCKER_HOST and the defaults lead."""
    try:
        with closing(docker.DockerClient(address) if address else docker.from_env()) as client:
            return bool(client.ping())
    except docker.errors.DockerException:
        return False


def install() -> None:
    """Install the daemon from the distribution if it is missing.

    Raises DaemonError if that takes rights or a package manager that are not there.
    """
    if shutil.which("dockerd", path=SEARCH_PATH):
        return
    if not shutil.which("apt-get"):
        raise DaemonError("no Docker engine answers: start one (here only Debian and Ubuntu can install it)")
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES)


@contextmanager
def running(*, fresh: bool) -> Iterator[str]:
    """Run a daemon for as long as the context lasts, and give its address.

    It keeps its images for the next one, unless `fresh`, or another run is using them right now.
    Raises DaemonError, with the end of the daemon's log, if it does not start.
    """
    with ExitStack() as cleanup:
        _run("mkdir", "-p", str(STATE))
        lock = None if fresh else cleanup.enter_context(_lock(STATE))
        # Socket paths are limited to about 100 characters, so this directory's is short.
        work = Path(tempfile.mkdtemp(prefix="enclave-", dir="/tmp"))
        cleanup.callback(_run, "rm", "-rf", str(work))
        if lock is None:
            data = STATE / work.name
            cleanup.callback(_run, "rm", "-rf", str(data))
        else:
            data = STATE / "docker"
        _mount_cgroups()
        with _daemon(work, data, lock) as address:
            yield address


@contextmanager
def _daemon(work: Path, data: Path, lock: int | None) -> Iterator[str]:
    address = f"unix://{work}/docker.sock"
    command = [
        *_privileged(),
        # Else the daemon outlives a run that is killed.
        *("setpriv", "--pdeathsig", "TERM", "dockerd"),
        *("--host", address, "--group", str(os.getgid())),
        *("--data-root", str(data), "--exec-root", f"{work}/exec", "--pidfile", f"{work}/pid"),
    ]
    log = work / "log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": SEARCH_PATH},
            # A Ctrl-C is for the command that uses the daemon.
            start_new_session=True,
            # The lock lasts as long as anything that may still write to the data.
            pass_fds=[] if lock is None else [lock],
        )
    try:
        _await(daemon, address, log)
        yield address
    finally:
        _stop(daemon)


def _await(daemon: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while daemon.poll() is None and time.monotonic() < deadline:
        if answers(address):
            return
        time.sleep(0.05)
    last = "\n".join(log.read_text().splitlines()[-20:])
    raise DaemonError(f"dockerd did not start; its last words:\n{last}")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    for signal in ("TERM", "KILL"):
        if daemon.poll() is None:
            _run("kill", f"-{signal}", str(daemon.pid))
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(STOP_SECONDS)


@contextmanager
def _lock(directory: Path) -> Iterator[int | None]:
    """Give a locked descriptor of the directory, or None if another process has the lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except BlockingIOError:
        held = False
    try:
        yield descriptor if held else None
    finally:
        os.close(descriptor)


def _mount_cgroups() -> None:
    """Mount the control groups on a machine whose init did not: dockerd needs them."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    if not any(line.split()[2].startswith("cgroup") for line in mounts):
        _run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")


def _run(*command: str) -> None:
    done = subprocess.run([*_privileged(), *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DaemonError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")


def _privileged() -> tuple[str, ...]:
    """Return what to put before a command so that root runs it.

    Raises DaemonError if this user cannot be root.
    """
    if os.geteuid() == 0:
        return ()
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ("sudo", "-n")
    raise DaemonError("no Docker engine answers, and to start one takes root, or sudo without a password")
