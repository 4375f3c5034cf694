"""render_data.json: what becomes of a Starlark value on its way to a template."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.golang.template import DataError, prepare

GOLDEN = Path(__file__).parent.parent / "golden" / "render_data.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]

# Not values, or accidents of Kurtosis' way through source text; what we do instead is tested below.
ELSEWHERE = {
    'float("inf")', 'float("nan")', 'bytes("abc")', "set([1])", "len", "lambda x: x", '{"f":len}', r'"\x7f"', r'"\x80"',
}  # fmt: skip


def value_of(expression: str) -> object:
    """The Python value of a Starlark expression of the golden file; a struct arrives as a dict."""
    names = {
        "struct": lambda **fields: fields,
        "json": type("json", (), {"encode": lambda v: json.dumps(v, separators=(",", ":")), "decode": json.loads}),
    }
    return eval(compile(ast.parse(expression, mode="eval"), "golden", "eval"), names)


@pytest.mark.parametrize("case", [c for c in CASES if c["expr"] not in ELSEWHERE], ids=lambda case: case["expr"])
def test_a_value_is_prepared_as_in_kurtosis(case: dict[str, Any]) -> None:
    value = value_of(case["expr"])
    if case["stage"] == "ok":
        assert prepare(value) == case["prepared"]
        return
    with pytest.raises(DataError) as caught:
        prepare(value)
    assert str(caught.value) == case["error"]


def test_the_cases_left_out_exist() -> None:
    assert {case["expr"] for case in CASES} >= ELSEWHERE


@pytest.mark.parametrize("value", [float("inf"), float("nan"), b"abc", {1}, len, {"f": len}, 10**400, [{1: 2}]])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"^json\.encode: "):
        prepare(value)


def test_control_characters_that_break_kurtosis_are_kept() -> None:
    assert prepare("\x7f\x80") == '"\x7f\x80"'


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(DataError, match="contains itself"):
        prepare(endless)
