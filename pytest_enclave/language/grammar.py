"""What Python's grammar has and Starlark's has not; what may not stand at a file's top level (behaviour.md §3.1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pytest_enclave.language.tree import Tree

_ABSENT: dict[type[ast.AST], tuple[str, str]] = {
    ast.While: ("`while`", "loop over a range: `for i in range(n):`"),
    ast.JoinedStr: ("f-strings", 'write `"{}".format(value)` or `"%s" % value`'),
    ast.ClassDef: ("classes", "use `struct(…)`"),
    ast.Import: ("`import`", 'write `name = import_module("./file.star")`'),
    ast.ImportFrom: ("`import`", 'write `name = import_module("./file.star")`'),
    ast.Try: ("`try`", "an error always ends the interpretation"),
    ast.Raise: ("`raise`", 'write `fail("message")`'),
    ast.With: ("`with`", ""),
    ast.Global: ("`global`", "pass the value as an argument, and return it"),
    ast.Nonlocal: ("`nonlocal`", "pass the value as an argument, and return it"),
    ast.Delete: ("`del`", "write `things.pop(key)`"),
    ast.AnnAssign: ("type annotations", "leave the annotation out"),
    ast.NamedExpr: ("`:=`", "assign on a line of its own"),
    ast.Yield: ("`yield`", "return a list"),
    ast.YieldFrom: ("`yield`", "return a list"),
    ast.Await: ("`await`", ""),
    ast.AsyncFunctionDef: ("`async`", ""),
    ast.AsyncFor: ("`async`", ""),
    ast.AsyncWith: ("`async`", ""),
    ast.Match: ("`match`", "use `if` and `elif`"),
    ast.GeneratorExp: ("generator expressions", "put it in brackets: a list comprehension"),
    ast.Set: ("sets", "use a list, or the keys of a dict"),
    ast.SetComp: ("sets", "use a list, or the keys of a dict"),
    ast.Pow: ("`**`", ""),
    ast.MatMult: ("`@`", ""),
    ast.Is: ("`is`", "write `==`"),
    ast.IsNot: ("`is not`", "write `!=`"),
}

Mistake = tuple[ast.expr | ast.stmt, str, str]
"""The node, what is wrong, and the remedy."""


def mistakes(tree: Tree) -> Iterator[Mistake]:
    """Everything in the tree that is not Starlark."""
    for statement in tree.root.body:
        if isinstance(statement, (ast.For, ast.If)):
            word = "for" if isinstance(statement, ast.For) else "if"
            yield statement, f"`{word}` is not allowed at the top level of a file", "put it into a function"
    for node in tree.nodes:
        yield from _absent(node)


def _absent(node: ast.AST) -> Iterator[Mistake]:
    if type(node) in _ABSENT and isinstance(node, (ast.expr, ast.stmt)):
        what, remedy = _ABSENT[type(node)]
        yield node, f"Starlark has no {what}", remedy
    elif isinstance(node, ast.BinOp) and type(node.op) in _ABSENT:
        yield node, f"Starlark has no {_ABSENT[type(node.op)][0]} operator", ""
    elif isinstance(node, ast.Compare):
        yield from _comparison(node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bytes, complex, type(...))):
        yield node, f"Starlark has no {_constant(node.value)} here", ""
    elif isinstance(node, ast.FunctionDef):
        yield from _definition(node)
    elif isinstance(node, ast.For) and node.orelse:
        yield node, "Starlark has no `else` on loops", ""
    elif isinstance(node, ast.Assign) and len(node.targets) > 1:
        yield node, "Starlark has no chained assignment", "write one assignment per line"
    elif isinstance(node, (ast.List, ast.Tuple)):
        yield from ((e, "Starlark has no `*` here", "join with `+`") for e in node.elts if isinstance(e, ast.Starred))
    elif isinstance(node, ast.Dict) and None in node.keys:
        yield node, "Starlark has no `**` in dicts", "join with `|`"


def _comparison(node: ast.Compare) -> Iterator[Mistake]:
    if len(node.ops) > 1:
        yield node, "Starlark has no chained comparisons", "write `a < b and b < c`"
    for op in node.ops:
        if type(op) in _ABSENT:
            what, remedy = _ABSENT[type(op)]
            yield node, f"Starlark has no {what}", remedy


def _constant(value: object) -> str:
    return {bytes: "bytes", complex: "complex numbers"}.get(type(value), "`...`")


def _definition(node: ast.FunctionDef) -> Iterator[Mistake]:
    arguments = node.args
    everything = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    if node.decorator_list:
        yield node.decorator_list[0], "Starlark has no decorators", ""
    if arguments.posonlyargs:
        yield node, "Starlark has no `/` in parameter lists", ""
    if node.returns or any(argument and argument.annotation for argument in everything):
        yield node, "Starlark has no type annotations", "leave the annotation out"
