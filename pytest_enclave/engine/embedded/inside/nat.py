"""The way out of an enclave for root: a link to the machine's network, and translation of addresses.

The link's end on the machine is `enclave-N`; that and the tables of rules are named so. When the enclave's network
namespace goes, the link goes; when the supervisor ends, its table of rules goes. Only what had to be put into the
machine's own chains (`filters`) is left after a supervisor that was killed, and the next one removes it.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from pytest_enclave.engine.embedded.inside import filters, forwarding
from pytest_enclave.engine.embedded.inside.uplink import UPLINK
from pytest_enclave.linux.netfilter import (
    ACCEPT,
    DROP,
    FORWARD,
    IPV4,
    MASQUERADE,
    NEW,
    POSTROUTING,
    REWRITTEN,
    Chain,
    Netfilter,
    coming_from,
    connection,
    going_to,
    sent_from,
)
from pytest_enclave.linux.netlink import Netlink

FIRST, MOST = "169.254.192.0", 1 << 12
"""Enclaves' links have four addresses each, from here on: link-local ones, far from those that clouds use."""

TRIES = 200
"""Numbers of links that are tried before it is given up."""

BRIDGES = ("docker*", "br-*")
"""The networks of Docker: containers in them are reached by their published ports only, as from another network."""


class Nat:
    """A way out by translation of addresses, on the machine's side."""

    def __init__(self) -> None:
        self._link = ""
        self._rules: Netfilter | None = None

    def connect(self, enclave: str, namespace: int) -> tuple[str, str]:
        """Make the link into a network namespace. Its addresses: in the enclave, and on the machine. Raises OSError."""
        with Netlink() as links:
            number = self._make_link(links, namespace)
            outside, inside = (_address(number, place) for place in (1, 2))
            links.address(self._link, outside, 30)
            links.up(self._link)
        with suppress(OSError), open(f"/sys/class/net/{self._link}/ifalias", "w") as alias:
            alias.write(f"pytest-enclave {enclave}")
        return inside, outside

    def open(self, address: str) -> None:
        """Let packets pass, from the enclave's address on the link. Raises OSError."""
        forwarding.switch_on()
        self._rules = Netfilter()
        self._rules.table(self._link, list(_rules(self._link, address)), ours=True)
        filters.let_pass(self._link)

    def close(self) -> list[dict[str, str]]:
        """Take out of the machine's own chains what would stay there; what could not be, each with its command."""
        if not self._link:
            return []
        try:
            filters.stop(self._link)
        except OSError as error:
            command = f"nft -a list ruleset | grep {self._link}"
            return [{"kind": "rules", "name": self._link, "reason": str(error), "command": command}]
        return []

    def remove(self) -> None:
        """Remove what goes without us too, only later: the link and the table. The kernel takes its time for it."""
        if not self._link:
            return
        with Netlink() as links, suppress(OSError):
            links.delete(self._link)
        forwarding.switch_off()
        if self._rules is not None:
            self._rules.close()

    def _make_link(self, links: Netlink, namespace: int) -> int:
        first = int.from_bytes(os.urandom(2), "big")
        for number in ((first + step) % MOST for step in range(TRIES)):
            name = f"{filters.PREFIX}{number}"
            try:
                links.veth(name, UPLINK, peer_namespace_fd=namespace)
            except FileExistsError:
                continue
            self._link = name
            return number
        raise OSError(errno.EEXIST, f"{TRIES} links are taken, from {filters.PREFIX}{first % MOST} on")


def _address(number: int, place: int) -> str:
    first = int.from_bytes(socket.inet_aton(FIRST), "big")
    return socket.inet_ntoa((first + 4 * number + place).to_bytes(4, "big"))


def _rules(link: str, address: str) -> list[tuple[Chain, list[bytes]]]:
    forward = Chain(IPV4, link, "forward", FORWARD)
    leaving = Chain(IPV4, link, "leaving", POSTROUTING, "nat")
    from_here = coming_from(link)
    main = forwarding.default_links()
    hidden = [bridge for bridge in BRIDGES if not any(link.startswith(bridge[:-1]) for link in main)]
    return [
        # Nobody calls in: not other enclaves, not others in the machine's networks.
        (forward, [going_to(link), connection(state=NEW), DROP]),
        (forward, [from_here, connection(status=REWRITTEN), ACCEPT]),
        *((forward, [from_here, going_to(bridge), DROP]) for bridge in hidden),
        (leaving, [sent_from(address), MASQUERADE]),
    ]
