"""The parsed template. `str(node)` is the source in Go's canonical spacing, as error messages quote it.

Statements make output or choose what does; expressions have values. Offsets are in characters of the source and
point where Go's messages point.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_enclave.golang.template.quoting import quote

__all__ = [
    "Action", "Break", "Chain", "Command", "Continue", "Dot", "Expression", "Field", "Identifier", "If", "Nil",
    "NumberLiteral", "Operand", "Pipeline", "Range", "Statement", "StringLiteral", "TemplateCall", "Text", "Truth",
    "Variable", "With",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`, the current value."""

    offset: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil:
    """`nil`."""

    offset: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Truth:
    """`true` or `false`."""

    offset: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A number or character literal; `value` is int, float or complex, or None when it overflows Go's int."""

    offset: int
    text: str
    value: int | float | complex | None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class StringLiteral:
    """A string: as written, and what it stands for."""

    offset: int
    quoted: str
    value: str

    def __str__(self) -> str:
        return self.quoted


@dataclass(frozen=True, slots=True)
class Identifier:
    """The name of a function."""

    offset: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Field:
    """`.a.b`: a path from the current value."""

    offset: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x` or `$x.a.b`; `name` includes the dollar sign."""

    offset: int
    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name + "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).a.b`: a path from anything else."""

    offset: int
    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        start = f"({self.operand})" if isinstance(self.operand, Pipeline) else str(self.operand)
        return start + "".join(f".{name}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Command:
    """One stage of a pipeline: an operand, or a function (or method) and its arguments."""

    offset: int
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, Pipeline) else str(part) for part in self.operands)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`$x, $y := command | command`. `assigns` tells `=` from `:=`."""

    offset: int
    variables: tuple[Variable, ...]
    assigns: bool
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        target = ", ".join(map(str, self.variables))
        sign = (" = " if self.assigns else " := ") if target else ""
        return target + sign + " | ".join(map(str, self.commands))


Operand = Dot | Nil | Truth | NumberLiteral | StringLiteral | Identifier | Field | Variable | Chain | Pipeline
Expression = Operand | Command


@dataclass(frozen=True, slots=True)
class Text:
    """Text to be copied."""

    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """`{{pipeline}}`: prints its value, unless it sets a variable."""

    offset: int
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class If:
    """`{{if}}…{{else}}…{{end}}`; an `else if` is an `If` inside `otherwise`."""

    offset: int
    pipeline: Pipeline
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class With:
    """Like `If`, with the value as the current one inside the body."""

    offset: int
    pipeline: Pipeline
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """`{{range}}…{{else}}…{{end}}`; `otherwise` is for nothing to go through."""

    offset: int
    pipeline: Pipeline
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class TemplateCall:
    """`{{template "name" pipeline}}`, and what `{{block}}` leaves at its place."""

    offset: int
    name: str
    pipeline: Pipeline | None

    def __str__(self) -> str:
        argument = f" {self.pipeline}" if self.pipeline else ""
        return f"{{{{template {quote(self.name)}{argument}}}}}"


@dataclass(frozen=True, slots=True)
class Break:
    """`{{break}}`."""

    offset: int


@dataclass(frozen=True, slots=True)
class Continue:
    """`{{continue}}`."""

    offset: int


Statement = Text | Action | If | With | Range | TemplateCall | Break | Continue
