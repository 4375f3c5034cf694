"""`plan.start_service(name)`: start a stopped service again."""

from __future__ import annotations

from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import ExecutionError
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.service_action import ServiceAction
from pytest_enclave.instructions.starting import await_ready
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.instruction import Instruction


class StartService(ServiceAction):
    """Starts a service that was stopped, and waits until it is ready; one that runs is an error."""

    name = "start_service"

    def execute(self, call: Instruction, context: Context) -> Result:
        """Start it, and wait for its ports and its ready condition."""
        name = call.get("name")
        status = context.site.observe()[name].status
        if status is Status.RUNNING:
            raise ExecutionError(f"service `{name}` is already started", service=name)
        context.site.act(name, Action.RESUME if status is Status.PAUSED else Action.START)
        await_ready(context, name, context.services[name], context.clock.now())
        return Result(f"service `{name}` is started")
