"""What an instruction touches: enough to decide, without running it, what another one may see of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

import msgspec

from pytest_enclave.plan.connections import Connection


class Replay(Enum):
    """What becomes of an already executed instruction when something before it has changed (design §4.3)."""

    REPLACE = "makes something of a name: can be replaced in place, live"
    OBSERVE = "looks at, or works in, running services: runs again once any service was replaced"
    COMPARE = "depends on its resolved arguments alone: runs again when these differ"
    ACT = "acts on a service by name: matched by equality only"


class Wiring(msgspec.Struct, frozen=True):
    """A connection that is settled: `between` two subnetworks, or for None the default one.

    None for the connection: the default one holds again.
    """

    between: frozenset[str] | None
    connection: Connection | None


class Footprint(msgspec.Struct, frozen=True):
    """What one instruction makes, reads and acts on, by name.

    `services` maps each service it makes to the canonical text of its config; `artifacts` are the files artifacts it
    makes; `mounts` maps each service it makes to the artifacts mounted in it; `acts_on` are services that it starts,
    stops or removes; `uses` the services it talks to, `reads` the artifacts it needs itself; `images` what
    must be there; `forced` tells that it runs again in each run, in place of the one that was there. `joins` maps
    services to the subnetworks that it puts them into, `wiring` is the connection that it settles.
    """

    replay: Replay
    services: Mapping[str, str] = msgspec.field(default_factory=dict)
    artifacts: frozenset[str] = frozenset()
    mounts: Mapping[str, frozenset[str]] = msgspec.field(default_factory=dict)
    acts_on: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    forced: bool = False
    joins: Mapping[str, str] = msgspec.field(default_factory=dict)
    wiring: Wiring | None = None

    @property
    def makes(self) -> frozenset[str]:
        """The services that it makes or acts on."""
        return self.acts_on.union(self.services)

    @property
    def needs(self) -> frozenset[str]:
        """The artifacts that it, or a service it makes, reads."""
        return self.reads.union(*self.mounts.values())

    @property
    def settles(self) -> frozenset[str | frozenset[str] | None]:
        """What it settles of the network: services that it moves, subnetworks between which the connection is, or None
        for the default connection."""
        moved = self.joins.keys() - self.services.keys()
        return frozenset(moved) if self.wiring is None else frozenset({*moved, self.wiring.between})

    def disturbs(self, other: Footprint) -> bool:
        """Whether the other's effect may not be what it was, once this one has run after it."""
        services = other.makes | other.uses
        artifacts = other.artifacts | other.needs
        return not self.makes.isdisjoint(services) or not self.artifacts.isdisjoint(artifacts)


def disturbing(later: Iterable[Footprint], earlier: Iterable[Footprint]) -> bool:
    """Whether any of the later ones disturbs any of the earlier ones."""
    return _together(later).disturbs(_together(earlier))


def _together(footprints: Iterable[Footprint]) -> Footprint:
    """One footprint that touches all that these touch, so that many are compared with many at once."""
    each = list(footprints)
    return Footprint(
        Replay.ACT,
        artifacts=frozenset[str]().union(*(one.artifacts for one in each)),
        acts_on=frozenset[str]().union(*(one.makes for one in each)),
        uses=frozenset[str]().union(*(one.uses for one in each)),
        reads=frozenset[str]().union(*(one.needs for one in each)),
    )
