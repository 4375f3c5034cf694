"""Which subnetwork each service is in, and what is between subnetworks (behaviour.md §8): pure, and never changed.

Services of one subnetwork are never kept apart. Between two different ones there is the override for the pair, whole,
or else the default connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from pytest_enclave.plan.connections import ALLOWED, Connection, ConnectionMatrix
from pytest_enclave.plan.footprint import Footprint, Wiring
from pytest_enclave.plan.record import Record

DEFAULT = "default"
"""The subnetwork of services that name none. It is always there."""


class TopologyError(ValueError):
    """What was asked for makes no sense in this topology; the text says why."""


class Topology(msgspec.Struct, frozen=True):
    """Services by the subnetwork they are in, the subnetworks that are known, and the connections.

    An override is for an unordered pair. Every operation gives a new topology; those that name what is not known, or
    make what is, raise TopologyError.
    """

    services: Mapping[str, str] = msgspec.field(default_factory=dict)
    subnetworks: frozenset[str] = frozenset({DEFAULT})
    default: Connection = ALLOWED
    overrides: Mapping[frozenset[str], Connection] = msgspec.field(default_factory=dict)

    def with_subnetwork(self, name: str) -> Topology:
        """With one more subnetwork, which is empty."""
        if name in self.subnetworks:
            raise TopologyError(f"there is a subnetwork `{name}` already")
        return replace(self, subnetworks=self.subnetworks | {name})

    def without_subnetwork(self, name: str) -> Topology:
        """Without an empty subnetwork, and without its overrides. One that is not known may be left out."""
        if name == DEFAULT:
            raise TopologyError(f"subnetwork `{DEFAULT}` is always there")
        inside = sorted(service for service, subnetwork in self.services.items() if subnetwork == name)
        if inside:
            listed = ", ".join(f"`{service}`" for service in inside)
            raise TopologyError(f"subnetwork `{name}` is not empty: it has {listed}")
        kept = {pair: connection for pair, connection in self.overrides.items() if name not in pair}
        return replace(self, subnetworks=self.subnetworks - {name}, overrides=kept)

    def with_service(self, name: str, subnetwork: str = DEFAULT) -> Topology:
        """With one more service, in a subnetwork that is known."""
        if name in self.services:
            raise TopologyError(f"service `{name}` is in subnetwork `{self.services[name]}` already")
        self._know(subnetwork)
        return replace(self, services={**self.services, name: subnetwork})

    def without_service(self, name: str) -> Topology:
        """Without a service. Its subnetwork stays, though it may be empty."""
        self._subnetwork_of(name)
        return replace(self, services={other: place for other, place in self.services.items() if other != name})

    def with_default(self, connection: Connection) -> Topology:
        """With another default connection."""
        return replace(self, default=connection)

    def with_override(self, one: str, other: str, connection: Connection) -> Topology:
        """With this, and nothing of the default connection, between the two."""
        self._know(one, other)
        return replace(self, overrides={**self.overrides, frozenset({one, other}): connection})

    def without_override(self, one: str, other: str) -> Topology:
        """With the default connection between the two, as it is and will be."""
        self._know(one, other)
        pair = frozenset({one, other})
        return replace(self, overrides={each: c for each, c in self.overrides.items() if each != pair})

    def is_overridden(self, one: str, other: str) -> bool:
        """Whether the default connection does not matter between the two."""
        self._know(one, other)
        return frozenset({one, other}) in self.overrides

    def between(self, one: str, other: str) -> Connection:
        """The connection between two subnetworks; inside of one there is nothing in the way."""
        self._know(one, other)
        return ALLOWED if one == other else self.overrides.get(frozenset({one, other}), self.default)

    def matrix(self) -> ConnectionMatrix:
        """What is between services; both directions, and only what is not perfect."""
        if self.default.is_perfect and not self.overrides:
            return {}
        members: dict[str, list[str]] = {}
        for service, subnetwork in self.services.items():
            members.setdefault(subnetwork, []).append(service)
        return {
            (sender, receiver): connection
            for here, senders in members.items()
            for there, receivers in members.items()
            if not (connection := self.between(here, there)).is_perfect
            for sender in senders
            for receiver in receivers
        }

    def with_known(self, *subnetworks: str) -> Topology:
        """With these subnetworks, of which some may be known."""
        new = self.subnetworks.union(subnetworks)
        return self if new == self.subnetworks else replace(self, subnetworks=new)

    def wired(self, wiring: Wiring) -> Topology:
        """After a connection was settled. It may name new subnetworks.

        Nothing is removed between subnetworks of which one has no services (the seeds say so).
        """
        if wiring.between is None:
            return self.with_default(wiring.connection or ALLOWED)
        one, *others = sorted(wiring.between)
        other = others[0] if others else one
        if wiring.connection is not None:
            return self.with_known(one, other).with_override(one, other, wiring.connection)
        inhabited = set(self.services.values())
        return self.without_override(one, other) if wiring.between <= inhabited else self

    def entered(self, footprint: Footprint, made: Iterable[str]) -> Topology:
        """After an instruction with this footprint, which has made these services; what it removes is still there."""
        joins = {name: footprint.joins.get(name, DEFAULT) for name in made}
        joins |= {name: footprint.joins[name] for name in footprint.joins.keys() & self.services.keys()}
        after = self
        if joins:
            after = replace(after.with_known(*joins.values()), services={**after.services, **joins})
        return after if footprint.wiring is None else after.wired(footprint.wiring)

    def _know(self, *subnetworks: str) -> None:
        for name in subnetworks:
            if name not in self.subnetworks:
                known = ", ".join(f"`{each}`" for each in sorted(self.subnetworks))
                raise TopologyError(f"there is no subnetwork `{name}` (there is {known})")

    def _subnetwork_of(self, service: str) -> str:
        if service not in self.services:
            raise TopologyError(f"service `{service}` is in no subnetwork")
        return self.services[service]


def topology_of(records: Iterable[Record]) -> Topology:
    """What an enclave plan leaves, read off its records in their order."""
    found = Topology()
    for record in records:
        found = found.entered(record.footprint, record.services)
        if record.name == "remove_service":
            for name in record.footprint.acts_on & found.services.keys():
                found = found.without_service(name)
    return found


def rewires(later: Iterable[Footprint], earlier: Sequence[Footprint], everything: Iterable[Footprint]) -> bool:
    """Whether later instructions have changed the network for what earlier ones made or used.

    They have where they moved one of these services, settled the same connection, or one between two subnetworks that
    both have had some of these services. `everything` tells where services are put.
    """
    settled = frozenset[object]().union(*(one.settles for one in later))
    if not settled:
        return False
    concerned = frozenset[str]().union(*(one.makes | one.uses for one in earlier))
    if not settled.isdisjoint(frozenset[object](concerned).union(*(one.settles for one in earlier))):
        return True
    inhabited = {
        one.joins.get(name, DEFAULT)
        for one in everything
        for name in concerned & (one.services.keys() | one.joins.keys())
    }
    return any(
        len(inhabited) > 1 if between is None else isinstance(between, frozenset) and len(between & inhabited) > 1
        for between in settled
    )
