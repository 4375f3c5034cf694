"""Rules for packets, by messages to the kernel (nf_tables over nfnetlink): what `nft` does, without needing it.

A rule is a list of expressions: tests, made by the functions below, and what is done when all of them hold: `ACCEPT`,
`DROP`, `MASQUERADE`, `queue` or `go_by`. Of the sets, maps and families there are, only what an enclave needs is here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUFFER = 1 << 18

MOST_DUMPS = 100
"""How often a list is asked for again because it has changed while it was told."""

IPV4, INET, LINK = 2, 1, 5
"""Families of tables: IPv4 only, IPv4 together with IPv6, and whatever comes in by one link."""

PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
"""Points that packets pass: when they have come in, when they are to be sent on, when they were made here, and before
they leave."""

INGRESS = 0
"""The point of a link: before anything else is done about a packet."""

NEW = 8
"""The state of a connection of which this is the first packet."""

UNANSWERED = NEW | 1 | 64
"""The states of a packet that belongs to no connection which was let pass before: also invalid, and not tracked."""

REWRITTEN = 32
"""The status of a connection whose destination was changed: one to a published port."""

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FAMILY = struct.Struct("!BBH")  # family, version, subsystem
_ATTRIBUTE = struct.Struct("=HH")  # length, type

_NETLINK_NETFILTER, _SUBSYSTEM = 12, 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _DELETE_TABLE = 0, 2
_NEW_CHAIN, _GET_CHAIN = 3, 4
_NEW_RULE, _GET_RULE, _DELETE_RULE = 6, 7, 8
_REQUEST, _ACKNOWLEDGE, _DUMP, _EXCLUSIVE, _CREATE, _APPEND = 0x1, 0x4, 0x300, 0x200, 0x400, 0x800
_ERROR, _DONE, _INTERRUPTED = 2, 3, 0x10

_OWNED = 2
_FILTER_PRIORITY, _NAT_PRIORITY = 0, 100


class Chain(NamedTuple):
    """A chain of rules. `hook` is the point where it begins, None for one that others jump to; `link` is a name."""

    family: int
    table: str
    name: str
    hook: int | None = None
    type: str = "filter"
    link: str = ""


class Rule(NamedTuple):
    """A rule there is; `expressions` in the kernel's encoding."""

    chain: Chain
    handle: int
    expressions: bytes


