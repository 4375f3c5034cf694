"""The same expressions, evaluated by the implementation in Go: they differ where `docs/dialect.md` says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError

EXPRESSIONS = json.loads((Path(__file__).parent / "testdata" / "go_expressions.json").read_text("utf-8"))["expressions"]
PAGE = Path(__file__).parents[2] / "docs" / "dialect.md"
ROW = re.compile(r"^\| `` (?P<expression>.+) `` \| `` (?P<go>.+) `` \| `` (?P<here>.+) `` \| .+ \|$", re.MULTILINE)
ERROR = "(error)"


def by_go(expression: str) -> str:
    starlark_go = pytest.importorskip("starlark_go", reason="starlark-go has no wheel for this platform")
    try:
        return str(starlark_go.Starlark(print=lambda _: None).eval(f"repr({expression})"))
    except starlark_go.StarlarkError:
        return ERROR


def test_there_are_enough_expressions() -> None:
    assert len(set(EXPRESSIONS)) == len(EXPRESSIONS) >= 300


def test_exactly_the_listed_expressions_differ(evaluated: Callable[[str], Any]) -> None:
    def here(expression: str) -> str:
        try:
            return str(evaluated(f"repr({expression})"))
        except InterpretationError:
            return ERROR

    found = {expression: (by_go(expression), here(expression)) for expression in EXPRESSIONS}
    listed = {match[1]: (match[2], match[3]) for match in ROW.finditer(PAGE.read_text("utf-8"))}
    assert {expression: pair for expression, pair in found.items() if pair[0] != pair[1]} == listed
