"""All static rules together: what they refuse is told in one error, in the order of the file."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pytest_enclave.errors import InterpretationError, Problem
from pytest_enclave.language import grammar, recursion, results, scopes
from pytest_enclave.language.columns import Lines
from pytest_enclave.language.edits import Edited
from pytest_enclave.language.tree import Tree
from pytest_enclave.source import Location


def refuse(
    tree: Tree, lines: Lines, source: Edited, name: str, predeclared: Collection[str], go_on: Callable[[], None]
) -> None:
    """Check a file's tree; `lines` are those of the tree's own text, which `source` leads back to the user's.

    `go_on` is called behind each rule, and raises where it is time to stop.
    Raises InterpretationError, with every mistake in `problems`, where there is any.
    """
    problems = []
    for mistakes in (
        grammar.mistakes(tree),
        scopes.undefined(tree, predeclared),
        scopes.rebound(tree),
        recursion.recursive(tree),
        results.changed(tree),
    ):
        for node, message, remedy in mistakes:
            line, column = lines.start(node)
            place = Location(name, line, source.column_before(line, column + 1))
            problems.append(Problem(message, place, remedy=remedy))
        go_on()
    if problems:
        raise _error(sorted(problems, key=lambda problem: problem.location or Location(name)))


def _error(problems: list[Problem]) -> InterpretationError:
    first = problems[0]
    told = [f"{problem.message} (line {problem.location.line})" for problem in problems if problem.location]
    message = first.message if len(problems) == 1 else f"{len(problems)} mistakes: {'; '.join(told)}"
    return InterpretationError(message, location=first.location, remedy=first.remedy, problems=problems)
