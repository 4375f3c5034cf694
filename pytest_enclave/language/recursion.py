"""Functions that call themselves, as far as the source shows it: Starlark has no recursion (behaviour.md §3.1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from pytest_enclave.language.grammar import Mistake
from pytest_enclave.language.scopes import bound, parameters
from pytest_enclave.language.tree import Tree

_REMEDY = "Starlark has no recursion: loop over a list or a range instead"


def recursive(tree: Tree) -> Iterator[Mistake]:
    """One call of each cycle among the file's functions."""
    functions = {node.name: node for node in tree.root.body if isinstance(node, ast.FunctionDef)}
    calls = {name: dict(_called(function, tree)) for name, function in functions.items()}
    told: set[str] = set()
    for name in functions:
        cycle = _cycle_through(name, calls)
        if cycle and not told.intersection(cycle):
            told.update(cycle)
            following = cycle[1] if len(cycle) > 1 else name
            way = " → ".join(f"`{step}`" for step in (*cycle, name))
            message = f"`{name}` calls itself" + (f" ({way})" if len(cycle) > 1 else "")
            yield calls[name][following], message, _REMEDY
    for node in tree.nodes:
        if isinstance(node, ast.FunctionDef) and functions.get(node.name) is not node:
            own = dict(_called(node, tree)).get(node.name)
            if own is not None:
                yield own, f"`{node.name}` calls itself", _REMEDY


def _called(function: ast.FunctionDef, tree: Tree) -> Iterator[tuple[str, ast.Call]]:
    """Calls by a name that is not the function's own; what nested functions call is not called by this one."""
    local = parameters(function) | bound(function.body, tree)
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in local:
            yield node.func.id, node
        pending += tree.children[node]


def _cycle_through(start: str, calls: Mapping[str, Mapping[str, ast.Call]]) -> list[str]:
    """The shortest way from a function back to itself, empty where there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        for name in calls[way[-1]]:
            if name == start:
                return way
            if name in calls and name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
