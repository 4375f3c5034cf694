"""Functions that call themselves, as far as the source shows it: Starlark has no recursion (behaviour.md §3.1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from pytest_enclave.language.grammar import Mistake
from pytest_enclave.language.scopes import bound, parameters
from pytest_enclave.language.tree import Tree

_REMEDY = "Starlark has no recursion: loop over a list or a range instead"


def recursive(tree: Tree) -> Iterator[Mistake]:
    """One call of each circle of the file's functions that call each other."""
    functions = {node.name: node for node in tree.root.body if isinstance(node, ast.FunctionDef)}
    calls = {name: dict(_called(function, tree)) for name, function in functions.items()}
    rank = {name: at for at, name in enumerate(functions)}
    for circle in sorted(_circles(calls), key=lambda circle: min(map(rank.__getitem__, circle))):
        name = min(circle, key=rank.__getitem__)
        cycle = _cycle_through(name, circle, calls)
        if cycle:
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


def _circles(calls: Mapping[str, Mapping[str, ast.Call]]) -> Iterator[frozenset[str]]:
    """The groups of functions that all reach each other, each function in one: Tarjan's walk, without recursion."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    found: list[str] = []
    grouped: set[str] = set()
    for start in calls:
        way = [] if start in number else [(start, iter(calls[start]))]
        while way:
            name, following = way[-1]
            if name not in number:
                number[name] = lowest[name] = len(number)
                found.append(name)
            callee = next((other for other in following if other in calls and other not in grouped), None)
            if callee is None:
                way.pop()
                if way:
                    lowest[way[-1][0]] = min(lowest[way[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    circle = {found.pop()}
                    while name not in circle:
                        circle.add(found.pop())
                    grouped |= circle
                    yield frozenset(circle)
            elif callee in number:
                lowest[name] = min(lowest[name], number[callee])
            else:
                way.append((callee, iter(calls[callee])))


def _cycle_through(start: str, circle: frozenset[str], calls: Mapping[str, Mapping[str, ast.Call]]) -> list[str]:
    """The shortest way from a function back to itself within its circle, empty where there is none."""
    before: dict[str, str] = {}
    reached = [start]
    for name in reached:
        for callee in calls[name]:
            if callee == start:
                way = [name]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if callee in circle and callee not in before:
                before[callee] = name
                reached.append(callee)
    return []
