from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

import pytest

from tests.linux.child import NOBODY, interpreter_for, run_inside, user_with_range


def pytest_ignore_collect() -> bool | None:
    return None if sys.platform == "linux" else True


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def plain_user() -> int:
    """A user who is not root."""
    if os.geteuid() != 0:
        return os.geteuid()
    if interpreter_for(NOBODY) is None:
        pytest.skip("this interpreter or the code cannot be read by a plain user")
    return NOBODY


@pytest.fixture
def user_of_range() -> int:
    """A user who is not root, with a range of ids."""
    uid = user_with_range()
    if uid is None or interpreter_for(uid) is None:
        pytest.skip("needs a plain user with a range in /etc/subuid, and newuidmap")
    return uid


@pytest.fixture(params=["root", "range", "single"])
def inside(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Runs code as root of a user namespace, of each kind that can be had here."""
    kind = request.param
    if kind == "root":
        request.getfixturevalue("as_root")
        return partial(run_inside, kind, uid=None)
    uid = request.getfixturevalue("user_of_range" if kind == "range" else "plain_user")
    return partial(run_inside, kind, uid=uid)