class Netfilter:
    """The rules of one network namespace: the one in which this object was made.

    Every method raises OSError with the request. A table that is made here lasts no longer than this object, where
    the kernel has that (5.12), however its process ends. Not for several threads.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._sequence = 0

    def __enter__(self) -> Netfilter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def table(self, name: str, rules: Sequence[tuple[Chain, Sequence[bytes]]], *, ours: bool) -> bool:
        """Make a table, of one family, with its chains and rules, all or nothing.

        If it is `ours`, it ends with this object; whether it does: older kernels know nothing of owners.
        """
        chains = dict.fromkeys(chain for chain, _ in rules)
        family = next(iter(chains)).family
        parts = [(_NEW_CHAIN, _CREATE, family, _chain(chain)) for chain in chains]
        parts += [(_NEW_RULE, _CREATE | _APPEND, family, _rule(chain, each)) for chain, each in rules]
        named = _text(1, name)
        what = f'make table "{name}" of rules'
        owned = [named + _attribute(2, _big(_OWNED))] if ours else []
        for attributes in [*owned, named]:
            try:
                self._change([(_NEW_TABLE, _CREATE | _EXCLUSIVE, family, attributes), *parts], what)
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.EINVAL) and attributes != named:
                    continue
                raise
            return attributes != named
        return False

    def delete_table(self, name: str, family: int = IPV4) -> None:
        """Remove a table. Raises OSError (ENOENT) if there is none of that name."""
        self._change([(_DELETE_TABLE, 0, family, _text(1, name))], f'delete table "{name}" of rules')

    def insert(self, chain: Chain, rules: Sequence[Sequence[bytes]]) -> None:
        """Put rules before all others of a chain."""
        parts = [(_NEW_RULE, _CREATE, chain.family, _rule(chain, each)) for each in rules]
        self._change(parts, f'add rules to "{chain.table}" "{chain.name}"')

    def delete(self, rules: Sequence[Rule]) -> None:
        """Remove rules, all or nothing."""
        parts = [
            (
                _DELETE_RULE,
                0,
                rule.chain.family,
                _text(1, rule.chain.table) + _text(2, rule.chain.name) + _attribute(3, struct.pack("!Q", rule.handle)),
            )
            for rule in rules
        ]
        self._change(parts, "delete rules")

    def rewrite(self, rules: Mapping[Chain, Sequence[Sequence[bytes]]]) -> None:
        """Have these rules in these chains, and no others: all at once, so that no packet meets anything in between."""
        parts = []
        for chain, each in rules.items():
            parts.append((_DELETE_RULE, 0, chain.family, _text(1, chain.table) + _text(2, chain.name)))
            parts += [(_NEW_RULE, _CREATE | _APPEND, chain.family, _rule(chain, rule)) for rule in each]
        self._change(parts, f"write the rules of {', '.join(sorted(chain.name for chain in rules))}")

    def chains(self) -> list[Chain]:
        """All chains that there are."""
        found = []
        for family, body in self._dump(_GET_CHAIN, 0, b"", "list chains of rules"):
            values = _parse(body)
            hook = _parse(values[4]).get(1) if 4 in values else None
            number = None if hook is None else int.from_bytes(hook, "big")
            found.append(Chain(family, _string(values[1]), _string(values[3]), number, _string(values.get(7, b""))))
        return found

    def rules(self, chain: Chain) -> list[Rule]:
        """The rules of a chain."""
        attributes = _text(1, chain.table) + _text(2, chain.name)
        found = []
        for _, body in self._dump(_GET_RULE, chain.family, attributes, f'list rules of "{chain.table}" "{chain.name}"'):
            values = _parse(body)
            # Old kernels list those of all chains.
            if _string(values[1]) == chain.table and _string(values[2]) == chain.name:
                found.append(Rule(chain, int.from_bytes(values[3], "big"), values.get(4, b"")))
        return found

    def _change(self, parts: Sequence[tuple[int, int, int, bytes]], what: str) -> None:
        """Send requests that the kernel does all together, or none of them."""
        messages = [self._message(_BATCH_BEGIN, 0, _FAMILY.pack(0, 0, _SUBSYSTEM))]
        first = self._sequence + 1
        for kind, flags, family, attributes in parts:
            body = _FAMILY.pack(family, 0, 0) + attributes
            messages.append(self._message(_SUBSYSTEM << 8 | kind, flags | _ACKNOWLEDGE, body))
        waiting = set(range(first, self._sequence + 1))
        messages.append(self._message(_BATCH_END, 0, _FAMILY.pack(0, 0, _SUBSYSTEM)))
        self._socket.sendto(b"".join(messages), (0, 0))
        failure = 0
        # A batch that is refused as a whole is answered by one error, for its beginning.
        while waiting:
            for kind, _, sequence, body in self._received():
                if kind == _ERROR:
                    waiting.discard(sequence)
                    number = -int(struct.unpack_from("=i", body)[0])
                    failure = failure or number
                    if number and sequence < first:
                        waiting.clear()
        if failure:
            raise OSError(failure, os.strerror(failure), what)

    def _dump(self, kind: int, family: int, attributes: bytes, what: str) -> list[tuple[int, bytes]]:
        for _ in range(MOST_DUMPS):
            message = self._message(_SUBSYSTEM << 8 | kind, _DUMP, _FAMILY.pack(family, 0, 0) + attributes)
            self._socket.sendto(message, (0, 0))
            found: list[tuple[int, bytes]] = []
            changed, done = False, False
            while not done:
                for answer, flags, sequence, body in self._received():
                    if sequence != self._sequence:
                        continue
                    changed = changed or bool(flags & _INTERRUPTED)
                    if answer not in (_DONE, _ERROR):
                        found.append((body[0], body[_FAMILY.size :]))
                        continue
                    done = True
                    number = -int(struct.unpack_from("=i", body)[0]) if len(body) >= 4 else 0
                    if number:
                        raise OSError(number, os.strerror(number), what)
            if not changed:
                return found
        raise OSError(errno.EAGAIN, "they keep changing", what)

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
        self._sequence += 1
        return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._sequence, 0) + body

    def _received(self) -> list[tuple[int, int, int, bytes]]:
        data = self._socket.recv(BUFFER)
        messages = []
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
            messages.append((kind, flags, sequence, data[at + _HEADER.size : at + length]))
            at += length + 3 & ~3
        return messages


def coming_from(link: str) -> bytes:
    """The packet has come in by this link; if its name ends in *, by any that begins so."""
    return _meta(6, link)


def going_to(link: str) -> bytes:
    """The packet is to leave by this link; if its name ends in *, by any that begins so."""
    return _meta(7, link)


def not_going_to(link: str) -> bytes:
    """The packet is to leave by another link; if the name ends in *, by one that does not begin so."""
    return _meta(7, link, differs=True)


def sent_from(ip: str) -> bytes:
    """The packet's source is this IPv4 address."""
    return _address(12, ip)


