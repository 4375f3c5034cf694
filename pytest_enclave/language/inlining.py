"""Functions that the interpreter must not inline.

When a file is frozen, calls of functions that only return an expression are replaced by that expression. An error in
it then seems to be where the call is. And where it calls what the function was given, the replacement can call the
function again, and so on: the process dies of a full stack (`def f(g): return g(g)`, called as `f(f)`). A function that
has a statement more is left alone, and costs no more: one that assigns a name of ours is put before the `return`.
A lambda cannot have it. There calls of what it was given get an unpacked empty list among their arguments, which
changes nothing but that they are left alone; other errors in a file's own lambdas stay where these are called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pytest_enclave.language.columns import Lines
from pytest_enclave.language.edits import Edit
from pytest_enclave.language.scopes import parameters

STATEMENT = "apart__ = 0; "


def barriers(node: ast.AST, lines: Lines) -> Iterator[Edit]:
    """The edits for one function, if it can be inlined at all."""
    if isinstance(node, ast.FunctionDef):
        returning = _only_return(node)
        if returning is not None:
            yield Edit(*lines.start(returning), 0, STATEMENT)
    elif isinstance(node, ast.Lambda):
        given = parameters(node)
        for call in ast.walk(node.body):
            if isinstance(call, ast.Call) and not _unpacks(call) and _mentions(call.func, given):
                line, end = lines.end(call)
                yield Edit(line, end - 1, 0, "*[]" if _open_ended(call, lines) else ", *[]")


def _only_return(function: ast.FunctionDef) -> ast.Return | None:
    """The statement that is all a function consists of; documentation and `pass` do not count."""
    rest = [s for s in function.body if not isinstance(s, ast.Pass) and not _is_documentation(s)]
    return rest[0] if len(rest) == 1 and isinstance(rest[0], ast.Return) else None


def _is_documentation(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _unpacks(call: ast.Call) -> bool:
    return any(isinstance(item, ast.Starred) for item in call.args) or any(k.arg is None for k in call.keywords)


def _mentions(callee: ast.expr, names: frozenset[str]) -> bool:
    return any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(callee))


def _open_ended(call: ast.Call, lines: Lines) -> bool:
    """Whether the next argument can follow without a comma: there is none yet, or a comma ends the list."""
    last = max((lines.end(item) for item in (*call.args, *(k.value for k in call.keywords))), default=None)
    if last is None:
        return True
    line, end = lines.end(call)
    try:
        return lines.find(",", *last) < (line, end - 1)
    except LookupError:
        return False
