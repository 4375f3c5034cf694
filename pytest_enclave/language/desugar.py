"""Operations that the interpreter does otherwise than Starlark in Go, rewritten into calls of the prelude.

`a % b` becomes `operator_mod__(a, b)`, `x.format(…)` becomes `format__(x, …)`, and so do a few methods more.
Operations that can make a value much larger than what they are given are among them, so that the prelude can tell when
they do. Where a file speaks of `time`, arithmetic and comparisons are replaced too: the interpreter has them for its
own types only.
Every edit keeps its line, and the prelude falls back to the real operation for whatever is not concerned.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from pytest_enclave.language.columns import Lines
from pytest_enclave.language.edits import Edit, Edited, apply
from pytest_enclave.language.inlining import barriers
from pytest_enclave.language.tree import Tree

METHODS = ("format", "in_location", "setdefault", "update", "elems", "join", "replace", "extend")
OPERATORS: Mapping[type[ast.AST], tuple[str, str]] = {
    ast.Mod: ("%", "operator_mod"),
    ast.Add: ("+", "operator_add"),
    ast.Mult: ("*", "operator_mul"),
    ast.LShift: ("<<", "operator_shl"),
}
"""Which operators are calls, and of what."""

TIMED_OPERATORS: Mapping[type[ast.AST], tuple[str, str]] = {
    **OPERATORS,
    ast.Sub: ("-", "operator_sub"),
    ast.Div: ("/", "operator_div"),
    ast.FloorDiv: ("//", "operator_floordiv"),
    ast.Eq: ("==", "operator_eq"),
    ast.NotEq: ("!=", "operator_ne"),
    ast.Lt: ("<", "operator_lt"),
    ast.LtE: ("<=", "operator_le"),
    ast.Gt: (">", "operator_gt"),
    ast.GtE: (">=", "operator_ge"),
}
"""The same, in files that speak of time."""

GROWING = "grow__"
"""What is put around the right side of `+=`."""

IN_PLACE = "operator_iadd"
"""What `+=` calls in files that speak of time."""

NAMES = (
    GROWING,
    f"{IN_PLACE}__",
    *(f"{name}__" for name in (*METHODS, *(name for _, name in TIMED_OPERATORS.values()))),
)
"""What the prelude provides for this."""

_TIME = re.compile(r"\btime\b")


def desugar(text: str, tree: Tree) -> Edited:
    """The text as it is evaluated; `tree` is the text's own. Outer expressions come first, so that they open first."""
    lines = Lines.of(text)
    timed = _TIME.search(text) is not None
    operators = TIMED_OPERATORS if timed else OPERATORS
    edits: list[Edit] = []
    for node in tree.nodes:
        if isinstance(node, ast.BinOp):
            if type(node.op) in operators and not _settled(node.left, node.right, node.op, timed=timed):
                edits += _binary(node, node.left, operators[type(node.op)], lines)
        elif isinstance(node, ast.Compare):
            if type(node.ops[0]) in operators:
                edits += _binary(node, node.left, operators[type(node.ops[0])], lines)
        elif isinstance(node, ast.AugAssign):
            edits += _augmented(node, operators, lines, timed=timed)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            edits += _method(node, node.func, lines)
        edits += barriers(node, lines)
    return apply(text, edits)


def _settled(left: ast.expr, right: ast.expr, op: ast.operator, *, timed: bool) -> bool:
    """Whether the literals among the operands leave nothing to do."""
    if isinstance(op, ast.Mod):
        return _number(left)
    if isinstance(op, (ast.Mult, ast.LShift)):
        return False
    literals = [isinstance(left, ast.Constant), isinstance(right, ast.Constant)]
    return all(literals) or (not timed and (_number(left) or _number(right)))


def _number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _binary(node: ast.expr, left: ast.expr, operator: tuple[str, str], lines: Lines) -> Iterator[Edit]:
    symbol, name = operator
    yield Edit(*lines.start(node), 0, f"{name}__(")
    yield Edit(*lines.find(symbol[0], *lines.end(left)), len(symbol), ",")
    yield Edit(*lines.end(node), 0, ")")


def _augmented(
    node: ast.AugAssign, operators: Mapping[type[ast.AST], tuple[str, str]], lines: Lines, *, timed: bool
) -> Iterator[Edit]:
    if type(node.op) not in operators:
        return
    symbol, name = operators[type(node.op)]
    name = IN_PLACE if isinstance(node.op, ast.Add) else name
    if isinstance(node.op, ast.Add) and not timed:
        # A list grows in place, which a call could not do for its caller's name.
        if not _number(node.value):
            yield Edit(*lines.start(node.value), 0, f"{GROWING}((")
            yield Edit(*lines.end(node), 0, "))")
    elif isinstance(node.target, ast.Name):
        yield Edit(*lines.find(symbol[0], *lines.end(node.target)), len(symbol) + 1, f"= {name}__({node.target.id}, (")
        yield Edit(*lines.end(node), 0, "))")


def _method(node: ast.Call, method: ast.Attribute, lines: Lines) -> Iterator[Edit]:
    dot = lines.find(".", *lines.end(method.value))
    line, end = lines.end(method)
    yield Edit(*lines.start(method), 0, f"{method.attr}__(")
    yield Edit(*dot, 1, ",")
    yield Edit(line, end - len(method.attr), len(method.attr), "")
    yield Edit(*lines.find("(", line, end), 1, "")
