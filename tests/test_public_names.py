"""What test code imports from the package itself."""

from __future__ import annotations

import pytest

import pytest_enclave


@pytest.mark.parametrize("name", pytest_enclave.__all__)
def test_every_public_name_is_there_and_documented(name: str):
    assert getattr(pytest_enclave, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'pytest_enclave' has no attribute 'Enclve'"):
        pytest_enclave.Enclve  # noqa: B018
