"""What an interpretation leaves behind: typed values as they are constructed, instructions as they are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_enclave.errors import InterpretationError, PackageError, Problem
from pytest_enclave.language import wire
from pytest_enclave.language.diagnostics import caller
from pytest_enclave.language.module import Module
from pytest_enclave.package.digest import digest_of
from pytest_enclave.package.files import FileState
from pytest_enclave.package.package import Found
from pytest_enclave.plan.canonical import call_text
from pytest_enclave.plan.config_types import CONFIG_TYPES, ConfigType, construct
from pytest_enclave.plan.futures import producer_of_call
from pytest_enclave.plan.images import DOCKER_ARCHIVE, OCI_LAYOUT, Archive
from pytest_enclave.plan.instruction import Instruction, Signature, SourceFile
from pytest_enclave.plan.parameters import BindingError, Parameter, bind
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location

Find = Callable[[str, str], Found]
"""What a locator, written in the file of that name, stands for. Raises PackageError."""

_ARCHIVE = re.compile(f'"(?:{DOCKER_ARCHIVE}|{OCI_LAYOUT}):')
"""Where a crossing text may name an image archive, which is relative to the file that it is written in."""


class Recorder:
    """Collects one interpretation's instructions, warnings and files; `modules` grows while files are loaded.

    `decode` reads what crosses the border, typed values by their handles.
    """

    def __init__(self, signatures: Sequence[Signature], modules: Mapping[str, Module], find: Find) -> None:
        self.instructions: list[Instruction] = []
        self.warnings: list[Problem] = []
        self.files: dict[str, FileState] = {}
        self._typed: list[Struct] = []
        self.decode = wire.Decoder(self._typed)
        self._signatures = {name: kind for kind in signatures for name in (kind.name, *kind.aliases)}
        self._modules = modules
        self._find = find
        self._handles: dict[tuple[str, str, str], int] = {}
        self._equal: Counter[str] = Counter()
        self._deprecations: set[tuple[str, str]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `plan` has."""
        return tuple(self._signatures)

    def construct(self, kind: str, crossing: str, stack: str) -> int:
        """Check a typed value, keep it, and give its handle; equal calls get the same one."""
        key = (kind, crossing, self._place(stack, kind).file if _ARCHIVE.search(crossing) else "")
        if key not in self._handles:
            positional, keywords = self.decode(crossing)
            declared = CONFIG_TYPES[kind]
            try:
                fields = bind(kind, declared.fields, positional, keywords)
            except BindingError as error:
                raise self._error(kind, error.findings, self._place(stack, kind)) from None
            self._refuse(kind, declared.check(fields), stack)
            if key[2]:
                self._find_images(kind, declared.fields, fields, self._place(stack, kind))
            self._warn_of_deprecated(declared, fields, stack)
            self._handles[key] = self.handle_of(construct(kind, fields))
        return self._handles[key]

    def handle_of(self, value: Struct) -> int:
        """Keep a typed value; the number it is known by in Starlark."""
        self._typed.append(value)
        return len(self._typed) - 1

    def record(self, name: str, crossing: str, stack: str) -> Value:
        """Append an instruction to the plan; what the script gets for it, ready to cross."""
        kind = self._signatures[name]
        place = self._place(stack, name)
        positional, keywords = self.decode(crossing)
        try:
            arguments = bind(kind.name, kind.parameters, positional, keywords)
        except BindingError as error:
            raise self._error(name, error.findings, place) from None
        self._refuse(name, kind.problems(arguments), stack)
        self._find_images(name, kind.parameters, arguments, place)
        files = self._read_files(kind, arguments, place)
        text = call_text(kind.name, kind.parameters, arguments)
        producer = producer_of_call(text, self._equal[text])
        self._equal[text] += 1
        instruction = Instruction(kind.name, arguments, place, text, producer, files)
        result = wire.encode(kind.returns(instruction), self.handle_of)
        self.instructions.append(instruction)
        return result

    def _place(self, stack: str, callee: str) -> Location:
        call = caller(stack)
        return self._modules[call.file].call_place(call.line, callee)

    def _refuse(self, callee: str, findings: Mapping[str, str], stack: str) -> None:
        if findings:
            raise self._error(callee, findings, self._place(stack, callee))

    def _error(self, callee: str, findings: Mapping[str, str], place: Location) -> InterpretationError:
        problems = [
            Problem(reason if name == callee else f"`{name}` {reason}", place, subject=callee)
            for name, reason in findings.items()
        ]
        listed = "; ".join(problem.message for problem in problems)
        return InterpretationError(f"{callee}: {listed}", location=place, problems=problems)

    def _warn_of_deprecated(self, declared: ConfigType, fields: Mapping[str, Value], stack: str) -> None:
        for name, successor in declared.deprecated.items():
            if name in fields and (declared.name, name) not in self._deprecations:
                self._deprecations.add((declared.name, name))
                self.warnings.append(
                    Problem(
                        f"`{name}` of {declared.name} is deprecated",
                        self._place(stack, declared.name),
                        subject=declared.name,
                        remedy=f"use `{successor}`",
                        severity="warning",
                    )
                )

    def _find_images(
        self, callee: str, parameters: Sequence[Parameter], arguments: dict[str, Value], place: Location
    ) -> None:
        """Name image archives by where they really are: inside the package, or not at all."""
        for parameter in parameters:
            archive = Archive.of(arguments[parameter.name]) if parameter.image and parameter.name in arguments else None
            if archive is not None:
                try:
                    path = self._find(archive.path, place.file).path
                    _refuse_other_kind(archive, path)
                except PackageError as error:
                    message = f"{callee}: `{parameter.name}`: {error.message}"
                    raise InterpretationError(message, location=place, remedy=error.remedy) from None
                self.files[str(path)] = FileState.of(path)
                arguments[parameter.name] = str(replace(archive, path=str(path)))

    def _read_files(self, kind: Signature, arguments: Mapping[str, Value], place: Location) -> dict[str, SourceFile]:
        files = {}
        for name in kind.locators:
            if name in arguments:
                try:
                    found = self._find(arguments[name], place.file)
                    digest, states = digest_of(found.path, found.name)
                except PackageError as error:
                    message = f"{kind.name}: {error.message}"
                    raise InterpretationError(message, location=place, remedy=error.remedy) from None
                self.files.update((str(state.path), state) for state in states)
                files[name] = SourceFile(found.path, digest)
        return files


def _refuse_other_kind(archive: Archive, path: Path) -> None:
    if archive.kind == DOCKER_ARCHIVE and not path.is_file():
        remedy = f"`{OCI_LAYOUT}:` names a directory with an OCI image layout" if path.is_dir() else ""
        raise PackageError(f"`{archive.path}` is not a file, as `docker save` writes it", remedy=remedy)
    if archive.kind == OCI_LAYOUT and not (path / "index.json").is_file():
        remedy = f"`{DOCKER_ARCHIVE}:` names a file that `docker save` wrote" if path.is_file() else ""
        raise PackageError(
            f"`{archive.path}` is not a directory with an OCI image layout: it has no `index.json`", remedy=remedy
        )
