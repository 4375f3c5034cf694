"""Writes `docs/reference.md` from the code: `python docs/generate_reference.py`. A test compares the two."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_enclave import errors, hookspecs
from pytest_enclave.face.demands import MARKER
from pytest_enclave.face.faults import MARKER as FAULTS
from pytest_enclave.face.options import COMMANDS, OPTIONS
from pytest_enclave.instructions.protocol import InstructionType
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.draft import Drafted
from pytest_enclave.plan.parameters import Parameter, Substitution
from pytest_enclave.plan.values import to_repr
from pytest_enclave.report.codes import CODES

PAGE = Path(__file__).with_name("reference.md")


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Reference",
            "",
            "Made from the code by `docs/generate_reference.py`.",
            "",
            *section("Options", options()),
            *section("Commands", commands()),
            *section("Markers", markers()),
            *section("Instructions", instructions()),
            *section("Types", types()),
            *section("Hooks", hooks()),
            *section("Errors", error_tree()),
        ]
    )


def section(title: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """A heading, the lines, an empty line."""
    yield from (f"## {title}", "", *lines, "")


def markers() -> Iterator[str]:
    """Every marker: what it takes, and what it does."""
    for number, marker in enumerate((MARKER, FAULTS)):
        takes, _, does = marker.partition(": ")
        yield from ([""] if number else [])
        yield from (f"`{takes}`", "", does)


def options() -> Iterator[str]:
    """The options as a table."""
    yield from ("| command line | ini file | |", "|---|---|---|")
    for option in OPTIONS:
        takes = "" if option.is_flag else "=" + ("\\|".join(option.choices) or option.metavar)
        yield f"| `{option.flag}{takes}` | `{option.ini}` | {option.help} |"


def commands() -> Iterator[str]:
    """The options that take the place of a session, as a table."""
    yield from ("These take the place of tests: none is collected. The ini file has none of them.", "")
    yield from ("| command line | |", "|---|---|")
    for command in COMMANDS:
        usage = command.usage.replace("|", "\\|")
        yield f"| `{usage}` | {command.help} |"


def instructions() -> Iterator[str]:
    """Every instruction with its arguments."""
    yield "Every instruction and every type also takes `description`, a text for users that is no part of its identity."
    for kind in sorted(built_in(), key=lambda each: each.name):
        names = " / ".join(f"plan.{name}" for name in (kind.name, *kind.aliases))
        yield from ("", f"### {names}", "", inspect.getdoc(type(kind)) or "", "", *arguments(kind.parameters))
        yield from ("", f"Returns: {first_line(returning(kind))}")


def returning(kind: InstructionType) -> object:
    """The method that says what a call gives: those that get services know it only from the plan so far."""
    asks = kind.name.startswith("get_") and isinstance(kind, Drafted)
    return kind.enter if asks else kind.returns


def types() -> Iterator[str]:
    """Every type with its fields."""
    for config_type in CONFIG_TYPES.values():
        yield from (f"### {config_type.name}", "", *arguments(config_type.fields), "")


def arguments(parameters: Sequence[Parameter]) -> Iterator[str]:
    """Arguments as a table."""
    yield from ("| argument | must be | default | future references |", "|---|---|---|---|")
    for parameter in parameters:
        if parameter.name == "description":
            continue
        optional = "–" if parameter.default is None else f"`{to_repr(parameter.default)}`"
        default = "required" if parameter.required else optional
        replaced = "" if parameter.substitution is Substitution.NONE else parameter.substitution.name.lower()
        yield f"| `{parameter.name}` | {parameter.check.expected} | {default} | {replaced} |"


def hooks() -> Iterator[str]:
    """Every hook with its signature and its docstring."""
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("pytest_enclave_"):
            names = ", ".join(inspect.signature(hook).parameters)
            yield from (f"### {name}({names})", "", inspect.getdoc(hook) or "", "")


def error_tree() -> Iterator[str]:
    """The tree of errors, and their codes."""
    tree = (inspect.getdoc(errors) or "").split("\n\n")
    yield from ("```", *tree[1].splitlines(), "```", "", *tree[2:3], "")
    yield from ("| code | error | |", "|---|---|---|")
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.EnclaveError):
            yield f"| {CODES[kind]} | `{name}` | {first_line(kind)} |"


def first_line(documented: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").splitlines()[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
