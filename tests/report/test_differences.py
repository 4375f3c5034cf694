"""Where two values begin to differ."""

from __future__ import annotations

import pytest

from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.report.differences import MISSING, first_difference


def port(number: int) -> Struct:
    return Struct("PortSpec", {"number": number})


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        ([1, 2], [1, 3], ("[1]", 2, 3)),
        ({"a": [1]}, {"a": [2]}, ('["a"][0]', 1, 2)),
        ({"http": port(80)}, {"http": port(81)}, ('["http"].number', 80, 81)),
        ([True], [1], ("[0]", True, 1)),
        ([{"a": 1}], [{}], ('[0]["a"]', 1, MISSING)),
        ([{}], [{"a": 1}], ('[0]["a"]', MISSING, 1)),
        ([[1, 2]], [[1]], ("[0]", [1, 2], [1])),
        ([port(1)], [Struct("struct", {"number": 1})], ("[0]", port(1), Struct("struct", {"number": 1}))),
    ],
)
def test_the_first_difference_is_found(value: Value, target: Value, expected: object) -> None:
    assert first_difference(value, target) == expected


@pytest.mark.parametrize(("value", "target"), [(1, 2), ("a", "b"), ([1], [1, 2]), ([], {}), ([1], [1])])
def test_where_there_is_nothing_to_go_into_there_is_none(value: Value, target: Value) -> None:
    assert first_difference(value, target) is None
