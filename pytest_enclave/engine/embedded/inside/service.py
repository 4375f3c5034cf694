"""A service, as init knows it: what it was started from, its processes, its end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.body import BRIDGE, Rights, become_service, hold_files
from pytest_enclave.engine.embedded.inside.children import do_aside, fork_into
from pytest_enclave.engine.embedded.inside.ends import Ends
from pytest_enclave.engine.embedded.inside.limits import Limits, resident
from pytest_enclave.engine.embedded.inside.loop import Loop
from pytest_enclave.engine.embedded.inside.root import Storage
from pytest_enclave.engine.embedded.inside.trees import remove_tree
from pytest_enclave.engine.embedded.inside.users import User

Outcome = Callable[[dict[str, Any]], None]
"""Told once how something went: empty, or `error` and `kind`."""

ONE_UID = (
    "[enclave] services have one user id on this machine, and only pretend to change it. If that is why this one has "
    "ended: install uidmap, and give your user a range in /etc/subuid and /etc/subgid\n"
)

LINGER = 0.2
"""Seconds that the last bytes of a service that has ended have to reach others."""

WATCH = 0.05
"""Seconds between two looks at the memory of a service that no control group limits."""


class Service:
    """One name in the enclave. Statuses: `absent`, `starting`, `running`, `paused`, `stopped` (asked to), `exited`."""

    def __init__(
        self,
        name: str,
        number: int,
        address: str,
        storage: Storage,
        loop: Loop,
        limits: Limits,
        rights: Rights,
        ends: Ends,
    ) -> None:
        self.name = name
        self.number = number
        self.address = address
        self.status = "absent"
        self.exit: dict[str, Any] | None = None
        self.spec: dict[str, Any] = {}
        self.namespaces: dict[str, int] = {}
        self.user = User(0, 0, [], "/")
        self.on_change: Callable[[Service], None] = lambda _: None
        self.on_join: Callable[[Service], str] = lambda _: BRIDGE
        self.on_cut: Callable[[Service, str], None] = lambda *_: None
        self.on_names: Callable[[Service, list[int]], None] = lambda *_: None
        self._storage = storage
        self._loop = loop
        self._limits = limits
        self._rights = rights
        self._ends = ends
        self._process = 0
        self._starts = 0
        self._uncut = ""
        self._layers = 0
        self._stopping = False
        self._failed = False
        self._frozen = False
        self._greedy = False
        self._output: int | None = None
        self._adopted: tuple[str, dict[str, Any] | None] | None = None
        self._at_end: list[Callable[[], None]] = []
        self._starting: Outcome | None = None
        self._once_started: list[Callable[[], None]] = []
        self._report: Channel | None = None

    @property
    def alive(self) -> bool:
        """Whether its first process runs, or is stopped by a signal."""
        return self._process != 0

    @property
    def _link(self) -> str:
        """The enclave's end of its network link; another one at each start."""
        return f"s{self.number}.{self._starts}"

    @property
    def link(self) -> str:
        """The enclave's end of its network link, as long as it is on the network."""
        return self._link if self.alive and self._adopted is None else self._uncut

    @property
    def upper(self) -> str:
        """Where what it writes is kept."""
        return f"{self._storage.path}/services/{self.number}.{self._layers}"

    def state(self) -> dict[str, Any]:
        """What clients are told."""
        return {"status": self.status, "ip": self.address, "image": self.spec.get("image", ""), "exit": self.exit}

    def start(self, spec: dict[str, Any], output: int, tell: Outcome) -> None:
        """Start it, anew or once more; the descriptor for its output is used up. It must not be alive."""
        self._adopted = None
        self._begin(spec, output, tell)

    def _begin(self, spec: dict[str, Any], output: int, tell: Outcome) -> None:
        self._cut(self._uncut)
        self._forget_namespaces()
        if self._frozen:
            spec = self._beyond()
            self._layers += 1
            self._frozen = False
        self.spec = spec
        self.exit = None
        self.status = "starting"
        self._starting = tell
        self._stopping = self._failed = self._greedy = False
        self._starts += 1
        spec["ip"] = self.address
        try:
            spec["places"] = [[self._storage.directories.place(key), path] for key, path in spec["directories"]]
        except OSError as error:
            os.close(output)
            self._started({"error": f"its persistent directories cannot be made: {error}", "kind": "system"})
            return
        try:
            spec["cgroups"] = self._limits.enter(self.name, spec)
        except OSError as error:
            os.close(output)
            self._started({"error": f"its limits cannot be set: {error}", "kind": "system"})
            return
        ours = theirs = None
        bridge = "" if self._adopted is not None else self.on_join(self)
        try:
            ours, theirs = socket.socketpair()
            process = fork_into(None)
            if process == 0:
                self._become(theirs, output, bridge)
        except OSError as error:
            if ours is not None:
                ours.close()
            os.close(output)
            self._started({"error": f"there can be no process for it: {error}", "kind": "system"})
            return
        finally:
            if theirs is not None:
                theirs.close()
        if self._rights.one_uid:
            # Kept, to say a word of ours at its end.
            self._output = output
        else:
            os.close(output)
        # Only when it is new; a directory that it has emptied stays so.
        spec["seeding"] = False
        self._process = process
        self._loop.when_ended(process, self._ended)
        self._ends.await_end(process)
        if self._limits.must_be_watched(spec):
            self._loop.after(WATCH, lambda: self._watch_memory(process))
        channel = self._report = Channel(ours)
        self._loop.watch(channel.fileno(), lambda: self._reported(channel))

    def when_started(self, then: Callable[[], None]) -> None:
        """Call back when it is known whether it has started."""
        self._once_started.append(then)

    def signal(self, number: int) -> None:
        """Send a signal to its first process."""
        if self._process:
            os.kill(self._process, number)

    def signal_all(self, number: int) -> None:
        """Send a signal to all of its processes, those that are forked meanwhile included."""
        told: set[int] = set()
        while new := self._processes() - told:
            for process in new:
                with suppress(ProcessLookupError):
                    os.kill(process, number)
            told |= new

    def stop(self, grace: float, then: Callable[[], None]) -> None:
        """Ask it to end, kill it after the grace (seconds), and call back when it has ended."""
        if not self.alive:
            if self.status == "exited":
                self.status = "stopped"
                self.on_change(self)
            then()
            return
        self._stopping = True
        self._at_end.append(then)
        wanted = self.spec.get("stop_signal") or signal.SIGTERM
        # The first process of a PID namespace gets no signal that it has not asked for.
        self.signal(wanted if self._hears(wanted) else signal.SIGKILL)
        if self.status == "paused":
            self.signal_all(signal.SIGCONT)
        process = self._process
        self._loop.after(grace, lambda: self.signal(signal.SIGKILL) if self._process == process else None)

    def kill(self, then: Callable[[], None]) -> None:
        """Kill it, and call back when it has ended."""
        if not self.alive:
            then()
            return
        self._at_end.append(then)
        self.signal(signal.SIGKILL)

    def pause(self) -> None:
        """Stop all of its processes where they are."""
        self.signal_all(signal.SIGSTOP)
        self.status = "paused"
        self.on_change(self)

    def resume(self) -> None:
        """Let them go on."""
        self.signal_all(signal.SIGCONT)
        self.status = "running"
        self.on_change(self)

    def freeze(self) -> dict[str, Any]:
        """What it is now, as a spec that forks begin from. It must have ended; it writes elsewhere later."""
        self._frozen = True
        return self._beyond()

    def adopt(
        self, spec: dict[str, Any], output: int, status: str, ending: dict[str, Any] | None, tell: Outcome
    ) -> None:
        """Be what a service that has ended was in the enclave that this one is a fork of: there are but its files."""
        self._adopted = status, ending
        self._begin(spec, output, tell)

    def discard(self) -> None:
        """Forget it and all that it wrote. It must have ended."""
        self._limits.remove(self.name)
        self.status = "absent"
        self.exit = None
        # What it wrote goes with the enclave; but that may still use the memory.
        upper = None if self._frozen else self.upper
        do_aside(lambda: remove_tree(upper) if upper else None, [*self.namespaces.values()])
        self.namespaces = {}
        self._frozen = False
        self._layers += 1
        self.on_change(self)

    def _beyond(self) -> dict[str, Any]:
        """Its spec, with what it has written so far as a layer that nobody writes to."""
        if self.spec.get("host"):
            return {**self.spec, "host_layers": [*self.spec["host_layers"], self.upper]}
        # One that was killed before it had a root directory has written nothing.
        os.makedirs(f"{self.upper}/upper", exist_ok=True)
        return {**self.spec, "lowers": [*self.spec["lowers"], f"{self.upper}/upper"]}

    def _become(self, report: socket.socket, output: int, bridge: str) -> NoReturn:
        if self._adopted is not None:
            hold_files(self.spec, self._storage, self.upper, report)
        become_service(self.spec, self._rights, self._storage, self.upper, self._link, bridge, output, report)

    def _reported(self, channel: Channel) -> None:
        """The process tells of its namespaces, of an error, or that it has become its program."""
        try:
            for message, descriptors in channel.arrived():
                if "error" in message:
                    self._started(message)
                elif "lost" in message:
                    self._started({"error": "Too many open files", "kind": "system"})
                    self.signal(signal.SIGKILL)
                else:
                    spaces = message["namespaces"]
                    self.namespaces = dict(zip(spaces, descriptors, strict=False))
                    uid, gid, groups, home = message["user"]
                    self.user = User(uid, gid, groups, home)
                    self.on_names(self, descriptors[len(spaces) :])
        except EOFError:
            self._report = None
            self._loop.forget(channel.fileno())
            channel.close()
            if self._starting is not None and self.namespaces:
                if self._adopted is not None:
                    # There is a process to be started again only when the one that made its files has ended.
                    return
                if self.alive:
                    self.status = "running"
                else:
                    self._leave_namespaces()
                self._started({})
            elif self._starting is not None:
                self._started({"error": "its first process ended before it ran its program", "kind": "system"})

    def _started(self, outcome: dict[str, Any]) -> None:
        tell, self._starting = self._starting, None
        if outcome:
            self._failed = True
            self.status, self.exit = "absent", None
        if tell is not None:
            self.on_change(self)
            tell(outcome)
        waiting, self._once_started = self._once_started, []
        for callback in waiting:
            callback()

    def _ended(self, status: int) -> None:
        # First what it had to say when it lived; nobody else holds the other end.
        while self._report is not None:
            self._reported(self._report)
        process, self._process = self._process, 0
        code = os.waitstatus_to_exitcode(status)
        self._comment(code)
        memory = self._limits.ran_out(self.name) or self._greedy
        self.exit = {"code": code if code >= 0 else 128 - code, "out_of_memory": memory and code == -signal.SIGKILL}
        self.status = "stopped" if self._stopping else "exited"
        if self._failed:
            self.status, self.exit = "absent", None
        elif self._adopted is not None:
            self.status, self.exit = self._adopted
        self._leave_namespaces()
        if self._adopted is None:
            link = self._uncut = self._link
            self._loop.after(LINGER, lambda: self._cut(link))
        callbacks, self._at_end = self._at_end, []
        if self._starting is None:
            self.on_change(self)
        elif self._adopted is not None:
            self._started({})
        # Now that clients are told.
        self._ends.noted(process)
        for callback in callbacks:
            callback()

    def _cut(self, link: str) -> None:
        """Take it off the network, if that has not been done yet.

        Its network namespace lives on as long as the kernel tries to send the last bytes of its connections, with its
        addresses. Whoever comes in its place has the same.
        """
        if link and self._uncut == link:
            self._uncut = ""
            self.on_cut(self, link)

    def _watch_memory(self, process: int) -> None:
        if self._process != process:
            return
        if sum(map(resident, self._processes())) > self.spec["memory"]:
            self._greedy = True
            self.signal(signal.SIGKILL)
        else:
            self._loop.after(WATCH, lambda: self._watch_memory(process))

    def _comment(self, code: int) -> None:
        """Where there is one user id only, that may be why the program of an image ended with an error."""
        if self._output is None:
            return
        if code > 0 and self.user.uid == 0 and not self.spec.get("host"):
            with suppress(OSError):
                os.set_blocking(self._output, False)
                os.write(self._output, ONE_UID.encode())
        os.close(self._output)
        self._output = None

    def _leave_namespaces(self) -> None:
        """Keep the mounts alone: its files may be asked for when it has ended."""
        for space in [name for name in self.namespaces if name != "mnt"]:
            os.close(self.namespaces.pop(space))

    def _forget_namespaces(self) -> None:
        for descriptor in self.namespaces.values():
            os.close(descriptor)
        self.namespaces = {}

    def _hears(self, number: int) -> bool:
        """Whether its first process handles a signal, or has blocked it, to look for it by itself."""
        try:
            with open(f"/proc/{self._process}/status") as lines:
                masks = dict(line.split(":", 1) for line in lines if line.startswith(("SigBlk", "SigCgt")))
        except OSError:
            return False
        return any(int(mask, 16) >> (number - 1) & 1 for mask in masks.values())

    def _processes(self) -> set[int]:
        """The processes in its PID namespace, by their numbers here."""
        wanted = os.fstat(self.namespaces["pid"]).st_ino if "pid" in self.namespaces else -1
        found = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError):
                    if os.stat(f"/proc/{name}/ns/pid").st_ino == wanted:
                        found.add(int(name))
        return found
