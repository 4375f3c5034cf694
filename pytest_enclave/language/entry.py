"""How the main function is called (behaviour.md §3.3)."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping

import msgspec

from pytest_enclave.errors import InterpretationError, Problem
from pytest_enclave.language.module import Module
from pytest_enclave.plan.values import Struct, Value, to_repr
from pytest_enclave.source import Location

DEFAULT = "run"
_PARSER = "_kurtosis_parser"

_EMPTY = ("{}", "dict()", "struct()", "None")
"""Defaults of `args` that say nothing: most packages have one of them."""


class Entry(msgspec.Struct, frozen=True):
    """The main function, whether it takes the plan, and its arguments: one whole value, or a dict of keywords.

    `warnings` are about how it is declared.
    """

    function: str
    with_plan: bool
    whole: bool
    arguments: Value
    warnings: tuple[Problem, ...] = ()


def entry(module: Module, main: str, arguments: Mapping[str, Value], title: str) -> Entry:
    """Lay the run's arguments over the main function's parameters.

    Raises InterpretationError where there is no such function, or the arguments do not fit it.
    """
    main = main or DEFAULT
    function = module.function(main)
    if function is None:
        if main not in module.names:
            raise _missing(module, main, title)
        return Entry(main, with_plan=True, whole=False, arguments=_parsed(arguments, module, whole=False))
    parameters = function.args
    names = [parameter.arg for parameter in (*parameters.posonlyargs, *parameters.args)]
    with_plan = names[:1] == ["plan"]
    place = Location(module.name, function.lineno, function.col_offset + len("def ") + 1)
    if main == DEFAULT and names and not with_plan:
        raise InterpretationError(
            f"the first parameter of `{main}` must be named `plan`, not `{names[0]}`",
            location=place,
            remedy=f"write `def {main}(plan, …):`",
        )
    whole = main == DEFAULT and names == ["plan", "args"] and not (parameters.kwonlyargs or parameters.kwarg)
    if not whole:
        _refuse_unfitting(function, main, names[1:] if with_plan else names, arguments, place)
    warnings = _unused_default(module, parameters.defaults[-1]) if whole and parameters.defaults else ()
    return Entry(main, with_plan, whole, _parsed(arguments, module, whole=whole), warnings)


def _unused_default(module: Module, default: ast.expr) -> tuple[Problem, ...]:
    """A warning where the one parameter for all arguments has a default, which Kurtosis does not use either."""
    if ast.unparse(default) in _EMPTY:
        return ()
    column = module.normalised.column_before(default.lineno, default.col_offset + 1)
    return (
        Problem(
            f"the default of `args` is not used where this is the main file: `{DEFAULT}(plan, args)` is given all "
            "arguments as one dict, an empty one where there are none",
            Location(module.name, default.lineno, column),
            subject=DEFAULT,
            remedy="ask for each with `args.get(name, default)`, or declare a parameter for each argument",
            severity="warning",
        ),
    )


def _missing(module: Module, main: str, title: str) -> InterpretationError:
    near = difflib.get_close_matches(main, module.names, 1)
    wanted = f"write `def {main}(plan):` in it" if main.isidentifier() else "a function's name is one word"
    return InterpretationError(
        f"{title} has no function `{main}` in {module.name}",
        location=Location(module.name),
        remedy=f"did you mean `{near[0]}`?" if near else wanted,
    )


def _refuse_unfitting(
    function: ast.FunctionDef, main: str, names: list[str], arguments: Mapping[str, Value], place: Location
) -> None:
    """Missing and unexpected arguments, all in one error."""
    declared = function.args
    keyword_only = [parameter.arg for parameter in declared.kwonlyargs]
    with_default = names[len(names) - len(declared.defaults) :] if declared.defaults else []
    with_default = with_default + [n for n, d in zip(keyword_only, declared.kw_defaults, strict=True) if d]
    known = [*names, *keyword_only]
    missing = [name for name in known if name not in with_default and name not in arguments]
    unexpected = [] if declared.kwarg else [name for name in arguments if name not in known and name != _PARSER]
    told = []
    if missing:
        told.append(f"misses {_counted('argument', missing)}")
    if unexpected:
        told.append(f"takes no {_counted('argument', unexpected, count=False)}")
    if told:
        near = [difflib.get_close_matches(name, known, 1) for name in unexpected]
        hints = [f"did you mean `{match[0]}`?" for match in near if match]
        takes = ", ".join(f"`{name}`" for name in known) or "no arguments"
        raise InterpretationError(
            f"`{main}` {' and '.join(told)}", location=place, remedy=hints[0] if hints else f"it takes {takes}"
        )


def _counted(noun: str, names: list[str], *, count: bool = True) -> str:
    plural = noun if len(names) == 1 else f"{noun}s"
    listed = ", ".join(f"`{name}`" for name in names)
    return f"{len(names)} {plural}: {listed}" if count and len(names) > 1 else f"{plural} {listed}"


def _parsed(arguments: Mapping[str, Value], module: Module, *, whole: bool) -> Value:
    """The arguments as dicts, or as structs where `_kurtosis_parser` says so."""
    if _PARSER not in arguments:
        return dict(arguments)
    parser = arguments[_PARSER]
    rest = {name: value for name, value in arguments.items() if name != _PARSER}
    if parser == "dict":
        return rest
    if parser != "struct":
        raise InterpretationError(f'`{_PARSER}` must be "struct" or "dict", not {to_repr(parser)}')
    if not whole:
        raise InterpretationError(
            f'`{_PARSER}: "struct"` needs a main function `{DEFAULT}(plan, args)`: a struct cannot be spread over '
            "several parameters",
            location=Location(module.name),
        )
    return _struct(rest)


def _struct(value: Value) -> Value:
    """Nested dicts become structs as well, but not those inside lists."""
    return Struct("struct", {k: _struct(item) for k, item in value.items()}) if isinstance(value, dict) else value
