"""`plan.start_service`, `plan.stop_service`, `plan.remove_service`, and adding a service that is already there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import Action
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import ExecutionError
from pytest_enclave.plan.facts import Status
from tests.laboratory import Laboratory

A = 'a = plan.add_service("a", ServiceConfig(image = "img", env_vars = {"V": "1"}))\n'
STOP, START = 'plan.stop_service("a")\n', 'plan.start_service("a")\n'


def status(lab: Laboratory) -> Status:
    """What service `a` is doing."""
    return lab.state.site.observe()["a"].status


def acted(lab: Laboratory) -> list[Action]:
    """What the site was asked to do."""
    return [call["action"] for call in lab.engine.sites["lab-0"].asked("act")]


@pytest.mark.parametrize(
    ("plan", "message"),
    [(A + START, "service `a` is already started"), (A + STOP + STOP, "service `a` is already stopped")],
    ids=["row-151-start-twice", "row-151-stop-twice"],
)
def test_what_is_already_so_is_an_error(lab: Laboratory, plan: str, message: str):
    error = lab.error(plan)
    assert type(error) is ExecutionError
    assert (error.message, error.service) == (message, "a")


def test_row_151_a_stopped_service_starts_again(lab: Laboratory):
    finished = lab.ok(A + STOP + START)
    assert [step.message for step in finished.instructions][1:] == ["service `a` is stopped", "service `a` is started"]
    assert (acted(lab), status(lab)) == ([Action.STOP, Action.START], Status.RUNNING)


def test_a_started_service_is_waited_for(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("a", opens_after={"http": 2.0}))
    with_port = A.replace('"}))', '"}, ports = {"http": PortSpec(number = 80)}))')
    lab.ok(with_port + STOP)
    stopped_at = lab.engine.clock.now()
    lab.ok(with_port + STOP + START)
    assert lab.engine.clock.now() >= stopped_at + 2.0


def test_row_152_a_removed_service_is_gone(lab: Laboratory):
    assert lab.ok(A + 'plan.remove_service("a")').instructions[1].message == "service `a` is removed"
    assert lab.enclave().services == {}
    assert lab.state.site.observe() == {}


def test_row_156_adding_a_live_service_again_replaces_it_and_keeps_address_and_hostname(lab: Laboratory):
    before = lab.ok(A + "return a").output
    finished = lab.ok(A.replace('"1"', '"2"') + "return a")
    assert finished.output == before
    assert str(finished.instructions[0].outcome) == "updated"
    starts = lab.engine.sites["lab-0"].asked("start")
    assert [call["specs"][0].env_vars["V"] for call in starts] == ["1", "2"]
    assert starts[0]["specs"][0].address == starts[1]["specs"][0].address


def test_a_service_gets_its_own_address_where_its_config_asks_for_it(lab: Laboratory):
    lab.ok(
        'plan.add_service("a", ServiceConfig(image = "img", cmd = ["--ip=KURTOSIS_IP_ADDR_PLACEHOLDER"], '
        'entrypoint = ["at KURTOSIS_IP_ADDR_PLACEHOLDER"], env_vars = {"IP": "KURTOSIS_IP_ADDR_PLACEHOLDER"}))\n'
        'plan.add_service("b", ServiceConfig(image = "img", cmd = ["ME", "KURTOSIS_IP_ADDR_PLACEHOLDER"], '
        'private_ip_address_placeholder = "ME"))'
    )
    first, second = (call["specs"][0] for call in lab.engine.sites["lab-0"].asked("start"))
    assert (first.entrypoint, first.cmd, first.env_vars) == (
        ("at 10.99.0.2",), ("--ip=10.99.0.2",), {"IP": "10.99.0.2"},
    )  # fmt: skip
    assert second.cmd == ("10.99.0.3", "KURTOSIS_IP_ADDR_PLACEHOLDER")
