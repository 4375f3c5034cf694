"""What is between services while a run goes on.

The enclave plan tells what is to be between services, and the running test's faults are laid over that. Before an
instruction executes, the engine is told what is to hold after it, so that a new service is kept apart from its first
packet on. One that runs again finds the network as it was at its place in the plan; only towards services that the plan
makes later, which run already, it is as the whole plan has it. When the run is over, well or not, the whole plan counts
again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from pytest_enclave.plan.connections import ConnectionMatrix
from pytest_enclave.plan.footprint import Footprint
from pytest_enclave.plan.topology import topology_of
from pytest_enclave.run.state import EnclaveState


@dataclass(slots=True)
class Network:
    """What is between the services of an enclave; `shaped` is what is in effect, None where that is not known.

    `be_alone` is called before anything changes for services that are there already.
    """

    state: EnclaveState
    seed: int
    be_alone: Callable[[], None]
    shaped: ConnectionMatrix | None
    is_wired: bool = False
    _placed: set[str] = field(default_factory=set)

    def heal(self) -> ConnectionMatrix:
        """Begin: have what the enclave plan says, whatever somebody has left. Gives what it is. Raises EngineError."""
        self.is_wired = any(record.footprint.wiring for record in self.state.journal.records.values())
        recorded = self._recorded()
        if self.shaped != recorded:
            # A test of another process may be at it: when nobody is there, it has healed what it broke.
            self.be_alone()
            self.shaped = self.state.site.shaped()
            self.settle()
        return recorded

    def settle(self) -> None:
        """Have what the enclave plan says. Raises EngineError."""
        self._tell(self._recorded(), ())

    def enter(self, footprint: Footprint, position: int | None, live: Collection[str]) -> None:
        """Have what is to hold after an instruction that executes at this position, or for None after all others.

        `live` are the services that are there. Raises EngineError.
        """
        self.is_wired = self.is_wired or footprint.wiring is not None
        if not self.is_wired and not self.state.faults:
            return
        records = self.state.journal.records
        before = [record for place, record in records.items() if position is None or place < position]
        here = topology_of(before).entered(footprint, footprint.services)
        matrix = dict(here.matrix())
        if position is not None:
            whole = topology_of(records.values())
            later = whole.services.keys() - here.services.keys()
            matrix |= {pair: connection for pair, connection in whole.matrix().items() if not later.isdisjoint(pair)}
        # One that runs again may come before others that the plan has removed since.
        there = {*live, *footprint.services}
        matrix = {(one, other): matrix[one, other] for one, other in matrix if one in there and other in there}
        self._tell(self.state.with_faults(matrix, there), live)

    def _recorded(self) -> ConnectionMatrix:
        return self.state.connections() if self.is_wired or self.state.faults else {}

    def _tell(self, wanted: ConnectionMatrix, live: Collection[str]) -> None:
        """Have this between services. Raises EngineError; what is in effect then is not known."""
        known = self.shaped
        if wanted == known:
            return
        if known is None or any(
            wanted.get((one, other)) != known.get((one, other))
            for one, other in wanted.keys() | known.keys()
            if one in live and other in live
        ):
            self.be_alone()
        for name in {name for pair in wanted for name in pair} - self._placed:
            self.state.site.reserve(name)
            self._placed.add(name)
        self.shaped = None
        self.state.site.shape(wanted, self.seed)
        self.shaped = wanted
