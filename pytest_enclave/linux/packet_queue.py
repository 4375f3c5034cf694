"""Packets that the kernel holds until a process has decided about them (nfnetlink_queue): what libnetfilter_queue does.

Rules send packets there (`netfilter.queue`). Of each only the addresses are read; it stays in the kernel, whole, for as
long as nothing was said about it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

BUFFER = 1 << 16

WAITING = 1 << 23
"""Bytes of news about packets that may wait to be read. What does not fit is dropped."""

MOST = 1 << 16
"""Packets that one queue holds. What comes then is dropped."""

TOGETHER = 1000
"""Decisions that are told in one message."""

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FAMILY = struct.Struct("!BBH")  # family, version, number of the queue
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_WHICH = struct.Struct("!IHB")  # number of the packet, protocol, hook

_NETLINK_NETFILTER, _SUBSYSTEM = 12, 3
_PACKET, _VERDICT, _CONFIGURE = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 1, _SUBSYSTEM << 8 | 2
_REQUEST, _ACKNOWLEDGE, _ERROR = 0x1, 0x4, 2

_COMMAND, _PARAMETERS, _LENGTH, _MASK, _FLAGS = 1, 2, 3, 4, 5
_BIND, _COPY_PACKET, _LARGE_PACKETS = 1, 2, 4

_ADDRESSES = 20
"""Bytes of a packet that are read: its IPv4 header."""

_SO_RCVBUFFORCE = 33


class Held(NamedTuple):
    """A packet that is held: its number in its queue, the hook where that happened, and its IPv4 addresses."""

    number: int
    hook: int
    source: bytes
    destination: bytes


class PacketQueue:
    """A queue of the network namespace that this object is made in. When it is closed, what it holds is dropped.

    Every method raises OSError. Not for several threads.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        try:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, WAITING)
            self._configure(_attribute(_COMMAND, struct.pack("!BxH", _BIND, socket.AF_INET)))
            # Large packets come as they are, not cut and with checksums: these are made when they leave.
            large = struct.pack("!I", _LARGE_PACKETS)
            self._configure(
                _attribute(_PARAMETERS, struct.pack("!IB", _ADDRESSES, _COPY_PACKET))
                + _attribute(_LENGTH, struct.pack("!I", MOST))
                + _attribute(_MASK, large)
                + _attribute(_FLAGS, large)
            )
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hold no more packets."""
        self._socket.close()

    def arrived(self) -> list[Held]:
        """Packets that have come since the last call."""
        found: list[Held] = []
        while True:
            try:
                data = self._socket.recv(BUFFER)
            except BlockingIOError:
                return found
            except OSError as error:
                # There were more than fit: the kernel has dropped them.
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, at)
                if kind == _PACKET:
                    found.append(_held(data[at + _HEADER.size + _FAMILY.size : at + length]))
                at += max(length, _HEADER.size) + 3 & ~3

    def decide(self, numbers: Iterable[int], *, passes: bool) -> None:
        """Let packets go on, or drop them, in this order. Those that have gone otherwise are no matter."""
        messages = [
            self._message(_VERDICT, _REQUEST, _attribute(2, struct.pack("!II", int(passes), number)))
            for number in numbers
        ]
        for at in range(0, len(messages), TOGETHER):
            self._socket.sendto(b"".join(messages[at : at + TOGETHER]), (0, 0))

    def _configure(self, attributes: bytes) -> None:
        self._socket.sendto(self._message(_CONFIGURE, _REQUEST | _ACKNOWLEDGE, attributes), (0, 0))
        while True:
            answer = self._socket.recv(BUFFER)
            if _HEADER.unpack_from(answer)[1] == _ERROR:
                break
        if number := -int(struct.unpack_from("=i", answer, _HEADER.size)[0]):
            raise OSError(number, os.strerror(number), f"bind queue {self._number} of packets")

    def _message(self, kind: int, flags: int, attributes: bytes) -> bytes:
        body = _FAMILY.pack(0, 0, self._number) + attributes
        return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _held(attributes: bytes) -> Held:
    number, hook, header = 0, 0, bytes(_ADDRESSES)
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        value = attributes[at + _ATTRIBUTE.size : at + length]
        if kind == 1:
            number, _, hook = _WHICH.unpack_from(value)
        elif kind == 10:
            header = value
        at += max(length, _ATTRIBUTE.size) + 3 & ~3
    return Held(number, hook, header[12:16], header[16:20])


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)
