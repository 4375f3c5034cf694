"""All static rules together: what they refuse is told in one error, in the order of the file."""

from __future__ import annotations

from collections.abc import Collection

from pytest_enclave.errors import InterpretationError, Problem
from pytest_enclave.language import grammar, recursion, scopes
from pytest_enclave.language.columns import Lines
from pytest_enclave.language.edits import Edited
from pytest_enclave.language.tree import Tree
from pytest_enclave.source import Location


def refuse(tree: Tree, lines: Lines, source: Edited, name: str, predeclared: Collection[str]) -> None:
    """Check a file's tree; `lines` are those of the tree's own text, which `source` leads back to the user's.

    Raises InterpretationError, with every mistake in `problems`, where there is any.
    """
    problems = []
    for node, message, remedy in (
        *grammar.mistakes(tree),
        *scopes.undefined(tree, predeclared),
        *scopes.rebound(tree),
        *recursion.recursive(tree),
    ):
        line, column = lines.start(node)
        problems.append(Problem(message, Location(name, line, source.column_before(line, column + 1)), remedy=remedy))
    if problems:
        raise _error(sorted(problems, key=lambda problem: problem.location or Location(name)))


def _error(problems: list[Problem]) -> InterpretationError:
    first = problems[0]
    told = [f"{problem.message} (line {problem.location.line})" for problem in problems if problem.location]
    message = first.message if len(problems) == 1 else f"{len(problems)} mistakes: {'; '.join(told)}"
    return InterpretationError(message, location=first.location, remedy=first.remedy, problems=problems)
