"""Code that might build values so deep or so much shared that the interpreter breaks on them.

The interpreter walks values by recursion, without a limit: freezing or hashing a list inside a list inside a list …
of some thousand levels ends the process, and comparing a list that holds another twice, which holds another twice …
takes for ever. Both need a value that goes, wrapped, into its own successor. This is looked for in the source; what is
found is evaluated in a process of its own (`confined.py`). Finding too much costs some milliseconds, no more.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from pytest_enclave.language.desugar import METHODS
from pytest_enclave.language.tree import Tree

_CHANGING = ("append", "extend", "insert", "setdefault", "update")
_FLAT = frozenset(("abs", "bool", "float", "hasattr", "int", "len", "ord", "chr", "range", "repr", "str", "type"))
_FLAT_METHODS = frozenset(
    (
        *("capitalize", "count", "elems", "endswith", "find", "format", "index", "join", "keys", "lower", "lstrip"),
        *("replace", "rfind", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper"),
        *("encode", "indent", "removeprefix", "removesuffix"),
    )
)
_AS_IT_IS = frozenset(("dict", "getattr", "list", "max", "min", "reversed", "sorted", "tuple"))
_METHODS_AS_IT_IS = frozenset(("get", "pop", "values"))
_WRAPPING = (ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.DictComp, ast.Lambda)

_Edge = tuple[str, str, bool]
"""A name, one that its value is made from, and whether it is wrapped into it."""


def risky(tree: Tree) -> bool:
    """Whether a file holds such code."""
    called = {node.func for node in tree.nodes if isinstance(node, ast.Call)}
    if any(_evades(node, called) or _doubles(node) for node in tree.nodes):
        return True
    return any(
        isinstance(node, (ast.FunctionDef, ast.Lambda, ast.Module))
        and _wraps_itself(list(_edges(_own(node, tree), tree)))
        for node in tree.nodes
    )


def _evades(node: ast.AST, called: set[ast.expr]) -> bool:
    """Whether an operation is meant that grows values, in a form that `desugar` does not replace."""
    match node:
        case ast.Attribute(attr=name) if node not in called:
            return name in METHODS
        case ast.AugAssign(op=ast.Mult(), target=target):
            return not isinstance(target, ast.Name)
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_]):
            return name in METHODS
        case ast.Call(func=ast.Name(id="getattr")):
            return True
    return False


def _doubles(node: ast.AST) -> bool:
    """Whether one value goes twice into another."""
    items: Sequence[ast.expr | None] = ()
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Dict(values=items):
            pass
        case ast.Call(func=ast.Name(id="struct" | "dict"), keywords=keywords):
            items = [keyword.value for keyword in keywords]
        case ast.BinOp(op=ast.Mult(), left=ast.List(elts=items) | ast.Tuple(elts=items)):
            return not all(isinstance(item, ast.Constant) for item in items)
        case ast.BinOp(op=ast.Mult(), right=ast.List(elts=items) | ast.Tuple(elts=items)):
            return not all(isinstance(item, ast.Constant) for item in items)
    names = [item.id for item in items if isinstance(item, ast.Name)]
    return len(set(names)) < len(names)


def _own(scope: ast.AST, tree: Tree) -> list[ast.AST]:
    """The nodes of a function's body, without the functions in it; lambdas and comprehensions are part of it."""
    found: list[ast.AST] = []
    pending = list(tree.children[scope])
    while pending:
        node = pending.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef):
            pending += tree.children[node]
    return found


def _edges(nodes: list[ast.AST], tree: Tree) -> Iterator[_Edge]:
    """What is made from what, where it may happen again and again: in loops, and by changing values of callers."""
    changes = [edge for node in nodes for edge in _changes(node, tree)]
    yield from changes
    repeated = nodes
    if not changes:
        repeated = tree.within(node for node in nodes if isinstance(node, ast.For))
    for node in repeated:
        if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Subscript):
            yield from _made(_names(node.targets[0], tree), node.value, tree, wrapped=False)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            yield from _made([node.target.id], node.value, tree, wrapped=False)
        elif isinstance(node, (ast.For, ast.comprehension)):
            yield from _made(_names(node.target, tree), node.iter, tree, wrapped=False)
        elif isinstance(node, ast.FunctionDef):
            inner = {n.id for n in tree.within([node]) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            yield from ((node.name, name, True) for name in inner)


def _changes(node: ast.AST, tree: Tree) -> Iterator[_Edge]:
    match node:
        case ast.Assign(targets=[ast.Subscript() as target], value=value):
            yield from _made([_base(target)], value, tree, wrapped=True)
        case ast.AugAssign(target=ast.Subscript() as target, value=value):
            yield from _made([_base(target)], value, tree, wrapped=True)
        case ast.Call(func=ast.Attribute(value=owner, attr=method), args=args, keywords=keywords) if (
            method in _CHANGING
        ):
            for value in (*args, *(keyword.value for keyword in keywords)):
                yield from _made([_base(owner)], value, tree, wrapped=True)


def _made(targets: Sequence[str], value: ast.expr, tree: Tree, *, wrapped: bool) -> Iterator[_Edge]:
    pending: list[tuple[ast.AST, bool]] = [(value, wrapped)]
    while pending:
        node, inside = pending.pop()
        if isinstance(node, ast.Name):
            yield from ((target, node.id, inside) for target in targets)
        elif isinstance(node, ast.Call):
            flat, inside = _call(node.func, inside=inside)
            owner = [node.func.value] if isinstance(node.func, ast.Attribute) else [node.func]
            if not flat:
                pending += [(child, inside) for child in (*owner, *node.args, *(k.value for k in node.keywords))]
        elif not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)):
            inside = inside or isinstance(node, _WRAPPING)
            pending += [(child, inside) for child in tree.children[node]]


def _call(callee: ast.expr, *, inside: bool) -> tuple[bool, bool]:
    """Whether a call gives texts and numbers only; and whether it wraps what it is given."""
    if isinstance(callee, ast.Attribute):
        return callee.attr in _FLAT_METHODS, inside or callee.attr not in _METHODS_AS_IT_IS
    name = callee.id if isinstance(callee, ast.Name) else ""
    return name in _FLAT, inside or name not in _AS_IT_IS


def _names(target: ast.AST, tree: Tree) -> list[str]:
    return [node.id for node in tree.within([target]) if isinstance(node, ast.Name)]


def _base(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _wraps_itself(edges: list[_Edge]) -> bool:
    """Whether a name is made from itself, with a wrapping on the way."""
    made_from: dict[str, set[str]] = {}
    for target, source, _ in edges:
        made_from.setdefault(target, set()).add(source)
    return any(
        target == source or target in _reached(source, made_from) for target, source, wrapped in edges if wrapped
    )


def _reached(start: str, made_from: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        for name in made_from.get(pending.pop(), ()):
            if name not in found:
                found.add(name)
                pending.append(name)
    return found
