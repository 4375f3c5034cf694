"""A service as a test holds it; what a test does with it never becomes part of the enclave's plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.enclave.service import Port, Service
from pytest_enclave.engine.protocol import ExecResult
from pytest_enclave.engine.simulated.clock import EPOCH
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import RecipeFailed, ServiceError
from pytest_enclave.plan.facts import Status
from tests.laboratory import Laboratory

PLAN = (
    'plan.add_service("db", ServiceConfig(image = "postgres", ports = {'
    '"http": PortSpec(number = 80, application_protocol = "http"), "sql": PortSpec(number = 5432), '
    '"dns": PortSpec(number = 53, transport_protocol = "UDP")}))'
)


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """A service that opens its port late, and writes two lines."""
    script = Script().service("db", opens_after={"sql": 2.0}, logs=[(0.0, "starting"), (1.0, "ready")])
    lab = laboratory(script.on_exec("db", ["slow", ...], ExecResult(0, ""), takes=10.0))
    lab.ok(PLAN)
    return lab


@pytest.fixture
def db(lab: Laboratory) -> Service:
    """The service."""
    return lab.enclave().services["db"]


def test_it_tells_its_name_and_where_it_is(db: Service):
    assert (db.name, db.hostname, db.ip_address) == ("db", "db", "10.99.0.2")
    assert repr(db) == "<Service 'db' postgres>"


def test_its_ports_are_reached_from_the_test_process(db: Service):
    assert list(db.ports) == ["http", "sql", "dns"]
    http = db.ports["http"]
    assert (http.number, http.transport_protocol, http.application_protocol) == (80, "TCP", "http")
    assert http.url == f"http://{http.host}:{http.host_port}"


@pytest.mark.parametrize(
    ("port", "url"),
    [
        (Port(80, "TCP", "http", "172.18.0.2", 8080), "http://172.18.0.2:8080"),
        (Port(5432, "TCP", None, "localhost", 1), "tcp://localhost:1"),
        (Port(53, "UDP", None, "::1", 53), "udp://[::1]:53"),
        (Port(5432, "TCP", "postgresql", "fe80::2", 5432), "postgresql://[fe80::2]:5432"),
    ],
)
def test_a_ports_url_has_its_protocol_and_address(port: Port, url: str):
    assert port.url == url
    assert port.address == url.partition("://")[2]


def test_commands_run_in_it(db: Service):
    assert db.exec(["echo", "a b"]) == ExecResult(0, "a b\n")
    assert db.exec(["false"]).code == 1


def test_a_command_that_takes_too_long_is_given_up(lab: Laboratory, db: Service):
    before = lab.engine.clock.now()
    with pytest.raises(RecipeFailed) as caught:
        db.exec(["slow", "and easy"], timeout=3.0)
    assert str(caught.value) == "`slow 'and easy'` in service `db`: no result within 3 s"
    assert caught.value.service == "db"
    assert caught.value.__context__ is None, "the engine's own exceptions are nobody's business"
    assert lab.engine.clock.now() == before + 3.0


def test_a_command_as_one_text_is_refused_with_the_way_to_write_it(db: Service):
    with pytest.raises(TypeError) as caught:
        db.exec("ls -l")  # type: ignore[arg-type]
    assert str(caught.value) == """a command is a list of arguments: exec(["/bin/sh", "-c", 'ls -l'])"""


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        (["sleep", 5], TypeError, "a command is a list of strings: write 5 (type int) as one"),
        ([b"ls"], TypeError, "a command is a list of strings: write b'ls' (type bytes) as one"),
        ([], ValueError, 'a command is a list of at least one argument, the program: exec(["true"])'),
    ],
)
def test_what_is_no_command_is_refused(db: Service, command: list[str], kind: type[Exception], text: str):
    with pytest.raises(kind) as caught:
        db.exec(command)
    assert str(caught.value) == text


def test_one_that_is_gone_has_no_ports_to_reach(lab: Laboratory, db: Service):
    lab.ok('plan.remove_service("db")')
    with pytest.raises(ServiceError) as caught:
        _ = db.ports
    assert str(caught.value).startswith("port 80 of service `db` cannot be reached: ")


def test_its_log_is_one_text_from_any_moment_on(db: Service):
    assert db.logs() == "starting\nready\n"
    assert db.logs(since=EPOCH + 1.0) == "ready\n"


def test_it_stops_and_starts_and_is_waited_for(lab: Laboratory, db: Service):
    db.stop()
    assert lab.state.site.observe()["db"].status is Status.STOPPED
    with pytest.raises(RecipeFailed) as caught:
        db.exec(["true"])
    assert str(caught.value).startswith("`true` in service `db`: ")
    before = lab.engine.clock.now()
    db.start()
    assert lab.state.site.observe()["db"].status is Status.RUNNING
    assert lab.engine.clock.now() >= before + 2.0, "until its ports accept connections"


def test_starting_one_that_never_listens_ends_with_its_ports_wait(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("s", opens_after={"x": 1.0}))
    lab.ok('plan.add_service("s", ServiceConfig(image = "img", ports = {"x": PortSpec(number = 1, wait = "1500ms")}))')
    service = lab.enclave().services["s"]
    service.kill()
    service.start()
    assert service.exec(["true"]).code == 0


def test_it_is_killed_paused_and_resumed(lab: Laboratory, db: Service):
    db.pause()
    assert lab.state.site.observe()["db"].status is Status.PAUSED
    db.resume()
    assert db.exec(["true"]).code == 0
    db.kill()
    assert lab.state.site.observe()["db"].status is Status.EXITED


def test_none_of_it_becomes_part_of_the_plan(lab: Laboratory, db: Service):
    db.exec(["true"])
    db.stop()
    db.start()
    db.pause()
    db.resume()
    assert lab.kept == ["add_service"]
    assert lab.ok(PLAN).executed == 0


def test_a_service_held_while_it_is_replaced_is_the_new_one(lab: Laboratory, db: Service):
    address = db.ip_address
    lab.ok(PLAN.replace('image = "postgres"', 'image = "postgres:17"'))
    assert db.ip_address == address
    assert db.exec(["true"]).code == 0
