"""The configuration that a base image brings along, which anybody may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_enclave.images.dockerfile.configuration import Configuration, inner_of
from pytest_enclave.images.faults import ImageFault


@pytest.mark.parametrize("document", [{}, {"config": None}, {"config": {}}, {"config": {"Env": None}}])
def test_an_image_may_have_no_configuration(document: dict[str, Any]):
    data = json.dumps(document).encode()
    assert not any(inner_of(data).values())
    assert Configuration(data, {}, {}, "\\").environment == {}


@pytest.mark.parametrize("document", [[], "x", {"config": ["x"]}, {"config": "x"}])
def test_a_configuration_that_is_no_object_is_told(document: Any):
    with pytest.raises(ImageFault, match="the image's configuration has no object `config`"):
        inner_of(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [("Env", "A=1"), ("Env", [1]), ("Env", {"A": "1"}), ("Cmd", "sh"), ("Labels", ["x"]), ("Volumes", 1), ("Shell", 1)],
)
def test_values_that_images_do_not_have_are_told(name: str, value: Any):
    with pytest.raises(ImageFault, match=f"`{name}` in the image's configuration is not what images have there"):
        inner_of(json.dumps({"config": {name: value}}).encode())


def test_everything_else_is_as_it_is():
    inner = {"Env": ["A=1"], "Labels": {"a": "b"}, "User": "ann", "Cmd": ["sh"], "OnBuild": None}
    assert inner_of(json.dumps({"config": inner}).encode()) == inner
