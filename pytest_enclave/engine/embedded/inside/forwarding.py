"""Whether the machine sends on packets that are not for itself, which it must for enclaves to have a way out.

Where that is switched off for the whole machine, it is switched on for the links there are, and off again with the last
enclave, unless somebody else has switched it on for the whole machine by then. What was switched on is kept in a file
in /run, which like the settings does not outlive the machine's start; its lock is held while anything changes.

A machine that did not forward must not become a router between its networks: what comes in by a link that was
switched on here goes to enclaves, or nowhere. The table of rules for that is there as long as the links are on, also
where a supervisor was killed.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pytest_enclave.engine.embedded.inside import filters
from pytest_enclave.linux.netfilter import (
    DROP,
    FORWARD,
    IPV4,
    UNANSWERED,
    Chain,
    Netfilter,
    coming_from,
    connection,
    not_going_to,
)

SETTINGS = "/proc/sys/net/ipv4"
DIRECTORY = "/run"


def switch_on() -> None:
    """Let the machine forward, after the enclave's own link has been made. Raises OSError."""
    if _read(f"{SETTINGS}/ip_forward") != "0":
        if os.path.exists(_path()):
            # By now somebody wants a router.
            _open_guard()
        return
    with _record() as record:
        links = [link for _, link in socket.if_nameindex() if link != "lo" and _read(_setting(link)) == "0"]
        known = record.split()
        new = [link for link in links if not link.startswith(filters.PREFIX)]
        _guard(known, new)
        for link in links:
            _write(_setting(link), "1")
        _write(_path(), " ".join(dict.fromkeys([*known, *new])))


def switch_off() -> None:
    """Undo that, after the enclave's own link has been removed, if no other enclave needs it. Raises OSError."""
    if not os.path.exists(_path()):
        return
    with _record() as record:
        if any(name.startswith(filters.PREFIX) for _, name in socket.if_nameindex()):
            return
        if _read(f"{SETTINGS}/ip_forward") == "0":
            for link in record.split():
                # A link may be gone.
                with suppress(OSError):
                    _write(_setting(link), "0")
        _open_guard()
        os.unlink(_path())


def _guard(known: list[str], new: list[str]) -> None:
    """Refuse what comes in by links that are to be switched on, and is not for enclaves; before they are.

    Answers pass, to who may send by a link that was on before, or comes later.
    """
    chain = Chain(IPV4, filters.GUARD, "forward", FORWARD)
    with Netfilter() as netfilter:
        there = chain in netfilter.chains()
        links = new if there else [*known, *new]
        rules = [
            [coming_from(link), not_going_to(f"{filters.PREFIX}*"), connection(state=UNANSWERED), DROP]
            for link in links
        ]
        if rules and there:
            netfilter.insert(chain, rules)
        elif rules:
            netfilter.table(filters.GUARD, [(chain, rule) for rule in rules], ours=False)


def _open_guard() -> None:
    with Netfilter() as netfilter, suppress(FileNotFoundError):
        netfilter.delete_table(filters.GUARD)


def default_links() -> list[str]:
    """The links by which packets leave that no other route is for."""
    with open("/proc/net/route") as routes:
        rows = [line.split() for line in routes]
    return [row[0] for row in rows if row[1:2] == ["00000000"]]


@contextmanager
def _record() -> Iterator[str]:
    """What the file says, locked; an empty one is made if there is none."""
    while True:
        descriptor = os.open(_path(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        # It was removed while we waited.
        os.close(descriptor)
    try:
        yield os.pread(descriptor, 1 << 16, 0).decode()
    finally:
        os.close(descriptor)


def _path() -> str:
    return f"{DIRECTORY}/pytest-enclave-forwarding-{os.stat('/proc/self/ns/net').st_ino}"


def _setting(link: str) -> str:
    return f"{SETTINGS}/conf/{link}/forwarding"


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
