"""What `plan.assert`, `plan.wait` and ready conditions compare, and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan.comparison import ASSERTIONS, ComparisonError, equal, holds
from pytest_enclave.plan.values import Struct, Value

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda fields: Struct("struct", fields))
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "assertion", "target"),
    [
        (1, "<", 5),
        (1, "<=", 1),
        (5, ">", 1),
        (5, ">=", 5),
        (1.5, "<", 2.5),
        ("a", "<", "b"),
        ("10", "<", "9"),
        (False, "<", True),
        ([1, 2], "<", [1, 3]),
        ((1,), "<", (1, 0)),
        ("Hello", "==", "Hello"),
        ("Hello", "!=", "World"),
        ({"a": 1}, "==", {"a": 1}),
        (Struct("struct", {"a": 1}), "==", Struct("struct", {"a": 1})),
        ("Hello", "IN", ["World", "Hello"]),
        ("Hello", "NOT_IN", ["World"]),
        ([1], "IN", [[1], [2]]),
        ("key", "IN", {"key": 0}),
        ("x", "IN", ("x",)),
    ],
)
def test_comparisons_that_hold(value: Value, assertion: str, target: Value):
    assert holds(value, assertion, target)


@pytest.mark.parametrize(
    ("value", "assertion", "target"),
    [
        (1, ">", 5),
        ("Hello", "==", "World"),
        ("Hello", "!=", "Hello"),
        ("Hello", "IN", ["World"]),
        ("Hello", "NOT_IN", ["Hello"]),
        ("200", "IN", [200]),
        (1, "IN", [True, 1.0]),
        ([1], "==", [1.0]),
    ],
)
def test_comparisons_that_do_not_hold(value: Value, assertion: str, target: Value):
    assert not holds(value, assertion, target)


@pytest.mark.parametrize(
    ("value", "assertion", "target", "reason"),
    [
        ("0", "==", 0, '"0" is a string and 0 an int: values of different types are never compared'),
        (1, "<", 1.0, "1 is an int and 1.0 a float: values of different types are never compared"),
        (True, "==", 1, "True is a bool and 1 an int: values of different types are never compared"),
        ({}, "<", {}, "values of type dict have no order, so `<` cannot be asked"),
        ([1], "<", ["a"], 'the items of [1] and ["a"] have no common order'),
        ("a", "IN", "abc", '`IN` and `NOT_IN` need a list, not "abc" (string)'),
    ],
)
def test_questions_that_cannot_be_asked(value: Value, assertion: str, target: Value, reason: str):
    with pytest.raises(ComparisonError) as caught:
        holds(value, assertion, target)
    assert str(caught.value) == reason


def test_there_are_eight_assertions():
    assert ASSERTIONS == ("==", "!=", ">=", "<=", ">", "<", "IN", "NOT_IN")


@given(values)
def test_everything_equals_itself_and_is_in_a_list_of_itself(value: Value):
    assert equal(value, value)
    assert holds(value, "IN", [value])


@given(values, values)
def test_equality_does_not_depend_on_the_side_and_unequal_is_its_opposite(left: Value, right: Value):
    assert equal(left, right) == equal(right, left)
    assert holds(left, "IN", [right]) != holds(left, "NOT_IN", [right])


@given(st.integers(), st.integers())
def test_orderings_of_integers_are_those_of_numbers(left: int, right: int):
    assert holds(left, "<", right) == (left < right)
    assert holds(left, ">=", right) == (left >= right)
