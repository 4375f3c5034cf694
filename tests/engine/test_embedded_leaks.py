"""Nothing is left behind, whenever the test process is killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SESSION = Path(__file__).with_name("killed_session.py")

KILLS = 100

LONGEST_LIFE = 0.8
"""Seconds: by then a session has opened an enclave, started services, and forked it."""


SHARED = 8
"""Sessions with a worker, of which either the worker is killed first or the session."""


def kill(name: str, seconds: float, *first: str) -> dict:
    """Kill a session that long after it began."""
    command = [sys.executable, str(SESSION), name, str(seconds), *first]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_a_killed_session_leaves_nothing():
    names = [f"killed-{os.getpid()}-{number}" for number in range(KILLS)]
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(kill, names, [random.uniform(0, LONGEST_LIFE) for _ in names]))
    assert [each["ended by itself"] for each in told if each["ended by itself"] is not None] == []
    assert {name: each["left"] for name, each in zip(names, told, strict=True) if each["left"]} == {}
    # The moments are of all kinds: before there is an enclave, and when there is much in it.
    assert len({len(each["told"]) for each in told}) > 3


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", ["worker", "session"])
def test_an_enclave_goes_on_as_long_as_its_session_or_a_worker_does(first: str):
    names = [f"shared-{first}-{os.getpid()}-{number}" for number in range(SHARED)]
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(kill, names, [random.uniform(0, LONGEST_LIFE) for _ in names], [first] * SHARED))
    assert [each["ended by itself"] for each in told if each["ended by itself"] is not None] == []
    assert [each["survived"] for each in told if not each["survived"]] == []
    assert {name: each["left"] for name, each in zip(names, told, strict=True) if each["left"]} == {}
