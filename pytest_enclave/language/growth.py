"""How deep values may nest, and how many there are in one if shared ones are counted each time they occur.

This follows a file's functions in source order, statement by statement, as if everything happened: a value is as deep
as what it is made of, and one more. Loops are followed twice, which is enough where no value goes, wrapped, into its
own successor: the others are `caution.py`'s business. What functions of other files give counts as what they are given,
wrapped.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from pytest_enclave.language.contents import CHANGING, Contents, base
from pytest_enclave.language.scopes import parameters

DEEPEST = 400
"""Levels: less than what the interpreter, in a stack of the usual size, can freeze."""

LARGEST = 1 << 30
"""Values: less than what takes more than some seconds to compare."""

_MANY = 1 << 17
"""How often a loop may put the same value into another one; longer ranges are told by the prelude."""


class Extent(msgspec.Struct, frozen=True):
    """What is known of a value: levels, and values in it."""

    depth: int = 0
    size: int = 1

    def wrapped(self) -> Extent:
        """One that holds it."""
        return Extent(self.depth + 1, self.size + 1)


_FLAT = Extent()
_GIVEN = Extent(1, 1)
"""What a function is given: how deep that is, its callers know."""


def outgrows(functions: Mapping[str, ast.FunctionDef], body: list[ast.stmt], contents: Contents) -> bool:
    """Whether some value of a file, with these functions and this top level, may be larger than is good."""
    file = _File(functions, contents)
    try:
        for name, function in functions.items():
            file.extent_of_call(name, function)
        _Call(file, {}).follow(body, looping=False)
    except RecursionError:
        return True
    return file.outgrown


@dataclass(slots=True)
class _File:
    functions: Mapping[str, ast.FunctionDef]
    contents: Contents
    outgrown: bool = False
    known: dict[str, Extent] = field(default_factory=dict)
    following: set[str] = field(default_factory=set)

    def extent_of_call(self, name: str, function: ast.FunctionDef) -> Extent:
        """Of what a function returns, if it is given flat values."""
        if name in self.following:
            self.outgrown = True
            return _FLAT
        if name not in self.known:
            self.following.add(name)
            call = _Call(self, dict.fromkeys(parameters(function), _GIVEN))
            call.follow(function.body, looping=False)
            self.following.remove(name)
            self.known[name] = call.returned
        return self.known[name]

    def watched(self, extent: Extent) -> Extent:
        if extent.depth > DEEPEST or extent.size > LARGEST:
            self.outgrown = True
            return _FLAT
        return extent


@dataclass(slots=True)
class _Call:
    """One function that is followed; `extents` are those of its names."""

    file: _File
    extents: dict[str, Extent]
    returned: Extent = _FLAT

    def follow(self, body: Iterable[ast.stmt], *, looping: bool) -> None:
        for statement in body:
            self._follow(statement, looping)

    def _follow(self, statement: ast.stmt, looping: bool) -> None:
        match statement:
            case ast.Assign(targets=[*targets], value=value):
                self._change(value, looping)
                for target in targets:
                    self._assign(target, self.extent(value), looping)
            case ast.AugAssign(target=target, value=value):
                self._change(value, looping)
                self._add(target, value, looping)
            case ast.Expr(value=value):
                self._change(value, looping)
            case ast.Return(value=value) if value is not None:
                self._change(value, looping)
                self.returned = _larger(self.returned, self.extent(value))
            case ast.If(test=test, body=body, orelse=otherwise):
                self._change(test, looping)
                self.follow((*body, *otherwise), looping=looping)
            case ast.For(target=target, iter=iterated, body=body):
                self._change(iterated, looping)
                for _ in range(1 if looping else 2):
                    self._assign(target, self.extent(iterated), looping=True)
                    self.follow(body, looping=True)
            case ast.FunctionDef(name=name, body=body):
                inner = _Call(self.file, {**self.extents, **dict.fromkeys(parameters(statement), _GIVEN)})
                inner.follow(body, looping=looping)
                self.extents[name] = self.file.watched(inner.returned.wrapped())

    def _assign(self, target: ast.expr, extent: Extent, looping: bool) -> None:
        if isinstance(target, ast.Name):
            old = self.extents.get(target.id, _FLAT) if looping else _FLAT
            self.extents[target.id] = _larger(old, extent)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for item in target.elts:
                self._assign(item, extent, looping)
        elif isinstance(target, ast.Subscript):
            self._grow(base(target), extent, looping)

    def _add(self, target: ast.expr, value: ast.expr, looping: bool) -> None:
        self._grow(base(target), self.extent(value), looping)

    def _change(self, expression: ast.expr, looping: bool) -> None:
        """What methods that are called in an expression do to the values they are called on."""
        for node in ast.walk(expression):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=method), args=args, keywords=keywords) if (
                    method in CHANGING
                ):
                    for value in (*args, *(keyword.value for keyword in keywords)):
                        self._grow(base(owner), self.extent(value), looping)

    def _grow(self, name: str, by: Extent, looping: bool) -> None:
        old = self.extents.get(name, _FLAT)
        # A loop that puts in a new value each time counts once: what the value shares with others does not grow.
        size = max(old.size, by.size * 2 + 1) if looping else old.size + by.size
        self.extents[name] = self.file.watched(Extent(max(old.depth, by.depth + 1), size))

    def extent(self, node: ast.AST) -> Extent:
        """That of an expression's value."""
        contents = self.file.contents
        if contents.is_scalar(node):
            return _FLAT
        if isinstance(node, ast.Name):
            return self.extents.get(node.id, _FLAT)
        if isinstance(node, (ast.ListComp, ast.DictComp)):
            return self._comprehension(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.file.functions:
            made = self.file.extent_of_call(node.func.id, self.file.functions[node.func.id])
            given = self._together(contents.parts(node))
            return self.file.watched(Extent(made.depth + given.depth, made.size * given.size))
        together = self._together(contents.parts(node))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            times = max((_number(side) for side in (node.left, node.right)), default=0) or _MANY
            return self.file.watched(Extent(together.depth, together.size * times if together.depth else 1))
        return self.file.watched(together.wrapped()) if contents.wraps(node) else together

    def _comprehension(self, node: ast.ListComp | ast.DictComp) -> Extent:
        bound: set[str] = set()
        for generator in node.generators:
            self._assign(generator.target, self.extent(generator.iter), looping=False)
            bound |= {name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name)}
        items = [node.elt] if isinstance(node, ast.ListComp) else [node.key, node.value]
        made = self._together(items)
        shared = {name for item in items for name in self.file.contents.names(item)} - bound
        times = _MANY if any(self.extents.get(name, _FLAT).depth for name in shared) else 1
        return self.file.watched(Extent(made.depth + 1, made.size * times + 1))

    def _together(self, parts: Collection[ast.AST]) -> Extent:
        extents = [self.extent(part) for part in parts]
        return Extent(
            max((extent.depth for extent in extents), default=0), max(1, sum(extent.size for extent in extents))
        )


def _number(node: ast.expr) -> int:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else 0


def _larger(one: Extent, other: Extent) -> Extent:
    return Extent(max(one.depth, other.depth), max(one.size, other.size))
