"""Services by name while a script is interpreted: what `plan.get_service` and `plan.set_service` have in common."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_enclave.errors import InterpretationError
from pytest_enclave.instructions.service_checks import did_you_mean, is_known_later
from pytest_enclave.plan.draft import Draft
from pytest_enclave.plan.instruction import Instruction


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
