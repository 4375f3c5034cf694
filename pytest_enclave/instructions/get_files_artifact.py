"""`plan.get_files_artifact(name)`: the name of a files artifact, once it is known to exist (behaviour.md §1.15)."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.service_checks import missing_artifacts
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value
from pytest_enclave.plan.world import World


class GetFilesArtifact(Defaults):
    """Gives the name back; that nothing has it is told before anything starts."""

    name = "get_files_artifact"
    parameters = (Parameter("name", checks.NON_EMPTY_STRING, required=True),)

    def returns(self, call: Instruction) -> Value:
        """The same name."""
        return call.get("name")

    def footprint(self, call: Instruction) -> Footprint:
        """Needs the artifact."""
        return Footprint(Replay.COMPARE, reads=frozenset({call.get("name")}))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The artifact must exist."""
        return world, list(missing_artifacts(call, call.get("name"), [call.get("name")], world))

    def execute(self, call: Instruction, context: Context) -> Result:
        """Everything is known already."""
        return Result(f"files artifact `{call.get('name')}`")
