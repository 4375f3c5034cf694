"""The functions every Go template has. Kurtosis adds none.

A function gets its arguments evaluated, as its `Parameter`s say: a VALUE may be anything, `NOTHING` and `Boxed`
included; a PRINTABLE is what print gets to see, None for nil; a STRING is a string. `and` and `or` are not
here: they do not evaluate all of their arguments and live in `evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from pytest_enclave.golang.template.budget import Budget
from pytest_enclave.golang.template.comparison import FunctionError, equal, less
from pytest_enclave.golang.template.escaping import escape_html, escape_javascript, escape_query
from pytest_enclave.golang.template.formatting import sprint, sprintf, sprintln
from pytest_enclave.golang.template.indexing import index, length, slice_of
from pytest_enclave.golang.template.values import NOTHING, is_true, type_name, unboxed

__all__ = ["FUNCTION_NAMES", "Function", "FunctionError", "Parameter", "function"]


class Parameter(Enum):
    """What a function wants of an argument."""

    VALUE = "value"
    PRINTABLE = "printable"
    STRING = "string"


class Function(msgspec.Struct, frozen=True):
    """A function: its fixed parameters, the type of any further ones (None: no more), and what it does."""

    fixed: tuple[Parameter, ...]
    rest: Parameter | None
    call: Callable[[Sequence[object], Budget], object]


_VALUE, _PRINTABLE, _STRING = Parameter.VALUE, Parameter.PRINTABLE, Parameter.STRING


def function(name: str) -> Function:
    """The function of that name; `call` gets the arguments and the budget and may raise `FunctionError`."""
    return _FUNCTIONS[name]


def _escaping(escape: Callable[[str], str]) -> Function:
    def call(arguments: Sequence[object], budget: Budget) -> object:
        shown = ["<no value>" if argument is None else argument for argument in arguments]
        escaped = escape(sprint(shown, budget))
        budget.produce(len(escaped))
        return escaped

    return Function((), _PRINTABLE, call)


def _printf(arguments: Sequence[object], budget: Budget) -> object:
    template = arguments[0]
    assert isinstance(template, str)
    return sprintf(template, arguments[1:], budget)


def _call(arguments: Sequence[object], budget: Budget) -> object:
    name, callee = arguments[0], unboxed(arguments[1])
    if callee is NOTHING:
        raise FunctionError("call of nil")
    raise FunctionError(f"non-function {name} of type {type_name(callee)}")


_FUNCTIONS = {
    "not": Function((_VALUE,), None, lambda a, _: not is_true(a[0])),
    "len": Function((_VALUE,), None, lambda a, _: length(a[0])),
    "index": Function((_VALUE,), _VALUE, lambda a, _: index(a[0], a[1:])),
    "slice": Function((_VALUE,), _VALUE, lambda a, budget: slice_of(a[0], a[1:], budget)),
    "call": Function((_VALUE,), _VALUE, _call),
    "eq": Function((_VALUE,), _VALUE, lambda a, budget: equal(a[0], a[1:], budget)),
    "ne": Function((_VALUE, _VALUE), None, lambda a, budget: not equal(a[0], a[1:], budget)),
    "lt": Function((_VALUE, _VALUE), None, lambda a, _: less(a[0], a[1])),
    "le": Function((_VALUE, _VALUE), None, lambda a, budget: less(a[0], a[1]) or equal(a[0], a[1:], budget)),
    "gt": Function((_VALUE, _VALUE), None, lambda a, budget: not (less(a[0], a[1]) or equal(a[0], a[1:], budget))),
    "ge": Function((_VALUE, _VALUE), None, lambda a, _: not less(a[0], a[1])),
    "print": Function((), _PRINTABLE, sprint),
    "printf": Function((_STRING,), _PRINTABLE, _printf),
    "println": Function((), _PRINTABLE, sprintln),
    "html": _escaping(escape_html),
    "js": _escaping(escape_javascript),
    "urlquery": _escaping(escape_query),
}

FUNCTION_NAMES = frozenset({"and", "or", *_FUNCTIONS})
"""Every name a template may call."""