def sent_to(ip: str) -> bytes:
    """The packet's destination is this IPv4 address."""
    return _address(16, ip)


def is_ipv4() -> bytes:
    """The packet is one of IPv4: where others pass as well."""
    load = _expression("meta", _attribute(1, _big(1)) + _attribute(2, _big(1)))
    return load + _compare(struct.pack("!H", 0x0800))


def go_by(link: int, place: int) -> bytes:
    """Let what comes in by one link go by that with this number, by this class of its queueing discipline first."""
    classify = _number(place) + _expression("meta", _attribute(2, _big(2)) + _attribute(3, _big(1)))
    return classify + _number(link) + _expression("fwd", _attribute(1, _big(1)))


def queue(number: int, *, foreign: bool = False) -> bytes:
    """Ask the process that serves this queue; let the packet pass where there is none.

    Some kernels have that for rules of iptables only: then it has to be the `foreign` one.
    """
    if not foreign:
        attributes = [struct.pack("!H", each) for each in (number, 1, 1)]
        return _expression("queue", b"".join(_attribute(kind, each) for kind, each in enumerate(attributes, 1)))
    # The same three values, as the third version of iptables' target has them.
    values = struct.pack("=HHHxx", number, 1, 1)
    return _expression("target", _text(1, "NFQUEUE") + _attribute(2, _big(3)) + _attribute(3, values))


def connection(*, state: int = 0, status: int = 0) -> bytes:
    """The packet's connection is in one of these states, or has one of these bits in its status."""
    mask = struct.pack("=I", state or status)
    load = _expression("ct", _attribute(1, _big(1)) + _attribute(2, _big(0 if state else 2)))
    bits = _attribute(1, _big(1)) + _attribute(2, _big(1)) + _attribute(3, _big(4))
    masked = _expression("bitwise", bits + _nest(4, _attribute(1, mask)) + _nest(5, _attribute(1, bytes(4))))
    return load + masked + _compare(bytes(4), differs=True)


def _address(offset: int, ip: str) -> bytes:
    load = _attribute(1, _big(1)) + _attribute(2, _big(1)) + _attribute(3, _big(offset)) + _attribute(4, _big(4))
    return _expression("payload", load) + _compare(socket.inet_aton(ip))


def _meta(key: int, link: str, *, differs: bool = False) -> bytes:
    wanted = link[:-1].encode() if link.endswith("*") else link.encode() + b"\0"
    return _expression("meta", _attribute(1, _big(1)) + _attribute(2, _big(key))) + _compare(wanted, differs=differs)


def _compare(value: bytes, *, differs: bool = False) -> bytes:
    attributes = _attribute(1, _big(1)) + _attribute(2, _big(int(differs))) + _nest(3, _attribute(1, value))
    return _expression("cmp", attributes)


def _number(value: int) -> bytes:
    """Put a number of four bytes where the next expression takes it from."""
    value_of = _attribute(1, struct.pack("=I", value))
    return _expression("immediate", _attribute(1, _big(1)) + _nest(2, value_of))


def _verdict(code: int) -> bytes:
    return _expression("immediate", _attribute(1, _big(0)) + _nest(2, _nest(2, _attribute(1, _big(code)))))


def _expression(name: str, attributes: bytes) -> bytes:
    return _nest(1, _text(1, name) + _nest(2, attributes))


def _chain(chain: Chain) -> bytes:
    attributes = _text(1, chain.table) + _text(3, chain.name)
    if chain.hook is not None:
        priority = _NAT_PRIORITY if chain.type == "nat" else _FILTER_PRIORITY
        hook = _attribute(1, _big(chain.hook)) + _attribute(2, _big(priority))
        if chain.link:
            hook += _text(3, chain.link)
        attributes += _nest(4, hook) + _text(7, chain.type)
    return attributes


def _rule(chain: Chain, expressions: Sequence[bytes]) -> bytes:
    return _text(1, chain.table) + _text(2, chain.name) + _nest(4, b"".join(expressions))


def _parse(data: bytes) -> dict[int, bytes]:
    values = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        values[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return values


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | 0x8000, value)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _big(value: int) -> bytes:
    return struct.pack("!I", value)


ACCEPT = _verdict(1)
DROP = _verdict(0)
MASQUERADE = _expression("masq", b"")
