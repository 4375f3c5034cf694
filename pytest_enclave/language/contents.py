"""What a value holds, as far as the expression that makes it tells."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from pytest_enclave.plan.config_types import CONFIG_TYPES

CHANGING = ("append", "extend", "insert", "setdefault", "update")
"""Methods that put values into other values."""

_SCALAR = frozenset(
    (
        *("abs", "all", "any", "bool", "chr", "float", "hasattr", "hash", "int", "len", "ord"),
        *("fail", "print", "read_file", "repr", "str", "type"),
    )
)
_FLAT = frozenset(("dir", "import_module", "range", *CONFIG_TYPES))
"""What gives values that hold nothing of what went in; typed values are as deep as they are declared."""

_AS_IT_IS = frozenset(("dict", "getattr", "list", "max", "min", "reversed", "sorted", "tuple"))
_TEXTS = ("elems", "partition", "rpartition", "rsplit", "split", "splitlines", "codepoints")
_WRAPPING = (ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.DictComp, ast.Lambda)
_NUMERIC = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitXor, ast.LShift, ast.RShift)


class Contents:
    """For a file that binds these names: those of the builtins among them mean something else there."""

    def __init__(self, bound: Collection[str]) -> None:
        self._scalar = _SCALAR.difference(bound)
        self._flat = _FLAT.difference(bound)
        self._as_it_is = _AS_IT_IS.difference(bound)
        self._modules = {"json", "time"}.difference(bound)

    def is_scalar(self, node: ast.AST) -> bool:
        """Whether it makes a text, a number or nothing for certain, or else an error."""
        match node:
            case ast.Constant() | ast.Compare() | ast.UnaryOp():
                return True
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return isinstance(left, ast.Constant) or isinstance(right, ast.Constant)
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                return _is_text(left) or _is_text(right)
            case ast.BinOp(op=operator):
                return isinstance(operator, _NUMERIC)
            case ast.BoolOp(values=values):
                return all(map(self.is_scalar, values))
            case ast.IfExp(body=body, orelse=otherwise):
                return self.is_scalar(body) and self.is_scalar(otherwise)
            case ast.Call(func=ast.Name(id=name)):
                return name in self._scalar
            case ast.Call(func=ast.Attribute(value=ast.Name(id="json"), attr="encode" | "indent")):
                return "json" in self._modules
            case ast.Call(func=ast.Attribute(value=owner, attr=attr)):
                return _is_text(owner) and attr not in _TEXTS
        return False

    def is_flat(self, node: ast.AST) -> bool:
        """Whether what it makes may be a collection, but holds nothing that is there already."""
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in self._flat:
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id="json" | "time" as name))):
                return name in self._modules
            case ast.Call(func=ast.Attribute(value=owner)):
                return _is_text(owner)
        return self.is_scalar(node)

    def is_range(self, node: ast.AST) -> bool:
        """Whether it makes a range of numbers."""
        match node:
            case ast.Call(func=ast.Name(id="range")):
                return "range" in self._flat
        return False

    def wraps(self, node: ast.AST) -> bool:
        """Whether what it makes is a level above its parts."""
        match node:
            case ast.Call(func=ast.Name(id=name)):
                return name not in self._as_it_is
            case ast.Call():
                return True
        return isinstance(node, _WRAPPING)

    def parts(self, node: ast.AST) -> Sequence[ast.AST]:
        """The expressions whose values, or parts of them, may be in its own."""
        if self.is_flat(node):
            return ()
        match node:
            case ast.Call(func=callee, args=args, keywords=keywords):
                owner = callee.value if isinstance(callee, ast.Attribute) else callee
                return (owner, *args, *(keyword.value for keyword in keywords))
            case ast.Attribute(value=owner) | ast.Subscript(value=owner) | ast.Starred(value=owner):
                return (owner,)
            case ast.IfExp(body=body, orelse=otherwise):
                return (body, otherwise)
            case ast.Name():
                return ()
        return tuple(ast.iter_child_nodes(node))

    def names(self, node: ast.AST, *, wrapped: bool = False) -> Iterator[str]:
        """The names whose values may be in its own."""
        for name, _ in self.sources(node, wrapped=wrapped):
            yield name

    def sources(self, node: ast.AST, *, wrapped: bool) -> Iterator[tuple[str, bool]]:
        """The same, each with whether it is below the top level; `wrapped` says so of the whole."""
        pending: list[tuple[ast.AST, bool]] = [(node, wrapped)]
        while pending:
            part, inside = pending.pop()
            if isinstance(part, ast.Name):
                yield part.id, inside
            inside = inside or self.wraps(part)
            pending += [(each, inside) for each in self.parts(part)]


def base(node: ast.AST) -> str:
    """The name that an expression begins with, whose value it reads from; empty where there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
