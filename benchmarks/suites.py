"""Whole test suites, as users run them: a directory with tests, a pytest process, its wall time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import dedent, indent

from benchmarks.measurement import stopwatch
from benchmarks.services import AT_ONCE, Kind

PLUGIN = "pytest_enclave.plugin"


@dataclass(frozen=True, slots=True)
class Session:
    """What a pytest process took: seconds of wall time, and of processor time, which a busy machine stretches less."""

    wall: float
    processor: float


@dataclass(frozen=True, slots=True)
class Suite:
    """A test file, the files beside it, what pytest is told besides `-q`; `plugins`: the only ones loaded."""

    tests: str
    beside: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def run_in(self, directory: Path) -> Session:
        """Run it. Raises RuntimeError, with what pytest said, where a test does not pass."""
        self._write_to(directory)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *self.options]
        command += [word for plugin in self.plugins for word in ("-p", plugin)]
        alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TESTCONTAINERS_RYUK_DISABLED": "true"}
        # Where Python may not keep bytecode, pytest compiles plugins and tests again each time.
        alone["PYTHONDONTWRITEBYTECODE"] = ""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with stopwatch() as elapsed:
            done = subprocess.run(
                command, cwd=directory, env={**os.environ, **alone, **self.variables}, capture_output=True, text=True
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return Session(elapsed(), after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    def _write_to(self, directory: Path) -> None:
        """What is there already stays as it is: between two runs nobody touches files that do not change."""
        for name, text in {"pytest.ini": "[pytest]\n", "test_suite.py": self.tests, **self.beside}.items():
            path = directory / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)


def plain(count: int) -> Suite:
    """Tests that need nothing."""
    return Suite(_tests(count, ""))


def with_enclave(kind: Kind, count: int, engine: str = "docker") -> Suite:
    """Tests that ask for an enclave: the package runs for the first, and is found unchanged by all others."""
    package = {"kurtosis.yml": "name: github.com/pytest-enclave/benchmark\n", "main.star": kind.package}
    options = (f"--enclave-parallelism={AT_ONCE}", f"--enclave-engine={engine}")
    return Suite(_tests(count, "enclave"), package, options, (PLUGIN,))


def kept(suite: Suite, state: Path) -> Suite:
    """The same with an enclave that stays for the next time; `state` is where it is recorded."""
    return replace(
        suite, options=(*suite.options, "--enclave-keep=always"), variables={"XDG_STATE_HOME": str(state), "CI": ""}
    )


def with_pytest_docker(kind: Kind, count: int, *, stays: bool) -> Suite:
    """Tests with the fixture of pytest-docker: `up` before the first, and `down` after the last unless all `stays`."""
    services = {
        name: {"image": kind.image, **({"command": list(kind.command)} if kind.command else {})} for name in kind.names
    }
    fixtures = """\
        import pytest


        @pytest.fixture(scope="session")
        def docker_compose_command():
            return "docker-compose"


        @pytest.fixture(scope="session")
        def docker_compose_file(pytestconfig):
            return str(pytestconfig.rootpath / "docker-compose.yml")


        @pytest.fixture(scope="session")
        def docker_compose_project_name():
            return "enclave-benchmark"


        @pytest.fixture(scope="session")
        def docker_setup():
            return ["up -d"]
    """
    if stays:
        fixtures += """

        @pytest.fixture(scope="session")
        def docker_cleanup():
            return []
    """
    compose = json.dumps({"version": "2.4", "services": services})
    beside = {"conftest.py": dedent(fixtures), "docker-compose.yml": compose}
    return Suite(_tests(count, "docker_services"), beside, (), ("pytest_docker.plugin",))


def with_testcontainers(kind: Kind, count: int, scope: str) -> Suite:
    """Tests with a fixture that starts the services in threads: for the `session`, or for each `function`."""
    return Suite(_tests(count, "services"), {"conftest.py": _fixture(kind, scope)})


def _tests(count: int, fixture: str) -> str:
    arguments = f"number, {fixture}" if fixture else "number"
    return f"""\
import pytest


@pytest.mark.parametrize("number", range({count}))
def test_it({arguments}):
    pass
"""


def _fixture(kind: Kind, scope: str) -> str:
    setup = [f'container = DockerContainer("{kind.image}").with_network(network).with_network_aliases(name)']
    if kind.command:
        setup.append(f"container.with_command({list(kind.command)!r})")
    if kind.port is not None:
        setup.append(f"container.with_exposed_ports({kind.port}).waiting_for(PortWaitStrategy({kind.port}))")
    return dedent(
        """\
        from concurrent.futures import ThreadPoolExecutor

        import pytest
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.network import Network
        from testcontainers.core.wait_strategies import PortWaitStrategy


        @pytest.fixture(scope={scope!r})
        def services():
            with Network() as network, ThreadPoolExecutor({at_once}) as threads:

                def start(name):
        {setup}
                    return container.start()

                started = list(threads.map(start, {names!r}))
                yield started
                list(threads.map(lambda container: container.stop(), started))
        """
    ).format(scope=scope, at_once=AT_ONCE, names=list(kind.names), setup=indent("\n".join(setup), " " * 12))
