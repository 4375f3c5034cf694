"""`plan.set_service(name, config)`: change how a service that this script adds is run (behaviour.md §1.15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_enclave.errors import InterpretationError
from pytest_enclave.instructions.add_service import AddService
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.service_lookup import ServiceLookup, unknown
from pytest_enclave.plan import checks
from pytest_enclave.plan.canonical import call_text
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.futures import find, producer_of_call
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Struct, Value

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft

FIXED = ("ports", "public_ports", "files", "entrypoint", "cmd", "env_vars")
"""What the script may have relied on since it added the service."""


class SetService(ServiceLookup):
    """Lays a config over the one that `add_service` was given before: that instruction then executes with both.

    The image is always that of the later config; of several calls the last counts. The config is no part of what
    this instruction is, as it is part of what the other one is.
    """

    name = "set_service"
    parameters = (
        Parameter("name", checks.NON_EMPTY_STRING, required=True),
        Parameter("config", checks.instance("ServiceConfig"), required=True, identity=False),
    )

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """What the service offers, and what it is started with, stays."""
        return {
            f"config.{name}": "cannot be changed by `set_service`: give it to the service's `add_service`"
            for name in FIXED
            if name in arguments["config"].fields
        }

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """Change the instruction that adds the service.

        Raises InterpretationError where none does, or where it would need values that do not exist when it executes.
        """
        name = call.get("name")
        added = draft.added.get(name)
        if added is None:
            alone = [other for other, one in draft.added.items() if one.by == AddService.name]
            raise unknown(call, draft, "that this script has added with `add_service`", alone)
        if added.by != AddService.name:
            raise InterpretationError(
                f"{call.name}: service `{name}` is added by `{added.by}`, which cannot be changed",
                location=call.location,
                remedy="change its config there, or add it with `add_service`",
            )
        config = _merged(added.config, call.get("config"))
        _refuse_later_values(call, config, added.index, draft)
        earlier = {**draft.instructions[added.index].arguments, "config": config}
        text = call_text(AddService.name, AddService.parameters, earlier)
        draft.amend(name, config, text, producer_of_call(text, 0), call)
        return None

    def execute(self, call: Instruction, context: Context) -> Result:
        """It was done when the service was added."""
        return Result(f"service `{call.get('name')}` was added with this config")


def _refuse_later_values(call: Instruction, config: Struct, index: int, draft: Draft) -> None:
    name, adds, later = call.get("name"), draft.instructions[index], draft.producers_from(index)
    for future in find(config):
        producing = later.get(future.producer)
        if producing is adds:
            raise InterpretationError(
                f"{call.name}: `config` has `{future.field}` of service `{name}` itself, "
                "which is known only once the service is added",
                location=call.location,
                remedy="leave it out: the service is added with this config",
            )
        if producing is not None:
            raise InterpretationError(
                f"{call.name}: `config` has `{future.field}` of `{producing.name}` at {producing.location}, which "
                f"executes only after service `{name}` is added at {adds.location}",
                location=call.location,
                remedy=f"the service is added with this config: add `{name}` after that `{producing.name}`",
            )


def _merged(earlier: Struct, later: Struct) -> Struct:
    """The fields of both, in declared order; those of the later one count."""
    fields = {**earlier.fields, **later.fields}
    return Struct(earlier.kind, {f.name: fields[f.name] for f in CONFIG_TYPES[earlier.kind].fields if f.name in fields})
