"""A plan while it is interpreted: what the script has done so far, and what it has found in the enclave it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec
from msgspec.structs import replace

from pytest_enclave.plan.futures import producer_of_service
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location


class Added(msgspec.Struct, frozen=True, gc=False):
    """A service that the script adds: its config, and the index of the instruction that does, and that one's name."""

    config: Struct
    index: int
    by: str


class Draft:
    """The instructions so far, and the services that exist at this point of the script.

    `found` are the configs of the services that the enclave had before. `seen` is what of it the script has asked for:
    None where it has asked for nothing, so that the plan is the same in every enclave.
    """

    def __init__(self, found: Mapping[str, Struct]) -> None:
        self.instructions: list[Instruction] = []
        self.added: dict[str, Added] = {}
        self.removed: dict[str, Location] = {}
        self.seen: Mapping[str, Struct] | None = None
        self._found = found
        self._first: dict[str, int] = {}

    def add(self, call: Instruction, configs: Mapping[str, Struct]) -> None:
        """The call, which is the next instruction, adds these services."""
        for name, config in configs.items():
            self.added[name] = Added(config, len(self.instructions), call.name)
            self._first.setdefault(name, len(self.instructions))
            self.removed.pop(name, None)

    def remove(self, name: str, place: Location) -> None:
        """The service is removed at that place, whether it is known or not."""
        self.added.pop(name, None)
        self.removed[name] = place

    def services(self) -> dict[str, Struct]:
        """The configs of all services: those the enclave had, then those the script has added."""
        self.seen = dict(self._found)
        before = {name: config for name, config in self._found.items() if name not in self.removed}
        return before | {name: added.config for name, added in self.added.items()}

    def service(self, name: str) -> Struct | None:
        """The config of one service, None where there is none of that name."""
        if name in self.added:
            return self.added[name].config
        return self.services().get(name)

    def producers_from(self, index: int) -> dict[str, Instruction]:
        """The producers of values that no instruction before this one has found out, and the one that will."""
        services = {producer_of_service(name): self.instructions[i] for name, i in self._first.items() if i >= index}
        return {call.producer: call for call in self.instructions[index:]} | services

    def amend(self, name: str, config: Struct, text: str, producer: str, by: Instruction) -> None:
        """The service that the script has added gets another config, and the instruction that adds it another text."""
        added = self.added[name]
        earlier = self.instructions[added.index]
        arguments = {**earlier.arguments, "config": config}
        self.instructions[added.index] = replace(
            earlier, arguments=arguments, text=text, producer=producer, amended_by=by
        )
        self.added[name] = replace(added, config=config)


@runtime_checkable
class Drafted(Protocol):
    """An instruction that makes services known to the script, or asks for them. One that does neither lacks this."""

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """What the script gets, in place of what `returns` gives; the call is not in the draft yet.

        Raises InterpretationError.
        """
