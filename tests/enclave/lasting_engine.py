"""A simulated engine whose enclaves outlive processes: what several engines of one machine see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_enclave.engine.protocol import EnclaveId, Leak
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EngineError


@dataclass
class Machine:
    """What there is of enclaves; `holders` are the processes they live for, `kept` until when they stay without."""

    sites: dict[str, SimulatedSite] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def engine(self, script: Script | None = None) -> LastingEngine:
        """The engine, as a process of its own sees it."""
        return LastingEngine(self, script)


class LastingSite(SimulatedSite):
    """A site that can be left and kept."""

    machine: Machine

    def keep(self, until: float) -> None:
        self.machine.kept[self.enclave.name] = until

    def leave(self) -> None:
        pass

    def close(self) -> Sequence[Leak]:
        leaks = super().close()
        if not leaks:
            self.machine.sites.pop(self.enclave.name, None)
        return leaks


class LastingEngine(SimulatedEngine):
    """The simulated engine on a machine that remembers."""

    def __init__(self, machine: Machine, script: Script | None = None) -> None:
        super().__init__(script)
        self._machine = machine

    @property
    def is_shared(self) -> bool:
        return True

    def open(self, enclave: EnclaveId, services: Sequence[str] = ()) -> SimulatedSite:
        site = super().open(enclave, services)
        site.__class__ = LastingSite
        site.machine = self._machine  # type: ignore[attr-defined]
        self._machine.sites[enclave.name] = site
        self._machine.holders[enclave.name] = enclave.holder
        self._machine.opened.append(enclave.name)
        return site

    def attach(self, enclave: EnclaveId) -> SimulatedSite:
        if enclave.name not in self._machine.sites:
            raise EngineError(f"there is no enclave {enclave.name} any more")
        self._machine.holders[enclave.name] = enclave.holder
        self._machine.kept.pop(enclave.name, None)
        return self._machine.sites[enclave.name]

    def remove(self, enclave: EnclaveId) -> Sequence[Leak]:
        site = self._machine.sites.get(enclave.name)
        return site.close() if site is not None else []
