"""Other processes with a lease on an enclave, as a test has them; and a look at whether the enclave is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from pytest_enclave.engine.embedded.engine import run_directory
from pytest_enclave.engine.protocol import EnclaveId

PROGRAM = Path(__file__).with_name("lease_holder.py")

GONE = 2.0
"""Seconds after which nothing may be left."""


class Holder:
    """Another process with a lease. Its standard error is `stderr`, where that is not the test's."""

    def __init__(self, how: str, id_: EnclaveId, stderr: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), how, id_.name, id_.home, str(id_.holder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.service = self.read()

    def read(self) -> str:
        """The next line that it tells."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, command: str) -> None:
        """Tell it to do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def ask(self, command: str) -> str:
        """Tell it to do something; the answer."""
        self.send(command)
        return self.read()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.communicate()


def directory(id_: EnclaveId) -> Path:
    """Where an enclave has its socket."""
    return Path(id_.home, "embedded") if id_.home else run_directory(os.environ) / id_.name


def assert_gone(id_: EnclaveId, seconds: float = GONE) -> None:
    """Nothing of an enclave is there any more, soon."""
    deadline = time.monotonic() + seconds
    while directory(id_).exists() or processes(id_):
        assert time.monotonic() < deadline, (directory(id_).exists(), processes(id_))
        time.sleep(0.01)


def assert_stays(id_: EnclaveId, seconds: float = 0.3) -> None:
    """An enclave is there, and goes on to be."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert directory(id_).exists()
        assert processes(id_)
        time.sleep(0.02)


def processes(id_: EnclaveId) -> list[int]:
    """Processes whose mounts have the enclave's storage."""
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if f"/sys/{id_.name}/" in mounts.read_text():
                found.append(int(mounts.parent.name))
        except OSError:
            continue
    return found
