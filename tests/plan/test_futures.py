"""Future references: found in texts, and replaced by what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan.futures import (
    Future,
    UnknownFuture,
    Values,
    find,
    look_up,
    producer_of_call,
    producer_of_service,
    substitute_deep,
    substitute_text,
    substitute_typed,
)
from pytest_enclave.plan.values import Struct

PRODUCER = "0123456789abcdef" * 2
CODE, OUTPUT, LIST = (Future(PRODUCER, field) for field in ("code", "output", "extract.my-list_1"))
VALUES: Values = {PRODUCER: {"code": 200, "output": "hello\n", "extract.my-list_1": [1, "a", True]}}


def test_a_reference_is_written_as_packages_know_it():
    assert str(CODE) == "{{kurtosis:0123456789abcdef0123456789abcdef:code.runtime_value}}"


def test_row_88_one_reference_in_a_text_is_replaced():
    assert substitute_text(f"<{OUTPUT}>", VALUES) == "<hello\n>"


def test_row_89_a_text_that_is_one_reference_becomes_the_typed_value():
    assert substitute_typed(str(CODE), VALUES) == 200
    assert substitute_typed(str(LIST), VALUES) == [1, "a", True]


def test_row_90_a_reference_with_text_around_it_becomes_text():
    assert substitute_typed(f"{CODE} ", VALUES) == "200 "


def test_row_91_two_references_in_a_text_are_both_replaced():
    assert substitute_text(f"{CODE}{CODE}, {LIST}", VALUES) == '200200, [1, "a", True]'


@pytest.mark.parametrize(
    "future", [Future("f" * 32, "code"), Future(PRODUCER, "body")], ids=["row-92-unset-producer", "row-92-no-field"]
)
def test_what_nothing_produced_is_an_error(future: Future):
    with pytest.raises(UnknownFuture) as caught:
        look_up(future, VALUES)
    assert str(caught.value) == (
        f"the value `{future.field}` it refers to does not exist: "
        "the instruction that produces it did not run in this enclave"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{kurtosis:db.ip_address}}",
        "{{kurtosis:0123:code.runtime_value}}",
        "{{kurtosis:" + "G" * 32 + ":code.runtime_value}}",
        "{{kurtosis:" + PRODUCER + ":my field.runtime_value}}",
        "{kurtosis:" + PRODUCER + ":code.runtime_value}",
    ],
)
def test_what_only_looks_like_a_reference_stays(text: str):
    assert substitute_typed(text, VALUES) == text
    assert list(find(text)) == []


def test_references_are_found_everywhere_in_a_value_in_reading_order():
    value = [str(CODE), {"a": (f"x{OUTPUT}y",), str(LIST): 1}, Struct("struct", {"b": [str(CODE)]})]
    assert list(find(value)) == [CODE, OUTPUT, LIST, CODE]


def test_texts_inside_a_value_are_replaced_textually_and_dict_keys_only_if_asked_for():
    assert substitute_deep([{str(CODE): str(CODE)}], VALUES, keys=True) == [{"200": "200"}]
    value = {str(CODE): [str(CODE), (f"{CODE}!",)], "s": Struct("struct", {"n": 1, "t": str(CODE)})}
    assert substitute_deep(value, VALUES) == {
        str(CODE): ["200", ("200!",)],
        "s": Struct("struct", {"n": 1, "t": "200"}),
    }


def test_a_value_that_reads_like_a_reference_is_not_replaced_again():
    assert substitute_text(str(OUTPUT), {PRODUCER: {"output": str(CODE), "code": 1}}) == str(CODE)


def test_producers_are_told_apart_by_service_call_and_ordinal():
    producers = {
        producer_of_service("a"),
        producer_of_service("b"),
        producer_of_call("a", 0),
        producer_of_call("a", 1),
        producer_of_call("b", 0),
    }
    assert len(producers) == 5
    assert producer_of_call("a", 0) == producer_of_call("a", 0)


@given(st.text(), st.text(), st.text())
def test_the_text_around_references_stays_as_it_is(before: str, between: str, after: str):
    text = f"{before}{CODE}{between}{OUTPUT}{after}"
    assert substitute_text(text, VALUES) == f"{before}200{between}hello\n{after}"
