"""The value of an expression.

A pipeline evaluates its commands from left to right; each gets the previous value as its last argument (`ABSENT`
for the first). A command is a value, or a function or method with arguments. Fields are looked up in maps;
`NOTHING` has every field, and each is `NOTHING` again, which is how a missing key stays harmless.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.golang.template import nodes
from pytest_enclave.golang.template.functions import Function, FunctionError, Parameter, function
from pytest_enclave.golang.template.quoting import quote
from pytest_enclave.golang.template.scope import Scope
from pytest_enclave.golang.template.values import NOTHING, Int64, Number, boxed, is_true, type_name, unboxed

__all__ = ["evaluate"]

ABSENT = object()
"""No value came down the pipeline."""

_PATHS = (nodes.Field, nodes.Variable, nodes.Chain)


def evaluate(scope: Scope, dot: object, pipeline: nodes.Pipeline | None) -> object:
    """The value of a pipeline, never `Boxed`; its variables are set or declared in `scope`. Raises `Refusal`."""
    if pipeline is None:
        return NOTHING
    scope.at(pipeline)
    value: object = ABSENT
    for command in pipeline.commands:
        value = unboxed(_command(scope, dot, command, value))
    for variable in pipeline.variables:
        if pipeline.assigns:
            scope.assign(variable.name, value)
        else:
            scope.declare(variable.name, value)
    return value


def _command(scope: Scope, dot: object, command: nodes.Command, final: object) -> object:
    first, arguments = command.operands[0], command.operands[1:]
    if isinstance(first, _PATHS):
        return _path(scope, dot, first, arguments, final)
    if isinstance(first, nodes.Identifier):
        return _call_function(scope, dot, first, command, arguments, final)
    if not isinstance(first, nodes.Pipeline):
        scope.at(first)
    _refuse_arguments(scope, first, arguments, final)
    if isinstance(first, nodes.Pipeline):
        return evaluate(scope, dot, first)
    if isinstance(first, nodes.Nil):
        raise scope.refuse("nil is not a command")
    return _simple(scope, dot, first)


def _simple(scope: Scope, dot: object, operand: nodes.Operand) -> object:
    if isinstance(operand, nodes.Dot):
        return dot
    if isinstance(operand, nodes.NumberLiteral):
        if operand.value is None:
            raise scope.refuse(f"{operand.text} overflows int")
        return operand.value
    assert isinstance(operand, (nodes.Truth, nodes.StringLiteral))
    return operand.value


def _refuse_arguments(scope: Scope, first: nodes.Operand, arguments: Sequence[nodes.Operand], final: object) -> None:
    if arguments or final is not ABSENT:
        raise scope.refuse(f"can't give argument to non-function {first}")


def _path(
    scope: Scope,
    dot: object,
    node: nodes.Field | nodes.Variable | nodes.Chain,
    arguments: Sequence[nodes.Operand],
    final: object,
) -> object:
    """`.a.b`, `$x.a.b` or `(…).a.b`; only the last name can be a method with arguments."""
    scope.at(node)
    if isinstance(node, nodes.Field):
        value = dot
    elif isinstance(node, nodes.Variable):
        value = scope.variable(node.name)
        if not node.names:
            _refuse_arguments(scope, node, arguments, final)
            return value
    else:
        value = _argument(scope, dot, node.operand, Parameter.VALUE)
    for name in node.names[:-1]:
        value = _field(scope, value, name, (), ABSENT)
    return _field(scope, value, node.names[-1], arguments, final)


def _field(scope: Scope, receiver: object, name: str, arguments: Sequence[nodes.Operand], final: object) -> object:
    if receiver is NOTHING:
        return NOTHING
    content = unboxed(receiver)
    if content is NOTHING:
        raise scope.refuse(f"nil pointer evaluating {type_name(receiver)}.{name}")
    if isinstance(content, Number) and name in ("Int64", "Float64", "String"):
        return _number_method(scope, content, name, len(arguments) + (final is not ABSENT))
    if isinstance(content, dict):
        if arguments or final is not ABSENT:
            raise scope.refuse(f"{name} is not a method but has arguments")
        return boxed(content[name]) if name in content else NOTHING
    raise scope.refuse(f"can't evaluate field {name} in type {type_name(receiver)}")


def _number_method(scope: Scope, number: Number, name: str, arguments: int) -> object:
    if arguments:
        raise scope.refuse(f"wrong number of args for {name}: want 0 got {arguments}")
    if name == "String":
        return str(number)
    if name == "Float64":
        value = float(number)
        if value in (float("inf"), float("-inf")):
            raise scope.refuse(_bad_number(name, "ParseFloat", number, "value out of range"))
        return value
    if not number.lstrip("-").isdigit():
        raise scope.refuse(_bad_number(name, "ParseInt", number, "invalid syntax"))
    if len(number) > 20 or not -(2**63) <= int(number) < 2**63:
        raise scope.refuse(_bad_number(name, "ParseInt", number, "value out of range"))
    return Int64(int(number))


def _bad_number(method: str, parser: str, number: Number, reason: str) -> str:
    return f"error calling {method}: strconv.{parser}: parsing {quote(number)}: {reason}"


def _call_function(
    scope: Scope,
    dot: object,
    identifier: nodes.Identifier,
    node: nodes.Command | nodes.Identifier,
    arguments: Sequence[nodes.Operand],
    final: object,
) -> object:
    scope.at(identifier)
    name = identifier.name
    if name in ("and", "or"):
        return _and_or(scope, dot, name, arguments, final)
    called = function(name)
    values = _arguments(scope, dot, name, called, arguments, final)
    if name == "call":
        values.insert(0, str(arguments[0]) if arguments else "")
    try:
        return called.call(values, scope.budget)
    except FunctionError as error:
        scope.at(node)
        raise scope.refuse(f"error calling {name}: {error}") from None


def _and_or(scope: Scope, dot: object, name: str, arguments: Sequence[nodes.Operand], final: object) -> object:
    """The first argument that decides, or the last one; those behind it are not evaluated."""
    if not arguments and final is ABSENT:
        raise scope.refuse(f"wrong number of args for {name}: want at least 1 got 0")
    value: object = NOTHING
    for argument in arguments:
        value = _argument(scope, dot, argument, Parameter.VALUE)
        if is_true(value) == (name == "or"):
            return value
    return value if final is ABSENT else final


def _arguments(
    scope: Scope, dot: object, name: str, called: Function, arguments: Sequence[nodes.Operand], final: object
) -> list[object]:
    count = len(arguments) + (final is not ABSENT)
    wanted = len(called.fixed)
    if called.rest is None and count != wanted:
        raise scope.refuse(f"wrong number of args for {name}: want {wanted} got {count}")
    if count < wanted:
        raise scope.refuse(f"wrong number of args for {name}: want at least {wanted} got {len(arguments)}")
    parameters = [*called.fixed, *[called.rest or Parameter.VALUE] * (count - wanted)]
    values = [_argument(scope, dot, node, parameter) for node, parameter in zip(arguments, parameters, strict=False)]
    if final is not ABSENT:
        values.append(_fitted(scope, final, parameters[-1]))
    return values


def _argument(scope: Scope, dot: object, node: nodes.Operand, parameter: Parameter) -> object:
    scope.at(node)
    if isinstance(node, _PATHS):
        return _fitted(scope, _path(scope, dot, node, (), ABSENT), parameter)
    if isinstance(node, nodes.Pipeline):
        return _fitted(scope, evaluate(scope, dot, node), parameter)
    if isinstance(node, nodes.Identifier):
        return _fitted(scope, _call_function(scope, dot, node, node, (), ABSENT), parameter)
    if isinstance(node, nodes.Dot):
        return _fitted(scope, dot, parameter)
    if isinstance(node, nodes.Nil):
        if parameter is Parameter.STRING:
            raise scope.refuse("cannot assign nil to string")
        return _fitted(scope, NOTHING, parameter)
    if parameter is Parameter.STRING and not isinstance(node, nodes.StringLiteral):
        raise scope.refuse(f"expected string; found {node}")
    return _simple(scope, dot, node)


def _fitted(scope: Scope, value: object, parameter: Parameter) -> object:
    """A value as the parameter takes it."""
    if parameter is Parameter.VALUE:
        return value
    content = unboxed(value)
    if parameter is Parameter.PRINTABLE:
        return None if content is NOTHING else content
    if type(content) is str:
        return content
    if value is NOTHING:
        raise scope.refuse("invalid value; expected string")
    shown = value if content is NOTHING else content
    raise scope.refuse(f"wrong type for value; expected string; got {type_name(shown)}")
