"""The way out of an enclave: made by its supervisor while the enclave is there already, and known to init.

Init says when its namespaces are complete; the supervisor answers with one message: `by` (`nat`, `slirp4netns` or
`pasta`; None: there is no way out, and `reason` says why) and `servers`, who is asked for names.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside import uplink, user_network
from pytest_enclave.engine.embedded.inside.loop import Loop
from pytest_enclave.engine.embedded.inside.nat import Nat

RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Where the machine's name servers are told; the second, where the first names only one on the machine itself."""

OFF: dict[str, Any] = {"by": None, "reason": "it is switched off", "servers": []}


class Egress:
    """The supervisor's part. `init` is init's end of the connection, None where there is to be no way out.

    `plan` is None for that; its `servers`, if not None, are asked for names in place of the machine's own.
    """

    def __init__(self, enclave: str, plan: dict[str, Any] | None) -> None:
        self._enclave = enclave
        self._servers: list[Any] | None = plan["servers"] if plan else None
        self._nat = Nat()
        self._program: user_network.UserNetwork | None = None
        self._leaks: list[dict[str, str]] | None = None
        self._supervisor: socket.socket | None = None
        self.init: socket.socket | None = None
        if plan:
            self._supervisor, self.init = socket.socketpair()

    def begin(self) -> int | None:
        """Where init is heard, after it was forked; None if it has nothing to say."""
        if self._supervisor is None or self.init is None:
            return None
        self.init.close()
        return self._supervisor.fileno()

    def turn(self, member: int) -> bool:
        """Hear init: make the way out of the namespaces of a process, and tell; after the end of init, close it.

        False when there is no more to hear.
        """
        if self._supervisor is not None and self._supervisor.recv(1):
            # Init may have ended.
            with suppress(OSError):
                Channel(self._supervisor).send(self._make(member))
            return True
        # The kernel is busy ending what init had, so nobody waits longer for this.
        self.close()
        return False

    def close(self) -> list[dict[str, str]]:
        """Remove what would stay; what could not be removed, each as kind, name, reason, command."""
        if self._leaks is None:
            if self._program is not None:
                self._program.stop()
            self._leaks = self._nat.close()
        return self._leaks

    def remove(self) -> None:
        """Remove the rest, which nobody has to wait for."""
        self._nat.remove()

    def _make(self, member: int) -> dict[str, Any]:
        reasons = []
        for make in (self._translate, self._run_program) if os.geteuid() == 0 else (self._run_program,):
            try:
                by, servers = make(member)
            except OSError as error:
                reasons.append(str(error))
                continue
            return {"by": by, "servers": servers if self._servers is None else self._servers}
        return {"by": None, "reason": "; ".join(reasons), "servers": []}

    def _translate(self, member: int) -> tuple[str, list[str]]:
        namespace = os.open(f"/proc/{member}/ns/net", os.O_RDONLY)
        try:
            inside, outside = self._nat.connect(self._enclave, namespace)
        finally:
            # An open descriptor would keep the enclave's network.
            os.close(namespace)
        self._nat.open(inside)
        uplink.prepare(member, (inside, outside))
        return "nat", name_servers()

    def _run_program(self, member: int) -> tuple[str, list[str]]:
        found = user_network.find()
        if found is None or user_network.missing():
            raise OSError(user_network.missing())
        uplink.prepare(member)
        self._program = user_network.UserNetwork(*found, member)
        return self._program.name, [user_network.NAMES[self._program.name]]


class WayOut:
    """Init's part: what it knows of the way out, told when it is known."""

    def __init__(self, supervisor: socket.socket | None, loop: Loop, names: Channel) -> None:
        self._supervisor = supervisor
        self._loop = loop
        self._names = names
        self._outcome = None if supervisor else OFF
        self._asked: list[Callable[[dict[str, Any]], None]] = []

    def begin(self) -> None:
        """Have it made: the namespaces are complete."""
        if self._supervisor is not None:
            channel = Channel(self._supervisor)
            self._loop.watch(channel.fileno(), lambda: self._hear(channel))
            self._supervisor.send(b".")

    def ask(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Tell, now or later."""
        if self._outcome is None:
            self._asked.append(tell)
        else:
            tell(self._outcome)

    def _hear(self, channel: Channel) -> None:
        received = channel.receive()
        # It stays open: its end is how the supervisor knows of ours.
        self._loop.forget(channel.fileno())
        self._outcome = received[0] if received else {"by": None, "reason": "the supervisor is gone", "servers": []}
        if self._outcome["servers"]:
            self._names.send({"do": "upstream", "servers": self._outcome["servers"]})
        for tell in self._asked:
            tell(self._outcome)


def missing() -> str | None:
    """Why services of this user's enclaves have no way out, and what to do, as far as it is known without trying."""
    return None if os.geteuid() == 0 else user_network.missing()


def name_servers() -> list[str]:
    """The machine's name servers that are reached from an enclave."""
    for path in RESOLVERS:
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as lines:
            words = [line.split() for line in lines]
            found = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
            # Addresses of an enclave are of IPv4.
            if reached := [each for each in found if ":" not in each and not each.startswith(("127.", "0."))]:
                return reached
    return []
