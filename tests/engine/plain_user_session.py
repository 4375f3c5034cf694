"""A process that shapes an enclave's traffic, run by somebody who may use the Docker engine and is not its root.

    plain_user_session.py ENDPOINT BASE

Prints as JSON: whose process it is, the enclave's sidecars and their image, how long a round trip takes with 100 ms in
each direction, which of 100 datagrams arrive where half of them is lost, and what is left at the end.
"""

from __future__ import annotations

import json
import os
import sys

import docker

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.engine import DockerEngine
from pytest_enclave.engine.docker.shape import IMAGE, ShaperPlan
from pytest_enclave.plan.connections import Connection
from tests.engine.engine_enclave import Enclave, enclave_id
from tests.engine.shaped_services import Talk, both_ways, delay

SEED = 7


def main(endpoint: str, base: str) -> None:
    engine = DockerEngine(endpoint, shaper=ShaperPlan(IMAGE, base=base))
    id_ = enclave_id()
    talk = Talk(Enclave(engine.open(id_), id_))
    try:
        talk.up("a", "b")
        talk.shape(both_ways(delay(100), "a", "b"))
        round_trip = talk.round_trip("a", "b")
        with docker.APIClient(endpoint, version="auto") as client:
            mine = {"label": [f"{labels.ENCLAVE}={id_.name}", labels.SHAPER]}
            sidecars = {each["Labels"][labels.SHAPER]: each["Image"] for each in client.containers(filters=mine)}
        talk.shape({("a", "b"): Connection(loss=50)}, SEED)
        talk.note("a", "b", "half", 100)
        arrived = talk.noted("b", "half")
    finally:
        leaks = [str(each) for each in (*talk.enclave.site.close(), *engine.close())]
    told = {"user": os.geteuid(), "sidecars": sidecars, "round_trip": round_trip, "arrived": arrived, "leaks": leaks}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
