"""Init: the first process of an enclave, and what serves its clients.

It is PID 1 of the enclave's PID namespace and keeps its mount, network, IPC and UTS namespaces. One thread, one loop:
whatever takes time is done by processes forked from it. A client's connection is its lease on the enclave; when there
are no more, and nobody holds the enclave (`tenure`), init returns, and the kernel ends everything that was forked here.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside import logs, names, relay
from pytest_enclave.engine.embedded.inside.body import NAMES_ADDRESS, Rights
from pytest_enclave.engine.embedded.inside.egress import WayOut
from pytest_enclave.engine.embedded.inside.ends import Ends
from pytest_enclave.engine.embedded.inside.leftovers import use_files
from pytest_enclave.engine.embedded.inside.limits import Limits, seen_from_inside
from pytest_enclave.engine.embedded.inside.loop import Loop
from pytest_enclave.engine.embedded.inside.network import Network
from pytest_enclave.engine.embedded.inside.requests import Requests
from pytest_enclave.engine.embedded.inside.root import Storage
from pytest_enclave.engine.embedded.inside.service import Service
from pytest_enclave.engine.embedded.inside.tenure import Tenure
from pytest_enclave.linux import capabilities, mounts, syscalls

STORAGE = "/sys"
"""Where init mounts the enclave's storage, for itself: a directory that there always is, and that nobody removes. (When
the directory of a mount is removed anywhere, the kernel unmounts it everywhere; forks would lose their files.)"""

MACHINE_CGROUPS = "/sys/fs/cgroup"
CGROUPS = f"{STORAGE}/cgroup"
"""Where the machine's control groups are to be seen, as the storage covers them."""

MOST_SERVICES = (1 << 16) - 3

PATIENCE = 5
"""Seconds. A client that does not listen for as long is given up: the others wait meanwhile."""

BREATH = 0.1
"""Seconds until clients are let in again, where there were no descriptors for one."""


