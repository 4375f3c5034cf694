"""`plan.stop_service(name)`: stop a running service; its files, name and address stay."""

from __future__ import annotations

from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import ExecutionError
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.service_action import ServiceAction
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.instruction import Instruction


class StopService(ServiceAction):
    """Stops a service; one that does not run is an error."""

    name = "stop_service"

    def execute(self, call: Instruction, context: Context) -> Result:
        """Stop it."""
        name = call.get("name")
        if context.site.observe()[name].status in (Status.STOPPED, Status.EXITED):
            raise ExecutionError(f"service `{name}` is already stopped", service=name)
        context.site.act(name, Action.STOP)
        return Result(f"service `{name}` is stopped")
