"""What can be broken on purpose: between services, and of services."""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import combinations
from typing import Literal, TypeAlias

import msgspec

from pytest_enclave.plan.connections import BLOCKED, Connection, ConnectionMatrix, Delay

Kind: TypeAlias = Literal["partition", "delay", "loss", "block", "kill", "stop", "pause"]

Services: TypeAlias = str | Collection[str]
"""A service's name, or several."""

OF_SERVICES: tuple[Kind, ...] = ("kill", "stop", "pause")
"""The kinds that break services themselves; the others break what is between groups of them."""


class Fault(msgspec.Struct, frozen=True):
    """One fault. As text it reads as in the marker: `delay:api|db:200ms`.

    `groups` are services by name: those of different groups are kept apart, those of one are not. With `one_way` only
    what the groups that come first send to later ones is concerned. Raises ValueError where that makes no sense.
    """

    kind: Kind
    groups: tuple[tuple[str, ...], ...]
    connection: Connection = BLOCKED
    one_way: bool = False

    def __post_init__(self) -> None:
        if self.is_of_services:
            return
        if len(self.groups) < 2:
            raise ValueError("a fault of the network is between at least two groups of services")
        for one, other in combinations(self.groups, 2):
            if both := set(one) & set(other):
                raise ValueError(f"`{min(both)}` is on both sides")

    @property
    def is_of_services(self) -> bool:
        """Whether services are broken, and not what is between them."""
        return self.kind in OF_SERVICES

    @property
    def services(self) -> tuple[str, ...]:
        """All that it is about."""
        return tuple(name for group in self.groups for name in group)

    def connections(self) -> ConnectionMatrix:
        """What it has between services."""
        if self.is_of_services:
            return {}
        pairs = [
            (sender, receiver)
            for senders, receivers in combinations(self.groups, 2)
            for sender in senders
            for receiver in receivers
        ]
        back = [] if self.one_way else [(receiver, sender) for sender, receiver in pairs]
        return dict.fromkeys([*pairs, *back], self.connection)

    def __str__(self) -> str:
        groups = (">" if self.one_way else "|").join(",".join(group) for group in self.groups)
        return f"{self.kind}:{groups}{self._amount()}"

    def _amount(self) -> str:
        delay = self.connection.delay
        match self.kind:
            case "delay" if delay.deviation_ms:
                return f":{delay.mean_ms:g}ms+-{delay.deviation_ms:g}ms"
            case "delay":
                return f":{delay.mean_ms:g}ms"
            case "loss":
                return f":{self.connection.loss:g}%"
        return ""


def group(services: Services) -> tuple[str, ...]:
    """Services, as a fault has them. Raises TypeError and ValueError."""
    alone = isinstance(services, str) or not isinstance(services, Collection)
    names: list[object] = [services] if alone else list(services)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a fault is between services: {name!r} is not the name of one")
    if not names:
        raise ValueError("a group of services is empty")
    return tuple(sorted(map(str, set(names))))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def delayed(ms: float, deviation_ms: float = 0.0) -> Connection:
    """Packets are held up so many milliseconds. Raises TypeError and ValueError where that is no time."""
    for name, value in (("ms", ms), ("deviation_ms", deviation_ms)):
        if not _is_number(value):
            raise TypeError(f"{name} must be a number of milliseconds, and not {value!r}")
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of milliseconds, of at least 0, and not {value!r}")
    return Connection(delay=Delay(float(ms), float(deviation_ms)))


def lossy(percent: float) -> Connection:
    """So many of hundred packets are lost. Raises TypeError and ValueError where there are not so many."""
    if not _is_number(percent):
        raise TypeError(f"percent must be a number, and not {percent!r}")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be between 0 and 100, and not {percent!r}")
    return Connection(loss=float(percent))
