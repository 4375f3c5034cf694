"""One network namespace whose packets are shaped: rules that send them to a queue, and the queue.

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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_enclave.linux.netfilter import IPV4, OUTPUT, PREROUTING, Chain, Netfilter, queue, sent_from, sent_to
from pytest_enclave.linux.netlink import Netlink
from pytest_enclave.linux.packet_queue import PacketQueue
from pytest_enclave.linux.syscalls import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

TABLE = "enclave-connections"

QUEUE = 47021
"""The number of the queue; there is one of each number in each network namespace."""

ARRIVING, LEAVING = Chain(IPV4, TABLE, "arriving", PREROUTING), Chain(IPV4, TABLE, "leaving", OUTPUT)


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
        self.sources: frozenset[str] = frozenset()
        self.destinations: frozenset[str] = frozenset()
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
            # Of a process that was killed on an older kernel.
            with suppress(FileNotFoundError):
                self._netfilter.delete_table(TABLE)
            # A chain is made with a rule; these do nothing.
            self._netfilter.table(TABLE, [(ARRIVING, []), (LEAVING, [])], ours=True)
            self._netfilter.rewrite({ARRIVING: [], LEAVING: []})
            self._opened = opened.pop_all()

    def hold(self, sources: Set[str], destinations: Set[str]) -> None:
        """Hold what comes from these addresses, and what goes to those; nothing else. Raises OSError."""
        if (sources, destinations) == (self.sources, self.destinations):
            return
        try:
            self._write(sources, destinations)
        except FileNotFoundError:
            # The kernel has no queues for rules of this kind.
            self._foreign = not self._foreign
            self._write(sources, destinations)
        for each in destinations - self.destinations:
            for link in self._links:
                with suppress(OSError):
                    self._netlink.forget(each, link)
        self.sources, self.destinations = frozenset(sources), frozenset(destinations)

    def close(self) -> None:
        """Remove the rules, and drop what is still held."""
        with suppress(OSError):
            self._netfilter.delete_table(TABLE)
        self._opened.close()

    def _write(self, sources: Set[str], destinations: Set[str]) -> None:
        ask = queue(QUEUE, foreign=self._foreign)
        self._netfilter.rewrite(
            {
                ARRIVING: [[sent_from(each), ask] for each in sorted(sources)],
                LEAVING: [[sent_to(each), ask] for each in sorted(destinations)],
            }
        )


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
