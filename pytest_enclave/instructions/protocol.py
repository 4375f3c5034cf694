"""What an instruction type is, and what it is given when it executes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from pytest_enclave.engine.protocol import Clock, Site
from pytest_enclave.errors import Problem
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.footprint import Footprint
from pytest_enclave.plan.futures import Values
from pytest_enclave.plan.instruction import Instruction, Signature
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.resolution import resolve_arguments
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.plan.world import World


class Artifacts(Protocol):
    """The enclave's files artifacts. Storing returns a digest of the content, and replaces what was there."""

    def directory(self, name: str) -> Path:
        """The directory with the artifact's files; not to be written to."""

    def directories(self) -> Mapping[str, Path]:
        """Every artifact's directory, by name."""

    def digests(self) -> Mapping[str, str]:
        """The digest of every artifact's content, by name."""

    def merged(self, groups: Iterable[Sequence[str]]) -> Mapping[str, Path]:
        """Directories with the files of several artifacts each, by `name_of_merged`; of equal paths the last wins."""

    def store_path(self, name: str, source: Path) -> str:
        """A file, under its own name, or a directory's content."""

    def store_files(self, name: str, files: Mapping[str, bytes]) -> str:
        """Files given by relative path and content."""

    def store_tar(self, name: str, stream: Iterator[bytes], *, content_only: bool) -> str:
        """What a tar stream holds; with `content_only` what its single top directory holds."""


class Context(msgspec.Struct, frozen=True):
    """What an executing instruction may use.

    `services` are the configs of the live services; `extract` runs a jq query over a JSON text; `deadline` is the
    `Clock.now()` at which the whole run must be over; `keep` names services of a batch that need not be replaced;
    `values` are those that instructions have produced so far.
    """

    site: Site
    clock: Clock
    artifacts: Artifacts
    services: Mapping[str, ServiceConfig]
    emit: Emit
    extract: Callable[[str, str], Value]
    random: random.Random
    parallelism: int = 4
    deadline: float | None = None
    keep: frozenset[str] = frozenset()
    values: Values = msgspec.field(default_factory=dict)


class Result(msgspec.Struct, frozen=True):
    """What executing gave: a line for users, values by producer, artifact digests, configs of new services."""

    message: str
    values: Mapping[str, Mapping[str, Value]] = msgspec.field(default_factory=dict)
    contents: Mapping[str, str] = msgspec.field(default_factory=dict)
    services: Mapping[str, Struct] = msgspec.field(default_factory=dict)


class InstructionType(Signature, Protocol):
    """A kind of instruction: stateless, found by name. All but `execute` are functions of plain data."""

    def footprint(self, call: Instruction) -> Footprint:
        """What the call makes, reads and acts on."""

    def configs(self, call: Instruction) -> Mapping[str, ServiceConfig]:
        """The services that the call starts, with their configs as written; the engine is asked about each."""

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The simulated enclave after the call, and what is wrong with the call at this point of the plan."""

    def resolve(self, call: Instruction, values: Values) -> Mapping[str, Value]:
        """The arguments with future references replaced. Raises `futures.UnknownFuture`."""

    def execute(self, call: Instruction, context: Context) -> Result:
        """Have the effect. The call's arguments are resolved. Raises the `ExecutionError`s."""


class Defaults:
    """What most instruction types have in common; they inherit it and declare the rest."""

    name: str = ""
    aliases: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    locators: tuple[str, ...] = ()

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """Nothing beyond each argument's own check."""
        return {}

    def returns(self, call: Instruction) -> Value:
        """None."""
        return None

    def configs(self, call: Instruction) -> Mapping[str, ServiceConfig]:
        """No services."""
        return {}

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """Nothing can be wrong, and nothing changes."""
        return world, ()

    def resolve(self, call: Instruction, values: Values) -> Mapping[str, Value]:
        """Each argument in its declared mode."""
        return resolve_arguments(self.parameters, call.arguments, values)
