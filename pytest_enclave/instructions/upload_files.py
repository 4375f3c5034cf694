"""`plan.upload_files(src, name)`: a file or directory of the package as a files artifact (behaviour.md §1.10)."""

from __future__ import annotations

from pytest_enclave.instructions.artifact import NAME, MakesArtifact, artifact_name
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter


class UploadFiles(MakesArtifact):
    """Stores a file under its own name, or a directory's content."""

    name = "upload_files"
    locators = ("src",)
    parameters = (Parameter("src", checks.NON_EMPTY_STRING, required=True), NAME)

    def footprint(self, call: Instruction) -> Footprint:
        """Makes the artifact."""
        return Footprint(Replay.REPLACE, artifacts=frozenset({artifact_name(call)}))

    def execute(self, call: Instruction, context: Context) -> Result:
        """Copy the files."""
        name = artifact_name(call)
        digest = context.artifacts.store_path(name, call.files["src"].path)
        return Result(f"files artifact `{name}` holds {call.get('src')}", contents={name: digest})
