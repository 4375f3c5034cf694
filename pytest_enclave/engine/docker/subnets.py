"""Choosing the subnet of an enclave's network: pure arithmetic.

The engine could choose one, but only when it creates the network, and services' addresses must be ours to give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path

POOLS: tuple[IPv4Network, ...] = (
    IPv4Network("10.208.0.0/12"),
    IPv4Network("172.20.0.0/14"),
    IPv4Network("192.168.128.0/17"),
)
"""Where subnets are taken from: away from the engine's own first choices, and from what routers hand out."""

PREFIX = 22
"""Length of a subnet's prefix. 1022 addresses: a bridge does not take more ports than that anyway."""

ROUTES = Path("/proc/net/route")


def free_subnets(
    taken: Iterable[IPv4Network], start: int, pools: Sequence[IPv4Network] = POOLS
) -> Iterator[IPv4Network]:
    """Subnets that overlap with none that is taken, pool by pool, each from its `start`-th on and round.

    A random start keeps runs that begin at the same moment out of each other's way.
    """
    occupied = list(taken)
    for pool in pools:
        count = 1 << max(0, PREFIX - pool.prefixlen)
        size = 1 << (32 - max(PREFIX, pool.prefixlen))
        first = int(pool.network_address)
        for index in range(count):
            address = first + (start + index) % count * size
            subnet = IPv4Network((address, max(PREFIX, pool.prefixlen)))
            if not any(subnet.overlaps(other) for other in occupied):
                yield subnet


def routed_here(table: Path = ROUTES) -> list[IPv4Network]:
    """The networks that this machine already has routes to, its default route aside; none where it does not say."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    routes = [line.split() for line in lines]
    networks = [IPv4Network((_address(route[1]), _prefix(route[7]))) for route in routes if len(route) > 7]
    return [network for network in networks if network.prefixlen]


def _address(field: str) -> int:
    """The table has addresses in hexadecimal, lowest byte first."""
    return int.from_bytes(bytes.fromhex(field), "little")


def _prefix(field: str) -> int:
    return _address(field).bit_count()
