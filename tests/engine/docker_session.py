"""A process that starts services on a Docker engine and is killed: `docker_session.py ENDPOINT NAME COUNT`."""

from __future__ import annotations

import signal
import sys

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec

if __name__ == "__main__":
    endpoint, name, count = sys.argv[1:]
    engine = DockerEngine(endpoint)
    site = engine.open(EnclaveId(name))
    print("open", flush=True)
    names = [f"s{number}" for number in range(int(count))]
    command = ("sleep", "1000000")
    specs = [ServiceSpec(each, "enclave-test/busybox:local", address=site.reserve(each), cmd=command) for each in names]
    site.start(specs, {}, 4)
    print("up", flush=True)
    signal.pause()
