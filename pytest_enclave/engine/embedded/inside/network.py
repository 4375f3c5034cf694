"""The network of an enclave: its bridges, and which of them each service is joined to.

All services are joined to `br0` as long as nothing is between any of them. Otherwise there is a bridge for each group
of services that reach each other as ever (`grouping`), and the shaper stands between the bridges: each takes in what is
for services of other ones, for the shaper to have it. The enclave's own address, by which ports, names and the way out
go, is the same on all of them, for all have one hardware address. A bridge that is not needed any more stays: removing
it would take longer than all else.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside import shaper
from pytest_enclave.engine.embedded.inside.body import BRIDGE, GATEWAY, PREFIX
from pytest_enclave.engine.embedded.inside.ends import Ends
from pytest_enclave.engine.embedded.inside.frames import mac_of
from pytest_enclave.engine.embedded.inside.grouping import grouped
from pytest_enclave.engine.embedded.inside.loop import Loop
from pytest_enclave.engine.embedded.inside.service import Service
from pytest_enclave.linux import syscalls
from pytest_enclave.linux.netlink import Netlink

ANSWER = 10.0
"""Seconds after which the shaper does not answer any more."""

Connections = Sequence[Sequence[Any]]
"""From whom to whom, by name; percent lost; a delay's mean, deviation and correlation."""


