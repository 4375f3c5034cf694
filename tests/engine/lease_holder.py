"""Another process with a lease on an enclave.

    python tests/engine/lease_holder.py open|join NAME

Starts a service named after its own process and waits; each line of standard input is a command, answered by one line:

    see       names of the services that it sees
    dial S    where port 80 of a service is reached
    wait      what comes of waiting for ten seconds
    leave     give up the lease and end; `close`: end the enclave and end
"""

from __future__ import annotations

import os
import sys

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec
from pytest_enclave.errors import EnclaveError
from pytest_enclave.plan.service import PortSpec


def tell(*words: object) -> None:
    """Answer with a line."""
    sys.stdout.write(f"{' '.join(map(str, words))}\n")
    sys.stdout.flush()


def hold(how: str, name: str) -> None:
    """Serve standard input."""
    engine = EmbeddedEngine()
    site = getattr(engine, how)(EnclaveId(name))
    own = f"s{os.getpid()}"
    command = ("sh", "-c", "while :; do sleep 3600; done")
    outcome = site.start([ServiceSpec(own, "host:/", site.reserve(own), entrypoint=command)], {}, 1)
    assert outcome == {own: None}, outcome
    tell(own)
    for line in sys.stdin:
        action, *more = line.split()
        if action == "see":
            tell(*sorted(site.observe()))
        elif action == "dial":
            endpoint = site.dial(more[0], PortSpec(80))
            tell(endpoint.host, endpoint.port)
        elif action == "wait":
            try:
                site.pause(10)
                tell("nothing")
            except EnclaveError as error:
                tell(error)
        elif action == "close":
            tell(site.close())
            break
        else:
            site.leave()
            tell("left")
            break
    engine.close()


if __name__ == "__main__":
    hold(*sys.argv[1:])
