"""Waiting for a service's ports: as long as it takes, and not a moment longer than it makes sense. Time is virtual."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import Exit
from pytest_enclave.engine.simulated.behaviour import Timing
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import PortNeverOpened, RunTimedOut, ServiceExited
from pytest_enclave.instructions.starting import FIRST_MOMENT
from pytest_enclave.plan.events import Waiting
from pytest_enclave.run.pipeline import Options
from tests.laboratory import Laboratory

INSTANT = Script().timing(Timing(start=0.0))


def serving(**ports: str) -> str:
    """A plan that adds a service with these ports."""
    listed = ", ".join(f'"{name}": PortSpec({text})' for name, text in ports.items())
    return f'plan.add_service("db", ServiceConfig(image = "img", ports = {{{listed}}}))'


def test_row_136_a_port_that_opens_is_waited_for(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"sql": 5.0}))
    lab.ok(serving(sql="number = 5432"))
    assert 5.0 <= lab.engine.clock.now() <= 5.2, "probes come at most 0.2 s apart"
    assert [event.what for event in lab.events if isinstance(event, Waiting)] == ["db: port sql (5432/TCP) to open"]


def test_a_port_that_is_open_at_once_costs_no_time(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT)
    lab.ok(serving(sql="number = 5432"))
    assert lab.engine.clock.now() == 0.0
    assert not [event for event in lab.events if isinstance(event, Waiting)]


def test_the_first_probes_come_within_milliseconds(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"sql": 0.01}))
    lab.ok(serving(sql="number = 5432"))
    assert lab.engine.clock.now() < 0.02


@pytest.mark.parametrize(
    ("wait", "seconds"), [('wait = "3s"', 3.0), ("", 120.0)], ids=["row-136-as-told", "row-62-two-minutes-unless-told"]
)
def test_a_port_that_never_opens_fails_after_its_wait(laboratory: Callable[..., Laboratory], wait: str, seconds: float):
    lab = laboratory(INSTANT.service("db", opens_after={"sql": None}, logs=[(0.5, "listening on 5433")]))
    error = lab.error(serving(sql=f"number = 5432, {wait}"))
    assert type(error) is PortNeverOpened
    assert (error.service, error.port, error.timeout) == ("db", "sql", seconds)
    assert error.message.startswith("port `sql` (5432/TCP) of service `db` did not open in ")
    assert seconds < lab.engine.clock.now() <= seconds + 0.21
    assert error.logs == {"db": ["listening on 5433"]}


def test_a_service_that_exits_before_ends_the_wait_at_once(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"sql": None}, exits_after=1.5, exits_with=Exit(127)))
    error = lab.error(serving(sql="number = 5432"))
    assert type(error) is ServiceExited
    assert error.message == (
        "service `db` exited with code 127 (its command was not found) before its port `sql` opened"
    )
    assert lab.engine.clock.now() == pytest.approx(1.5)


def test_row_64_a_port_without_wait_is_not_waited_for(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"sql": None}))
    lab.ok(serving(sql="number = 5432, wait = None"))
    assert lab.engine.clock.now() == FIRST_MOMENT
    assert lab.engine.sites["lab-0"].asked("accepts") == []


def test_a_udp_port_counts_as_open(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"dns": None}))
    lab.ok(serving(dns='number = 53, transport_protocol = "UDP"'))
    assert lab.engine.clock.now() == 0.0


def test_ports_are_waited_for_side_by_side(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"a": 4.0, "b": 5.0}))
    lab.ok(serving(a="number = 1", b="number = 2"))
    assert lab.engine.clock.now() <= 5.2


def test_each_port_has_its_own_wait(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"a": None, "b": None}))
    error = lab.error(serving(a="number = 1", b='number = 2, wait = "1s"'))
    assert (error.port, error.timeout) == ("b", 1.0)


def test_the_end_of_the_whole_run_ends_the_wait(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"sql": None}))
    lab.options = Options(timeout=10.0)
    assert type(lab.error(serving(sql="number = 5432"))) is RunTimedOut
    assert lab.engine.clock.now() <= 10.21


PUBLIC = (
    'plan.add_service("db", ServiceConfig(image = "img", '
    'ports = {{"sql": PortSpec(number = 5432{private})}}, public_ports = {{{public}}}))'
)


@pytest.mark.parametrize(
    ("private", "public", "seconds"),
    [
        ("", '"web": PortSpec(number = 80)', 5.0),
        ("", '"web": PortSpec(number = 80, wait = None)', 0.0),
        (", wait = None", '"sql": PortSpec(number = 15432)', 3.0),
    ],
    ids=["one-of-its-own", "one-without-wait", "the-way-to-a-private-one"],
)
def test_public_ports_with_a_wait_are_waited_for_too(
    laboratory: Callable[..., Laboratory], private: str, public: str, seconds: float
):
    opens = {"web": 5.0, "sql": 3.0 if private else 0.0}
    lab = laboratory(INSTANT.service("db", opens_after=opens))
    lab.ok(PUBLIC.format(private=private, public=public))
    assert seconds <= lab.engine.clock.now() <= seconds + 0.2


@pytest.mark.parametrize("public", ['"sql": PortSpec(number = 15432)', '"other": PortSpec(number = 5432)'])
def test_a_port_that_is_private_and_public_is_waited_for_once(laboratory: Callable[..., Laboratory], public: str):
    lab = laboratory(INSTANT)
    lab.ok(PUBLIC.format(private="", public=public))
    (asked,) = lab.engine.sites["lab-0"].asked("accepts")
    assert asked["port"].number == 5432


def test_a_public_port_that_never_opens_is_told_by_its_own_name(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("db", opens_after={"web": None}))
    error = lab.error(PUBLIC.format(private="", public='"web": PortSpec(number = 80, wait = "1s")'))
    assert (type(error), error.port, error.timeout) == (PortNeverOpened, "web", 1.0)


ENDING = 'plan.add_service("job", ServiceConfig(image = "img"))'


@pytest.mark.parametrize("config", ["", ', ports = {"dns": PortSpec(number = 53, wait = None)}'])
def test_a_service_without_anything_to_wait_for_that_has_failed_is_told(
    laboratory: Callable[..., Laboratory], config: str
):
    lab = laboratory(INSTANT.service("job", exits_after=0.0, exits_with=Exit(3), logs=[(0.0, "no disk")]))
    error = lab.error(ENDING.replace('"img"', f'"img"{config}'))
    assert type(error) is ServiceExited
    assert error.message == "service `job` exited with code 3 as soon as it was started"
    assert error.logs == {"job": ["no disk"]}


def test_one_that_fails_a_moment_later_is_told_as_well(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT.service("job", exits_after=0.04, exits_with=Exit(3)))
    assert type(lab.error(ENDING)) is ServiceExited
    assert lab.engine.clock.now() == pytest.approx(0.04)


def test_a_job_that_ended_well_is_no_failure(laboratory: Callable[..., Laboratory]):
    laboratory(INSTANT.service("job", exits_after=0.0)).ok(ENDING)


def test_only_a_moment_is_spent_on_a_service_without_anything_to_wait_for(laboratory: Callable[..., Laboratory]):
    lab = laboratory(INSTANT)
    lab.ok(ENDING)
    assert lab.engine.clock.now() == FIRST_MOMENT
