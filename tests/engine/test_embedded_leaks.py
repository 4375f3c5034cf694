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


def kill(name: str, seconds: float) -> dict:
    """Kill a session that long after it began."""
    command = [sys.executable, str(SESSION), name, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_a_killed_session_leaves_nothing():
    names = [f"killed-{os.getpid()}-{number}" for number in range(KILLS)]
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(kill, names, [random.uniform(0, LONGEST_LIFE) for _ in names]))
    assert all(each["killed"] for each in told), told
    assert {name: each["left"] for name, each in zip(names, told, strict=True) if each["left"]} == {}
    # The moments are of all kinds: before there is an enclave, and when there is much in it.
    assert len({len(each["told"]) for each in told}) > 3
