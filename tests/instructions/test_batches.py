"""`plan.add_services`: side by side, all or nothing, and only what changed is replaced."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import Exit, HttpResponse
from pytest_enclave.engine.simulated.behaviour import Timing
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import EnclaveError, PortNeverOpened, ServiceExited, WaitTimedOut
from pytest_enclave.instructions.starting import FIRST_MOMENT
from pytest_enclave.run.pipeline import Options
from tests.laboratory import Laboratory

CHECKED = (
    'ports = {"http": PortSpec(number = 80, wait = "2s")}, ready_conditions = ReadyCondition(recipe = '
    'GetHttpRequestRecipe(port_id = "http", endpoint = "/"), field = "code", assertion = "==", '
    'target_value = 200, timeout = "5s")'
)


def batch(**versions: int) -> str:
    """A plan that adds these services at once, each with a port and a ready condition."""
    entries = ", ".join(
        f'"{name}": ServiceConfig(image = "img", env_vars = {{"V": "{version}"}}, {CHECKED})'
        for name, version in versions.items()
    )
    return f"plan.add_services({{{entries}}})"


def started(lab: Laboratory) -> list[list[str]]:
    """The names of the services of every start that the site was asked for."""
    return [[spec.name for spec in call["specs"]] for call in lab.engine.sites["lab-0"].asked("start")]


def alive(lab: Laboratory) -> set[str]:
    """The services that the engine has."""
    return set(lab.state.site.observe())


def test_row_153_three_services_come_up_at_once(lab: Laboratory):
    finished = lab.ok("return " + batch(a=1, b=1, c=1))
    assert started(lab) == [["a", "b", "c"]]
    assert finished.instructions[0].message == "3 services are up: `a`, `b`, `c`"
    assert [service["ip_address"] for service in finished.output.values()] == ["10.99.0.2", "10.99.0.3", "10.99.0.4"]


@pytest.mark.parametrize(("parallelism", "seconds"), [(1, 4.0), (2, 2.0), (4, 1.0)])
def test_as_many_start_side_by_side_as_the_parallelism_says(
    laboratory: Callable[..., Laboratory], parallelism: int, seconds: float
):
    lab = laboratory(Script().timing(Timing(start=1.0, request=0.0)))
    lab.options = Options(parallelism=parallelism)
    lab.ok(batch(a=1, b=1, c=1, d=1))
    assert lab.engine.clock.now() == pytest.approx(seconds)


@pytest.mark.parametrize(("parallelism", "seconds"), [(1, 6.0), (4, 3.0)])
def test_readiness_is_waited_for_side_by_side(laboratory: Callable[..., Laboratory], parallelism: int, seconds: float):
    slow = Script().timing(Timing(start=0.0, request=3.0))
    lab = laboratory(slow)
    lab.options = Options(parallelism=parallelism)
    lab.ok(batch(a=1, b=1))
    assert lab.engine.clock.now() == pytest.approx(seconds)


def test_the_moment_for_those_with_nothing_to_wait_for_is_spent_once(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().timing(Timing(start=0.0)))
    lab.options = Options(parallelism=1)
    lab.ok('plan.add_services({name: ServiceConfig(image = "img") for name in ["a", "b", "c", "d"]})')
    assert lab.engine.clock.now() == pytest.approx(FIRST_MOMENT)


FAILURES: dict[str, tuple[Script, type[EnclaveError]]] = {
    "row-154-exits": (Script().service("b", exits_after=0.0, exits_with=Exit(1)), ServiceExited),
    "row-154-port": (Script().service("b", opens_after={"http": None}), PortNeverOpened),
    "row-154-ready-condition": (Script().on_request("b", None, HttpResponse(503, {}, b"")), WaitTimedOut),
}


@pytest.mark.parametrize(("script", "error"), FAILURES.values(), ids=FAILURES)
def test_if_one_fails_none_stays(laboratory: Callable[..., Laboratory], script: Script, error: type[EnclaveError]):
    lab = laboratory(script)
    failed = lab.error(batch(a=1, b=1, c=1))
    assert type(failed) is error
    assert failed.service == "b"
    assert alive(lab) == set()
    assert lab.enclave().services == {}
    assert lab.kept == []


@pytest.mark.parametrize("names", ["a", "abc"])
def test_row_154_where_one_cannot_start_none_stays(laboratory: Callable[..., Laboratory], names: str):
    lab = laboratory(Script().service("a", start_fails="no space left on device"))
    failed = lab.error(batch(**dict.fromkeys(names, 1)))
    assert failed.message == "no space left on device"
    assert alive(lab) == set()


def test_every_failure_is_told_each_with_its_last_log_lines(laboratory: Callable[..., Laboratory]):
    script = Script().service("*", opens_after={"http": None}, logs=[(0.0, "starting"), (1.0, "no database")])
    failed = laboratory(script.service("b", opens_after={})).error(batch(a=1, b=1, c=1))
    assert failed.service == "a"
    assert [text.split(" of ")[1].split(" did")[0] for _, text in failed.details] == ["service `c`"]
    assert failed.logs == {"a": ["starting", "no database"], "c": ["starting", "no database"]}


def test_row_155_only_what_changed_is_replaced_and_keeps_its_address(lab: Laboratory):
    before = lab.ok("return " + batch(a=1, b=1, c=1)).output
    finished = lab.ok("return " + batch(a=1, b=2, c=1))
    assert started(lab)[1:] == [["b"]]
    assert finished.output == before
    assert finished.instructions[0].message == "1 service is up: `b`"
    assert lab.state.configs()["b"].env_vars == {"V": "2"}


def test_a_batch_that_grows_starts_only_what_is_new(lab: Laboratory):
    lab.ok(batch(a=1, b=1))
    assert lab.outcomes(batch(a=1, b=1, c=1)) == ["updated"]
    assert started(lab)[1:] == [["c"]]


def test_an_updated_service_that_fails_is_not_removed_but_a_new_one_beside_it_is(
    laboratory: Callable[..., Laboratory],
):
    lab = laboratory(Script().service("c", opens_after={"http": None}))
    lab.ok(batch(a=1, b=1))
    assert lab.error(batch(a=1, b=2, c=1)).service == "c"
    assert alive(lab) == {"a", "b"}


def test_row_155_after_a_failed_update_the_next_run_replaces_the_whole_batch(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("c", opens_after={"http": None}))
    lab.ok(batch(a=1, b=1))
    lab.error(batch(a=1, b=2, c=1))
    assert lab.outcomes(batch(a=1, b=1)) == ["updated"]
    assert started(lab)[-1] == ["a", "b"], "nobody knows any more what either of them runs with"


def test_a_service_that_the_plan_stops_later_is_started_again_with_its_batch(lab: Laboratory):
    stop = '\nplan.stop_service("a")'
    lab.ok(batch(a=1, b=1) + stop)
    assert lab.outcomes(batch(a=1, b=2) + stop) == ["updated", "executed"]
    assert started(lab)[1:] == [["a", "b"]]
