"""Canonical texts read back into trees, and where two of them begin to differ."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan.canonical_text import ABSENT, Change, at_path, first_change, parse_canonical
from pytest_enclave.plan.values import Struct, Value, to_canonical

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12) | st.just('a"=(\n,}')
)
CALL = parse_canonical('f(name="db", n=1, c=C(e={"M": "x", "M.N": "y"}, l=[2, 3]))')
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.builds(Struct, st.just("struct") | NAMES, st.dictionaries(NAMES, inner, max_size=3))
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_read_back_has_the_same_text(value: Value):
    text = to_canonical(value)
    assert to_canonical(parse_canonical(text)) == text


@given(PLAIN)
def test_plain_values_come_back_with_their_types(value: Value):
    again = parse_canonical(to_canonical(value))
    assert type(again) is type(value)
    assert to_canonical(again) == to_canonical(value)


def test_a_call_is_a_struct_of_its_arguments():
    call = parse_canonical('add_service(name="db", config=ServiceConfig(image="pg", cmd=["a", "b"], ready=None))')
    config = Struct("ServiceConfig", {"image": "pg", "cmd": ["a", "b"], "ready": None})
    assert call == Struct("add_service", {"name": "db", "config": config})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "not a canonical text from character 1 on: "),
        ("f(x=<function g>)", "not a canonical text from character 5 on: <function g>)"),
        ("f(1)", "not a canonical text from character 3 on: 1)"),
        ('f(x="a" y="b")', 'not a canonical text from character 8 on:  y="b")'),
        ("[1, 2] 3", "not a canonical text from character 7 on:  3"),
        ("{1 2}", "not a canonical text from character 3 on:  2}"),
        ("{[]: 2}", "a key that Python cannot have as one"),
        ("[" * 5000, "nested too deeply to be read"),
    ],
)
def test_what_is_no_canonical_text_says_from_where_on(text: str, where: str):
    with pytest.raises(ValueError, match=f"^{re.escape(where)}$"):
        parse_canonical(text)


def test_a_text_that_ends_within_a_string_is_none():
    with pytest.raises(ValueError, match="Unterminated string"):
        parse_canonical('f(x="a')


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ('f(a="x", b=1)', 'f(a="x", b=2)', Change("b", 1, 2)),
        ("f(a=1)", "f(a=1.0)", Change("a", 1, 1.0)),
        ("f(a=1)", "f(a=True)", Change("a", 1, True)),
        ("f(a=C(e={}))", 'f(a=C(e={"M": "x"}))', Change('a.e["M"]', ABSENT, "x")),
        ('f(a=C(e={"M": "x"}))', "f(a=C(e={}))", Change('a.e["M"]', "x", ABSENT)),
        ("f(a=C(x=1, y=2))", "f(a=C(x=1, y=3))", Change("a.y", 2, 3)),
        ("f(a=[1, 2])", "f(a=[1, 3])", Change("a[1]", 2, 3)),
        ("f(a=[1, 2])", "f(a=[1])", Change("a[1]", 2, ABSENT)),
        ("f(a=(1,))", "f(a=[1])", Change("a", (1,), [1])),
        ("f(a=C(x=1))", "f(a=D(x=1))", Change("a", Struct("C", {"x": 1}), Struct("D", {"x": 1}))),
        ("f(a=1)", "f(a=1, b=None)", Change("b", ABSENT, None)),
    ],
)
def test_the_first_change_is_told_by_its_path(old: str, new: str, change: Change):
    assert first_change(old, new) == change


@pytest.mark.parametrize(
    ("old", "new"),
    [("f(a=1)", "f(a=1)"), ("f(a=1)", "g(a=1)"), ("f(a=<x>)", "f(a=<y>)"), ("f(a=1, b=2)", "f(b=2, a=1)")],
    ids=["equal", "two instructions", "unreadable", "another order"],
)
def test_where_there_is_no_change_to_be_told_there_is_none(old: str, new: str):
    assert first_change(old, new) is None


@pytest.mark.parametrize(
    ("path", "found"), [('c.e["M"]', "x"), ('c.e["M.N"]', "y"), ("c.l[1]", 3), ("name", "db"), ("c.l", [2, 3])]
)
def test_what_is_at_a_path_is_found(path: str, found: Value):
    assert at_path(CALL, path) == found


@pytest.mark.parametrize(("path", "above"), [("c.other", "c"), ('c.e["Q"]', "c.e"), ("c.l[9]", "c.l")])
def test_of_what_is_not_there_the_nearest_place_above_is_found(path: str, above: str):
    assert at_path(CALL, path) == at_path(CALL, above)
