"""Static name resolution: names that nothing binds, and global names that are bound twice (behaviour.md §3.1).

A function's names are its parameters and everything assigned in its body; a comprehension has its own. Names are
looked up from the inside outwards, then among the file's globals, then among the predeclared ones.
"""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Collection, Iterator

from pytest_enclave.language.grammar import Mistake
from pytest_enclave.language.tree import Tree

Scopes = tuple[frozenset[str], ...]
_Function = ast.FunctionDef | ast.Lambda
_COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
_REMEDIES = {
    "set": "there are no sets: use a list, or the keys of a dict",
    "load": 'write `name = import_module("./file.star")` and use `name.thing`',
    "plan": "functions know `plan` only where they have it as a parameter",
    "open": 'write `read_file("./file")`',
    "math": "there is no math module",
}


def undefined(tree: Tree, predeclared: Collection[str]) -> Iterator[Mistake]:
    """Each place where a name is used that nothing binds."""
    known = frozenset(predeclared) | bound(tree.root.body, tree)
    pending: list[tuple[ast.AST, Scopes]] = [(tree.root, (known,))]
    while pending:
        node, scopes = pending.pop()
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load) and not any(node.id in scope for scope in scopes):
                message = "`load` is not available" if node.id == "load" else f"undefined name `{node.id}`"
                yield node, message, _remedy(node.id, scopes)
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)):
            outside = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
            body = node.body if isinstance(node.body, list) else [node.body]
            inside = (*scopes, parameters(node) | bound(body, tree))
            pending += [(child, scopes) for child in outside] + [(child, inside) for child in body]
        else:
            if isinstance(node, _COMPREHENSIONS):
                scopes = (*scopes, bound([generator.target for generator in node.generators], tree))
            pending += [(child, scopes) for child in tree.children[node]]


def rebound(tree: Tree) -> Iterator[Mistake]:
    """Each top-level statement that binds a global name again."""
    lines: dict[str, int] = {}
    for statement in tree.root.body:
        if isinstance(statement, (ast.For, ast.If)):
            continue
        for name in sorted(bound([statement], tree)):
            if name in lines or isinstance(statement, ast.AugAssign):
                first = f" (first on line {lines[name]})" if name in lines else ""
                remedy = "give the second one another name, or assign inside a function"
                yield statement, f"global `{name}` is assigned again{first}", remedy
            lines.setdefault(name, statement.lineno)


def bound(body: Collection[ast.AST], tree: Tree) -> frozenset[str]:
    """The names that these statements (or targets) bind in the scope they stand in."""
    names: set[str] = set()
    pending = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, (ast.Lambda, *_COMPREHENSIONS)):
            pending += tree.children[node]
    return frozenset(names)


def parameters(function: _Function) -> frozenset[str]:
    """The names of a function's parameters."""
    arguments = function.args
    named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    return frozenset(argument.arg for argument in named if argument)


def _remedy(name: str, scopes: Scopes) -> str:
    if name in _REMEDIES:
        return _REMEDIES[name]
    near = difflib.get_close_matches(name, frozenset().union(*scopes), 1, 0.75)
    if near:
        return f"did you mean `{near[0]}`?"
    return "Python has it, but Starlark does not" if hasattr(builtins, name) else ""
