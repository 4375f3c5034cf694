"""`plan.assert` / `plan.verify`, on texts and on the values that other instructions give."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import HttpResponse
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import InterpretationError, VerifyFailed
from tests.laboratory import Laboratory

ASKED = """
plan.add_service("api", ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80)}))
recipe = GetHttpRequestRecipe(port_id = "http", endpoint = "/", extract = {"n": ".n", "s": ".s"})
response = plan.request("api", recipe)
code, n, s = response["code"], response["extract.n"], response["extract.s"]
"""


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """A service that answers with code 200."""
    return laboratory(Script().on_request("api", None, HttpResponse(200, {}, b'{"n": 3, "s": "text"}')))


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param('"My test returned " + code, "==", "My test returned 200"', id="row-93"),
        pytest.param('code, "==", 200', id="row-94-equal"),
        pytest.param('code, "!=", 500', id="row-94-unequal"),
        pytest.param('code, ">=", 200', id="row-94-at-least"),
        pytest.param('code, "<=", 200', id="row-94-at-most"),
        pytest.param('code, "<", 300', id="row-94-less"),
        pytest.param('code, ">", 100', id="row-94-more"),
        pytest.param('code, "IN", [100, 200]', id="row-95-in"),
        pytest.param('code, "NOT_IN", [100, 300]', id="row-95-not-in"),
        pytest.param('code, "==", code', id="row-96"),
        pytest.param('n, "<", 5', id="row-99-less"),
        pytest.param('"Hello", "IN", ["Hello", "World"]', id="row-100-in"),
        pytest.param('"Hello", "NOT_IN", ["World"]', id="row-100-not-in"),
        pytest.param('value = s, assertion = "==", target_value = "text"', id="keywords"),
    ],
)
def test_what_holds_passes(lab: Laboratory, claim: str):
    assert lab.ok(ASKED + f"plan.verify({claim})").instructions[-1].message.endswith(" holds")


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        pytest.param('"Hello", "==", "World"', '"Hello" == "World" does not hold', id="row-98"),
        pytest.param('code, "!=", 200', "200 != 200 does not hold", id="row-97"),
        pytest.param('n, ">", 5', "3 > 5 does not hold", id="row-99-more"),
        pytest.param('"Hello", "IN", ["World"]', '"Hello" IN ["World"] does not hold', id="row-100-absent"),
        pytest.param('"Hello", "NOT_IN", ["Hello"]', '"Hello" NOT_IN ["Hello"] does not hold', id="row-100-present"),
        pytest.param(
            '"0", "==", 0',
            '"0" is a string and 0 an int: values of different types are never compared',
            id="row-102",
        ),
        pytest.param(
            'code, "==", "200"',
            '200 is an int and "200" a string: values of different types are never compared',
            id="row-102-code",
        ),
    ],
)
def test_what_does_not_hold_fails_with_both_values(lab: Laboratory, claim: str, message: str):
    error = lab.error(ASKED + f"plan.assert({claim})")
    assert type(error) is VerifyFailed
    assert isinstance(error, AssertionError)
    assert error.message == f"verify failed: {message}"
    assert str(error.location) == "<source>:6:16"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        pytest.param(
            '"a", "=", "b"',
            '`assertion` must be one of "==", "!=", ">=", "<=", ">", "<", "IN", "NOT_IN", not "=" (string)',
            id="row-101",
        ),
        pytest.param('0, "==", 0', "`value` must be a string, not 0 (int)", id="row-103"),
        pytest.param(
            '"a", "IN", "abc"', '`target_value` must be a list for `IN`, not "abc" (string)', id="row-104-string"
        ),
        pytest.param('"a", "NOT_IN", 1', "`target_value` must be a list for `NOT_IN`, not 1 (int)", id="row-104-int"),
        pytest.param(
            '"a", "==", None', "`target_value` must be a value that can be compared, not None", id="no-target"
        ),
    ],
)
def test_what_makes_no_sense_is_refused_while_the_package_is_read(lab: Laboratory, claim: str, message: str):
    error = lab.error(f"plan.verify({claim})")
    assert type(error) is InterpretationError
    assert error.message == f"verify: {message}"


def test_a_failure_tells_where_its_values_came_from(lab: Laboratory):
    error = lab.error(ASKED + 'plan.verify(code, "==", 500)')
    assert [(origin.field, origin.value, origin.step.name) for origin in error.origins] == [("code", 200, "request")]
    assert (error.value, error.assertion, error.target) == (200, "==", 500)


def test_long_values_are_clipped_in_messages_and_whole_in_the_error(lab: Laboratory):
    error = lab.error(f'plan.verify("{"x" * 5000}", "==", "{"y" * 5000}")')
    assert error.message == (
        f'verify failed: "{"x" * 199}… (5002 characters) == "{"y" * 199}… (5002 characters) does not hold'
    )
    assert (error.value, error.target) == ("x" * 5000, "y" * 5000)
    mixed = lab.error(ASKED + f'plan.verify(code, "==", "{"y" * 5000}")')
    assert mixed.message == (
        f'verify failed: 200 is an int and "{"y" * 199}… (5002 characters) a string: '
        "values of different types are never compared"
    )
