"""Laying arguments over parameters: everything that does not fit is found at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan import checks
from pytest_enclave.plan.parameters import BindingError, Parameter, bind
from pytest_enclave.plan.values import Value

PARAMETERS = (
    Parameter("name", checks.NON_EMPTY_STRING, required=True),
    Parameter("number", checks.integer(), required=True),
    Parameter("codes", checks.list_of(checks.integer()), default=[0]),
)


def findings(*positional: Value, **keywords: Value) -> dict[str, str]:
    with pytest.raises(BindingError) as caught:
        bind("f", PARAMETERS, positional, keywords)
    return caught.value.findings


def test_arguments_come_in_declared_order_and_only_those_that_were_given():
    assert list(bind("f", PARAMETERS, (), {"number": 1, "name": "a"}).items()) == [("name", "a"), ("number", 1)]
    assert bind("f", PARAMETERS, ("a",), {"number": 1, "codes": [1]}) == {"name": "a", "number": 1, "codes": [1]}


def test_a_description_is_accepted_last():
    assert bind("f", PARAMETERS, ("a", 1, [2], "why"), {})["description"] == "why"
    assert findings("a", 1, description="") == {"description": 'must be a non-empty string, not "" (string)'}


def test_what_is_missing_is_named():
    assert findings() == {"name": "is missing", "number": "is missing"}


def test_an_argument_given_twice_is_refused():
    assert findings("a", 1, name="b") == {"name": "was given twice"}


def test_too_many_arguments_are_counted():
    assert findings("a", 1, [2], "d", "e") == {"f": "takes at most 4 arguments, 5 were given"}


def test_an_unknown_argument_comes_with_the_nearest_known_one_or_with_all():
    assert findings("a", 1, code=[2]) == {"code": "is not an argument it takes — did you mean `codes`?"}
    assert findings("a", 1, zzz=2) == {
        "zzz": "is not an argument it takes (it takes `name`, `number`, `codes`, `description`)"
    }


def test_all_findings_come_at_once_each_with_its_path():
    assert findings("", codes=[1, "x"], nubmer=3) == {
        "nubmer": "is not an argument it takes — did you mean `number`?",
        "name": 'must be a non-empty string, not "" (string)',
        "number": "is missing",
        "codes[1]": 'must be an integer, not "x" (string)',
    }


def test_the_error_reads_as_one_line():
    with pytest.raises(BindingError) as caught:
        bind("f", PARAMETERS, (), {"name": ""})
    assert str(caught.value) == 'f: `name` must be a non-empty string, not "" (string); `number` is missing'


def test_none_is_not_the_same_as_not_given():
    assert findings("a", 1, None) == {"codes": "must be a list, each item an integer, not None"}


@given(st.text(min_size=1), st.integers(), st.lists(st.integers()), st.integers(0, 3))
def test_positional_and_keyword_arguments_bind_alike(name: str, number: int, codes: list[int], positional: int):
    given_all = {"name": name, "number": number, "codes": codes}
    first, rest = list(given_all)[:positional], list(given_all)[positional:]
    bound = bind("f", PARAMETERS, [given_all[each] for each in first], {each: given_all[each] for each in rest})
    assert bound == given_all
