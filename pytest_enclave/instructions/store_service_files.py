"""`plan.store_service_files(service_name, src, name)`: files of a service as a files artifact (behaviour.md §1.11)."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.engine.protocol import NotReached
from pytest_enclave.errors import ExecutionError, Problem
from pytest_enclave.instructions.artifact import NAME, MakesArtifact, artifact_name
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.instructions.service_checks import unknown_service
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.world import World


def store_from_service(context: Context, service: str, src: str, name: str) -> str:
    """Copy a file or directory of a service into an artifact; returns the content's digest.

    A directory comes with its own name, as `cp -r` has it; with `/` or `/*` at the end, only what it holds.
    """
    content_only = src.endswith(("/", "/*"))
    path = (src.removesuffix("*").rstrip("/") or "/") if content_only else src
    try:
        return context.artifacts.store_tar(name, context.site.read(service, path), content_only=content_only)
    except NotReached as error:
        raise ExecutionError(f"cannot store `{src}` of service `{service}`: {error}", service=service) from None


class StoreServiceFiles(MakesArtifact):
    """Copies a file or directory out of a service."""

    name = "store_service_files"
    parameters = (
        Parameter("service_name", checks.NON_EMPTY_STRING, required=True),
        Parameter("src", checks.NON_EMPTY_STRING, required=True),
        NAME,
        Parameter("depends_on", checks.STRING, identity=False),
    )

    def footprint(self, call: Instruction) -> Footprint:
        """Looks into a running service; makes the artifact."""
        return Footprint(
            Replay.OBSERVE, artifacts=frozenset({artifact_name(call)}), uses=frozenset({call.get("service_name")})
        )

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The service must exist; the name must be free."""
        world_after, found = super().check(call, world)
        missing = unknown_service(call, call.get("service_name"), world)
        return world_after, [missing, *found] if missing else found

    def execute(self, call: Instruction, context: Context) -> Result:
        """Copy the files."""
        name = artifact_name(call)
        digest = store_from_service(context, call.get("service_name"), call.get("src"), name)
        return Result(f"files artifact `{name}` holds {call.get('src')}", contents={name: digest})
