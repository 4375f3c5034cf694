"""`plan.get_service(name)`: a service that this script has added, or that the enclave has (behaviour.md §1.15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.service_lookup import ServiceLookup, unknown
from pytest_enclave.instructions.service_object import service_object
from pytest_enclave.plan import checks
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft


class GetService(ServiceLookup):
    """Gives the `Service` that `add_service` gave."""

    name = "get_service"
    parameters = (Parameter("name", checks.NON_EMPTY_STRING, required=True),)

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """The service, as this script or an earlier run has added it."""
        config = draft.service(call.get("name"))
        if config is None:
            raise unknown(call, draft, "in the enclave, and none is added before", draft.services())
        return service_object(call.get("name"), config)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Everything is known already."""
        return Result(f"service `{call.get('name')}`")
