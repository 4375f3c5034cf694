"""What the instructions that make a files artifact have in common: its name, and how names are told apart."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Defaults
from pytest_enclave.instructions.service_checks import duplicate_artifact
from pytest_enclave.plan.config_types import STORED_NAME
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value
from pytest_enclave.plan.world import World

NAME = Parameter("name", STORED_NAME)


def artifact_name(call: Instruction) -> str:
    """The given name, or one made from the call itself: the same call has the same name in every run."""
    return str(call.get("name") or f"{call.name.split('_')[0]}-{call.producer[:12]}")


class MakesArtifact(Defaults):
    """Makes one files artifact and returns its name."""

    def returns(self, call: Instruction) -> Value:
        """The artifact's name, as a plain string."""
        return artifact_name(call)

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The name must not be made twice by one plan; one that was there before is replaced."""
        name = artifact_name(call)
        return world.with_artifact(name, call.location), duplicate_artifact(call, name, world)
