"""Subnetworks and connections of plans with real services: the scripts with which Kurtosis tests its own."""

from __future__ import annotations

import pytest

from tests.engine.engine_enclave import PYTHON
from tests.engine.shaped_services import SERVER
from tests.laboratory import Laboratory

PING = """
import socket, sys, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.settimeout(float(sys.argv[2]))
own.connect((sys.argv[1], 7000))
taken = []
for number in range(int(sys.argv[3])):
    began = time.perf_counter()
    try:
        own.send(b"ping")
        own.recv(100)
    except OSError:
        sys.exit(1)
    taken.append(time.perf_counter() - began)
print(round(1000 * sum(taken) / len(taken), 3), end="")
"""
"""Asks a service, one question after the other: the mean of the milliseconds they took; 1 where no answer came."""

BEGINNING = f"""
SERVER = {SERVER!r}
PING = {PING!r}

def ping(plan, to, code = 0, count = 1):
    seconds = "1" if code else "5"
    recipe = ExecRecipe(command = ["python3", "-c", PING, to, seconds, str(count)])
    return plan.exec("service-2", recipe, acceptable_codes = [code])["output"]

def service(subnetwork):
    return ServiceConfig(image = "{PYTHON}", entrypoint = ["python3", "-c", SERVER], subnetwork = subnetwork,
        ports = {{"echo": PortSpec(number = 7000)}})

def uniform(ms):
    return ConnectionConfig(packet_delay_distribution = UniformPacketDelayDistribution(ms))

"""

FIRST = """
def run(plan):
    plan.set_connection(config = kurtosis.connection.BLOCKED)
    plan.add_services({"service-1": service("1"), "service-2": service("2")})
    ping(plan, "service-1", code = 1)
    plan.set_connection(("1", "2"), config = kurtosis.connection.ALLOWED)
    ping(plan, "service-1")
    plan.remove_connection(("1", "2"))
    ping(plan, "service-1", code = 1)
    plan.set_connection(("3", "1"), config = ConnectionConfig(packet_loss_percentage = 0.0))
    plan.update_service("service-2", config = UpdateServiceConfig("3"))
    ping(plan, "service-1")
"""

SECOND = """
def run(plan):
    plan.set_connection(config = kurtosis.connection.ALLOWED)
    plan.add_services({"service-1": service("1"), "service-2": service("2"), "service-3": service("2")})
    near, free = ping(plan, "service-3", count = 5), ping(plan, "service-1", count = 5)
    plan.set_connection(config = uniform(750))
    far, still_near = ping(plan, "service-1"), ping(plan, "service-3", count = 5)
    plan.set_connection(config = uniform(350))
    return [near, free, far, still_near, ping(plan, "service-1")]
"""

THIRD = """
def run(plan):
    plan.set_connection(config = kurtosis.connection.BLOCKED)
    delay = NormalPacketDelayDistribution(mean_ms = 150, std_dev_ms = 10, correlation = 2.0)
    plan.set_connection(("1", "2"), config = ConnectionConfig(packet_delay_distribution = delay))
    plan.add_services({"service-1": service("1"), "service-2": service("2")})
    varying = ping(plan, "service-1", count = 3)
    plan.set_connection(("1", "3"), config = uniform(750))
    plan.update_service("service-2", config = UpdateServiceConfig("3"))
    return [varying, ping(plan, "service-1")]
"""


@pytest.mark.parametrize(
    ("script", "bounds"),
    [
        pytest.param(FIRST, [], id="row-181-blocked-and-allowed"),
        pytest.param(SECOND, [(0, 20), (0, 20), (1500, 1550), (0, 20), (700, 750)], id="row-181-default-delays"),
        pytest.param(THIRD, [(225, 375), (1500, 1550)], id="row-181-overrides"),
    ],
)
def test_packets_travel_as_plans_say(real: Laboratory, script: str, bounds: list[tuple[float, float]]):
    found = [float(text) for text in real.ok(BEGINNING + script).output or ()]
    assert len(found) == len(bounds)
    assert all(low <= took <= high for took, (low, high) in zip(found, bounds, strict=True)), found
    again = real.run(BEGINNING + script)
    assert again.error is None
    assert again.executed == 0
