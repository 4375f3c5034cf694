"""Finding calls and expressions in source text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.report.starlark_call import call_at, expression_at, place_of

CALL = """\
x = plan.verify(  # a comment, with (brackets
    "a, (b" + 'c)',
    assertion = "==",  # here, too
    target_value = f(1, [2, 3], {"k": ")"}) ,
    # trailing
)
after(1)
"""


@pytest.mark.parametrize("column", [5, 16])
def test_a_call_is_found_at_its_name_and_at_its_parenthesis(column: int) -> None:
    call = call_at(CALL, 1, column)
    assert call is not None
    assert CALL[call.name.start : call.name.end] == "plan.verify"
    assert place_of(CALL, call.whole.end - 1) == (6, 1)
    shown = [(argument.keyword, CALL[argument.span.start : argument.span.end]) for argument in call.arguments]
    assert shown == [
        ("", "\"a, (b\" + 'c)'"),
        ("assertion", '"=="'),
        ("target_value", 'f(1, [2, 3], {"k": ")"})'),
    ]


def test_arguments_are_found_by_keyword_or_by_position() -> None:
    call = call_at(CALL, 1, 5)
    assert call is not None
    assert call.argument("value", 0) == call.arguments[0]
    assert call.argument("assertion", 1) == call.arguments[1]
    assert call.argument("missing", 1) is None
    assert call.argument("missing", 9) is None


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ('cfg["image"]["tag"].x + 1', 1, 'cfg["image"]["tag"].x'),
        ("plan.verify(1)", 12, "plan.verify"),
        ("plan.verify(1)", 1, "plan.verify"),
        ('fail("no, (way")', 6, '"no, (way"'),
        ("x = [1, (2)] + 3", 5, "[1, (2)]"),
        ("x + 17.5", 5, "17.5"),
        ("x + y", 3, "+"),
        ("größe.länge", 1, "größe.länge"),
        ("a[b", 1, "a"),
    ],
)
def test_what_to_underline(text: str, column: int, expected: str) -> None:
    span = expression_at(text, 1, column)
    assert span is not None
    assert text[span.start : span.end] == expected


@pytest.mark.parametrize(("line", "column"), [(0, 1), (1, 0), (9, 1), (1, 99), (1, 2)])
def test_places_where_nothing_stands(line: int, column: int) -> None:
    assert expression_at("a b", line, column) is None
    assert call_at("a b", line, column) is None


def test_an_unclosed_call_is_no_call() -> None:
    assert call_at("plan.verify(1, [2)", 1, 1) is None


@given(text=st.text("ab.()[]{}\"'#=,\\\n \té日", max_size=60), line=st.integers(0, 5), column=st.integers(0, 30))
def test_any_text_is_survived(text: str, line: int, column: int) -> None:
    span = expression_at(text, line, column)
    assert span is None or 0 <= span.start < span.end <= len(text)
    call = call_at(text, line, column)
    assert call is None or text[call.whole.end - 1] == ")"
