"""Packets that the kernel itself holds up when they come in by a link: what `tc` does, without needing it.

Rules lead them over a link of their own (ifb), by a class (htb) for their sender that holds them up (netem). There they
leave, and go on as if they had just come in. The rules end with the process that made them, and with them the delays.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_enclave.linux.netfilter import INGRESS, LINK, Chain, go_by, is_ipv4, sent_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_enclave.linux.netfilter import Netfilter
    from pytest_enclave.linux.netlink import Netlink

LOOPBACK = 1
"""The number of the link that each network namespace has."""

HANDLE = 1 << 16
"""The queueing discipline of our link. Classes are called by this and a number."""

MOST = 1 << 16
"""Packets that are held up of one sender. What comes then is dropped."""

FASTEST = 0xFFFFFFFF
"""Bytes a second of a class: it is not to be the one that limits anything."""

BURST = 1 << 20
"""How long a class may make up for what it has not sent, in ticks of 64 ns; and bytes that it sends in turn."""

_TRAFFIC = struct.Struct("=BxxxiIII")  # family, link, handle, parent, information
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_RATE = struct.Struct("=BBHhHI")  # cell, kind of link, overhead, alignment, least, bytes a second
_CLASS = struct.Struct("=IIIII")  # two bursts, quantum, level, priority
_NETEM = struct.Struct("=IIIIII")  # latency, limit, loss, gap, duplicates, jitter

_NEW_DISCIPLINE, _DELETE_DISCIPLINE = 36, 37
_NEW_CLASS, _DELETE_CLASS = 40, 41
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_KIND, _OPTIONS = 1, 2
_ROOT = 0xFFFFFFFF
_ETHERNET = 1
_HTB_CLASS, _HTB_GENERAL = 1, 2
_HTB_VERSION, _QUANTUM = 3, 10
_NETEM_LATENCY = 10


class Delays:
    """What comes in by a link, in the network namespace of these two; `name` is that of the link which is made for it.

    Raises OSError where the kernel cannot.
    """

    def __init__(self, netlink: Netlink, netfilter: Netfilter, link: str, name: str) -> None:
        self._netlink = netlink
        self._netfilter = netfilter
        self._name = name
        self._chain = Chain(LINK, name, "arriving", INGRESS, link=link)
        self._classes: dict[str, tuple[int, float | None]] = {}
        self._link = LOOPBACK
        self._check()
        # Of a process that was killed.
        with suppress(OSError):
            self._netlink.delete(name)
        self._netlink.intermediate(name)
        try:
            self._link = self._netlink.index(name)
            self._netlink.up(name)
            general = _attribute(_HTB_GENERAL, struct.pack("=IIIII", _HTB_VERSION, _QUANTUM, 0, 0, 0))
            self._ask(_NEW_DISCIPLINE, _CREATE | _EXCLUSIVE, HANDLE, _ROOT, "htb", general, "have classes of packets")
            # What else the kernel does not have shows only where it is asked for.
            rule = self._rule("0.0.0.0", 0)
            if not self._netfilter.table(name, [(self._chain, rule)], ours=True):
                self._netfilter.delete_table(name, LINK)
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), "have rules that end with this process")
        except OSError:
            self._netlink.delete(name)
            raise

    def hold_up(self, seconds: Mapping[str, float]) -> None:
        """Hold up for so long what comes from these addresses, and nothing else. Raises OSError.

        What is held up already keeps its time.
        """
        self._netfilter.rewrite({self._chain: [self._rule(each, delay) for each, delay in sorted(seconds.items())]})

    def lose(self, address: str) -> None:
        """Drop what is held up that came from an address. Raises OSError."""
        number, _ = self._classes.pop(address, (0, None))
        if number:
            self._ask(_DELETE_CLASS, 0, HANDLE | number, HANDLE, "htb", b"", f"drop packets from {address}")

    def close(self) -> None:
        """Drop what is held up, and leave nothing. Raises OSError."""
        try:
            self._netfilter.delete_table(self._name, LINK)
        finally:
            self._netlink.delete(self._name)

    def _check(self) -> None:
        """Raises OSError where the kernel has no netem."""
        try:
            # Without options it is refused, and nothing was changed.
            self._ask(_NEW_DISCIPLINE, _CREATE | _REPLACE, HANDLE, _ROOT, "netem", b"", "have netem")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def _rule(self, address: str, seconds: float) -> list[bytes]:
        """The rule for what comes from an address, with the class that it leads to."""
        number, before = self._classes.get(address, (0, None))
        if not number:
            taken = {number for number, _ in self._classes.values()}
            number = next(each for each in itertools.count(1) if each not in taken)
            rate = _RATE.pack(0, _ETHERNET, 0, 0, 0, FASTEST)
            options = _attribute(_HTB_CLASS, rate + rate + _CLASS.pack(BURST, BURST, BURST, 0, 0))
            what = f"have a class of packets from {address}"
            self._ask(_NEW_CLASS, _CREATE | _EXCLUSIVE, HANDLE | number, HANDLE, "htb", options, what)
            self._classes[address] = number, None
        if seconds != before:
            options = _NETEM.pack(0, MOST, 0, 0, 0, 0)
            options += _attribute(_NETEM_LATENCY, struct.pack("=q", round(seconds * 1_000_000_000)))
            what = f"hold up packets from {address}"
            self._ask(_NEW_DISCIPLINE, _CREATE | _REPLACE, 0, HANDLE | number, "netem", options, what)
            self._classes[address] = number, seconds
        return [is_ipv4(), sent_from(address), go_by(self._link, HANDLE | number)]

    def _ask(self, kind: int, flags: int, handle: int, parent: int, name: str, options: bytes, what: str) -> None:
        body = _TRAFFIC.pack(socket.AF_UNSPEC, self._link, handle, parent, 0) + _attribute(_KIND, name.encode() + b"\0")
        if options:
            body += _attribute(_OPTIONS, options)
        self._netlink.request(kind, flags, body, what)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)