class Network:
    """Bridges, and the process that is between them. `on_loss` is called when that has ended by itself."""

    def __init__(self, loop: Loop, ends: Ends, on_loss: Callable[[], None]) -> None:
        self._loop = loop
        self._ends = ends
        self._on_loss = on_loss
        self._mac = bytes((0x02, *os.urandom(5)))
        self._services: dict[str, Service] = {}
        self._present: set[str] = set()
        self._joined: dict[str, int] = {}
        self._connections: Connections = []
        self._seed = 0
        self._groups: dict[str, int] = {}
        self._bridges: list[int] = []
        self._taken_in: set[tuple[int, str]] = set()
        self._routes: dict[str, int] = {}
        self._shaper: Channel | None = None
        self._process = 0
        self._lost = ""
        with Netlink() as links:
            links.up("lo")
            self._add_bridge(links)
            links.address(BRIDGE, GATEWAY, PREFIX)

    def told(self) -> dict[str, Any]:
        """How packets travel: `connections` and `seed`, nothing if there are none; or why that is not so any more."""
        if self._lost:
            return {"error": self._lost}
        return {} if not self._connections else {"connections": self._connections, "seed": self._seed}

    def admit(self, service: Service) -> None:
        """There is a new service, with an address."""
        self._services[service.name] = service
        if self._connections:
            with Netlink() as links:
                self._direct(links)
            self._tell_of(service)

    def join(self, service: Service) -> str:
        """A service begins: the bridge that it is to be joined to."""
        self._present.add(service.name)
        self._tell_of(service)
        number = self._joined[service.name] = self._group(service.name)
        return _bridge(number)

    def leave(self, service: Service, link: str) -> None:
        """A service has ended: nothing comes over its link any more."""
        with suppress(OSError), Netlink() as links:
            links.down(link)
        self._present.discard(service.name)
        self._tell_of(service)

    def shape(self, connections: Connections, seed: int) -> None:
        """Let packets travel like this. Raises OSError, and changes nothing then.

        Where the shaper has ended, that is the error, and nothing is between services afterwards.
        """
        former = self._connections, self._seed
        if not self._lost:
            try:
                self._change(connections, seed)
                return
            except OSError:
                if not self._lost:
                    with suppress(OSError):
                        self._change(*former)
                    raise
        reason, self._lost = self._lost, ""
        self._change([], seed)
        raise OSError(reason)

    def _change(self, connections: Connections, seed: int) -> None:
        groups = grouped((one, other) for one, other, *_ in connections)
        count = _count(groups)
        with Netlink() as links:
            while len(self._bridges) < count:
                self._add_bridge(links)
            self._tell(connections, seed, groups, max(count, _count(self._groups)))
            self._connections, self._seed, self._groups = connections, seed, groups
            self._undirect(links)
            for name, service in self._services.items():
                if service.link and self._group(name) != self._joined[name]:
                    self._move(links, service)
            self._direct(links)
        self._tell_that_all_have_moved(count)

    def _tell(self, connections: Connections, seed: int, groups: Mapping[str, int], count: int) -> None:
        """Have the shaper do it, and look for services where they are and where they will be. Raises OSError.

        Where nothing is to be between them any more, all stays as it is until they are together again.
        """
        if not connections:
            connections, seed = self._connections, self._seed
        elif self._shaper is None:
            self._begin_shaper()
        if self._shaper is not None:
            services = {name: self._place(service, groups) for name, service in self._services.items()}
            shape = {"seed": seed, "groups": count, "services": services, "connections": connections}
            self._ask_shaper({"do": "shape", **shape})

    def _tell_that_all_have_moved(self, count: int) -> None:
        """Without connections the shaper ends: what it holds up goes on."""
        if self._shaper is None:
            return
        if self._connections:
            # If it is gone, that will soon be noticed.
            with suppress(OSError):
                self._shaper.send({"do": "moved", "groups": count})
        else:
            self._ask_shaper({"do": "end"})
            self._end_shaper()

    def _move(self, links: Netlink, service: Service) -> None:
        try:
            links.join(service.link, self._bridges[self._group(service.name)])
        except OSError as error:
            # It has just ended.
            if error.errno != errno.ENODEV:
                raise
        self._joined[service.name] = self._group(service.name)

    def _undirect(self, links: Netlink) -> None:
        """No longer take in what is for services that will be on the bridge themselves, nor look for them elsewhere."""
        wanted = self._to_be_taken_in()
        with links.together():
            for number, ip in self._taken_in - wanted:
                links.take_in_no_more(self._bridges[number], mac_of(ip))
            for service in self._services.values():
                number = self._routes.get(service.address, 0)
                if number and not self._group(service.name):
                    links.route_no_more(service.address, self._bridges[number], GATEWAY)
                    del self._routes[service.address]
        self._taken_in &= wanted

    def _direct(self, links: Netlink) -> None:
        """Take in what is for services on other bridges, and find each where it is."""
        missing = self._to_be_taken_in() - self._taken_in
        with links.together():
            for number, ip in missing:
                links.take_in(self._bridges[number], mac_of(ip))
            for service in self._services.values():
                number = self._group(service.name)
                if number and self._routes.get(service.address) != number:
                    links.route(service.address, self._bridges[number], GATEWAY)
                    self._routes[service.address] = number
        self._taken_in |= missing

    def _to_be_taken_in(self) -> set[tuple[int, str]]:
        groups = {service.address: self._group(name) for name, service in self._services.items()}
        bridges = set(self._groups.values())
        return {(number, ip) for number in bridges for ip in groups if groups[ip] != number}

    def _add_bridge(self, links: Netlink) -> None:
        name = _bridge(len(self._bridges))
        links.bridge(name, self._mac)
        self._bridges.append(links.index(name))
        links.up(name)

    def _group(self, name: str) -> int:
        return self._groups.get(name, 0)

    def _place(self, service: Service, groups: Mapping[str, int]) -> list[Any]:
        return [service.address, groups.get(service.name, 0), service.name in self._present]

    def _tell_of(self, service: Service) -> None:
        if self._shaper is not None:
            # If it is gone, that will soon be noticed.
            with suppress(OSError):
                place = self._place(service, self._groups)
                self._shaper.send({"do": "service", "name": service.name, "service": place})

    def _begin_shaper(self) -> None:
        ours, theirs = socket.socketpair()
        process = os.fork()
        if process == 0:
            try:
                signal.set_wakeup_fd(-1)
                # Namespaces of services would stay in use.
                syscalls.close_others(theirs.fileno())
                shaper.serve(Channel(theirs))
            finally:
                os._exit(1)
        theirs.close()
        ours.settimeout(ANSWER)
        self._shaper, self._process = Channel(ours), process
        self._ends.await_end(process)
        self._loop.when_ended(process, lambda status: self._ended(process, status))

    def _ask_shaper(self, request: dict[str, Any]) -> None:
        """Have it do something. Raises OSError, also where it has ended."""
        assert self._shaper is not None
        reason = "the process that shapes connections has ended"
        try:
            self._shaper.send(request)
            received = self._shaper.receive()
        except TimeoutError:
            received, reason = None, f"the process that shapes connections does not answer, since {ANSWER:g} s"
        except OSError:
            received = None
        if received is None:
            self._lose(reason)
            raise OSError(reason)
        if "error" in received[0]:
            raise OSError(received[0]["error"])

    def _end_shaper(self) -> None:
        if self._shaper is not None:
            self._shaper.close()
            os.kill(self._process, signal.SIGKILL)
            self._shaper, self._process = None, 0

    def _ended(self, process: int, status: int) -> None:
        if process == self._process:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"has ended with exit code {code}"
            self._process = 0
            self._lose(f"the process that shapes connections {how}")
        # Now that clients are told.
        self._ends.noted(process)

    def _lose(self, reason: str) -> None:
        """Without the shaper, nothing passes from one group to another: it must not look as if that were meant."""
        self._lost = f"{reason}; until now, packets between services did not pass"
        if self._shaper is not None:
            self._shaper.close()
            self._shaper = None
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            self._process = 0
        self._on_loss()


def _count(groups: Mapping[str, int]) -> int:
    return max(groups.values(), default=0) + 1


def _bridge(number: int) -> str:
    return f"br{number}"
