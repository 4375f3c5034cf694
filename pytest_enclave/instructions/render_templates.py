"""`plan.render_templates(config, name)`: Go templates and data become a files artifact (behaviour.md §1.9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from pytest_enclave.errors import ExecutionError
from pytest_enclave.instructions.artifact import NAME, MakesArtifact, artifact_name
from pytest_enclave.instructions.protocol import Context, Result
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.futures import Values, substitute_deep
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Struct, Value, quote

LONGEST_NAME = 255
"""Bytes: what file systems allow for one part of a path."""


def to_data(value: Value) -> Value:
    """A template's data with structs as dicts, as JSON has it."""
    if isinstance(value, Struct):
        return {name: to_data(item) for name, item in value.fields.items()}
    if isinstance(value, (list, tuple)):
        return [to_data(item) for item in value]
    if isinstance(value, dict):
        return {key: to_data(item) for key, item in value.items()}
    return value


def _inside(path: str) -> PurePosixPath:
    """The path inside the artifact, which is its root."""
    return PurePosixPath(path.lstrip("/"))


def _path_problem(path: str, paths: Iterable[str]) -> str:
    """Why no file can have that path inside the artifact, or nothing."""
    inside = _inside(path)
    if not inside.parts or ".." in inside.parts or "\0" in path:
        return "must be a path of a file inside the artifact"
    if any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in inside.parts):
        return f"has a part longer than {LONGEST_NAME} bytes, which no file's name can be"
    for other in paths:
        if other != path and (_inside(other) == inside or _inside(other) in inside.parents[:-1]):
            return f"cannot be a file beside {quote(other)}, which is one with the same path, or above it"
    return ""


class RenderTemplates(MakesArtifact):
    """Renders each template with its data into the file that its path names."""

    name = "render_templates"
    parameters = (Parameter("config", checks.dict_of(checks.instance("struct"), non_empty=True), required=True), NAME)

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """Every path stays inside the artifact, every template parses, all data can be encoded."""
        # The templates of a package that has not changed were parsed when it was new.
        from pytest_enclave.golang.template import Template, TemplateSyntaxError
        from pytest_enclave.golang.template.data import DataError, prepare

        found: dict[str, str] = {}
        for path, entry in arguments["config"].items():
            where = f"config[{quote(path)}]"
            wrong = _path_problem(path, arguments["config"])
            if wrong:
                found[where] = wrong
            if not isinstance(entry.get("template"), str):
                found[f"{where}.template"] = "must be a string, the text of the template"
                continue
            if "data" not in entry.fields:
                found[f"{where}.data"] = "is missing"
                continue
            try:
                Template.parse(entry.get("template"))
                prepare(to_data(entry.get("data")))
            except TemplateSyntaxError as error:
                found[f"{where}.template"] = f"is not a valid Go template: {error}"
            except DataError as error:
                found[f"{where}.data"] = f"cannot be encoded: {error}"
        return found

    def footprint(self, call: Instruction) -> Footprint:
        """Makes the artifact."""
        return Footprint(Replay.REPLACE, artifacts=frozenset({artifact_name(call)}))

    def resolve(self, call: Instruction, values: Values) -> Mapping[str, Value]:
        """References are replaced in the data, never in the template."""
        config: dict[str, Value] = {}
        for path, entry in call.get("config").items():
            data = substitute_deep(entry.fields["data"], values, keys=True)
            config[path] = Struct(entry.kind, {**entry.fields, "data": data})
        return {**call.arguments, "config": config}

    def execute(self, call: Instruction, context: Context) -> Result:
        """Render every file."""
        from pytest_enclave.golang.template import Template, TemplateExecutionError
        from pytest_enclave.golang.template.data import DataError, prepare

        name = artifact_name(call)
        files: dict[str, bytes] = {}
        for path, entry in call.get("config").items():
            try:
                text = Template.parse(entry.get("template")).render(prepare(to_data(entry.get("data"))))
            except (TemplateExecutionError, DataError) as error:
                raise ExecutionError(f"rendering `{path}`: {error}") from None
            files[str(_inside(path))] = text.encode("utf-8", "surrogateescape")
        digest = context.artifacts.store_files(name, files)
        listed = ", ".join(files)
        return Result(f"files artifact `{name}` holds {listed}", contents={name: digest})
