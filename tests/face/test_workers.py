"""Workers of pytest-xdist share enclaves: each is started once, used by all, and removed when the session ends."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.face.conftest import WritePackage

CONFTEST = """
import json, os, pathlib, pytest

HERE = pathlib.Path(__file__).parent

def note(kind, **facts):
    line = json.dumps({"kind": kind, "worker": os.environ.get("PYTEST_XDIST_WORKER", "main"), **facts})
    with open(HERE / "told", "a") as file:
        file.write(line + "\\n")

def pytest_enclave_instruction(enclave, step):
    note(str(step.outcome), enclave=enclave.name, what=step.name)

def pytest_enclave_teardown(enclave):
    note("teardown", enclave=enclave.name)

@pytest.fixture
def seen(enclave, request):
    addresses = {name: service.ip_address for name, service in enclave.services.items()}
    note("test", enclave=enclave.name, test=request.node.name, services=addresses)
    return enclave
"""


class Told:
    """What happened in a session, by all its processes."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "told"

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What is of a kind."""
        lines = map(json.loads, self._path.read_text().splitlines())
        return [line for line in lines if line["kind"] == kind]

    def enclaves(self, kind: str = "test") -> set[str]:
        """Their names."""
        return {line["enclave"] for line in self.of(kind)}


@pytest.fixture
def told(pytester: pytest.Pytester) -> Told:
    """Have it written down."""
    pytester.makeconftest(CONFTEST)
    return Told(pytester.path)


@pytest.fixture
def ledger(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where enclaves are recorded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    return pytester.path / "state/pytest-enclave/enclaves"


@pytest.fixture
def token() -> str:
    """What the processes of all services have in their command lines."""
    return f"token-{secrets.token_hex(8)}"


def left(token: str, ledger: Path) -> list[str]:
    """What is there of the session's enclaves, a moment after it."""
    deadline = time.monotonic() + 10
    while True:
        homes = [f"{path}: {sorted(each.name for each in path.iterdir())}" for path in ledger.iterdir()]
        found = homes + [line for line in command_lines() if token in line]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def command_lines() -> list[str]:
    """Those of all processes of this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text("utf-8", "replace"))
        except OSError:
            continue
    return lines


@pytest.fixture
def shop(package: WritePackage, token: str, on_engine: str) -> None:
    """A package of three services."""
    image = "host:/" if "embedded" in on_engine else "enclave-test/busybox:local"
    package(
        "shop",
        f"""
        config = ServiceConfig("{image}", cmd = ["sh", "-c", "echo begun; : {token}; sleep 1000; true"])
        for name in ["db", "cache", "api"]:
            plan.add_service(name, config)
        """,
    )


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest; no enclave stays."""
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-keep=never", *arguments)


@pytest.mark.usefixtures("shop")
def test_forty_tests_of_four_workers_are_of_one_enclave_and_nothing_is_left(
    pytester: pytest.Pytester, told: Told, ledger: Path, token: str, on_engine: str
) -> None:
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import pytest

            @pytest.mark.parametrize("n", range(40))
            def test_it(seen, n):
                service = seen.services[("db", "cache", "api")[n % 3]]
                assert service.exec(["echo", str(n)]).output.strip() == str(n)
            """
        }
    )
    result = run(pytester, on_engine, "-n4")
    result.assert_outcomes(passed=40)
    assert Counter(line["what"] for line in told.of("executed")) == {"add_service": 3}
    assert len(told.enclaves()) == 1
    assert len({json.dumps(line["services"], sort_keys=True) for line in told.of("test")}) == 1
    assert len({line["worker"] for line in told.of("test")}) == 4
    assert [line["worker"] for line in told.of("teardown")] == ["main"]
    assert left(token, ledger) == []


@pytest.mark.usefixtures("shop")
def test_a_killed_worker_takes_no_enclave_with_it_and_leaves_none(
    pytester: pytest.Pytester, told: Told, ledger: Path, token: str, on_engine: str
) -> None:
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import os, signal, time, pytest

            @pytest.mark.parametrize("n", range(16))
            def test_it(seen, n):
                time.sleep(0.1)
                assert seen.services["db"].exec(["echo", "hi"]).output.strip() == "hi"
                if n in (1, 6):
                    os.kill(os.getpid(), signal.SIGKILL)

            @pytest.mark.enclave(isolate=True)
            def test_alone(seen):
                os.kill(os.getpid(), signal.SIGKILL)
            """
        }
    )
    result = run(pytester, on_engine, "-n3")
    result.assert_outcomes(passed=14, failed=3)
    result.stdout.fnmatch_lines(["worker 'gw?' crashed while running 'shop/test_it.py::test_it[[]6]'"])
    shared = {line["enclave"] for line in told.of("test") if line["test"] != "test_alone"}
    assert len(shared) == 1
    assert told.enclaves("teardown") == shared
    assert left(token, ledger) == []


