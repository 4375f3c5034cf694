"""One network namespace whose packets are shaped: rules that send them to a queue, and the queue; and delays.

Packets are held where they arrive: whoever sends them has got rid of them, as with a long cable. Held where they leave,
they would count as not sent: TCP does not send again what its own machine still has, and keeps little of it there; UDP
would wait for room. Only what goes to a service that has no rules yet is held where it leaves; what had left before,
and waits because nobody has that address yet, is dropped.

The rules belong to a socket of this process, and the kernel removes them with it. Older kernels (before 5.12) keep
them; packets then pass because nobody serves the queue.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import ExitStack, contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_enclave.engine.docker.shaper import DELAYS
from pytest_enclave.linux.delays import Delays
from pytest_enclave.linux.netfilter import IPV4, OUTPUT, PREROUTING, Chain, Netfilter, queue, sent_from, sent_to
from pytest_enclave.linux.netlink import Netlink
from pytest_enclave.linux.packet_queue import PacketQueue
from pytest_enclave.linux.syscalls import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "enclave-connections"

QUEUE = 47021
"""The number of the queue; there is one of each number in each network namespace."""

_SIOCGIFADDR = 0x8915

ARRIVING, LEAVING = Chain(IPV4, TABLE, "arriving", PREROUTING), Chain(IPV4, TABLE, "leaving", OUTPUT)


class Held(NamedTuple):
    """What is held up of what passes here: what comes from `sources`, and what leaves for `destinations`.

    The kernel holds up what comes from the addresses of `delays`, in seconds.
    """

    sources: set[str]
    destinations: set[str]
    delays: dict[str, float]

    @classmethod
    def nothing(cls) -> Held:
        """To be filled."""
        return cls(set(), set(), {})

    def joined(self, other: Held) -> Held:
        """Both; of two delays this one's."""
        delays = {**other.delays, **self.delays}
        return Held(self.sources | other.sources, self.destinations | other.destinations, delays)


class Attachment:
    """The network namespace of a container: that of its process `pid`, 0 for this process.

    It is at `address` on the enclave's network. Raises ProcessLookupError where there is no such process, or it is not
    at that address; OSError where the kernel cannot.
    """

    def __init__(self, container: str, address: str, pid: int) -> None:
        self.container = container
        self.pid = pid
        self.address = address
        self.packed = socket.inet_aton(address)
        # None where an error has kept that from being known.
        self.held: Held | None = Held.nothing()
        self._delays: Delays | None = None
        self._foreign = False
        with ExitStack() as opened:
            self.ending = os.pidfd_open(pid) if pid else -1
            if pid:
                opened.callback(os.close, self.ending)
            with _network_of(pid, address):
                self.queue = PacketQueue(QUEUE)
                opened.callback(self.queue.close)
                self._netfilter = opened.enter_context(Netfilter())
                self._netlink = opened.enter_context(Netlink())
                self._links = [number for number, _ in socket.if_nameindex()]
                self._link = _link_of(address)
            # Of a process that was killed on an older kernel.
            with suppress(FileNotFoundError):
                self._netfilter.delete_table(TABLE)
            # A chain is made with a rule; these do nothing.
            self._netfilter.table(TABLE, [(ARRIVING, []), (LEAVING, [])], ours=True)
            self._netfilter.rewrite({ARRIVING: [], LEAVING: []})
            self._opened = opened.pop_all()

    def can_delay(self) -> bool:
        """Whether the kernel can hold up what arrives; found out by trying."""
        if self._delays is None and self._link is not None:
            try:
                self._delays = Delays(self._netlink, self._netfilter, self._link, DELAYS)
            except OSError:
                self._link = None
        return self._delays is not None

    def hold(self, held: Held) -> None:
        """Hold up that, and nothing else. What the kernel holds up already keeps its time. Raises OSError."""
        if held == self.held:
            return
        before, self.held = self.held, None
        if self._delays is not None:
            self._delays.hold_up(held.delays)
        try:
            self._write(held)
        except FileNotFoundError:
            # The kernel has no queues for rules of this kind.
            self._foreign = not self._foreign
            self._write(held)
        for each in held.destinations - (before.destinations if before else set()):
            for link in self._links:
                with suppress(OSError):
                    self._netlink.forget(each, link)
        self.held = held

    def lose(self, address: str) -> None:
        """Drop what the kernel holds up that came from an address."""
        # What is left of it comes to the queue.
        if self._delays is not None:
            with suppress(OSError):
                self._delays.lose(address)

    def close(self) -> None:
        """Remove the rules, and drop what is still held."""
        if self._delays is not None:
            with suppress(OSError):
                self._delays.close()
        with suppress(OSError):
            self._netfilter.delete_table(TABLE)
        self._opened.close()

    def _write(self, held: Held) -> None:
        ask = queue(QUEUE, foreign=self._foreign)
        self._netfilter.rewrite(
            {
                ARRIVING: [[sent_from(each), ask] for each in sorted(held.sources)],
                LEAVING: [[sent_to(each), ask] for each in sorted(held.destinations)],
            }
        )


def _link_of(address: str) -> str | None:
    """The name of the link that has this address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = ioctl(asking, _SIOCGIFADDR, struct.pack("16s16x8x", name.encode()))
                if answer[20:24] == socket.inet_aton(address):
                    return name
    return None


@contextmanager
def _network_of(pid: int, address: str) -> Iterator[None]:
    """Be in the network namespace of a process."""
    if not pid:
        yield
        return
    if not is_at(pid, address):
        raise ProcessLookupError(errno.ESRCH, f"no process {pid} is at {address}")
    with open("/proc/self/ns/net", "rb", 0) as own, open(f"/proc/{pid}/ns/net", "rb", 0) as theirs:
        if os.path.samestat(os.fstat(own.fileno()), os.fstat(theirs.fileno())):
            raise ProcessLookupError(errno.ESRCH, f"process {pid} is in no network of its own")
        setns(theirs.fileno(), CLONE_NEWNET)
        try:
            yield
        finally:
            setns(own.fileno(), CLONE_NEWNET)


def is_at(pid: int, address: str) -> bool:
    """Whether there is such a process, and that is an address of its network namespace."""
    try:
        return f"|-- {address}\n" in Path(f"/proc/{pid}/net/fib_trie").read_text()
    except OSError:
        return False
