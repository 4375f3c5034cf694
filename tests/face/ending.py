"""A session in a process of its own, on a real engine, that is told to end; and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import docker
import pytest

from pytest_enclave.engine.docker.labels import OWNER_PID

PATIENCE = 30.0
"""Seconds that anything here may take."""


class Ending:
    """One such session: its package and tests are in `root`, its temporary files in a directory beside."""

    def __init__(self, root: Path, engine: docker.APIClient) -> None:
        self._root = root / "project"
        self._temporary = root / "tmp"
        self._homes = root / "state/pytest-enclave/enclaves"
        self._engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        for directory in (self._root, self._temporary):
            directory.mkdir()

    @property
    def sign(self) -> Path:
        """A file by which the session can say how far it has come."""
        return self._root / "sign"

    def write(self, body: str, tests: str, conftest: str = "") -> None:
        """The package's `run(plan)`, the tests, and their `conftest.py`."""
        (self._root / "kurtosis.yml").write_text("name: github.com/face/ending\n")
        (self._root / "main.star").write_text(f"def run(plan):\n{indent(body, '    ')}\n")
        (self._root / "test_it.py").write_text(tests)
        (self._root / "conftest.py").write_text(conftest)

    def start(self, *arguments: str) -> None:
        """Start it; its session id is its process id, by which its children are known."""
        with (self._root / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py", *arguments],
                cwd=self._root,
                env={**os.environ, "TMPDIR": str(self._temporary), "XDG_STATE_HOME": str(self._homes.parents[1])},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, name: str) -> None:
        """Send a signal to the session's own process."""
        assert self._process is not None
        self._process.send_signal(signal.Signals[f"SIG{name}"])

    def code(self) -> int:
        """Its exit code, once it has ended. One that does not end is made to say where it hangs."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)
            self._process.wait(PATIENCE)
            pytest.fail(f"the session goes on after {PATIENCE:g} s: {self.output}")

    @property
    def output(self) -> str:
        """What it has written."""
        return (self._root / "output").read_text()

    def await_sign(self, sign: str) -> None:
        """Wait until there is: its `file`, `directory` or `journal`, a `container`, `running`, or a process in one."""
        looks: dict[str, Callable[[], object]] = {
            "file": self.sign.exists,
            "directory": lambda: list(self._homes.glob("*")),
            "journal": lambda: list(self._homes.glob("*/journal.sqlite")),
            "container": self._containers,
            "running": lambda: [each for each in self._containers() if each["State"] == "running"],
        }
        look = looks.get(sign, lambda: self._runs(sign))
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert self._process is not None
            assert self._process.poll() is None, self.output
            assert time.monotonic() < deadline, f"no sign of {sign}: {self.output}"
            time.sleep(0.005)

    def left(self) -> list[str]:
        """What the session should not have left: on the engine, in its temporary directory, among the processes."""
        mine = self._mine()
        return [
            *(f"container {each['Names']}" for each in self._containers()),
            *(f"network {each['Name']}" for each in self._engine.networks(filters=mine)),
            *(f"volume {each['Name']}" for each in self._engine.volumes(filters=mine)["Volumes"] or []),
            *(f"file {path}" for path in (*self._temporary.iterdir(), *self._homes.glob("*"))),
            *(f"process {number}" for number in self._processes()),
        ]

    def kill(self) -> None:
        """End whatever of it still runs."""
        for number in self._processes():
            os.kill(number, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _mine(self) -> dict[str, list[str]]:
        assert self._process is not None
        return {"label": [f"{OWNER_PID}={self._process.pid}"]}

    def _containers(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._engine.containers(all=True, filters=self._mine())
        return found

    def _runs(self, command: str) -> bool:
        """Whether a process with these words runs in a service."""
        running = [each["Id"] for each in self._containers() if each["State"] == "running"]
        return any(command in " ".join(row) for each in running for row in self._engine.top(each)["Processes"])

    def _processes(self) -> list[int]:
        """The processes of its session, itself included while it runs."""
        assert self._process is not None
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self._process.pid and fields[0] != "Z":
                found.append(int(path.parent.name))
        return found
