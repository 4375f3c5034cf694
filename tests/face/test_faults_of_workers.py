"""Faults in enclaves that several workers of pytest-xdist share: no test meets those of another, killed or not."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.face.conftest import WritePackage

CONFTEST = """
import json, os, pathlib, pytest

HERE = pathlib.Path(__file__).parent

def pytest_enclave_instruction(enclave, step):
    with open(HERE / "told", "a") as file:
        file.write(json.dumps({"what": step.name, "outcome": str(step.outcome)}) + "\\n")

def is_whole(enclave):
    site = enclave._state.site
    return not site.shaped() and {fact.status.value for fact in site.observe().values()} == {"running"}

@pytest.fixture
def whole():
    return is_whole
"""


@pytest.fixture
def shop(package: WritePackage, pytester: pytest.Pytester, on_engine: str) -> Path:
    """Two services, and a way to ask whether all is well with them."""
    image = "host:/" if "embedded" in on_engine else "enclave-test/busybox:local"
    pytester.makeconftest(CONFTEST)
    return package(
        "shop",
        f"""
        for name in ["db", "api"]:
            plan.add_service(name, ServiceConfig("{image}", cmd = ["sleep", "1000"]))
        """,
    )


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest; no enclave stays."""
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-keep=never", *arguments)


def told(pytester: pytest.Pytester) -> list[dict[str, Any]]:
    """What ran, in all processes, that was not skipped."""
    lines = map(json.loads, (pytester.path / "told").read_text().splitlines())
    return [line for line in lines if line["outcome"] != "skipped"]


@pytest.mark.usefixtures("shop")
def test_no_test_meets_the_faults_of_another(pytester: pytest.Pytester, on_engine: str):
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import time, pytest

            @pytest.mark.parametrize("n", range(12))
            def test_of_one_who_looks(enclave, whole, n):
                for _ in range(10):
                    assert whole(enclave)
                    time.sleep(0.01)

            @pytest.mark.parametrize("n", range(6))
            def test_of_one_who_breaks(enclave, whole, n):
                assert whole(enclave)
                with enclave.network.block("db", "api"), enclave.services["db"].paused():
                    assert len(enclave._state.site.shaped()) == 2
                    time.sleep(0.03)
                    enclave.run()
                assert whole(enclave)

            @pytest.mark.enclave_faults("kill:db", "loss:api>db:50%")
            def test_of_a_marker(enclave, whole, enclave_fault):
                assert whole(enclave) is (not enclave_fault)
                time.sleep(0.03)
            """
        }
    )
    run(pytester, on_engine, "-n3").assert_outcomes(passed=21)


KILLED = """
import os, signal, time, pytest

def break_and_die(enclave):
    enclave.network.block("db", "api")
    enclave.services["db"].stopped()
    enclave.services["api"].paused()
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.fixture(scope="session")
def of_a_fixture(enclave_factory):
    return enclave_factory(".")
"""


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("fixture", ["enclave", "of_a_fixture"])
def test_the_faults_of_a_test_that_was_killed_are_healed_for_the_next_one(
    pytester: pytest.Pytester, on_engine: str, fixture: str
):
    body = f"""
@pytest.mark.parametrize("n", range(24))
def test_it({fixture}, whole, n):
    if n == 5:
        break_and_die({fixture})
    assert whole({fixture})
    time.sleep(0.05)
"""
    (pytester.path / "shop/test_it.py").write_text(KILLED + body)
    result = run(pytester, on_engine, "-n3")
    result.assert_outcomes(passed=23, failed=1)
    assert [line["what"] for line in told(pytester)] == ["add_service", "add_service"], "nothing was made again"


@pytest.mark.usefixtures("shop")
def test_the_next_session_finds_a_kept_enclave_without_the_faults_of_a_session_that_was_killed(
    pytester: pytest.Pytester, on_engine: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    body = """
def test_it(enclave, whole):
    assert whole(enclave)
    if os.environ.get("DIE"):
        break_and_die(enclave)
"""
    (pytester.path / "shop/test_it.py").write_text(KILLED + body)
    arguments = ("-p", "no:cacheprovider", "--enclave-keep=always", on_engine)
    try:
        pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)
        with monkeypatch.context() as patch:
            patch.setenv("DIE", "1")
            assert pytester.runpytest_subprocess(*arguments).ret == -signal.SIGKILL
        pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)
    finally:
        pytester.runpytest_subprocess("--enclave-clean=all", on_engine)
