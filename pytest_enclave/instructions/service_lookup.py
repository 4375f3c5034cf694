"""Services by name while a script is interpreted: what `plan.get_service` and `plan.set_service` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_enclave.errors import InterpretationError, Problem
from pytest_enclave.instructions.protocol import Defaults
from pytest_enclave.instructions.service_checks import did_you_mean, is_known_later, unknown_service
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.world import World

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft


class ServiceLookup(Defaults):
    """An instruction that does nothing but look at the service of its `name`."""

    def footprint(self, call: Instruction) -> Footprint:
        """Looks at the service."""
        return Footprint(Replay.OBSERVE, uses=frozenset({call.get("name")}))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The service must exist: it may have gone since an earlier run added it."""
        missing = unknown_service(call, call.get("name"), world)
        return world, [missing] if missing else []


def unknown(call: Instruction, draft: Draft, where: str, known: Iterable[str]) -> InterpretationError:
    """The error where the call names a service that does not exist; `where` says what was looked through."""
    name = call.get("name")
    if is_known_later(name):
        message = f"{call.name}: the service name is a value known only after execution"
        return InterpretationError(message, location=call.location, remedy="pass the service's `name` instead")
    if name in draft.removed:
        message = f"{call.name}: service `{name}` does not exist any more: it is removed at {draft.removed[name]}"
        return InterpretationError(message, location=call.location)
    message = f"{call.name}: there is no service `{name}` {where}"
    return InterpretationError(message, location=call.location, remedy=did_you_mean(name, known))
