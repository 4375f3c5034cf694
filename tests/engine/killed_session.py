"""A session that is killed at some moment, and a look at what it leaves.

    python tests/engine/killed_session.py NAME SECONDS [WORKER]

Runs a process that opens an enclave and keeps it busy, kills that process so many seconds after it began, and prints as
JSON what is left of the enclave when it should be gone, how long that took, and how far the process had come; and if it
ended before it was killed, what it said.

With a worker, a second process is attached as soon as there is an enclave, which has a home then. `worker`: that is
killed first, and whether the session goes on is told. `session`: the other way round.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from glob import glob
from pathlib import Path

GONE = 2.0
"""Seconds after which nothing may be left."""

PR_SET_CHILD_SUBREAPER = 36

ROOT = Path(__file__).parents[2]


def keep_busy(name: str, home: str) -> None:
    """Open an enclave, start, replace, freeze and fork services in it, for ever. Tells each step."""
    from pytest_enclave.engine.embedded.engine import EmbeddedEngine
    from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec
    from pytest_enclave.plan.connections import BLOCKED, Connection, Delay
    from pytest_enclave.plan.service import PortSpec

    engine = EmbeddedEngine()
    print("begun", flush=True)
    site = engine.open(EnclaveId(name, home))
    print("opened", flush=True)
    daemons = "trap 'exit 0' TERM; sleep 1234567 & setsid sleep 1234567 & sleep 1234567 & wait"
    for round_ in range(1_000_000):
        specs = [
            ServiceSpec(
                each,
                "host:/",
                site.reserve(each),
                ports={"http": PortSpec(8080)},
                entrypoint=("sh", "-c", daemons),
                max_memory=100,
            )
            for each in ("one", "two", "three")
        ]
        outcomes = site.start(specs, {}, 3)
        assert not any(outcomes.values()), outcomes
        print("started", flush=True)
        site.dial("one", PortSpec(8080))
        site.exec("two", ["true"], None)
        site.shape({("one", "two"): BLOCKED, ("two", "three"): Connection(loss=10, delay=Delay(50))}, round_)
        print("shaped", flush=True)
        site.freeze()
        print("frozen", flush=True)
        fork = site.fork(EnclaveId(f"{name}-{round_}"))
        print("forked", flush=True)
        if round_ % 2:
            fork.close()


def work(name: str, home: str, holder: str) -> None:
    """Use an enclave that a session has, for ever; tell each time."""
    from pytest_enclave.engine.embedded.engine import EmbeddedEngine
    from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec

    site = EmbeddedEngine().attach(EnclaveId(name, home, int(holder)))
    site.start([ServiceSpec("worker", "host:/", site.reserve("worker"))], {}, 1)
    while site.observe() is not None:
        print("worked", flush=True)
        time.sleep(0.02)


class Victim:
    """A process to be killed, with what it tells."""

    def __init__(self, *arguments: str) -> None:
        self._complaints = os.memfd_create("complaints")
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        self._stdout = self.process.stdout
        self.told = [self._stdout.readline().decode().strip()]
        self.said: str | None = None

    def hear(self) -> str:
        """Wait for the next thing that it tells."""
        self.told.append(self._stdout.readline().decode().strip())
        return self.told[-1]

    def kill(self) -> None:
        """Kill it, and hear the rest. Sets what it said if it had ended by itself."""
        self.process.send_signal(signal.SIGKILL)
        self.told += self._stdout.read().decode().split()
        if self.process.wait() != -signal.SIGKILL:
            said = os.pread(self._complaints, 1 << 16, 0).decode()
            self.said = said or f"it ended with {self.process.returncode}"
        self._stdout.close()
        os.close(self._complaints)


def kill_one(name: str, seconds: float, first: str = "") -> dict[str, object]:
    """Kill such a process that long after it began; what is left."""
    # Whatever is orphaned becomes our child, wherever it has gone.
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    home = f"{tempfile.mkdtemp(prefix=name)}/home" if first else ""
    if home:
        os.mkdir(home, mode=0o700)
        Path(home, "lease").touch()
    session = Victim("--busy", name, home)
    victims = [session]
    survived = False
    if first and session.hear() == "opened":
        worker = Victim("--work", name, home, str(session.process.pid))
        victims = [worker, session] if first == "worker" else [session, worker]
    time.sleep(seconds)
    if len(victims) == 2:
        victims[0].kill()
        # What it has told by now is not to count.
        other = victims[1]
        os.set_blocking(other._stdout.fileno(), False)
        while line := other._stdout.readline():
            other.told.append(line.decode().strip())
        os.set_blocking(other._stdout.fileno(), True)
        survived = bool(other.hear())
    victims[-1].kill()
    killed = time.monotonic()
    while (left := _left(name, home)) and time.monotonic() - killed < GONE:
        time.sleep(0.005)
    if home:
        shutil.rmtree(os.path.dirname(home))
    return {
        "left": left,
        "seconds": time.monotonic() - killed,
        "told": session.told,
        "survived": survived,
        "ended by itself": next((each.said for each in victims if each.said is not None), None),
    }


def _left(name: str, home: str) -> list[str]:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    runtime = os.environ.get("XDG_RUNTIME_DIR") or ""
    return [
        *(f"process {each}" for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        *(f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line),
        *glob(f"/sys/fs/cgroup/pytest-enclave/{name}*"),
        *glob(f"/sys/fs/cgroup/*/pytest-enclave/{name}*"),
        *glob(f"{tempfile.gettempdir()}/pytest-enclave-*/{name}*"),
        *(glob(f"{runtime}/pytest-enclave/{name}*") if runtime else []),
        *(f"link {each}" for each in os.listdir("/sys/class/net") if each.startswith(("s1.", "br0"))),
        *glob(home),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--busy":
        keep_busy(*sys.argv[2:])
    elif sys.argv[1] == "--work":
        work(*sys.argv[2:])
    else:
        print(json.dumps(kill_one(sys.argv[1], float(sys.argv[2]), *sys.argv[3:])))
