"""`plan.wait` and ready conditions: when they try, how long they wait, and what they tell. Time is virtual."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_enclave.engine.protocol import ExecResult, Exit, HttpResponse, NotReached
from pytest_enclave.engine.simulated.behaviour import Timing
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import RunTimedOut, ServiceExited, WaitTimedOut
from pytest_enclave.run.pipeline import Options
from tests.laboratory import Laboratory

INSTANT = Script().timing(Timing(start=0.0, exec=0.0, request=0.0))
DB = 'plan.add_service("db", ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80)}))\n'
NO, YES = ExecResult(1, "not yet\n"), ExecResult(0, "ready\n")


def waiting(interval: str = "1s", timeout: str = "10s", **fields: str) -> str:
    """A plan that waits for `check` to end with code 0, or as the fields say."""
    wanted = {"recipe": 'ExecRecipe(command = ["check"])', "field": '"code"', "assertion": '"=="', "target_value": "0"}
    given_fields = ", ".join(f"{name} = {text}" for name, text in (wanted | fields).items())
    return f'{DB}plan.wait("db", {given_fields}, interval = "{interval}", timeout = "{timeout}")'


def never(script: Script = INSTANT) -> Script:
    """A service that is never ready."""
    return script.on_exec("db", ["check"], NO)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), interval=st.sampled_from([0.2, 1.0, 3.0]))
def test_pauses_double_three_times_each_between_half_and_one_and_a_half(
    laboratory: Callable[..., Laboratory], seed: int, interval: float
):
    lab = laboratory(never())
    lab.options = Options(seed=seed)
    error = lab.error(waiting(interval=f"{interval}s", timeout="60s"))
    tries = [attempt.at for attempt in error.attempts]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert tries[0] == 0.0, "the first try is made at once"
    assert tries[-1] == pytest.approx(60.0), "the last one on the deadline"
    for number, pause in enumerate(pauses):
        whole = interval * 2 ** min(number, 3)
        assert pause <= 1.5 * whole + 1e-9
        assert pause >= 0.5 * whole - 1e-9 or number == len(pauses) - 1, "only the last pause is cut"


def test_one_seed_gives_one_sequence_of_pauses(laboratory: Callable[..., Laboratory]):
    first, second = (laboratory(never()).error(waiting()).attempts for _ in range(2))
    assert first == second


def test_row_140_it_ends_with_the_first_try_that_succeeds(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.on_exec("db", ["check"], [NO, NO, YES]))
    finished = lab.ok(waiting())
    assert finished.instructions[-1].message == "held after 3 tries: 0 ready"
    assert len(lab.engine.sites["lab-0"].asked("exec")) == 3
    assert laboratory(INSTANT).ok(waiting()).instructions[-1].message == "held after 1 try: 0"


def test_its_values_are_those_of_the_last_try(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.on_exec("db", ["check"], [NO, YES]))
    assert lab.ok(waiting().replace("plan.wait", "return plan.wait")).output == {"code": 0, "output": "ready\n"}


def test_row_138_what_never_holds_times_out_and_tells_every_attempt(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.on_request("db", None, HttpResponse(503, {}, b"starting")))
    error = lab.error(
        waiting("100ms", "10s", recipe='GetHttpRequestRecipe(port_id = "http", endpoint = "/")', assertion='"<"')
    )
    assert type(error) is WaitTimedOut
    assert isinstance(error, AssertionError)
    assert (error.service, error.condition, error.timeout) == ("db", "db GET / → code < 0", 10.0)
    assert {attempt.outcome for attempt in error.attempts} == {"503 starting"}
    count = len(error.attempts)
    assert error.message == f"wait timed out after 10 s ({count} tries): db GET / → code < 0; last: 503 starting"
    assert str(error.location) == "<source>:3:14"


def test_row_139_a_recipe_that_fails_is_tried_again(laboratory: Callable[..., Laboratory]):
    refused = NotReached("connection refused")
    lab = laboratory(INSTANT.on_request("db", None, [refused, refused, HttpResponse(200, {}, b"")]))
    recipe = 'GetHttpRequestRecipe(port_id = "http", endpoint = "/")'
    assert lab.ok(waiting(recipe=recipe, target_value="200")).instructions[-1].message == "held after 3 tries: 200"
    always = laboratory(INSTANT.on_request("db", None, refused))
    error = always.error(waiting(recipe=recipe, timeout="0s"))
    assert [(attempt.at, attempt.outcome) for attempt in error.attempts] == [(0.0, "connection refused")]


@pytest.mark.parametrize(
    ("takes", "outcome", "ends"),
    [(12.0, "1 not yet", 12.0), (13.0, "no answer in time", 12.5)],
    ids=["row-141-within-a-quarter-more", "row-141-beyond-it"],
)
def test_a_try_under_way_at_the_deadline_is_the_last(
    laboratory: Callable[..., Laboratory], takes: float, outcome: str, ends: float
):
    lab = laboratory(INSTANT.on_exec("db", ["check"], NO, takes=takes))
    error = lab.error(waiting(timeout="10s"))
    assert [attempt.outcome for attempt in error.attempts] == [outcome]
    assert lab.engine.clock.now() == ends


def test_a_try_that_succeeds_after_the_deadline_within_the_grace_counts(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.on_exec("db", ["check"], YES, takes=11.0))
    assert lab.ok(waiting(timeout="10s")).executed == 2


def test_it_ends_at_once_when_the_service_exits(laboratory: Callable[..., Laboratory]):
    lab = laboratory(never().service("db", exits_after=2.5, exits_with=Exit(3)))
    error = lab.error(waiting(timeout="5m"))
    assert type(error) is ServiceExited
    assert error.message == "service `db` exited with code 3 while waiting for db $ check → code == 0"
    assert lab.engine.clock.now() == pytest.approx(2.5)


def test_running_out_of_memory_is_told_with_what_to_do(laboratory: Callable[..., Laboratory]):
    lab = laboratory(never().service("db", exits_after=1.0, exits_with=Exit(137, out_of_memory=True)))
    error = lab.error(waiting())
    assert error.message.startswith("service `db` ran out of memory (exit code 137) while waiting for")
    assert error.remedy == "raise its `max_memory`"


def test_values_of_another_type_never_hold_and_the_attempt_says_why(laboratory: Callable[..., Laboratory]):
    error = laboratory(INSTANT).error(waiting(target_value='"0"', timeout="1s"))
    assert error.attempts[0].outcome == (
        '0 — 0 is an int and "0" a string: values of different types are never compared'
    )


def test_the_end_of_the_whole_run_ends_a_wait(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.on_exec("db", ["check"], NO, takes=40.0))
    lab.options = Options(timeout=60.0)
    error = lab.error(waiting(timeout="15m"))
    assert type(error) is RunTimedOut
    assert lab.engine.clock.now() == 60.0, "a try under way gets no grace beyond the end of the run"


READY = (
    'ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80)}, ready_conditions = ReadyCondition('
    'recipe = GetHttpRequestRecipe(port_id = "http", endpoint = "/health"), '
    'field = "code", assertion = "==", target_value = TARGET, timeout = "30s"))'
)
ADDED = {
    "row-137-add_service": f'plan.add_service("db", {READY})',
    "row-137-add_services": f'plan.add_services({{"db": {READY}}})',
}


@pytest.mark.parametrize("plan", ADDED.values(), ids=ADDED)
def test_a_ready_condition_must_hold(laboratory: Callable[..., Laboratory], plan: str):
    assert laboratory(INSTANT).ok(plan.replace("TARGET", "200")).executed == 1
    error = laboratory(INSTANT).error(plan.replace("TARGET", "500"))
    assert type(error) is WaitTimedOut
    assert (error.timeout, error.attempts[-1].outcome) == (30.0, "200")
    assert error.message.endswith("db GET /health → code == 500; last: 200")


def test_a_ready_condition_waits_fifteen_minutes_unless_told(laboratory: Callable[..., Laboratory]):
    plan = ADDED["row-137-add_service"].replace("TARGET", "500").replace(', timeout = "30s"', "")
    assert laboratory(INSTANT).error(plan).timeout == 900.0
