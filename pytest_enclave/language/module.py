"""One Starlark file, read and checked, ready to be evaluated; and the way back from there to what the user wrote."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pytest_enclave.errors import InterpretationError, Problem
from pytest_enclave.language import grammar, recursion, scopes
from pytest_enclave.language.columns import Lines
from pytest_enclave.language.desugar import desugar
from pytest_enclave.language.edits import Edited
from pytest_enclave.language.normalise import normalise
from pytest_enclave.language.syntax import parse
from pytest_enclave.source import Location


@dataclass(frozen=True, slots=True)
class Import:
    """An `import_module` call whose argument is written out. `eager`: it runs when the file itself is loaded."""

    locator: str
    place: Location
    eager: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A file's name, its text as written, and what was made of it.

    `calls` has, by line and name of the callee, the columns of the opening parentheses; `names` are its globals.
    """

    name: str
    text: str
    tree: ast.Module
    normalised: Edited
    evaluated: Edited
    calls: Mapping[tuple[int, str], tuple[int, ...]]
    names: tuple[str, ...]

    @classmethod
    def of(cls, name: str, text: str, predeclared: Collection[str]) -> Module:
        """Read a file's text.

        Raises InterpretationError with everything that static rules refuse, each in `problems`.
        """
        normalised = normalise(text)
        tree = parse(normalised, name)
        lines = Lines.of(normalised.text)
        _refuse(tree, lines, normalised, name, predeclared)
        return cls(
            name=name,
            text=text,
            tree=tree,
            normalised=normalised,
            evaluated=desugar(normalised.text, tree),
            calls=_call_columns(tree, lines, normalised),
            names=tuple(sorted(scopes.bound(tree.body))),
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
        columns = self.calls.get((line, callee)) or self.calls.get((line, ""), ())
        return Location(self.name, line, columns[0] if len(columns) == 1 else 0)

    def function_at(self, line: int) -> str:
        """The function whose body holds the line, `<module>` outside of all."""
        innermost = "<module>"
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0):
                innermost = node.name
        return innermost

    def function(self, name: str) -> ast.FunctionDef | None:
        """The definition of a top-level function, if it is there."""
        return next((node for node in self.tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)

    def imports(self) -> Iterator[Import]:
        """The `import_module` calls with a literal argument, in the order they are written."""
        pending: list[tuple[ast.AST, bool]] = [(self.tree, True)]
        while pending:
            node, eager = pending.pop()
            if isinstance(node, (ast.FunctionDef, ast.Lambda)):
                eager = False
            literal = _literal_import(node)
            if literal is not None and isinstance(node, ast.Call):
                yield Import(literal, self.call_place(node.lineno, "import_module"), eager)
            pending += [(child, eager) for child in reversed(list(ast.iter_child_nodes(node)))]


def _literal_import(node: ast.AST) -> str | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module"):
        return None
    arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "module_file")]
    if len(arguments) == 1 and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
        return arguments[0].value
    return None


def _call_columns(tree: ast.Module, lines: Lines, source: Edited) -> dict[tuple[int, str], tuple[int, ...]]:
    """The parentheses of all calls: by the line a call begins on and its callee's last name, or "" for any.

    `a % b` is a call of `mod`, as which it is evaluated, at its operator.
    """
    found: dict[tuple[int, str], tuple[int, ...]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            callee = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            line, column = lines.find("(", *lines.end(node.func))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            callee = "mod"
            line, column = lines.find("%", *lines.end(node.left))
        else:
            continue
        if line == node.lineno:
            for key in ((line, callee), (line, "")):
                found[key] = (*found.get(key, ()), source.column_before(line, column + 1))
    return found


def _refuse(tree: ast.Module, lines: Lines, source: Edited, name: str, predeclared: Collection[str]) -> None:
    """Raise one error for everything found, in the order of the file."""
    found = [
        *grammar.mistakes(tree),
        *scopes.undefined(tree, predeclared),
        *scopes.rebound(tree),
        *recursion.recursive(tree),
    ]
    if not found:
        return
    problems = []
    for node, message, remedy in found:
        line, column = lines.start(node)
        place = Location(name, line, source.column_before(line, column + 1))
        problems.append(Problem(message, place, remedy=remedy))
    problems.sort(key=lambda problem: problem.location or Location(name))
    first = problems[0]
    told = [f"{problem.message} (line {problem.location.line})" for problem in problems if problem.location]
    message = first.message if len(problems) == 1 else f"{len(problems)} mistakes: {'; '.join(told)}"
    raise InterpretationError(message, location=first.location, remedy=first.remedy, problems=problems)
