"""What an interpretation leaves behind: typed values as they are constructed, instructions as they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from msgspec.structs import replace

from pytest_enclave.errors import InterpretationError, PackageError, Problem
from pytest_enclave.language import wire
from pytest_enclave.language.diagnostics import caller
from pytest_enclave.language.module import Module
from pytest_enclave.package.context import read_context
from pytest_enclave.package.digest import digest_of
from pytest_enclave.package.files import FileState
from pytest_enclave.package.locators import is_url
from pytest_enclave.package.package import Found
from pytest_enclave.plan.canonical import call_text, identity_text
from pytest_enclave.plan.config_types import CONFIG_TYPES, ConfigType, construct
from pytest_enclave.plan.draft import Draft, Drafted
from pytest_enclave.plan.futures import producer_of_call
from pytest_enclave.plan.image_sources import BUILD_FILE, CONTEXT
from pytest_enclave.plan.images import DOCKER_ARCHIVE, HOST_ROOT, OCI_LAYOUT, Archive
from pytest_enclave.plan.instruction import Instruction, Signature, SourceFile
from pytest_enclave.plan.parameters import Binder, BindingError, Parameter
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location

Find = Callable[[str, str], Found]
"""What a locator, written in the file of that name, stands for. Raises PackageError."""

IsFetched = Callable[[str], bool]
"""Whether the file of that name came through git."""

_MACHINE = f'"{HOST_ROOT}"'
_ARCHIVE, _LAYOUT = f'"{DOCKER_ARCHIVE}:', f'"{OCI_LAYOUT}:'
"""What a crossing text has that names an image archive, which is relative to the file that it is written in."""

PLACE_MATTERS = -1
"""In place of a handle: the value cannot be had without knowing where it is constructed."""


_OLDER_TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "run_sh": ("run", "image", "files", "store", "wait"),
        "run_python": ("run", "args", "packages", "image", "files", "store", "wait"),
    }
)
"""Instructions whose first argument was the command once, and is the name now: the order of their arguments then."""

_OLDER_CONFIGS = ("add_service", "add_services")
"""Instructions to which a plain struct may be given where a ServiceConfig is meant."""


class Recorder:
    """Collects one interpretation's instructions, warnings and files; `modules` grows while files are loaded.

    `decode` reads what crosses the border, typed values by their handles; `encode` writes it.
    """

    def __init__(
        self,
        signatures: Sequence[Signature],
        modules: Mapping[str, Module],
        find: Find,
        is_fetched: IsFetched,
        draft: Draft,
    ) -> None:
        self.draft = draft
        self.instructions = draft.instructions
        self.warnings: list[Problem] = []
        self.files: dict[str, FileState] = {}
        self._typed: list[Struct] = []
        self.decode = wire.Decoder(self._typed)
        self.encode = wire.Encoder(self.handle_of)
        self._signatures = {name: kind for kind in signatures for name in (kind.name, *kind.aliases)}
        self._drafted: dict[str, Drafted] = {
            name: kind for name, kind in self._signatures.items() if isinstance(kind, Drafted)
        }
        self._binders = {name: Binder(kind.name, kind.parameters) for name, kind in self._signatures.items()}
        self._constructors = {kind: Binder(kind, declared.fields) for kind, declared in CONFIG_TYPES.items()}
        self._naming_images = {
            callee: tuple(filter(_names_image, parameters))
            for callee, parameters in (
                *((kind.name, kind.parameters) for kind in signatures),
                *((kind, declared.fields) for kind, declared in CONFIG_TYPES.items()),
            )
        }
        self._modules = modules
        self._find = find
        self._is_fetched = is_fetched
        self._texts: dict[int, str] = {}
        self._handles: dict[str, int] = {}
        self._handles_by_file: dict[tuple[str, str], int] = {}
        self._places: dict[tuple[str, str], Location] = {}
        self._equal: dict[str, int] = {}
        self._deprecations: set[tuple[str, str]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The names that `plan` has."""
        return tuple(self._signatures)

    def construct(self, crossing: str) -> int:
        """Check a typed value, keep it, and give its handle; equal calls get the same one.

        PLACE_MATTERS where there is something to say about it, or where it names files: ask `construct_at`.
        """
        handle = self._handles.get(crossing)
        if handle is None:
            if _ARCHIVE in crossing or _LAYOUT in crossing or _MACHINE in crossing:
                return PLACE_MATTERS
            kind, positional, keywords = self.decode(crossing)
            declared = CONFIG_TYPES[kind]
            if declared.names_context:
                return PLACE_MATTERS
            try:
                fields = self._constructors[kind](positional, keywords)
            except BindingError:
                return PLACE_MATTERS
            if declared.check(fields) or (declared.deprecated and self._newly_deprecated(declared, fields)):
                return PLACE_MATTERS
            handle = self._handles[crossing] = self._keep(construct(kind, fields))
        return handle

    def construct_at(self, crossing: str, call: str) -> int:
        """The same, with everything that can be said about it; raises InterpretationError."""
        kind, positional, keywords = self.decode(crossing)
        place = self._place(call, kind)
        key = (crossing, place.file)
        if key not in self._handles_by_file:
            declared = CONFIG_TYPES[kind]
            try:
                fields = self._constructors[kind](positional, keywords)
            except BindingError as error:
                raise self._error(kind, error.findings, place) from None
            self._refuse(kind, declared.check(fields), place)
            self._find_images(kind, fields, place)
            self._warn_of_deprecated(declared, fields, place)
            self._handles_by_file[key] = self._keep(construct(kind, fields))
        return self._handles_by_file[key]

    def handle_of(self, value: Struct) -> int:
        """Keep a typed value; the number it is known by in Starlark."""
        self._typed.append(value)
        return len(self._typed) - 1

    def _keep(self, value: Struct) -> int:
        """Keep a constructed value with its canonical text, which every instruction that has it needs."""
        self._texts[id(value)] = identity_text(value, self._texts)
        return self.handle_of(value)

    def record(self, crossing: str) -> str:
        """Append an instruction to the plan; what the script gets for it, ready to cross."""
        name, positional, keywords, call = self.decode(crossing)
        kind = self._signatures[name]
        place = self._place(call, name)
        if name in _OLDER_TASKS and not {"run", "name"} & keywords.keys() and _is_older(name, positional):
            keywords = {**keywords, **dict(zip(_OLDER_TASKS[name], positional, strict=False))}
            positional = []
            self._warn_of_form(
                f"`{name}` with the command as its first argument", f"write `{name}(run = …)`", place, name
            )
        arguments = self._bound(name, positional, keywords, place)
        self._refuse(name, kind.problems(arguments), place)
        self._find_images(kind.name, arguments, place)
        files = self._read_files(kind, arguments, place)
        text = call_text(kind.name, kind.parameters, arguments, self._texts)
        equal = self._equal.get(text, 0)
        self._equal[text] = equal + 1
        producer = producer_of_call(text, equal)
        instruction = Instruction(kind.name, arguments, place, text, producer, files)
        drafted = self._drafted.get(name)
        result = self.encode(kind.returns(instruction) if drafted is None else drafted.enter(instruction, self.draft))
        self.instructions.append(instruction)
        return result

    def _bound(
        self, name: str, positional: Sequence[Value], keywords: Mapping[str, Value], place: Location
    ) -> dict[str, Value]:
        bind = self._binders[name]
        try:
            try:
                return bind(positional, keywords)
            except BindingError:
                if name not in _OLDER_CONFIGS:
                    raise
                positional = [self._modern(value, place) for value in positional]
                return bind(positional, {key: self._modern(value, place) for key, value in keywords.items()})
        except BindingError as error:
            raise self._error(name, error.findings, place) from None

    def _modern(self, value: Value, place: Location) -> Value:
        """Services were once configured by plain structs, with plain structs for ports: these become what they mean."""
        if isinstance(value, dict):
            return {name: self._modern(item, place) for name, item in value.items()}
        if not isinstance(value, Struct) or value.kind != "struct":
            return value
        remedy = "write `ServiceConfig(…)`, and `PortSpec(…)` for its ports"
        self._warn_of_form("`config = struct(…)`", remedy, place, "add_service")
        fields = dict(value.fields)
        if isinstance(fields.get("ports"), dict):
            fields["ports"] = {
                name: self._made("PortSpec", port.fields, place)
                if isinstance(port, Struct) and port.kind == "struct"
                else port
                for name, port in fields["ports"].items()
            }
        return self._made("ServiceConfig", fields, place)

    def _warn_of_form(self, form: str, remedy: str, place: Location, subject: str) -> None:
        if (subject, form) not in self._deprecations:
            self._deprecations.add((subject, form))
            self.warnings.append(Problem(f"{form} is deprecated", place, subject, remedy, severity="warning"))

    def _made(self, kind: str, given: Mapping[str, Value], place: Location) -> Struct:
        try:
            fields = self._constructors[kind]((), given)
        except BindingError as error:
            raise self._error(kind, error.findings, place) from None
        self._refuse(kind, CONFIG_TYPES[kind].check(fields), place)
        self._find_images(kind, fields, place)
        value = construct(kind, fields)
        self._keep(value)
        return value

    def _place(self, call: str, callee: str) -> Location:
        """Where a call is, by its lines of a call stack's text; the same one is asked for again and again."""
        key = (call, callee)
        if key not in self._places:
            innermost = caller(call)
            self._places[key] = self._modules[innermost.file].call_place(innermost.line, callee)
        return self._places[key]

    def _refuse(self, callee: str, findings: Mapping[str, str], place: Location) -> None:
        if findings:
            raise self._error(callee, findings, place)

    def _error(self, callee: str, findings: Mapping[str, str], place: Location) -> InterpretationError:
        problems = [
            Problem(reason if name == callee else f"`{name}` {reason}", place, subject=callee)
            for name, reason in findings.items()
        ]
        listed = "; ".join(problem.message for problem in problems)
        return InterpretationError(f"{callee}: {listed}", location=place, problems=problems)

    def _newly_deprecated(self, declared: ConfigType, fields: Mapping[str, Value]) -> list[str]:
        """Deprecated fields that are given for the first time."""
        return [
            name for name in declared.deprecated if name in fields and (declared.name, name) not in self._deprecations
        ]

    def _warn_of_deprecated(self, declared: ConfigType, fields: Mapping[str, Value], place: Location) -> None:
        for name in self._newly_deprecated(declared, fields):
            self._deprecations.add((declared.name, name))
            self.warnings.append(
                Problem(
                    f"`{name}` of {declared.name} is deprecated",
                    place,
                    subject=declared.name,
                    remedy=f"use `{declared.deprecated[name]}`",
                    severity="warning",
                )
            )

    def _find_images(self, callee: str, arguments: dict[str, Value], place: Location) -> None:
        """Name image archives by where they really are: inside the package, or not at all."""
        for parameter in self._naming_images[callee]:
            given = arguments.get(parameter.name)
            if parameter.context and isinstance(given, str):
                arguments[CONTEXT] = self._context(callee, given, arguments.get("build_file", BUILD_FILE), place)
            if given == HOST_ROOT and parameter.name == "image" and self._is_fetched(place.file):
                raise InterpretationError(
                    f'{callee}: `image` is "{HOST_ROOT}", the files of this machine, which a package that was fetched '
                    "may not use",
                    location=place,
                    remedy="check the package out and name its directory, for a dependency under `replace` in "
                    "`kurtosis.yml`",
                )
            archive = Archive.of(given) if parameter.image and isinstance(given, str) else None
            if archive is not None:
                try:
                    path = self._find(archive.path, place.file).path
                    _refuse_other_kind(archive, path)
                except PackageError as error:
                    message = f"{callee}: `{parameter.name}`: {error.message}"
                    raise InterpretationError(message, location=place, remedy=error.remedy) from None
                self.files[str(path)] = FileState.of(path)
                arguments[parameter.name] = str(replace(archive, path=str(path)))

    def _context(self, callee: str, locator: str, build_file: str, place: Location) -> Value:
        try:
            found = self._find(locator, place.file)
            digest, states = read_context(found.path, build_file, found.name)
        except PackageError as error:
            raise InterpretationError(f"{callee}: {error}", location=place, remedy=error.remedy) from None
        self.files.update((str(state.path), state) for state in states)
        return {"directory": str(found.path), "place": found.name, "digest": digest}

    def _read_files(self, kind: Signature, arguments: Mapping[str, Value], place: Location) -> dict[str, SourceFile]:
        files = {}
        for name in kind.locators:
            if name in arguments and not is_url(arguments[name]):
                try:
                    found = self._find(arguments[name], place.file)
                    digest, states = digest_of(found.path, found.name)
                except PackageError as error:
                    message = f"{kind.name}: {error.message}"
                    raise InterpretationError(message, location=place, remedy=error.remedy) from None
                self.files.update((str(state.path), state) for state in states)
                files[name] = SourceFile(found.path, digest)
        return files


def _names_image(parameter: Parameter) -> bool:
    return parameter.image or parameter.context or parameter.name == "image"


def _is_older(task: str, positional: Sequence[Value]) -> bool:
    """Whether it is the older order: there is the command alone, or what then had the place of another type."""
    index, kind = (2, dict) if task == "run_sh" else (1, list)
    older = len(positional) > index and isinstance(positional[index], kind)
    return len(positional) == 1 or (older and len(positional) <= len(_OLDER_TASKS[task]))


def _refuse_other_kind(archive: Archive, path: Path) -> None:
    if archive.kind == DOCKER_ARCHIVE and not path.is_file():
        remedy = f"`{OCI_LAYOUT}:` names a directory with an OCI image layout" if path.is_dir() else ""
        raise PackageError(f"`{archive.path}` is not a file, as `docker save` writes it", remedy=remedy)
    if archive.kind == OCI_LAYOUT and not (path / "index.json").is_file():
        remedy = f"`{DOCKER_ARCHIVE}:` names a file that `docker save` wrote" if path.is_file() else ""
        raise PackageError(
            f"`{archive.path}` is not a directory with an OCI image layout: it has no `index.json`", remedy=remedy
        )
