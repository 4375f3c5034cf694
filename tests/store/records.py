"""A record with something in every field."""

from __future__ import annotations

from pytest_enclave.plan.connections import Connection, Delay
from pytest_enclave.plan.footprint import Footprint, Replay, Wiring
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Struct
from pytest_enclave.source import Location

RECORD = Record(
    name="add_service",
    text='add_service(name="db")',
    key="key",
    resolved="resolved",
    producer="0" * 32,
    location=Location("main.star", 3, 9),
    footprint=Footprint(
        Replay.REPLACE,
        services={"db": "text"},
        artifacts=frozenset({"files"}),
        mounts={"db": frozenset({"other"})},
        acts_on=frozenset({"x"}),
        uses=frozenset({"y"}),
        reads=frozenset({"z"}),
        images=frozenset({"postgres"}),
        forced=True,
        joins={"db": "subnetwork"},
        wiring=Wiring(frozenset({"subnetwork", "default"}), Connection(1.5, Delay(1.0, 0.5, 10.0))),
    ),
    values={"0" * 32: {"code": 200, "list": [1, 1.0, "1", True, None], "tuple": (1, (2,))}},
    contents={"files": "digest"},
    services={"db": Struct("ServiceConfig", {"ports": {"p": Struct("PortSpec", {"number": 1})}})},
    images={"postgres": "sha256:1"},
    message="up",
    stale="db changed",
    stale_by=7,
)
