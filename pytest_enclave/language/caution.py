"""Code that might build values so deep or so much shared that the interpreter breaks on them.

The interpreter walks values by recursion, without a limit: freezing a list inside a list inside a list … of some
thousand levels ends the process, and comparing a list that holds another twice, which holds another twice … takes for
ever, as do messages that show one. What may come to this is evaluated in a process of its own (`confined.py`). That a
file cannot is shown here from its source alone, so that files together cannot either:

* A value that was there before a function was called gets nothing put into it but new values that hold no old ones. So
  what a call does to values is in what it returns, and nothing can be put into itself by way of another function.
* What a function puts into its own values does not come from them.
* No value goes, wrapped, into its own successor in a loop, nor does a loop go down into a value and put more there.
* Without loops, values stay within the bounds of `growth.py`.

Whatever is in doubt is found risky, which costs some milliseconds, no more.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from pytest_enclave.language.contents import CHANGING, Contents, base
from pytest_enclave.language.desugar import METHODS
from pytest_enclave.language.growth import outgrows
from pytest_enclave.language.scopes import parameters
from pytest_enclave.language.tree import Tree

_KEPT = frozenset((*METHODS, *CHANGING))
_NUMBER = ast.Constant(0)
_MAKING = (ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.DictComp, ast.Constant)


def risky(tree: Tree) -> bool:
    """Whether a file holds such code, or might."""
    called = {node.func for node in tree.nodes if isinstance(node, ast.Call)}
    if any(_evades(node, called) for node in tree.nodes):
        return True
    contents = Contents(_bound(tree))
    scopes = [node for node in tree.nodes if isinstance(node, (ast.FunctionDef, ast.Module))]
    outer = {tree.root, *tree.root.body}
    if any(_Scope.of(scope, tree, contents, inner=scope not in outer).is_risky() for scope in scopes):
        return True
    functions = {node.name: node for node in tree.root.body if isinstance(node, ast.FunctionDef)}
    rest = [statement for statement in tree.root.body if not isinstance(statement, ast.FunctionDef)]
    return outgrows(functions, rest, contents)


def _evades(node: ast.AST, called: set[ast.expr]) -> bool:
    """Whether a method or builtin is meant that changes or grows values, in a form that cannot be followed."""
    match node:
        case ast.Attribute(attr=name) if node not in called:
            return name in _KEPT
        case ast.Name(id="getattr") if node not in called:
            return True
        case ast.AugAssign(op=ast.Mult(), target=target):
            return not isinstance(target, ast.Name)
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=name), *_]):
            return name in _KEPT
        case ast.Call(func=ast.Name(id="getattr")):
            return True
    return False


def _bound(tree: Tree) -> Collection[str]:
    """Every name that the file binds anywhere."""
    names: set[str] = set()
    for node in tree.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)):
            names |= parameters(node)
            names |= {node.name} if isinstance(node, ast.FunctionDef) else set()
    return names


class _Change(msgspec.Struct, frozen=True):
    """Something is put into a value: `target` is the expression for that value, `values` what is put in."""

    target: ast.expr
    values: tuple[ast.expr, ...]


@dataclass(slots=True)
class _Flow:
    """What goes into what, by name."""

    into: dict[str, set[str]] = field(default_factory=dict)
    wrapped: set[tuple[str, str]] = field(default_factory=set)

    def add(self, target: str, source: str, *, wrapped: bool) -> None:
        """A value named `target` may hold one named `source`, or be it if it is not `wrapped`."""
        self.into.setdefault(target, set()).add(source)
        if wrapped:
            self.wrapped.add((target, source))

    def reached(self, start: str) -> set[str]:
        """All that may be in a value of this name."""
        found: set[str] = set()
        pending = [start]
        while pending:
            for name in self.into.get(pending.pop(), ()):
                if name not in found:
                    found.add(name)
                    pending.append(name)
        return found

    def closes(self, edges: Iterable[tuple[str, str]]) -> bool:
        """Whether one of these edges is part of a circle."""
        return any(target == source or target in self.reached(source) for target, source in edges)


@dataclass(slots=True)
class _Scope:
    """A function's body, or a file's top level, without the functions in it, but with lambdas and comprehensions."""

    nodes: list[ast.AST]
    given: frozenset[str]
    inner: bool
    tree: Tree
    contents: Contents

    @classmethod
    def of(cls, scope: ast.FunctionDef | ast.Module, tree: Tree, contents: Contents, *, inner: bool) -> _Scope:
        nodes: list[ast.AST] = []
        pending: list[ast.AST] = list(scope.body)
        while pending:
            node = pending.pop()
            nodes.append(node)
            if not isinstance(node, ast.FunctionDef):
                pending += tree.children[node]
        given = parameters(scope) if isinstance(scope, ast.FunctionDef) else frozenset()
        return cls(nodes, given, inner, tree, contents)

    def is_risky(self) -> bool:
        changes = [
            change
            for node in self.nodes
            for change in _changes(node)
            if not all(map(self.contents.is_scalar, change.values))
        ]
        scalars = self._scalars()
        return (bool(changes) and self._puts_into_itself(changes, scalars)) or self._goes_on_and_on(scalars)

    def _puts_into_itself(self, changes: list[_Change], scalars: set[str]) -> bool:
        """Whether old values get others put into them, or new ones what may come from themselves."""
        if self.inner and not {base(change.target) for change in changes} <= self._local():
            return True
        sourced = [change for change in changes if self._sources(change) - scalars]
        flow = self._flow(self.nodes)
        fresh = self._fresh() if sourced else set()
        edges: list[tuple[str, str]] = []
        for change in sourced:
            for source in self._sources(change) - scalars:
                flow.add(base(change.target), source, wrapped=True)
        for change in sourced:
            into = {base(change.target)}
            if not isinstance(change.target, ast.Name):
                into |= flow.reached(base(change.target))
            if not into <= fresh:
                return True
            edges += [(target, source) for target in into for source in self._sources(change) - scalars]
        for target, source in edges:
            flow.add(target, source, wrapped=True)
        return flow.closes(edges)

    def _goes_on_and_on(self, scalars: set[str]) -> bool:
        """Whether a loop takes a value to its own successor, wrapped, or with more put into it."""
        loops = self.tree.within(node for node in self.nodes if isinstance(node, ast.For))
        if not loops:
            return False
        flow = self._flow(loops)
        changes = [change for node in loops for change in _changes(node)]
        for change in changes:
            for source in self._sources(change) - scalars:
                flow.add(base(change.target), source, wrapped=True)
        if flow.closes(flow.wrapped):
            return True
        deepened = {base(change.target) for change in changes if not all(map(self.contents.is_scalar, change.values))}
        for node in loops:
            if isinstance(node, ast.Call) and not self.contents.is_flat(node):
                deepened |= {name for part in self.contents.parts(node)[1:] for name in self.contents.names(part)}
        return any(name in flow.reached(name) for name in deepened - scalars)

    def _sources(self, change: _Change) -> set[str]:
        return {name for value in change.values for name in self.contents.names(value)}

    def _flow(self, nodes: Iterable[ast.AST]) -> _Flow:
        flow = _Flow()
        for node in nodes:
            for targets, value in _assigned(node):
                for source, wrapped in self.contents.sources(value, wrapped=False):
                    for target in targets:
                        flow.add(target, source, wrapped=wrapped)
            if isinstance(node, ast.FunctionDef):
                for inner in self.tree.within([node]):
                    if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                        flow.add(node.name, inner.id, wrapped=True)
        return flow

    def _local(self) -> set[str]:
        """The names that are bound here."""
        return set(self.given).union(*(targets for node in self.nodes for targets, _ in _assigned(node)))

    def _fresh(self) -> set[str]:
        """The names that hold nothing but values this scope has made."""
        return self._only(self._makes)

    def _scalars(self) -> set[str]:
        """The names that hold nothing but texts and numbers."""
        return self._only(self.contents.is_scalar)

    def _only(self, holds: Callable[[ast.expr], bool]) -> set[str]:
        """The names all of whose values are of that kind; what is added to a value does not change that."""
        made: set[str] = set()
        other = set(self.given)
        for node in self.nodes:
            if isinstance(node, (ast.For, ast.comprehension)):
                counts = holds(_NUMBER) and self.contents.is_range(node.iter)
                (made if counts else other).update(_stored(node.target))
            elif isinstance(node, ast.Lambda):
                # When it is called, and with what, does not show.
                other |= parameters(node)
                other |= {base(change.target) for inner in self.tree.within([node]) for change in _changes(inner)}
            elif isinstance(node, ast.FunctionDef):
                other.add(node.name)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    for name, value in _paired(target, node.value):
                        (made if value is not None and holds(value) else other).add(name)
        return made - other

    def _makes(self, value: ast.expr) -> bool:
        match value:
            case ast.Call(func=ast.Name(id="dict" | "list")):
                return not self.contents.wraps(value)
        return isinstance(value, _MAKING) or self.contents.is_scalar(value)


def _changes(node: ast.AST) -> Iterator[_Change]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _written(target, value)
        case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
            yield from _written(target, value)
        case ast.AugAssign(target=target, value=value):
            # A list grows in place; and what is read from a value is put back into it.
            yield _Change(target, (value,))
        case ast.Call(func=ast.Attribute(value=owner, attr=method), args=args, keywords=keywords) if method in CHANGING:
            yield _Change(owner, (*args, *(keyword.value for keyword in keywords)))


def _written(target: ast.expr, value: ast.expr) -> Iterator[_Change]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _written(item, value)
    elif isinstance(target, ast.Subscript):
        yield _Change(target.value, (value, target.slice))


def _assigned(node: ast.AST) -> Iterator[tuple[set[str], ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield _stored(target), value
        case ast.AugAssign(target=ast.Name(id=name), value=value):
            yield {name}, value
        case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
            yield _stored(target), value


def _stored(target: ast.expr) -> set[str]:
    if isinstance(target, (ast.Tuple, ast.List)):
        return {name for item in target.elts for name in _stored(item)}
    return {target.id} if isinstance(target, ast.Name) else set()


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    """Names and what they get, where that shows."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)):
        values: list[ast.expr | None] = [None] * len(target.elts)
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            values = list(value.elts)
        for item, its in zip(target.elts, values, strict=True):
            if isinstance(item, ast.Name):
                yield item.id, its
            else:
                yield from ((name, None) for name in _stored(item))
