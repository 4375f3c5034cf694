"""What interpreting a package yields: instructions, and the plan they form. Pure data; nothing has happened yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from pytest_enclave.errors import Problem
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value
from pytest_enclave.source import Frame, Location


class SourceFile(msgspec.Struct, frozen=True, gc=False):
    """A file or directory of the package that an instruction reads: where it lies, and a digest of its content."""

    path: Path
    digest: str


class Instruction(msgspec.Struct, frozen=True, gc=False):
    """One `plan.*` call. `arguments` holds what was given, in declared order.

    `text` is the canonical string (behaviour.md §1.0), `producer` the 32 digits that future references to its results
    carry, `files` the package files it reads, by the argument that names them. `amended_by` is the later call that has
    changed its config last, and said the image.
    """

    name: str
    arguments: Mapping[str, Value]
    location: Location
    text: str
    producer: str
    files: Mapping[str, SourceFile] = msgspec.field(default_factory=dict)
    amended_by: Instruction | None = None

    @property
    def names_image(self) -> Instruction:
        """The call that says what image the service is made of."""
        return self.amended_by or self

    def get(self, name: str, default: Value = None) -> Value:
        """The argument of that name, or the default where it was not given."""
        return self.arguments.get(name, default)

    def __str__(self) -> str:
        return self.text


class Plan(msgspec.Struct, frozen=True):
    """The ordered instructions of one interpretation.

    `output` is what the main function returned, future references unresolved; `sources` the text of every Starlark
    file that was read, by the name locations use; `warnings` what users should know, such as deprecated fields.
    `callers` are known of a unit test: the calls that led to the instructions at a place, by that place.
    """

    instructions: tuple[Instruction, ...] = ()
    output: Value = None
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    callers: Mapping[Location, tuple[Frame, ...]] = msgspec.field(default_factory=dict)

    def to_json(self, *, secrets: bool = False) -> str:
        """The plan as JSON text, in the form that `docs/plan-json.md` describes; secrets masked unless wanted."""
        from pytest_enclave.report.plan_json import plan_json

        return plan_json(self, secrets=secrets)


class Signature(Protocol):
    """What the language room needs to know of an instruction: how it is called, and what it returns."""

    @property
    def name(self) -> str:
        """The canonical name, as in `plan.<name>`."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Further names of the same instruction."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The arguments, in the order positional ones are taken."""

    @property
    def locators(self) -> tuple[str, ...]:
        """Names of the arguments that name a file or directory of the package."""

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """What is wrong with the arguments together, beyond each one's own check: argument name → reason."""

    def returns(self, call: Instruction) -> Value:
        """What the script gets: plain values, and future references to the call's results."""
