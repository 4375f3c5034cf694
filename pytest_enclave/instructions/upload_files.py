"""`plan.upload_files(src, name)`: files of the package, or one of the web, as a files artifact (behaviour.md §1.10)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pytest_enclave.instructions.artifact import NAME, MakesArtifact, artifact_name
from pytest_enclave.instructions.download import State, download, scheme_problem, shown, url_problem
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.package.locators import is_remote, is_url
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.futures import find
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value


class UploadFiles(MakesArtifact):
    """Stores a file under its own name, or a directory's content; what a URL names is downloaded when it executes.

    The server is asked again in each run. While it says that nothing is new, or sends the same, nothing has changed.
    """

    name = "upload_files"
    locators = ("src",)
    parameters = (Parameter("src", checks.NON_EMPTY_STRING, required=True), NAME)

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """A URL must be one that something can be downloaded from."""
        src = arguments["src"]
        if not is_url(src):
            reason = scheme_problem(src)
            return {"src": reason} if reason else {}
        if next(find(src), None) is not None:
            return {"src": "is a URL known only after execution: download it with `run_sh`, and `store` it"}
        reason = url_problem(src)
        return {"src": reason} if reason else {}

    def footprint(self, call: Instruction) -> Footprint:
        """Makes the artifact."""
        return Footprint(Replay.REPLACE, artifacts=frozenset({artifact_name(call)}), forced="src" not in call.files)

    def execute(self, call: Instruction, context: Context) -> Result:
        """Copy the files, or download the file."""
        name = artifact_name(call)
        if "src" not in call.files:
            return _downloaded(call, context, name)
        digest = context.artifacts.store_path(name, call.files["src"].path)
        return Result(f"files artifact `{name}` holds {call.get('src')}", contents={name: digest})


def _downloaded(call: Instruction, context: Context, name: str) -> Result:
    url = call.get("src")
    before = context.values.get(call.producer, {})
    digest = context.artifacts.digests().get(name, "")
    same = bool(digest) and before.get("digest") == digest
    left = None if context.deadline is None else context.deadline - context.clock.now()
    with tempfile.TemporaryDirectory(prefix="pytest-enclave-") as directory:
        trusted = not is_remote(call.location.file)
        found = download(url, Path(directory), State.of(before) if same else State(), left, trusted=trusted)
        if found is None:
            return Result(f"{shown(url)} is unchanged", {call.producer: before}, {name: digest})
        path, state = found
        digest = context.artifacts.store_path(name, path)
        message = f"files artifact `{name}` holds {path.name} from {shown(url)}"
    return Result(message, {call.producer: {**state.fields(), "digest": digest}}, {name: digest})
