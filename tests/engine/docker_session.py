"""A process that starts services on a Docker engine, and is killed.

    docker_session.py ENDPOINT NAME COUNT [--ledger] [--session ID] [--keep SECONDS]

With a ledger (that of XDG_STATE_HOME) the enclave has a home; in a session it is shared by that, or it is kept.
"""

from __future__ import annotations

import argparse
import signal
import time

from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.protocol import EnclaveId, ServiceSpec
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("name")
    parser.add_argument("count", type=int)
    parser.add_argument("--ledger", action="store_true")
    parser.add_argument("--session", default="")
    parser.add_argument("--keep", type=float)
    arguments = parser.parse_args()
    name, home = arguments.name, None
    engine = DockerEngine(arguments.endpoint)
    if arguments.ledger:
        ledger = Ledger.of(engine._environ)
        key = "shared" if arguments.session else ""
        home = ledger.enter(Entry(name, "docker", arguments.session, time.time(), endpoint=arguments.endpoint, key=key))
    site = engine.open(EnclaveId(name, str(home.path) if home else ""))
    print("open", flush=True)
    names = [f"s{number}" for number in range(arguments.count)]
    command = ("sleep", "1000000")
    specs = [ServiceSpec(each, "enclave-test/busybox:local", address=site.reserve(each), cmd=command) for each in names]
    outcomes = site.start(specs, {}, 4)
    assert not any(outcomes.values()), outcomes
    print("up", flush=True)
    if arguments.keep is None:
        signal.pause()
    until = time.time() + arguments.keep
    ledger.change(name, kept_until=until)
    site.keep(until)
    site.leave()
    engine.close()


if __name__ == "__main__":
    main()
