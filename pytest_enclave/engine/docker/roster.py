"""The services that an enclave has on the engine, whoever has started them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.inscriptions import Inscription, read_inscription
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.service import Service
from pytest_enclave.engine.docker.states import ContainerState
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import Exit
from pytest_enclave.plan.facts import Status

Found = tuple[Service, ContainerState]

_LIVES = {"running": Status.RUNNING, "restarting": Status.RUNNING, "paused": Status.PAUSED}


class Roster(msgspec.Struct, frozen=True):
    """Looks services up. What somebody was killed in the middle of making, or is making right now, is none yet."""

    client: Client
    enclave: str
    notes: Notes

    def all(self) -> list[Found]:
        """Every service, in the order in which their containers were made. Raises EngineError."""
        return self._listed(labels.of_enclave(self.enclave))

    def named(self, name: str) -> Found | None:
        """The service of that name. Raises EngineError."""
        return next(iter(self._listed(labels.of_service(self.enclave, name))), None)

    def started(self, container: str, marks: Mapping[str, str]) -> Found | None:
        """A container with these labels that was just started; None if it is no service. Raises EngineError."""
        if labels.SERVICE not in marks:
            return None
        told = read_inscription(container, marks)
        address = told.service.spec.address.ip_address
        return told.service, ContainerState(told.image, address, Status.RUNNING, starts=1)

    def _listed(self, mine: Mapping[str, list[str]]) -> list[Found]:
        with translate("cannot list the enclave's containers"):
            listed = self.client.containers(mine)
        services = [each for each in listed if labels.SERVICE in each["Labels"]]
        told = [(read_inscription(each["Id"], each["Labels"]), each) for each in services]
        found = [self._found(*each) for each in sorted(told, key=lambda each: each[0].at)]
        return [each for each in found if each is not None]

    def _found(self, told: Inscription, listed: Mapping[str, Any]) -> Found | None:
        container, doing = listed["Id"], listed["State"]
        state = ContainerState(told.image, told.service.spec.address.ip_address, starts=1)
        if doing == "created":
            return (told.service, told.resting) if told.resting else None
        if doing in _LIVES:
            return told.service, ContainerState(state.image, state.ip_address, _LIVES[doing], starts=1)
        if doing != "exited":
            # It is being removed.
            return None
        try:
            with translate("cannot inspect a service's container"):
                ended = self.client.inspect_container(container)["State"]
        except Refused as refused:
            if refused.status != 404:
                raise
            return None
        memory_ran_out = bool(ended["OOMKilled"])
        status = Status.STOPPED if self.notes.is_stopping(container) else Status.EXITED
        end = Exit(ended["ExitCode"], memory_ran_out)
        return told.service, ContainerState(state.image, state.ip_address, status, end, 1, memory_ran_out)
