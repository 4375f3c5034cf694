"""A session that is killed at some moment, and a look at what it leaves.

    python tests/engine/killed_session.py NAME SECONDS

Runs a process that opens an enclave and keeps it busy, kills that process so many seconds after it began, and prints as
JSON what is left of the enclave when it should be gone, how long that took, and how far the process had come.
"""

from __future__ import annotations

import ctypes
import json
import os
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


def keep_busy(name: str) -> None:
    """Open an enclave, start, replace, freeze and fork services in it, for ever. Tells each step."""
    from pytest_enclave.engine.embedded.engine import EmbeddedEngine
    from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec
    from pytest_enclave.plan.service import PortSpec

    engine = EmbeddedEngine()
    print("begun", flush=True)
    site = engine.open(EnclaveId(name))
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
        site.freeze()
        print("frozen", flush=True)
        fork = site.fork(EnclaveId(f"{name}-{round_}"))
        print("forked", flush=True)
        if round_ % 2:
            fork.close()


def kill_one(name: str, seconds: float) -> dict[str, object]:
    """Kill such a process that long after it began; what is left."""
    # Whatever is orphaned becomes our child, wherever it has gone.
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    command = [sys.executable, __file__, "--busy", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as victim:
        assert victim.stdout is not None
        told = [victim.stdout.readline().decode().strip()]
        time.sleep(seconds)
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        told += victim.stdout.read().decode().split()
        ended = victim.wait()
    while (left := _left(name)) and time.monotonic() - killed < GONE:
        time.sleep(0.005)
    return {"left": left, "seconds": time.monotonic() - killed, "told": told, "killed": ended == -signal.SIGKILL}


def _left(name: str) -> list[str]:
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
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--busy":
        keep_busy(sys.argv[2])
    else:
        print(json.dumps(kill_one(sys.argv[1], float(sys.argv[2]))))
