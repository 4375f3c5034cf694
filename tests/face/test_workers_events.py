"""What the engine itself tells of four workers with forty tests on eight services: one environment is started."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from docker import APIClient

from tests.face.conftest import WritePackage

LABEL = "org.pytest-enclave.service"

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(40))
def test_it(enclave, n):
    assert len(enclave.services) == 8
"""


@contextmanager
def created(host: str, network: str) -> Iterator[Counter[str]]:
    """The services' containers, and the networks of that name, which the engine is told to create meanwhile."""
    counted: Counter[str] = Counter()
    with APIClient(host, version="auto") as client:
        events = client.events(filters={"event": "create", "type": ["container", "network"]}, decode=True)

        def count() -> None:
            for event in events:
                about = event["Actor"]["Attributes"]
                if about["name"].startswith(network):
                    counted[about[LABEL] if LABEL in about else event["Type"]] += 1

        counting = threading.Thread(target=count)
        counting.start()
        try:
            yield counted
        finally:
            events.close()
            counting.join()


def test_it_makes_one_network_and_each_service_once(
    docker_host: str, package: WritePackage, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    package(
        "counted",
        """
        config = ServiceConfig("enclave-test/busybox:local", cmd = ["sleep", "1000"])
        plan.add_services({"service-%d" % number: config for number in range(8)})
        """,
    )
    pytester.makepyfile(**{"counted/test_it": TESTS})
    arguments = ("-p", "no:cacheprovider", "-n4", "--enclave-engine=docker")
    with created(docker_host, "counted-") as events:
        for keep in ("always", "never"):
            done = pytester.runpytest_subprocess(*arguments, f"--enclave-keep={keep}")
            done.assert_outcomes(passed=40)
    assert events == {"network": 1, **{f"service-{number}": 1 for number in range(8)}}, "also in a second session"
