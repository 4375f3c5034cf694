"""Results of `plan.exec`, `plan.request` and `plan.wait` are frozen, and so may not be changed.

The interpreter cannot freeze a value while a function runs. So this is told from the source, where it shows: for a
name that a function assigns once, straight from such a call.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from pytest_enclave.language.grammar import Mistake
from pytest_enclave.language.scopes import parameters
from pytest_enclave.language.tree import Tree

_INSTRUCTIONS = ("exec", "request", "wait")
_CHANGING = ("clear", "pop", "popitem", "setdefault", "update")


def changed(tree: Tree) -> Iterator[Mistake]:
    """Each place where a function changes a result that it has under a name."""
    for function in tree.nodes:
        if isinstance(function, ast.FunctionDef):
            nodes = tree.within(tree.children[function])
            results = _results(function, nodes)
            for node in nodes if results else ():
                name = _changed_name(node)
                if name in results and isinstance(node, (ast.expr, ast.stmt)):
                    message = f"`{name}` is what `plan.{results[name]}` gives, which is frozen and cannot be changed"
                    yield node, message, f"make a copy of it: `dict({name})`"


def _results(function: ast.FunctionDef, nodes: list[ast.AST]) -> dict[str, str]:
    """Names that hold nothing but a result, and the instruction it is from."""
    bound = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    bound.update(
        name for inner in (function, *nodes) if isinstance(inner, ast.FunctionDef) for name in parameters(inner)
    )
    found = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and bound[node.targets[0].id] == 1:
            match node.value:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="plan"), attr=attr)) if attr in _INSTRUCTIONS:
                    found[node.targets[0].id] = attr
    return found


def _changed_name(node: ast.AST) -> str:
    """The name whose value the node changes, empty where it changes none."""
    match node:
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _CHANGING:
            return name
    return ""
