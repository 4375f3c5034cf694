"""xdist workers whose controller is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_enclave.face.orphaned import GRACE, LOOK
from pytest_enclave.ledger.ledger import Ledger

PACKAGE = """
def run(plan):
    plan.add_service("db", ServiceConfig("{image}", cmd = ["sleep", "1000"]))
"""

TESTS = """
import os, pathlib, time
import pytest

@pytest.mark.parametrize("number", range(2))
def test_it(enclave, number):
    pathlib.Path(f"begun-{os.getpid()}").touch()
    time.sleep(60)
    pathlib.Path("ended").touch()

@pytest.mark.enclave(isolate=True)
def test_other(enclave):
    pathlib.Path(f"begun-{os.getpid()}").touch()
    time.sleep(60)
"""

SOON = LOOK + GRACE + 4.0
"""Seconds; by itself it takes a worker more than 15."""


def test_they_end_soon_and_leave_nothing_behind(tmp_path: Path, on_engine: str) -> None:
    image = "host:/" if "embedded" in on_engine else "enclave-test/busybox:local"
    (tmp_path / "kurtosis.yml").write_text("name: github.com/face/shop\n")
    (tmp_path / "main.star").write_text(PACKAGE.format(image=image))
    (tmp_path / "test_it.py").write_text(TESTS)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", on_engine, "-n3", "--enclave-keep=on-failure"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as controller:
        until(lambda: len(workers(tmp_path)) == 3, 60)
        controller.kill()
        until(lambda: not any(map(is_there, workers(tmp_path))), SOON)
    assert not (tmp_path / "ended").exists()
    ledger = Ledger(tmp_path / "state/pytest-enclave")
    until(lambda: ledger.entries() == [], 15)


def test_nobody_looks_any_more_when_the_worker_is_over(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import threading
        import time
        from pytest_enclave.face.orphaned import LOOK, Watch

        def test_it():
            looks = []
            watch = Watch(lambda: looks.append(1) or True)
            watch.end()
            (thread,) = [each for each in threading.enumerate() if each.name == "enclave-controller"]
            thread.join(5)
            assert not thread.is_alive()
            assert len(looks) == 1
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_without_xdist_nobody_looks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import threading
        from pytest_enclave import Source

        def test_it(enclave_factory):
            enclave_factory(Source("def run(plan): pass"))
            assert "enclave-controller" not in [each.name for each in threading.enumerate()]
        """
    )
    pytester.runpytest_subprocess("--enclave-engine=simulated").assert_outcomes(passed=1)
    assert "enclave-controller" not in [each.name for each in threading.enumerate()]


def workers(path: Path) -> list[int]:
    return [int(each.name.partition("-")[2]) for each in path.glob("begun-*")]


def is_there(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
