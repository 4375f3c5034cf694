"""The network between the services of an enclave, as a test breaks it."""

from __future__ import annotations

from collections.abc import Callable

from pytest_enclave.enclave.fault import Fault, Kind, Services, delayed, group, lossy
from pytest_enclave.enclave.faults import Faults, LiveFault
from pytest_enclave.plan.connections import BLOCKED, Connection


class Network:
    """Faults between services. Each begins with the call, and ends with its `with`, or by `heal`, or with the test.

    Services are given as one name or several. Faults add up, to each other and to what the package has set: two delays
    are one after the other. What the test process itself sends to services and gets from them is never concerned.
    `one_way=True` concerns only what the first sends to the second. All raise UnknownService, ValueError and TypeError
    for wrong arguments, EngineError where the engine cannot do it.
    """

    def __init__(self, faults: Callable[[], Faults]) -> None:
        self._faults = faults

    def partition(self, *groups: Services, one_way: bool = False) -> LiveFault:
        """Nothing gets from one group of services to another; those of no group keep all their connections.

        With `one_way`, nothing gets from a group to those after it.
        """
        __tracebackhide__ = True
        if len(groups) < 2:
            raise ValueError('a partition has at least two groups: partition({"db"}, {"api", "worker"})')
        return self._faults().begin(Fault("partition", tuple(map(group, groups)), BLOCKED, one_way))

    def delay(
        self, one: Services, other: Services, *, ms: float, deviation_ms: float = 0.0, one_way: bool = False
    ) -> LiveFault:
        """Every packet is held up so many milliseconds, each way: an answer comes back after twice that.

        With a deviation the delays are normally distributed.
        """
        __tracebackhide__ = True
        return self._between("delay", one, other, delayed(ms, deviation_ms), one_way)

    def loss(self, one: Services, other: Services, *, percent: float, one_way: bool = False) -> LiveFault:
        """So many of hundred packets are lost, each way. Which ones follows from `--enclave-seed`."""
        __tracebackhide__ = True
        return self._between("loss", one, other, lossy(percent), one_way)

    def block(self, one: Services, other: Services, *, one_way: bool = False) -> LiveFault:
        """Nothing gets through."""
        __tracebackhide__ = True
        return self._between("block", one, other, BLOCKED, one_way)

    def _between(self, kind: Kind, one: Services, other: Services, connection: Connection, one_way: bool) -> LiveFault:
        __tracebackhide__ = True
        return self._faults().begin(Fault(kind, (group(one), group(other)), connection, one_way))