class Init:
    """An enclave. `plan` has its `name`, `directory`, and `storage` (`tmpfs`, `disk`, or None to choose).

    A fork's also has what it has `inherited`: the layers of persistent directories, by key. `client` is the process
    that the first lease is of, `holder` the one that the enclave is to be there for: descriptors, both used up.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        lease: socket.socket,
        listener: socket.socket,
        forked: bool,
        egress: socket.socket | None,
        client: int,
        holder: int,
    ) -> None:
        _use_all_descriptors()
        syscalls.set_hostname(plan["name"])
        self.plan = plan
        self.loop = Loop()
        self.services: dict[str, Service] = {}
        # Whatever is executed in the enclave is a service or a command.
        capabilities.bound(capabilities.DOCKER_DEFAULT)
        self.rights = Rights(plan["one_uid"])
        self._numbers = 0
        self._gone: set[str] = set()
        self._limits = Limits(plan["name"], seen_from_inside(plan["cgroups"], MACHINE_CGROUPS, CGROUPS), self.loop)
        self._clients: dict[int, Channel] = {}
        self._processes: dict[int, int] = {}
        self._is_left = False
        self._welcomed = 0
        _mount_storage(plan, forked)
        self._place = Storage(f"{STORAGE}/{plan['name']}")
        os.makedirs(f"{self._place.path}/services", exist_ok=True)
        os.makedirs(f"{self._place.path}/logs", exist_ok=True)
        self._place.prepare()
        self.directories = self._place.directories
        self.directories.inherit(plan.get("inherited", {}))
        _write_over(self._place.resolver, f"nameserver {NAMES_ADDRESS}\noptions ndots:0\n")
        self._ends = Ends()
        self.network = Network(self.loop, self._ends, self.tell_shape)
        self._listener = listener
        self.keeper = self._fork_part(logs.serve, "keeper of logs")
        self.relay = self._fork_part(relay.serve, "relay")
        self.names = self._fork_part(names.serve, "server of names")
        self.egress = WayOut(egress, self.loop, self.names)
        if plan.get("shape"):
            self.network.shape(**plan["shape"])
        self._requests = Requests(self)
        self.loop.watch(listener.fileno(), self._accept)
        self.tenure = Tenure(self.loop, holder, lambda: bool(self._clients), self._leave)
        self.accompany(self._welcome(lease), client)
        self.egress.begin()

    def run(self) -> bool:
        """Serve until a client asks to end it (False), or nobody needs it any more (True)."""
        self.loop.run()
        return self._is_left

    def service(self, name: str) -> Service:
        """The service of a name, with an address of its own from the first time on that it is asked for."""
        if name not in self.services:
            return self.reserve(name, self._numbers + 1)
        if name in self._gone:
            self._gone.discard(name)
            self._tell_names()
        return self.services[name]

    def reserve(self, name: str, number: int) -> Service:
        """A new service with this number, which decides its address. Raises OSError if there are too many."""
        if number > MOST_SERVICES:
            raise OSError(f"an enclave has room for {MOST_SERVICES} names of services")
        self._numbers = max(self._numbers, number)
        address = f"10.77.{(number + 1) >> 8}.{(number + 1) & 255}"
        service = Service(name, number, address, self._place, self.loop, self._limits, self.rights, self._ends)
        service.on_change = self._changed
        service.on_names = self._serve_names
        service.on_join = self.network.join
        service.on_cut = self._cut
        self.services[name] = service
        self.network.admit(service)
        self._tell_names()
        return service

    def log_directory(self, service: Service) -> str:
        """Where the keeper writes what a service has said."""
        return f"{self._place.path}/logs/{service.number}"

    def forget(self, name: str) -> None:
        """Nobody finds the service by its name any more. Its address stays its own, should it come again."""
        self._gone.add(name)
        self._tell_names()

    def tell_shape(self) -> None:
        """Tell all clients how packets travel now."""
        for client in list(self._clients):
            self.send(client, {"event": "shape", **self.network.told()})

    def end(self, reason: str, but: int | None = None) -> None:
        """Let everything of the enclave end; its clients are told why, but for the one that wished it."""
        for client in list(self._clients):
            if client != but:
                self.send(client, {"event": "ended", "reason": reason})
        self.loop.stop()

    def accompany(self, client: int, process: int) -> None:
        """A client goes with its process (a descriptor, used up): what that forked may still hold the connection."""
        self._leave_alone(client)
        if client not in self._clients:
            os.close(process)
            return
        self._processes[client] = process
        self.loop.watch(process, lambda: self._hang_up(client))

    def _changed(self, service: Service) -> None:
        for client in list(self._clients):
            self.send(client, _state_of(service))

    def send(self, client: int, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Tell a client, unless it is gone."""
        channel = self._clients.get(client)
        if channel is not None:
            try:
                channel.send(message, descriptors)
            except OSError:
                self._hang_up(client)

    def _tell_names(self) -> None:
        table = {service.name: service.address for service in self.services.values() if service.name not in self._gone}
        _say(self.names, {"do": "names", "names": table})
        # Where there is no room, names are still answered for.
        with suppress(OSError):
            _write_over(self._place.hosts, names.hosts_text(table))

    def _cut(self, service: Service, link: str) -> None:
        """A service has ended: nothing of it is on the network any more, nor does anybody wait for its answers."""
        self.network.leave(service, link)
        _say(self.relay, {"do": "break", "prefix": f"{service.name}:"})
        # Open sockets would keep its network namespace.
        _say(self.names, {"do": "forget", "key": service.name})

    def _serve_names(self, service: Service, sockets: list[int]) -> None:
        _say(self.names, {"do": "serve", "key": service.name}, sockets)
        for descriptor in sockets:
            os.close(descriptor)

    def _fork_part(self, serve: Callable[[Channel], None], what: str) -> Channel:
        ours, theirs = socket.socketpair()
        process = os.fork()
        if process == 0:
            code = 1
            try:
                ours.close()
                serve(Channel(theirs))
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        # Without one of its parts there is no enclave.
        self.loop.when_ended(process, lambda status: self.end(f"its {what} {_how_ended(status)}"))
        return Channel(ours)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # There are no descriptors left; services that end give some back.
            self.loop.forget(self._listener.fileno())
            self.loop.after(BREATH, lambda: self.loop.watch(self._listener.fileno(), self._accept))
            return
        self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> int:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0))
        # Descriptors are used again; answers that are still to come must not reach another client.
        self._welcomed += 1
        client = self._welcomed
        channel = self._clients[client] = Channel(connection)
        self.loop.watch(channel.fileno(), lambda: self._hear(client, channel))
        for service in self.services.values():
            self.send(client, _state_of(service))
        if shape := self.network.told():
            self.send(client, {"event": "shape", **shape})
        self.send(client, {"event": "ready"}, (self._ends.fileno(),))
        return client

    def _hear(self, client: int, channel: Channel) -> None:
        try:
            for message, descriptors in channel.arrived():
                self.tenure.begin()
                self._requests.answer(client, message, descriptors)
        except (EOFError, OSError):
            self._hang_up(client)

    def _hang_up(self, client: int) -> None:
        self._leave_alone(client)
        if channel := self._clients.pop(client, None):
            self.loop.forget(channel.fileno())
            channel.hang_up()
            self._requests.left(client)
            self.tenure.reconsider()

    def _leave_alone(self, client: int) -> None:
        if (process := self._processes.pop(client, None)) is not None:
            self.loop.forget(process)
            os.close(process)

    def _leave(self) -> None:
        self._is_left = True
        self.loop.stop()


def _say(part: Channel, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Tell one of the enclave's processes. If it is gone, its end will soon be noticed."""
    with suppress(ConnectionError):
        part.send(message, descriptors)


def _how_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by signal {-code}" if code < 0 else f"has ended with exit code {code}"


def _state_of(service: Service) -> dict[str, Any]:
    return {"event": "state", "service": service.name, **service.state()}


def _use_all_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _mount_storage(plan: dict[str, Any], forked: bool) -> None:
    """In memory, unless it is to be on disk, or this kernel has no user attributes on tmpfs.

    A fork mounts its own in the storage of its origin: what it writes goes with it.
    """
    target = STORAGE
    groups = -1
    if forked:
        target = f"{STORAGE}/{plan['name']}"
        os.mkdir(target)
    elif os.path.isdir(MACHINE_CGROUPS):
        groups = os.open(MACHINE_CGROUPS, os.O_PATH)
    if plan["storage"] != "disk":
        mounts.tmpfs(target, "mode=755")
        if plan["storage"] is None and not mounts.tmpfs_has_user_xattrs(target):
            syscalls.umount(target)
            plan["storage"] = "disk"
    if plan["storage"] == "disk":
        use_files(plan["files"])
        os.chmod(plan["files"][-1], 0o755)
        mounts.bind(plan["files"][-1], target)
    if forked:
        return
    os.mkdir(CGROUPS)
    if groups >= 0:
        mounts.bind(f"/proc/self/fd/{groups}", CGROUPS, recursive=True)
        os.close(groups)


def _write_over(path: str, text: str) -> None:
    """Replace a file's text, without a moment in which it is empty."""
    file = os.open(path, os.O_WRONLY)
    try:
        data = text.encode()
        os.pwrite(file, data, 0)
        os.ftruncate(file, len(data))
    finally:
        os.close(file)
