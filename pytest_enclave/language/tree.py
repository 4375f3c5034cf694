"""A syntax tree with its nodes laid out: every static rule walks it, and walking is what costs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

import msgspec

_WITHOUT_PLACE = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)


class Tree(msgspec.Struct, frozen=True):
    """`nodes` come outer before inner, level by level; `children` has those of every node, in source order.

    Operators and contexts, which have no place of their own, are in neither. `depth` is how deep nodes nest.
    """

    root: ast.Module
    nodes: tuple[ast.AST, ...]
    children: Mapping[ast.AST, tuple[ast.AST, ...]]
    depth: int

    @classmethod
    def of(cls, root: ast.Module) -> Tree:
        """Lay out a tree."""
        nodes: list[ast.AST] = []
        children: dict[ast.AST, tuple[ast.AST, ...]] = {}
        level: list[ast.AST] = [root]
        depth = 0
        while level:
            depth += 1
            nodes += level
            below: list[ast.AST] = []
            for node in level:
                children[node] = tuple(_children(node))
                below += children[node]
            level = below
        return cls(root, tuple(nodes), children, depth)

    def within(self, roots: Iterable[ast.AST]) -> list[ast.AST]:
        """These nodes and all below them."""
        found = list(roots)
        for node in found:
            found += self.children[node]
        return found


def _children(node: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [item for item in value if isinstance(item, ast.AST) and not isinstance(item, _WITHOUT_PLACE)]
        elif isinstance(value, ast.AST) and not isinstance(value, _WITHOUT_PLACE):
            found.append(value)
    return found
