"""Source text → syntax tree.

Python's own parser reads the files: it accepts what Starlark accepts and more, and tells mistakes well. What is more
is refused in `grammar.py`. It serves for names, positions and static rules only; nothing is ever run as Python.
"""

from __future__ import annotations

import ast
import warnings

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language.edits import Edited
from pytest_enclave.language.tree import Tree
from pytest_enclave.source import Location

MAX_DEPTH = 300
"""How deep the tree may be: the interpreter recurses over it, and bears this on a stack of 2 MB."""


def parse(source: Edited, name: str) -> Tree:
    """The tree of a normalised text; errors name the file as `name`.

    Raises InterpretationError at the first mistake.
    """
    if "\0" in source.text:
        line = source.text.count("\n", 0, source.text.index("\0")) + 1
        raise InterpretationError("the file contains a NUL character", location=Location(name, line))
    try:
        root = _parsed(source)
    except SyntaxError as error:
        raise InterpretationError(f"syntax error: {error.msg}", location=_place(error, source, name)) from None
    except (RecursionError, MemoryError, ValueError):
        raise _too_deep(Location(name)) from None
    tree = Tree.of(root)
    if tree.depth > MAX_DEPTH:
        raise _too_deep(Location(name, getattr(tree.nodes[-1], "lineno", 0)))
    return tree


def statements(source: Edited) -> list[ast.stmt]:
    """The top-level statements of a text that `parse` has accepted: its whole tree takes three times as long."""
    return _parsed(source).body


def _parsed(source: Edited) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.text)


def _too_deep(place: Location) -> InterpretationError:
    return InterpretationError(
        "the code is nested too deeply",
        location=place,
        remedy=f"more than {MAX_DEPTH} levels: put parts of the expression into variables, or join a list",
    )


def _place(error: SyntaxError, source: Edited, name: str) -> Location:
    """Python counts lines from 1 even in an empty text, and columns from 1, or 0 where it does not know."""
    line = error.lineno or 0
    column = error.offset or 0
    return Location(name, line, source.column_before(line, column) if column > 0 else 0)
