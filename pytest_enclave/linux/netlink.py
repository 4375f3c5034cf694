"""Network links, addresses and routes, by messages to the kernel (rtnetlink)."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BUFFER = 1 << 16

AT_ONCE = 64
"""Requests sent before their answers are read: there is not room for any number of these."""

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, changed flags
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, two prefixes, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type

_ERROR, _DONE = 2, 3
_NEW_LINK, _DELETE_LINK, _GET_LINK = 16, 17, 18
_NEW_ADDRESS = 20
_NEW_ROUTE, _DELETE_ROUTE = 24, 25
_NEW_NEIGHBOUR, _DELETE_NEIGHBOUR = 28, 29

_REQUEST, _ACKNOWLEDGE, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_CAPPED, _EXPLAINED = 0x100, 0x200

_SOL_NETLINK, _CAP_ACKNOWLEDGE, _EXTENDED_ACKNOWLEDGE = 270, 10, 11
_EXPLANATION = 1

_LINK_ADDRESS, _LINK_NAME, _LINK_MASTER, _LINK_INFO, _LINK_NAMESPACE_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_PEER = 1
_IFF_UP = 1
_ADDRESS_ADDRESS, _ADDRESS_LOCAL, _ADDRESS_BROADCAST = 1, 2, 4
_ROUTE_DESTINATION, _ROUTE_LINK, _ROUTE_GATEWAY, _ROUTE_SOURCE = 1, 4, 5, 7
_TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, _SCOPE_LINK, _UNICAST = 254, 3, 0, 253, 1
_NEIGHBOUR_IP, _NEIGHBOUR_MAC, _PERMANENT, _ITSELF = 1, 2, 0x80, 0x02


class Netlink:
    """The network of one namespace: the one in which this object was made, wherever it is used later.

    Every method raises OSError with the request and the kernel's own words. Not for several threads.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACKNOWLEDGE, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXTENDED_ACKNOWLEDGE, 1)
        self._sequence = 0
        self._waiting: list[bytes] = []
        self._requests: dict[int, str] = {}
        self._together = False

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. What was made stays."""
        self._socket.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send the requests made inside in one go, at the end or when one of them needs an answer.

        The kernel goes through all of them; the error of the first that failed is raised.
        """
        self._together = True
        try:
            yield
            self._send()
        finally:
            self._together = False
            self._waiting.clear()
            self._requests.clear()

    def index(self, name: str) -> int:
        """The number of a link. Raises OSError (ENODEV) if there is none of that name."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name)
        self._queue(_GET_LINK, 0, body, f'find link "{name}"')
        found = self._send()
        return int(_LINK.unpack_from(found)[2])

    def bridge(self, name: str, mac: bytes | None = None) -> None:
        """Make a bridge, with a hardware address that does not change when links join and leave it."""
        mac = mac or bytes((0x02, *os.urandom(5)))
        info = _nest(_LINK_INFO, _attribute(_INFO_KIND, b"bridge"))
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name) + _attribute(_LINK_ADDRESS, mac) + info
        self.request(_NEW_LINK, _CREATE | _EXCLUSIVE, body, f'make bridge "{name}"')

    def intermediate(self, name: str) -> None:
        """Make a link (ifb) for packets on their way to another: they go on there when they have left this one."""
        info = _nest(_LINK_INFO, _attribute(_INFO_KIND, b"ifb"))
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name) + info
        self.request(_NEW_LINK, _CREATE | _EXCLUSIVE, body, f'make link "{name}"')

    def veth(
        self,
        name: str,
        peer: str,
        peer_namespace_fd: int | None = None,
        peer_mac: bytes | None = None,
        master: int | None = None,
    ) -> None:
        """Make a pair of links, both down. `peer` is in the other namespace if there is one, `name` is joined to the
        bridge with the number `master`."""
        other = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(peer)
        if peer_namespace_fd is not None:
            other += _attribute(_LINK_NAMESPACE_FD, _number(peer_namespace_fd))
        if peer_mac is not None:
            other += _attribute(_LINK_ADDRESS, peer_mac)
        data = _nest(_INFO_DATA, _nest(_VETH_PEER, other))
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name)
        if master is not None:
            body += _attribute(_LINK_MASTER, _number(master))
        body += _nest(_LINK_INFO, _attribute(_INFO_KIND, b"veth") + data)
        self.request(_NEW_LINK, _CREATE | _EXCLUSIVE, body, f'make link "{name}" to "{peer}"')

    def address(self, name: str, ip: str, prefix: int) -> None:
        """Give a link an IPv4 address with the network of that prefix length."""
        packed = socket.inet_aton(ip)
        broadcast = int.from_bytes(packed, "big") | (1 << (32 - prefix)) - 1
        body = (
            _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, self.index(name))
            + _attribute(_ADDRESS_LOCAL, packed)
            + _attribute(_ADDRESS_ADDRESS, packed)
            + _attribute(_ADDRESS_BROADCAST, broadcast.to_bytes(4, "big"))
        )
        self.request(_NEW_ADDRESS, _CREATE | _EXCLUSIVE, body, f'give link "{name}" the address {ip}/{prefix}')

    def up(self, name: str) -> None:
        """Switch a link on."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP) + _name(name)
        self.request(_NEW_LINK, 0, body, f'switch on link "{name}"')

    def down(self, name: str) -> None:
        """Switch a link off: nothing passes it any more, in either direction."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, _IFF_UP) + _name(name)
        self.request(_NEW_LINK, 0, body, f'switch off link "{name}"')

    def join(self, name: str, master: int) -> None:
        """Join a link to the bridge with this number; it leaves the one that it was joined to."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name) + _attribute(_LINK_MASTER, _number(master))
        self.request(_NEW_LINK, 0, body, f'join link "{name}" to a bridge')

    def take_in(self, bridge: int, mac: bytes) -> None:
        """Let the bridge with this number take in what is for a hardware address, as if it were its own."""
        flags = _CREATE | _EXCLUSIVE
        self.request(_NEW_NEIGHBOUR, flags, _taken_in(bridge, mac), f"take in packets for {mac.hex(':')}")

    def take_in_no_more(self, bridge: int, mac: bytes) -> None:
        """Undo `take_in`."""
        self.request(_DELETE_NEIGHBOUR, 0, _taken_in(bridge, mac), f"take in no more packets for {mac.hex(':')}")

    def route(self, ip: str, link: int, source: str) -> None:
        """Reach an address by the link with this number, whatever network it is in, from this address of ours."""
        self.request(_NEW_ROUTE, _CREATE | _REPLACE, _route_to(ip, link, source), f"route to {ip}")

    def route_no_more(self, ip: str, link: int, source: str) -> None:
        """Undo `route`."""
        self.request(_DELETE_ROUTE, 0, _route_to(ip, link, source), f"route no more to {ip}")

    def gateway(self, ip: str) -> None:
        """Route by this address whatever has no other route. A link that is up must reach it."""
        body = _ROUTE.pack(
            socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_UNIVERSE, _UNICAST, 0
        ) + _attribute(_ROUTE_GATEWAY, socket.inet_aton(ip))
        self.request(_NEW_ROUTE, _CREATE | _EXCLUSIVE, body, f"route by {ip}")

    def forget(self, ip: str, link: int) -> None:
        """Forget whose an address is, and drop what waits to be sent there until that is known. ENOENT: it is not.

        `link` is the number of the one that leads there.
        """
        body = _NEIGHBOUR.pack(socket.AF_INET, link, 0, 0, 0) + _attribute(_NEIGHBOUR_IP, socket.inet_aton(ip))
        self.request(_DELETE_NEIGHBOUR, 0, body, f"forget whose {ip} is")

    def delete(self, name: str) -> None:
        """Remove a link; its peer goes too."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name)
        self.request(_DELETE_LINK, 0, body, f'delete link "{name}"')

    def request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        """Send any request that is answered by success or an error; `what` it is, for that."""
        self._queue(kind, flags | _ACKNOWLEDGE, body, what)
        if not self._together:
            self._send()

    def _queue(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self._sequence += 1
        self._waiting.append(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)
        self._requests[self._sequence] = what

    def _send(self) -> bytes:
        """Send what waits, and read until all of it is answered. The content of the last answer that has one."""
        content = b""
        error: OSError | None = None
        while self._waiting or self._requests:
            if len(self._requests) == len(self._waiting):
                self._socket.sendto(b"".join(self._waiting[:AT_ONCE]), (0, 0))
                del self._waiting[:AT_ONCE]
            received = self._socket.recv(BUFFER)
            at = 0
            while at + _HEADER.size <= len(received):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(received, at)
                body = received[at + _HEADER.size : at + length]
                at += length + 3 & ~3
                what = self._requests.pop(sequence, None)
                if what is None:
                    continue
                if kind != _ERROR:
                    content = body
                elif number := -struct.unpack_from("=i", body)[0]:
                    error = error or OSError(number, _explain(number, flags, body), what)
        if error is not None:
            raise error
        return content


def _explain(number: int, flags: int, body: bytes) -> str:
    """The kernel's words for an error, where it has some that say more than the number."""
    words = os.strerror(number)
    if not flags & _EXPLAINED:
        return words
    # After the error's number comes the header of the request, and all of the request unless it was capped.
    request = struct.unpack_from("=I", body, 4)[0]
    at = 4 + (_HEADER.size if flags & _CAPPED else request + 3 & ~3)
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        if kind & 0x3FFF == _EXPLANATION:
            text = body[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode(errors="replace")
            return f"{words} ({text})"
        at += length + 3 & ~3
    return words


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | 0x8000, value)


def _taken_in(bridge: int, mac: bytes) -> bytes:
    return _NEIGHBOUR.pack(socket.AF_BRIDGE, bridge, _PERMANENT, _ITSELF, 0) + _attribute(_NEIGHBOUR_MAC, mac)


def _route_to(ip: str, link: int, source: str) -> bytes:
    return (
        _ROUTE.pack(socket.AF_INET, 32, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_LINK, _UNICAST, 0)
        + _attribute(_ROUTE_DESTINATION, socket.inet_aton(ip))
        + _attribute(_ROUTE_LINK, _number(link))
        + _attribute(_ROUTE_SOURCE, socket.inet_aton(source))
    )


def _name(name: str) -> bytes:
    return _attribute(_LINK_NAME, name.encode() + b"\0")


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little" if struct.pack("=H", 1)[0] else "big")
