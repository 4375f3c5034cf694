"""A process that has an enclave whose traffic is shaped, and is killed.

    shaped_session.py ENDPOINT NAME [--keep]

The enclave has a home (in the ledger of XDG_STATE_HOME), two services, and nothing passes between them. With `--keep`
it stays when the process ends.
"""

from __future__ import annotations

import signal
import sys
import time

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.shape import ShaperPlan
from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.plan.connections import BLOCKED


def main() -> None:
    endpoint, name, *options = sys.argv[1:]
    sidecars = True if "--sidecars" in options else None
    engine = DockerEngine(endpoint, shaper=ShaperPlan("enclave-test/python:local", sidecars))
    ledger = Ledger.of(engine._environ)
    kept = time.time() + 3600 if "--keep" in options else None
    home = ledger.enter(Entry(name, "docker", "", time.time(), endpoint=endpoint, kept_until=kept))
    site = engine.open(EnclaveId(name, str(home.path)))
    command = ("sleep", "1000000")
    specs = [ServiceSpec(each, "enclave-test/busybox:local", address=site.reserve(each), cmd=command) for each in "ab"]
    outcomes = site.start(specs, {}, 2)
    assert not any(outcomes.values()), outcomes
    site.shape({("a", "b"): BLOCKED, ("b", "a"): BLOCKED}, 1)
    sys.stdout.write("shaped\n")
    sys.stdout.flush()
    if kept is None:
        signal.pause()
    site.keep(kept)
    site.leave()
    engine.close()


if __name__ == "__main__":
    main()
