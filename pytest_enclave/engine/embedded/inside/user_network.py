"""The way out of an enclave for a plain user: a program that sends on, as its own, what comes out of the enclave.

`slirp4netns` or `pasta` (package passt), whichever is installed. It runs as the user in the machine's network
namespace, and makes the enclave's link.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import NoReturn

from pytest_enclave.engine.embedded.inside.uplink import UPLINK

DEVICE = "/dev/net/tun"

DIRECTORIES = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin")
"""Where the programs can be. The supervisor has no PATH."""

NETWORK = "169.254.254.0/24"
SLIRP_NAMES = "169.254.254.3"
PASTA_NAMES = "169.254.254.4"
"""Where the programs answer for the machine's name server, which may listen on the machine's loopback only."""

PATIENCE = 5.0
"""Seconds that a program has to make the link."""

OPTIONS = {
    "slirp4netns": ("--configure", "--mtu=65520", f"--cidr={NETWORK}", "--disable-host-loopback"),
    # Without all that it would do besides: everything that listens, on either side, would be forwarded to the other.
    "pasta": (
        *("--foreground", "--quiet", "--config-net", "--ipv4-only", "--no-map-gw", "--dns-forward", PASTA_NAMES),
        *("-t", "none", "-u", "none", "-T", "none", "-U", "none", "--ns-ifname", UPLINK),
    ),
}

NAMES = {"slirp4netns": SLIRP_NAMES, "pasta": PASTA_NAMES}


def missing() -> str | None:
    """Why there is no such way out, and what to do; None if there is one. Starts nothing."""
    if find() is None:
        return "neither slirp4netns nor pasta is installed: install the package slirp4netns or passt"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} is not there for this user: `sudo chmod 666 {DEVICE}`"
    return None


def find() -> tuple[str, str] | None:
    """The program to use, as its name and its path; None if there is none."""
    for name in OPTIONS:
        for directory in DIRECTORIES:
            if os.access(f"{directory}/{name}", os.X_OK):
                return name, f"{directory}/{name}"
    return None


class UserNetwork:
    """The program. `name` is which."""

    def __init__(self, name: str, path: str, member: int) -> None:
        """Start it, for the enclave that a process is a member of. Raises OSError if it does not make the link."""
        self.name = name
        self._said = os.memfd_create("said")
        reader, self._lives = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._lives)
            self._mind(reader, [path, *OPTIONS[name], str(member), *([UPLINK] if name == "slirp4netns" else [])])
        os.close(reader)
        self._await_link(member)

    def stop(self) -> None:
        """End it."""
        os.close(self._lives)
        os.close(self._said)
        os.waitpid(self._process, 0)

    def _mind(self, lives: int, command: list[str]) -> NoReturn:
        """Run the program for as long as the supervisor lives. It changes its rights, so the kernel does not end it."""
        try:
            program = os.fork()
            if program == 0:
                # Python ignores it; pasta insists on the default.
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                os.dup2(self._said, 2)
                os.execv(command[0], command)
            ends = os.pidfd_open(program)
            select.select([lives, ends], [], [])
            os.kill(program, signal.SIGKILL)
            os.waitpid(program, 0)
        finally:
            os._exit(0)

    def _await_link(self, member: int) -> None:
        until = time.monotonic() + PATIENCE
        while not _has_route(member):
            ended = os.waitpid(self._process, os.WNOHANG)[0]
            if ended or time.monotonic() > until:
                said = os.pread(self._said, 1000, 0).decode(errors="replace").split("\n")
                words = [line for line in said if line and "syslog" not in line]
                os.close(self._lives)
                os.close(self._said)
                if not ended:
                    os.waitpid(self._process, 0)
                raise OSError(f"{self.name} makes no link: {'; '.join(words)}")
            time.sleep(0.002)


def _has_route(member: int) -> bool:
    with open(f"/proc/{member}/net/route") as routes:
        return any(line.split()[:2] == [UPLINK, "00000000"] for line in routes)
