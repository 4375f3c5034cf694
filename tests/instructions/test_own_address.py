"""`private_ip_address_placeholder`: the service's own address in what it is started with."""

from __future__ import annotations

import pytest

from tests.laboratory import Laboratory

DEFAULT = "KURTOSIS_IP_ADDR_PLACEHOLDER"


def plan(placeholder: str, version: int = 1, setting: str = "") -> str:
    """A plan whose service asks for its address everywhere that it can."""
    return (
        'plan.add_service("s", ServiceConfig(image = "img", '
        f'entrypoint = ["run", "--at={placeholder}:{version}", "{placeholder}{placeholder}"], '
        f'cmd = ["-b", "{placeholder}"], '
        f'env_vars = {{"AT": "http://{placeholder}/", "NO": "x", "{placeholder}": "k"}}{setting}))'
    )  # fmt: skip


def started(lab: Laboratory):
    """The service that was started last."""
    return lab.engine.sites["lab-0"].asked("start")[-1]["specs"][0]


@pytest.mark.parametrize(
    ("placeholder", "setting"),
    [(DEFAULT, ""), ("@ME@", ', private_ip_address_placeholder = "@ME@"')],
    ids=["default", "own"],
)
def test_it_is_replaced_in_entrypoint_cmd_and_values_of_variables(lab: Laboratory, placeholder: str, setting: str):
    lab.ok(plan(placeholder, setting=setting))
    spec = started(lab)
    assert spec.entrypoint == ("run", "--at=10.99.0.2:1", "10.99.0.210.99.0.2")
    assert spec.cmd == ("-b", "10.99.0.2")
    assert spec.env_vars == {"AT": "http://10.99.0.2/", "NO": "x", placeholder: "k"}


def test_it_is_replaced_when_the_service_is_updated(lab: Laboratory):
    lab.ok('plan.add_service("first", ServiceConfig(image = "img"))')
    lab.ok(plan(DEFAULT))
    assert lab.outcomes(plan(DEFAULT)) == ["skipped"]
    assert lab.outcomes(plan(DEFAULT, 2)) == ["updated"]
    assert started(lab).entrypoint[1] == "--at=10.99.0.3:2"


def test_with_a_placeholder_of_its_own_the_default_one_is_a_text_like_others(lab: Laboratory):
    lab.ok(plan(DEFAULT, setting=', private_ip_address_placeholder = "@ME@"'))
    assert started(lab).cmd == ("-b", DEFAULT)


def test_each_service_of_a_batch_has_its_own(lab: Laboratory):
    lab.ok(
        f'plan.add_services({{name: ServiceConfig(image = "img", cmd = ["{DEFAULT}"]) for name in ["a", "b"]}})',
    )
    specs = lab.engine.sites["lab-0"].asked("start")[0]["specs"]
    assert {spec.name: spec.cmd for spec in specs} == {spec.name: (spec.address.ip_address,) for spec in specs}
    assert len({spec.cmd for spec in specs}) == 2


def test_an_empty_placeholder_is_none(lab: Laboratory):
    error = lab.error(plan("x", setting=', private_ip_address_placeholder = ""'))
    assert error.message == (
        'ServiceConfig: `private_ip_address_placeholder` must be a non-empty string, not "" (string)'
    )


def test_a_real_service_has_the_address_that_it_is_told(real: Laboratory):
    def script(version: int) -> str:
        return (
            'plan.add_service("s", ServiceConfig(image = "enclave-test/busybox:local", '
            f'entrypoint = ["sh", "-c"], cmd = ["echo {DEFAULT} > /told; exec sleep 100000{version}"], '
            f'env_vars = {{"ME": "{DEFAULT}"}}))\n'
            'return plan.exec("s", ExecRecipe(command = ["sh", "-c", "cat /told; echo $ME; ip -4 addr"]))["output"]'
        )

    for version in (1, 2):
        told, me, *addresses = real.ok(script(version)).output.splitlines()
        assert told == me
        assert any(f"inet {me}/" in line for line in addresses)
