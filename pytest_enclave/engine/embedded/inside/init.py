"""Init: the first process of an enclave, and what serves its clients.

It is PID 1 of the enclave's PID namespace and keeps its mount, network, IPC and UTS namespaces. One thread, one loop:
whatever takes time is done by processes forked from it. A client's connection is its lease on the enclave; when the
last one is gone init returns, and the kernel ends everything that was forked here.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside import logs, names, relay
from pytest_enclave.engine.embedded.inside.body import BRIDGE, GATEWAY, NAMES_ADDRESS, PREFIX, Rights
from pytest_enclave.engine.embedded.inside.egress import WayOut
from pytest_enclave.engine.embedded.inside.limits import Limits, seen_from_inside
from pytest_enclave.engine.embedded.inside.loop import Loop
from pytest_enclave.engine.embedded.inside.requests import Requests
from pytest_enclave.engine.embedded.inside.root import Storage
from pytest_enclave.engine.embedded.inside.service import Service
from pytest_enclave.linux import mounts, syscalls
from pytest_enclave.linux.netlink import Netlink

STORAGE = "/sys"
"""Where init mounts the enclave's storage, for itself: a directory that there always is, and that nobody removes. (When
the directory of a mount is removed anywhere, the kernel unmounts it everywhere; forks would lose their files.)"""

MACHINE_CGROUPS = "/sys/fs/cgroup"
CGROUPS = f"{STORAGE}/cgroup"
"""Where the machine's control groups are to be seen, as the storage covers them."""

MOST_SERVICES = (1 << 16) - 3


class Init:
    """An enclave. `plan` has its `name`, `directory`, and `storage` (`tmpfs`, `disk`, or None to choose)."""

    def __init__(
        self,
        plan: dict[str, Any],
        lease: socket.socket,
        listener: socket.socket,
        forked: bool,
        egress: socket.socket | None,
    ) -> None:
        _use_all_descriptors()
        syscalls.set_hostname(plan["name"])
        self.plan = plan
        self.loop = Loop()
        self.services: dict[str, Service] = {}
        self.rights = Rights(plan["one_uid"])
        self._numbers = 0
        self._gone: set[str] = set()
        self._limits = Limits(plan["name"], seen_from_inside(plan["cgroups"], MACHINE_CGROUPS, CGROUPS))
        self._clients: dict[int, Channel] = {}
        if not forked:
            _mount_storage(plan)
        self._place = Storage(f"{STORAGE}/{plan['name']}")
        os.makedirs(f"{self._place.path}/services", exist_ok=True)
        os.makedirs(f"{self._place.path}/logs", exist_ok=True)
        self._place.prepare()
        _write_over(self._place.resolver, f"nameserver {NAMES_ADDRESS}\noptions ndots:0\n")
        _make_bridge()
        self._listener = listener
        self.keeper = self._fork_part(logs.serve)
        self.relay = self._fork_part(relay.serve)
        self.names = self._fork_part(names.serve)
        self.egress = WayOut(egress, self.loop, self.names)
        self._requests = Requests(self)
        self.loop.watch(listener.fileno(), self._accept)
        self._welcome(lease)
        self.egress.begin()

    def run(self) -> None:
        """Serve until the last client is gone, or one asks to end it."""
        self.loop.run()

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
        service = Service(name, number, address, self._place, self.loop, self._limits, self.rights)
        service.on_change = self._changed
        service.on_names = self._serve_names
        self.services[name] = service
        self._tell_names()
        return service

    def log_directory(self, service: Service) -> str:
        """Where the keeper writes what a service has said."""
        return f"{self._place.path}/logs/{service.number}"

    def forget(self, name: str) -> None:
        """Nobody finds the service by its name any more. Its address stays its own, should it come again."""
        self._gone.add(name)
        self.relay.send({"do": "drop_service", "prefix": f"{name}:"})
        self._tell_names()

    def end(self) -> None:
        """Let everything of the enclave end."""
        self.loop.stop()

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
        self.names.send({"do": "names", "names": table})
        _write_over(self._place.hosts, names.hosts_text(table))

    def _serve_names(self, service: Service, sockets: list[int]) -> None:
        self.names.send({"do": "serve", "key": service.name}, sockets)
        for descriptor in sockets:
            os.close(descriptor)

    def _fork_part(self, serve: Callable[[Channel], None]) -> Channel:
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
        self.loop.when_ended(process, lambda _: self.end())
        return Channel(ours)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        client = connection.fileno()
        channel = self._clients[client] = Channel(connection)
        self.loop.watch(client, lambda: self._hear(client, channel))
        for service in self.services.values():
            self.send(client, _state_of(service))
        self.send(client, {"event": "ready"})

    def _hear(self, client: int, channel: Channel) -> None:
        try:
            for message, descriptors in channel.arrived():
                self._requests.answer(client, message, descriptors)
        except (EOFError, OSError):
            self._hang_up(client)

    def _hang_up(self, client: int) -> None:
        if channel := self._clients.pop(client, None):
            self.loop.forget(client)
            with suppress(OSError):
                channel.close()
        if not self._clients:
            self.end()


def _state_of(service: Service) -> dict[str, Any]:
    return {"event": "state", "service": service.name, **service.state()}


def _use_all_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _mount_storage(plan: dict[str, Any]) -> None:
    """In memory, unless it is to be on disk, or this kernel has no user attributes on tmpfs."""
    groups = os.open(MACHINE_CGROUPS, os.O_PATH) if os.path.isdir(MACHINE_CGROUPS) else -1
    if plan["storage"] != "disk":
        mounts.tmpfs(STORAGE, "mode=755")
        if plan["storage"] is None and not mounts.tmpfs_has_user_xattrs(STORAGE):
            syscalls.umount(STORAGE)
            plan["storage"] = "disk"
    if plan["storage"] == "disk":
        os.mkdir(f"{plan['directory']}/files")
        mounts.bind(f"{plan['directory']}/files", STORAGE)
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


def _make_bridge() -> None:
    with Netlink() as links:
        links.up("lo")
        links.bridge(BRIDGE)
        links.address(BRIDGE, GATEWAY, PREFIX)
        links.up(BRIDGE)
