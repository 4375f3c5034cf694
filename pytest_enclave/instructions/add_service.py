"""`plan.add_service(name, config)`: one service, up and ready (behaviour.md §1.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.service_checks import config_problems, is_known_later
from pytest_enclave.instructions.service_object import config_text, service_object, service_values
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.image_sources import image_name
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.service import ServiceConfig, artifacts_of
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.plan.world import World

if TYPE_CHECKING:
    from pytest_enclave.plan.draft import Draft

FORCE_UPDATE = Parameter("force_update", checks.BOOL, default=False, identity=False)
"""Replaces the service in each run, even where nothing has changed."""


class AddService(Defaults):
    """Adds a service, or replaces the live one of that name, which keeps its address."""

    name = "add_service"
    parameters = (
        Parameter("name", checks.NON_EMPTY_STRING, required=True),
        Parameter("config", checks.instance("ServiceConfig"), required=True),
        FORCE_UPDATE,
    )

    def returns(self, call: Instruction) -> Value:
        """A `Service`."""
        return service_object(call.get("name"), call.get("config"))

    def enter(self, call: Instruction, draft: Draft) -> Value:
        """The same; the script can ask for the service from then on."""
        name, config = call.arguments["name"], call.arguments["config"]
        draft.add(call, {name: config})
        return service_object(name, config)

    def configs(self, call: Instruction) -> Mapping[str, ServiceConfig]:
        """The one service."""
        return {call.get("name"): ServiceConfig.of(call.get("config"))}

    def footprint(self, call: Instruction) -> Footprint:
        """Makes the service; mounts its artifacts."""
        return footprint_of({call.get("name"): call.get("config")}, forced=call.get("force_update", False))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """Names, ports, artifacts, resources."""
        return check_services(call, self.configs(call), world)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Start it, and wait for its ports and its ready condition."""
        # Most services are there already.
        from pytest_enclave.instructions.starting import start_services

        name, config = call.get("name"), call.get("config")
        start_services(context, {name: ServiceConfig.of(config)})
        address = context.site.reserve(name)
        return Result(
            f"service `{name}` is up at {address.ip_address}", service_values(name, address), services={name: config}
        )


def footprint_of(configs: Mapping[str, Struct], *, forced: bool) -> Footprint:
    """The footprint of an instruction that makes these services."""
    images = (image_name(config.fields["image"]) for config in configs.values())
    return Footprint(
        Replay.REPLACE,
        services={name: config_text(config) for name, config in configs.items()},
        mounts={name: _mounted_in(config) for name, config in configs.items()},
        images=frozenset(image for image in images if not is_known_later(image)),
        forced=forced,
        joins={n: config.fields["subnetwork"] for n, config in configs.items() if "subnetwork" in config.fields},
    )


def _mounted_in(config: Struct) -> frozenset[str]:
    return frozenset(name for mounted in config.get("files", {}).values() for name in artifacts_of(mounted))


def check_services(
    call: Instruction, configs: Mapping[str, ServiceConfig], world: World
) -> tuple[World, Sequence[Problem]]:
    """Every problem of every service; all of them exist afterwards, so that one mistake is told once."""
    found: list[Problem] = []
    for name, config in configs.items():
        found += config_problems(call, name, config, world)
        world = world.with_service(name, config, call.location)
    return world, found