@pytest.mark.usefixtures("shop")
def test_a_worker_that_is_killed_while_it_makes_the_enclave_leaves_it_to_others(
    pytester: pytest.Pytester, told: Told, ledger: Path, token: str, on_engine: str
) -> None:
    kill = """
import signal

def pytest_enclave_before_execute(enclave, plan):
    try:
        (HERE / "killed").touch(exist_ok=False)
    except FileExistsError:
        return
    note("killed", enclave=enclave.name)

def pytest_enclave_instruction(enclave, step):
    note(str(step.outcome), enclave=enclave.name, what=step.name)
    if any(line["worker"] == os.environ["PYTEST_XDIST_WORKER"] for line in killed()):
        os.kill(os.getpid(), signal.SIGKILL)

def killed():
    return [line for line in map(json.loads, open(HERE / "told")) if line["kind"] == "killed"]
"""
    (pytester.path / "conftest.py").write_text(CONFTEST + kill)
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import pytest

            @pytest.mark.parametrize("n", range(12))
            def test_it(seen, n):
                assert set(seen.services) == {"db", "cache", "api"}
            """
        }
    )
    result = run(pytester, on_engine, "-n3")
    result.assert_outcomes(passed=11, failed=1)
    assert len(told.enclaves()) == 1
    assert left(token, ledger) == []


def test_a_failure_is_told_once_by_whichever_worker_met_it(
    pytester: pytest.Pytester, package: WritePackage, told: Told, ledger: Path
) -> None:
    slow = 'plan.exec("db", ExecRecipe(["sh", "-c", "sleep 2; false"]))'
    package("shop", f'plan.add_service("db", ServiceConfig("host:/", cmd = ["sleep", "1000"]))\n{slow}')
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import pytest

            @pytest.mark.parametrize("n", range(12))
            def test_it(seen, n): ...
            """
        }
    )
    result = run(pytester, "--enclave-engine=embedded", "-n3")
    assert result.parseoutcomes().get("errors", 0) + result.parseoutcomes().get("failed", 0) == 12
    assert sum(line.startswith("the enclave is unavailable: ") for line in result.outlines) == 11
    assert not list(ledger.iterdir())


GROWING = """
import pytest

pytestmark = pytest.mark.enclave(share="orders")

@pytest.mark.enclave("small")
def test_small(seen):
    assert set(seen.services) == {"db"}
    seen.services["db"].exec(["touch", "/tmp/touched"])

@pytest.mark.enclave("large")
@pytest.mark.parametrize("n", range(3))
def test_large(seen, n):
    assert set(seen.services) == {"db", "api"}
    assert [str(step.outcome) for step in seen.last_run.instructions] == ["skipped", "skipped" if n else "executed"]
    assert seen.services["db"].exec(["ls", "/tmp/touched"]).code == 0

@pytest.mark.enclave("small")
def test_small_again(seen):
    assert set(seen.services) == {"db", "api"}
    assert seen.last_run.executed == 0

@pytest.mark.enclave("small", share=None)
@pytest.mark.parametrize("n", range(4))
def test_others(seen, n):
    assert set(seen.services) == {"db"}
"""


@pytest.mark.parametrize("workers", ["-n0", "-n1", "-n2"])
def test_an_enclave_grows_step_by_step(
    pytester: pytest.Pytester, package: WritePackage, told: Told, ledger: Path, token: str, workers: str
) -> None:
    config = f'ServiceConfig("host:/", cmd = ["sh", "-c", ": {token}; sleep 1000; true"])'
    package("small", f'plan.add_service("db", {config})')
    package("large", f'plan.add_service("db", {config})\nplan.add_service("api", {config})')
    pytester.makepyfile(test_growing=GROWING)
    run(pytester, "--enclave-engine=embedded", workers).assert_outcomes(passed=9)
    growing = [line for line in told.of("test") if not line["test"].startswith("test_others")]
    assert len({line["enclave"] for line in growing}) == 1
    assert len({line["worker"] for line in growing}) == 1
    assert len(told.enclaves()) == 2
    assert left(token, ledger) == []
