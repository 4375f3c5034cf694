"""`plan.add_services(configs)`: several services at once; all come up, or none stays (behaviour.md §1.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.add_service import FORCE_UPDATE, check_services, footprint_of
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.service_object import service_object, service_values
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.plan.values import Value
from pytest_enclave.plan.world import World

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft


class AddServices(Defaults):
    """Adds services side by side, as many at a time as `--enclave-parallelism` says."""

    name = "add_services"
    parameters = (
        Parameter("configs", checks.dict_of(checks.instance("ServiceConfig"), non_empty=True), required=True),
        FORCE_UPDATE,
    )

    def returns(self, call: Instruction) -> Value:
        """A dict of service name → `Service`."""
        return {name: service_object(name, config) for name, config in call.get("configs").items()}

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """The same; the script can ask for each of them from then on."""
        draft.add(call, call.get("configs"))
        return self.returns(call)

    def configs(self, call: Instruction) -> Mapping[str, ServiceConfig]:
        """All services of the batch."""
        return {name: ServiceConfig.of(config) for name, config in call.get("configs").items()}

    def footprint(self, call: Instruction) -> Footprint:
        """Makes every service of the batch."""
        return footprint_of(call.get("configs"), forced=call.get("force_update", False))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """As for each single service."""
        return check_services(call, self.configs(call), world)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Start those that are new or differ, and wait until all of them are ready."""
        # Most services are there already.
        from pytest_enclave.instructions.starting import start_services

        configs = self.configs(call)
        wanted = {name: config for name, config in configs.items() if name not in context.keep}
        start_services(context, wanted)
        values: dict[str, dict[str, Value]] = {}
        for name in configs:
            values |= service_values(name, context.site.reserve(name))
        listed = ", ".join(f"`{name}`" for name in wanted)
        up = "1 service is up" if len(wanted) == 1 else f"{len(wanted)} services are up"
        return Result(f"{up}: {listed}", values, services=call.get("configs"))
