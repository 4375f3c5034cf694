"""The enclave's end of its way out: what is done in its own network namespace, by a process that enters it for that."""

from __future__ import annotations

import os
from contextlib import suppress

from pytest_enclave.linux import syscalls
from pytest_enclave.linux.netfilter import (
    DROP,
    FORWARD,
    IPV4,
    MASQUERADE,
    NEW,
    POSTROUTING,
    Chain,
    Netfilter,
    coming_from,
    connection,
    going_to,
)
from pytest_enclave.linux.netlink import Netlink

UPLINK = "uplink"
"""The link by which packets leave an enclave."""

TABLE = "egress"

SETTINGS = "/proc/sys/net"


def prepare(member: int, addresses: tuple[str, str] | None = None) -> None:
    """Let the enclave of which a process is a member send on what its services send out, as if it came from itself.

    `addresses`: those of the link, and of the gateway at its other end; None: who makes the link gives it its own.
    Raises OSError with what failed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _enter(member)
            _translate()
            if addresses is not None:
                _configure(*addresses)
            # Last, for a packet that is not sent on is sent again, and one that has no route fails.
            _write(f"{SETTINGS}/ipv4/ip_forward", "1")
        except BaseException as failure:
            os.write(writer, str(failure).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as told:
        error = told.read().decode()
    os.waitpid(child, 0)
    if error:
        raise OSError(error)


def _enter(member: int) -> None:
    spaces = [os.open(f"/proc/{member}/ns/{name}", os.O_RDONLY) for name in ("user", "net")]
    for space in spaces:
        syscalls.setns(space)


def _translate() -> None:
    forward = Chain(IPV4, TABLE, "forward", FORWARD)
    leaving = Chain(IPV4, TABLE, "leaving", POSTROUTING, "nat")
    rules = [
        (forward, [coming_from(UPLINK), connection(state=NEW), DROP]),
        (leaving, [going_to(UPLINK), MASQUERADE]),
    ]
    with Netfilter() as netfilter:
        netfilter.table(TABLE, rules, ours=False)
    # What services tell each other needs none of that.
    with suppress(OSError):
        _write(f"{SETTINGS}/bridge/bridge-nf-call-iptables", "0")


def _configure(address: str, gateway: str) -> None:
    with Netlink() as links:
        links.address(UPLINK, address, 30)
        links.up(UPLINK)
        links.gateway(gateway)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
