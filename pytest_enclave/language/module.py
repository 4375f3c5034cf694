"""One Starlark file, read and checked, ready to be evaluated; and the way back from there to what the user wrote."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeAlias

import msgspec

from pytest_enclave.language import caution, scopes
from pytest_enclave.language.columns import Lines
from pytest_enclave.language.desugar import TIMED_OPERATORS, desugar
from pytest_enclave.language.edits import Edited
from pytest_enclave.language.normalise import normalise
from pytest_enclave.language.rules import refuse
from pytest_enclave.language.syntax import parse, statements
from pytest_enclave.language.tree import Tree
from pytest_enclave.source import Location

Calls: TypeAlias = Mapping[tuple[int, str], tuple[int, ...]]

_SHOWN = 60
"""How long an expression may be to be shown in a message, in characters."""


class Import(msgspec.Struct, frozen=True):
    """An `import_module` call whose argument is written out. `eager`: it runs when the file itself is loaded."""

    locator: str
    place: Location
    eager: bool


class Module(msgspec.Struct, frozen=True):
    """A file's name, its text as written, and what was made of it.

    `calls` has, by line and name of the callee, the columns of the opening parentheses; `names` are its globals,
    `imports` what it imports by a literal locator, in source order; `risky` is what `caution.py` says of it.
    `instructions` are names that it finds predeclared because it is written in the old way, without `plan`. Its syntax
    tree is not kept, but made again for the few questions that errors ask: trees are large, and the garbage collector
    walks what is kept.
    """

    name: str
    text: str
    normalised: Edited
    evaluated: Edited
    calls: Calls
    names: tuple[str, ...]
    imports: tuple[Import, ...]
    risky: bool
    instructions: frozenset[str] = frozenset()

    @classmethod
    def of(cls, name: str, text: str, predeclared: Collection[str], go_on: Callable[[], None] = lambda: None) -> Module:
        """Read a file's text; `go_on` is called between the passes over it, and raises where it is time to stop.

        Raises InterpretationError with everything that static rules refuse, each in `problems`.
        """
        normalised = normalise(text)
        tree = parse(normalised, name)
        lines = Lines.of(normalised.text)
        go_on()
        refuse(tree, lines, normalised, name, predeclared, go_on)
        calls = _call_columns(tree, lines, normalised)
        return cls(
            name=name,
            text=text,
            normalised=normalised,
            evaluated=desugar(normalised.text, tree),
            calls=calls,
            names=tuple(sorted(scopes.bound(tree.root.body, tree))),
            imports=tuple(
                Import(locator, _call_place(name, calls, call.lineno, "import_module"), eager)
                for call, locator, eager in _literal_imports(tree)
            ),
            risky=caution.risky(tree),
        )

    def place(self, line: int, column: int) -> Location:
        """Where a place of the evaluated text is in the text as written. A column of 0 stays unknown."""
        if column:
            column = self.normalised.column_before(line, self.evaluated.column_before(line, column))
        return Location(self.name, line, column)

    def call_place(self, line: int, callee: str) -> Location:
        """Where, on that line, `callee` is called: at the parenthesis (interpreter.md §1); column 0 if ambiguous.

        A function that is called by another name is taken to be the line's only call, if there is but one.
        """
        return _call_place(self.name, self.calls, line, callee)

    def function_at(self, line: int) -> str:
        """The function whose body holds the line, `<module>` outside of all."""
        innermost = "<module>"
        for node in self._tree().nodes:
            if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0):
                innermost = node.name
        return innermost

    def owner_of(self, line: int, attribute: str) -> str:
        """The expression whose attribute is read in that line; empty if there are several, or it is long."""
        owners = {
            ast.get_source_segment(self.normalised.text, node.value) or ""
            for node in self._tree().nodes
            if isinstance(node, ast.Attribute) and node.attr == attribute and node.lineno == line
        }
        owner = owners.pop() if len(owners) == 1 else ""
        return owner if len(owner) <= _SHOWN and "\n" not in owner else ""

    def function(self, name: str) -> ast.FunctionDef | None:
        """The definition of a top-level function, if it is there."""
        return next(
            (node for node in statements(self.normalised) if isinstance(node, ast.FunctionDef) and node.name == name),
            None,
        )

    def definition_place(self, name: str) -> Location:
        """Where a top-level function is defined; the file alone where it is not."""
        function = self.function(name)
        return self.place(function.lineno, function.col_offset + len("def ") + 1) if function else Location(self.name)

    def _tree(self) -> Tree:
        return parse(self.normalised, self.name)


def _call_place(name: str, calls: Calls, line: int, callee: str) -> Location:
    columns = calls.get((line, callee)) or calls.get((line, ""), ())
    return Location(name, line, columns[0] if len(columns) == 1 else 0)


def _literal_imports(tree: Tree) -> Iterator[tuple[ast.Call, str, bool]]:
    """The calls in source order, each with its locator, and whether it runs when the file is loaded."""
    later = set(tree.within(node for node in tree.nodes if isinstance(node, (ast.FunctionDef, ast.Lambda))))
    calls = [node for node in tree.nodes if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        locator = _literal_import(call)
        if locator is not None:
            yield call, locator, call not in later


def _literal_import(node: ast.Call) -> str | None:
    if not (isinstance(node.func, ast.Name) and node.func.id == "import_module"):
        return None
    arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "module_file")]
    if len(arguments) == 1 and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
        return arguments[0].value
    return None


def _call_columns(tree: Tree, lines: Lines, source: Edited) -> Calls:
    """The parentheses of all calls: by the line a call begins on and its callee's last name, or "" for any.

    An operator that is evaluated as a call of the prelude is under that function's name.
    """
    found: dict[tuple[int, str], tuple[int, ...]] = {}
    for node in tree.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            callee = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            line, column = lines.find("(", *lines.end(node.func))
            names = [callee, ""]
        elif isinstance(node, (ast.BinOp, ast.Compare)) and _operator(node) in TIMED_OPERATORS:
            symbol, callee = TIMED_OPERATORS[_operator(node)]
            line, column = lines.find(symbol[0], *lines.end(node.left))
            if line != node.lineno:
                line, column = lines.start(node)
            names = [callee]
        else:
            continue
        if line == node.lineno:
            for name in names:
                found[line, name] = (*found.get((line, name), ()), source.column_before(line, column + 1))
    return found


def _operator(node: ast.BinOp | ast.Compare) -> type[ast.AST]:
    return type(node.op) if isinstance(node, ast.BinOp) else type(node.ops[0])
