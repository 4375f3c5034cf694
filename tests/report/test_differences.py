"""Where two values begin to differ."""

from __future__ import annotations

import pytest

from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.report.differences import MISSING, first_difference


def port(number: int, **more: Value) -> Struct:
    return Struct("PortSpec", {"number": number, **more})


def config(image: str = "i", **more: Value) -> Struct:
    return Struct("ServiceConfig", {"image": image, **more})


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


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (
            {"http": port(80, transport_protocol="TCP")},
            {"http": port(81)},
            ('["http"].number', 80, 81),
        ),
        (port(80), port(81, transport_protocol="TCP", wait="2m"), (".number", 80, 81)),
        (port(80, transport_protocol="UDP"), port(80), (".transport_protocol", "UDP", "TCP")),
        (config("a", ports={}, cmd=[]), config("b"), (".image", "a", "b")),
        (config(cmd=["a"], tty_enabled=False), config(cmd=["b"]), (".cmd[0]", "a", "b")),
        (config(max_cpu=5, cpu_allocation=5, cmd=["a"]), config(cpu_allocation=5, cmd=["b"]), (".cmd[0]", "a", "b")),
        (config(ports={"p": port(1)}), config(), ('.ports["p"]', port(1), MISSING)),
        (config(), config(env_vars={"A": "b"}), ('.env_vars["A"]', MISSING, "b")),
        (config(files={"/a": "x"}), config(files={"/a": "y"}), ('.files["/a"]', "x", "y")),
        (
            config(files={"/a": "x", "/b": "y"}),
            config(files={"/a": Struct("Directory", {"artifact_names": ["x"]}), "/b": "z"}),
            ('.files["/b"].artifact_names[0]', "y", "z"),
        ),
        (config(ports={"p": port(1)}), config(ports={"p": port(2)}), ('.ports["p"].number', 1, 2)),
        (Struct("future", {"a": 1}), Struct("future", {"b": 1}), (".a", 1, MISSING)),
        (Struct("future", {}), Struct("future", {"b": 1}), (".b", MISSING, 1)),
    ],
)
def test_fields_that_were_not_given_are_their_defaults(value: Value, target: Value, expected: object) -> None:
    assert first_difference(value, target) == expected


@pytest.mark.parametrize(("value", "target"), [(1, 2), ("a", "b"), ([1], [1, 2]), ([], {}), ([1], [1])])
def test_where_there_is_nothing_to_go_into_there_is_none(value: Value, target: Value) -> None:
    assert first_difference(value, target) is None
