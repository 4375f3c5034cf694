"""Operations that the interpreter does otherwise than Starlark in Go, rewritten into calls of the prelude.

`a % b` becomes `mod__(a, b)`, `x.format(…)` becomes `format__(x, …)`, and so do a few methods more. Every edit keeps
its line, and the prelude falls back to the real operation for whatever is not concerned.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pytest_enclave.language.columns import Lines
from pytest_enclave.language.edits import Edit, Edited, apply
from pytest_enclave.language.inlining import barriers
from pytest_enclave.language.tree import Tree

METHODS = ("format", "setdefault", "update", "elems")
NAMES = ("mod__", *(f"{method}__" for method in METHODS))
"""What the prelude provides for this."""


def desugar(text: str, tree: Tree) -> Edited:
    """The text as it is evaluated; `tree` is the text's own. Outer expressions come first, so that they open first."""
    lines = Lines.of(text)
    edits: list[Edit] = []
    for node in tree.nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and not _numeric(node.left):
            edits += _remainder(node, lines)
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Mod) and isinstance(node.target, ast.Name):
            edits += _augmented(node, node.target.id, lines)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            edits += _method(node, node.func, lines)
        edits += barriers(node, lines)
    return apply(text, edits)


def _numeric(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _remainder(node: ast.BinOp, lines: Lines) -> Iterator[Edit]:
    yield Edit(*lines.start(node), 0, "mod__(")
    yield Edit(*lines.find("%", *lines.end(node.left)), 1, ",")
    yield Edit(*lines.end(node), 0, ")")


def _augmented(node: ast.AugAssign, name: str, lines: Lines) -> Iterator[Edit]:
    yield Edit(*lines.find("%", *lines.end(node.target)), 2, f"= mod__({name}, ")
    yield Edit(*lines.end(node), 0, ")")


def _method(node: ast.Call, method: ast.Attribute, lines: Lines) -> Iterator[Edit]:
    dot = lines.find(".", *lines.end(method.value))
    line, end = lines.end(method)
    yield Edit(*lines.start(method), 0, f"{method.attr}__(")
    yield Edit(*dot, 1, ",")
    yield Edit(line, end - len(method.attr), len(method.attr), "")
    yield Edit(*lines.find("(", line, end), 1, "")
