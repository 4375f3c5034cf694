"""The canonical string of a call: equal for equal calls, whatever does not belong to them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan import checks
from pytest_enclave.plan.canonical import call_text, without_descriptions
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Struct, Value, to_canonical
from tests.laboratory import Laboratory

PARAMETERS = (
    Parameter("first", checks.ANY),
    Parameter("second", checks.ANY),
    Parameter("aside", checks.ANY, identity=False),
)
PORT = Struct("PortSpec", {"number": 80, "description": "the front door"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        ('a "b"\n', r'"a \"b\"\n"'),
        (42, "42"),
        (10**20, "100000000000000000000"),
        (1.0, "1.0"),
        ([1, "a"], '[1, "a"]'),
        ((1,), "(1,)"),
        ((1, 2), "(1, 2)"),
        ({"b": 1, "a": {"d": 1, "c": 2}}, '{"a": {"c": 2, "d": 1}, "b": 1}'),
        (Struct("struct", {"b": 1, "a": 2}), "struct(a=2, b=1)"),
        (Struct("PortSpec", {"number": 1, "wait": None}), "PortSpec(number=1, wait=None)"),
    ],
)
def test_row_85_canonical_text_of_values(value: Value, text: str):
    assert to_canonical(value) == text


def test_arguments_come_in_declared_order_and_only_those_of_the_identity():
    text = call_text("f", PARAMETERS, {"aside": 1, "second": [2], "first": "a"})
    assert text == 'f(first="a", second=[2])'


def test_descriptions_of_typed_values_are_left_out_at_any_depth():
    nested = {"ports": [PORT, (PORT,)], "config": Struct("ServiceConfig", {"ports": {"http": PORT}})}
    assert "front door" not in to_canonical(without_descriptions(nested))


def test_the_description_of_a_plain_struct_is_data():
    data = Struct("struct", {"description": "data"})
    assert without_descriptions(data) == data


def test_a_description_is_no_part_of_an_instructions_identity(lab: Laboratory):
    lab.ok('plan.add_service("a", ServiceConfig(image = "img", description = "one"), description = "two")')
    again = 'plan.add_service("a", ServiceConfig(image = "img"), description = "three")'
    assert lab.outcomes(again) == ["skipped"]


def test_the_order_of_dict_entries_is_no_part_of_an_instructions_identity(lab: Laboratory):
    lab.ok('plan.add_service("a", ServiceConfig(image = "img", env_vars = {"A": "1", "B": "2"}))')
    assert lab.outcomes('plan.add_service("a", ServiceConfig(env_vars = {"B": "2", "A": "1"}, image = "img"))') == [
        "skipped"
    ]


def test_assert_and_verify_are_the_same_instruction(lab: Laboratory):
    lab.ok('plan.assert("1", "==", "1")')
    assert lab.outcomes('plan.verify("1", "==", "1")') == ["skipped"]


@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=5), st.randoms(use_true_random=False))
def test_entries_in_any_order_have_one_text(entries: dict[str, int], shuffle: random.Random):
    names = list(entries)
    shuffle.shuffle(names)
    assert to_canonical({name: entries[name] for name in names}) == to_canonical(entries)


@given(st.text(), st.text())
def test_different_texts_never_look_the_same(left: str, right: str):
    assert (to_canonical(left) == to_canonical(right)) == (left == right)
