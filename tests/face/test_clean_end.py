"""However a session on a real engine ends, nothing of it is left, and its exit code tells how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.face.ending import Ending

SERVICE = """\
plan.add_service(
    name = "db",
    config = ServiceConfig(image = "enclave-test/redis:local", ports = {"redis": PortSpec(number = 6379)}),
)
plan.exec(service_name = "db", recipe = ExecRecipe(command = ["echo", "{}"], extract = {"all": "."}))
"""
ENDLESS = "for _ in range(1 << 30):\n    pass\n"
DEAF = """\
plan.add_service(
    name = "deaf",
    config = ServiceConfig(image = "enclave-test/redis:local", ports = {"redis": PortSpec(number = 1, wait = "60s")}),
)
"""
WAIT = SERVICE + (
    'plan.wait("db", ExecRecipe(command = ["sh", "-c", "sleep 0.3; false"]), "code", "==", 0, timeout = "60s")\n'
)
EXEC = SERVICE + 'plan.exec(service_name = "db", recipe = ExecRecipe(command = ["sleep", "60"]))\n'

PASSING = """\
def test_it(enclave):
    assert enclave.services["db"].exec(["redis-cli", "ping"]).output == "PONG\\n"
"""
FAILING = "def test_it(enclave):\n    assert 0\n\ndef test_other(enclave):\n    assert 0\n"
IN_BODY = """\
import time
from pathlib import Path

def test_it(enclave):
    Path("sign").touch()
    time.sleep(60)
"""
IN_TEARDOWN = """\
import time
from pathlib import Path

def pytest_enclave_teardown(enclave):
    Path("sign").touch()
    time.sleep(0.5)
"""

PHASES = {
    "network creation": (SERVICE, PASSING, "", "directory"),
    "interpretation": (ENDLESS, PASSING, "", "journal"),
    "service start": (SERVICE, PASSING, "", "container"),
    "port wait": (DEAF, PASSING, "", "running"),
    "plan.wait": (WAIT, PASSING, "", "sleep 0.3"),
    "exec": (EXEC, PASSING, "", "sleep 60"),
    "test body": (SERVICE, IN_BODY, "", "file"),
    "teardown": (SERVICE, PASSING, IN_TEARDOWN, "file"),
}


@pytest.fixture
def ending(tmp_path: Path, docker_host: str) -> Iterator[Ending]:
    """A session to come."""
    engine = docker.APIClient(docker_host, version="auto")
    session = Ending(tmp_path, engine)
    yield session
    session.kill()
    engine.close()


@pytest.mark.parametrize(
    ("tests", "arguments", "code"),
    [(PASSING, (), 0), (FAILING, (), 1), (FAILING, ("-x",), 1), (PASSING, ("--enclave-no-cache",), 0)],
)
def test_an_ordinary_end_leaves_nothing(ending: Ending, tests: str, arguments: tuple[str, ...], code: int) -> None:
    ending.write(SERVICE, tests)
    ending.start(*arguments)
    assert ending.code() == code
    assert ending.left() == []


def test_a_run_that_fails_half_way_leaves_nothing(ending: Ending) -> None:
    ending.write(f'{SERVICE}fail_later = plan.verify(value = "a", assertion = "==", target_value = "b")\n', PASSING)
    ending.start()
    assert ending.code() == 1
    assert ending.left() == []


@pytest.mark.parametrize(("signals", "code"), [("INT", 2), ("TERM", 143)])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_the_session_in_order(ending: Ending, phase: str, signals: str, code: int) -> None:
    body, tests, conftest, sign = PHASES[phase]
    ending.write(body, tests, conftest)
    ending.start()
    ending.await_sign(sign)
    ending.send(signals)
    assert (ending.code(), ending.left()) == (code, []), ending.output


@pytest.mark.parametrize("phase", ["interpretation", "service start", "test body", "teardown"])
def test_a_second_ctrl_c_changes_nothing(ending: Ending, phase: str) -> None:
    body, tests, conftest, sign = PHASES[phase]
    ending.write(body, tests, conftest)
    ending.start()
    ending.await_sign(sign)
    ending.send("INT")
    ending.send("INT")
    assert (ending.code(), ending.left()) == (2, []), ending.output
