"""The parsed template. `str(node)` is the source in Go's canonical spacing, as error messages quote it.

Statements make output or choose what does; expressions have values. Offsets are in characters of the source and
point where Go's messages point.
"""

from __future__ import annotations

import msgspec

from pytest_enclave.golang.template.quoting import quote

__all__ = [
    "Action", "Break", "Chain", "Command", "Continue", "Dot", "Expression", "Field", "Identifier", "If", "Nil",
    "NumberLiteral", "Operand", "Pipeline", "Range", "Statement", "StringLiteral", "TemplateCall", "Text", "Truth",
    "Variable", "With",
]  # fmt: skip


class Dot(msgspec.Struct, frozen=True):
    """`.`, the current value."""

    offset: int

    def __str__(self) -> str:
        return "."


class Nil(msgspec.Struct, frozen=True):
    """`nil`."""

    offset: int

    def __str__(self) -> str:
        return "nil"


class Truth(msgspec.Struct, frozen=True):
    """`true` or `false`."""

    offset: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


class NumberLiteral(msgspec.Struct, frozen=True):
    """A number or character literal; `value` is int, float or complex, or None when it overflows Go's int."""

    offset: int
    text: str
    value: int | float | complex | None

    def __str__(self) -> str:
        return self.text


class StringLiteral(msgspec.Struct, frozen=True):
    """A string: as written, and what it stands for."""

    offset: int
    quoted: str
    value: str

    def __str__(self) -> str:
        return self.quoted


class Identifier(msgspec.Struct, frozen=True):
    """The name of a function."""

    offset: int
    name: str

    def __str__(self) -> str:
        return self.name


class Field(msgspec.Struct, frozen=True):
    """`.a.b`: a path from the current value."""

    offset: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


class Variable(msgspec.Struct, frozen=True):
    """`$x` or `$x.a.b`; `name` includes the dollar sign."""

    offset: int
    name: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name + "".join(f".{name}" for name in self.names)


class Chain(msgspec.Struct, frozen=True):
    """`(pipeline).a.b`: a path from anything else."""

    offset: int
    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        start = f"({self.operand})" if isinstance(self.operand, Pipeline) else str(self.operand)
        return start + "".join(f".{name}" for name in self.names)


class Command(msgspec.Struct, frozen=True):
    """One stage of a pipeline: an operand, or a function (or method) and its arguments."""

    offset: int
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, Pipeline) else str(part) for part in self.operands)


class Pipeline(msgspec.Struct, frozen=True):
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


class Text(msgspec.Struct, frozen=True):
    """Text to be copied."""

    offset: int
    text: str


class Action(msgspec.Struct, frozen=True):
    """`{{pipeline}}`: prints its value, unless it sets a variable."""

    offset: int
    pipeline: Pipeline


class If(msgspec.Struct, frozen=True):
    """`{{if}}…{{else}}…{{end}}`; an `else if` is an `If` inside `otherwise`."""

    offset: int
    pipeline: Pipeline
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


class With(msgspec.Struct, frozen=True):
    """Like `If`, with the value as the current one inside the body."""

    offset: int
    pipeline: Pipeline
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


class Range(msgspec.Struct, frozen=True):
    """`{{range}}…{{else}}…{{end}}`; `otherwise` is for nothing to go through."""

    offset: int
    pipeline: Pipeline
    body: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


class TemplateCall(msgspec.Struct, frozen=True):
    """`{{template "name" pipeline}}`, and what `{{block}}` leaves at its place."""

    offset: int
    name: str
    pipeline: Pipeline | None

    def __str__(self) -> str:
        argument = f" {self.pipeline}" if self.pipeline else ""
        return f"{{{{template {quote(self.name)}{argument}}}}}"


class Break(msgspec.Struct, frozen=True):
    """`{{break}}`."""

    offset: int


class Continue(msgspec.Struct, frozen=True):
    """`{{continue}}`."""

    offset: int


Statement = Text | Action | If | With | Range | TemplateCall | Break | Continue
