"""What becomes of services in time: starting, ports, exits, logs, actions."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import (
    Action,
    Address,
    EnclaveId,
    Endpoint,
    Exit,
    HttpRequest,
    LogLine,
    NotReached,
    ServiceSpec,
)
from pytest_enclave.engine.simulated import EPOCH, Script, SimulatedEngine, SimulatedSite, digest_of
from pytest_enclave.errors import ImageUnavailable, ServiceError
from pytest_enclave.plan.facts import ServiceFact, Status
from pytest_enclave.plan.service import PortSpec

PG = PortSpec(5432)


class World:
    """An engine with one enclave, and the services that a test starts in it."""

    def __init__(self, script: Script | None = None) -> None:
        self.engine = SimulatedEngine(script)
        self.site: SimulatedSite = self.engine.open(EnclaveId("test"))

    def spec(self, name: str, image: str = "postgres", **more: object) -> ServiceSpec:
        return ServiceSpec(name, image, self.site.reserve(name), ports={"pg": PG}, **more)  # type: ignore[arg-type]

    def start(self, *names: str, parallelism: int = 1) -> None:
        troubles = self.site.start([self.spec(name) for name in names], {}, parallelism)
        assert troubles == dict.fromkeys(names)

    @property
    def now(self) -> float:
        return self.engine.clock.now()

    def status(self, name: str) -> Status:
        return self.site.observe()[name].status


def test_a_started_service_is_observed_with_its_images_digest_and_its_address() -> None:
    world = World()
    world.start("db")
    assert world.site.observe() == {"db": ServiceFact(Status.RUNNING, digest_of("postgres"), "10.99.0.2")}


def test_services_start_beside_each_other_as_far_as_they_may() -> None:
    world = World(Script().service("slow", start_takes=1.0))
    world.start("slow", "b", "c", "d", parallelism=2)
    assert world.now == 1.0
    world.start("e", "f", parallelism=1)
    assert world.now == pytest.approx(1.6)


def test_addresses_are_given_in_order_and_kept_when_a_service_is_replaced_or_removed() -> None:
    world = World()
    world.start("db", "api")
    assert world.site.reserve("api") == Address("api", "10.99.0.3")
    world.start("db")
    world.site.act("db", Action.REMOVE)
    assert world.site.reserve("db") == Address("db", "10.99.0.2")
    assert world.site.reserve("cache") == Address("cache", "10.99.0.4")


def test_a_start_that_fails_tells_why_and_does_not_stop_the_others() -> None:
    world = World(Script().service("db", start_fails="no such entrypoint").image("gone", missing="unknown"))
    specs = [world.spec("db"), world.spec("api"), world.spec("ml", image="gone")]
    troubles = world.site.start(specs, {}, 3)
    assert isinstance(troubles["db"], ServiceError)
    assert (troubles["db"].message, troubles["db"].service) == ("no such entrypoint", "db")
    assert troubles["api"] is None
    assert isinstance(troubles["ml"], ImageUnavailable)
    assert set(world.site.observe()) == {"api"}
    assert world.now == 0.3


def test_an_artifact_that_is_not_there_fails_the_start() -> None:
    world = World()
    trouble = world.site.start([world.spec("db", files={"/etc": "config"})], {}, 1)["db"]
    assert isinstance(trouble, ServiceError)
    assert "`config`" in trouble.message


def test_replacing_a_service_begins_its_script_and_its_log_anew() -> None:
    world = World(Script().service("db", exits_after=1.0, logs=[(0.5, "hello")]))
    world.start("db")
    world.site.pause(2.0)
    assert world.status("db") is Status.EXITED
    world.start("db")
    assert world.status("db") is Status.RUNNING
    assert world.site.logs("db") == ()


def test_ports_are_open_at_once_unless_the_script_has_a_time_for_them() -> None:
    world = World(Script().service("db", opens_after={"pg": 2.0}).service("dead", opens_after={"pg": None}))
    world.start("db", "api", "dead", parallelism=3)
    assert world.site.accepts("api", PG)
    world.site.pause(1.75)
    assert not world.site.accepts("db", PG)
    world.site.pause(0.25)
    assert world.now == 2.3
    assert world.site.accepts("db", PG)
    world.site.pause(1e6)
    assert not world.site.accepts("dead", PG)


def test_a_udp_port_always_accepts() -> None:
    world = World(Script().service("db", opens_after={"pg": None}))
    world.start("db")
    world.site.act("db", Action.STOP)
    assert world.site.accepts("db", PortSpec(5432, "UDP"))


def test_a_port_that_is_not_open_yet_refuses_requests_at_once() -> None:
    world = World(Script().service("db", opens_after={"pg": 2.0}))
    world.start("db")
    with pytest.raises(NotReached, match="connection refused"):
        world.site.request("db", PG, HttpRequest("GET", "/"), None)
    assert world.now == 0.3


def test_a_service_never_exits_unless_told_to() -> None:
    world = World()
    world.start("db")
    world.site.pause(1e9)
    assert world.site.exit_of("db") is None
    assert world.status("db") is Status.RUNNING


def test_a_service_exits_when_and_how_its_script_says() -> None:
    out_of_memory = Exit(137, out_of_memory=True)
    world = World(Script().service("db", exits_after=5.0, exits_with=out_of_memory))
    world.start("db")
    world.site.pause(4.5)
    assert world.site.exit_of("db") is None
    world.site.pause(0.5)
    assert world.site.exit_of("db") == out_of_memory
    assert world.status("db") is Status.EXITED
    assert not world.site.accepts("db", PG)


def test_a_pause_ends_as_soon_as_the_watched_service_does() -> None:
    world = World(Script().service("db", exits_after=5.0, exits_with=Exit(1)))
    world.start("db", "api", parallelism=2)
    assert world.site.pause(2.0, watching="db") is None
    assert world.now == 2.3
    assert world.site.pause(1.0, watching="api") is None
    assert world.site.pause(30.0, watching="db") == Exit(1)
    assert world.now == 5.3
    assert world.site.pause(30.0, watching="db") == Exit(1)
    assert world.now == 5.3


def test_watching_a_service_that_is_not_there_is_just_a_pause() -> None:
    world = World()
    assert world.site.pause(30.0, watching="nobody") is None
    assert world.now == 30.0


def test_a_log_grows_with_time_and_can_be_read_from_a_time_on() -> None:
    world = World(Script().service("db", logs=[(0.5, "ready"), (0.0, "starting"), (9.0, "bye")]))
    world.start("db")
    assert world.site.logs("db") == (LogLine(EPOCH + 0.3, "starting"),)
    world.site.pause(1.0)
    lines = (LogLine(EPOCH + 0.3, "starting"), LogLine(EPOCH + 0.8, "ready"))
    assert world.site.logs("db") == lines
    assert world.site.logs("db", since=EPOCH + 0.8) == lines[1:]
    assert world.site.logs("db", since=world.engine.clock.wall()) == ()


def test_a_service_that_ended_writes_no_more() -> None:
    world = World(Script().service("db", exits_after=1.0, logs=[(1.0, "last"), (2.0, "never")]))
    world.start("db")
    world.site.pause(10.0)
    assert [line.text for line in world.site.logs("db")] == ["last"]


def test_a_service_that_is_not_there_has_no_log_no_exit_and_no_open_port() -> None:
    site = World().site
    assert site.logs("nobody") == ()
    assert site.exit_of("nobody") is None
    assert not site.accepts("nobody", PG)
    with pytest.raises(NotReached, match="there is no service `nobody`"):
        site.dial("nobody", PG)


def test_a_port_is_dialled_where_nothing_listens() -> None:
    world = World()
    world.start("db")
    assert world.site.dial("db", PG) == Endpoint("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [(Action.STOP, Status.STOPPED, 143), (Action.KILL, Status.EXITED, 137)],
)
def test_a_service_that_was_ended_is_not_reached(action: Action, status: Status, code: int) -> None:
    world = World()
    world.start("db")
    world.site.act("db", action)
    assert world.status("db") is status
    assert world.site.exit_of("db") == Exit(code)
    assert not world.site.accepts("db", PG)
    with pytest.raises(NotReached, match="does not run"):
        world.site.exec("db", ["true"], None)
    with pytest.raises(NotReached, match="does not run"):
        world.site.request("db", PG, HttpRequest("GET", "/"), None)
    assert world.now == 0.3


def test_a_stopped_service_that_is_started_goes_through_its_script_again_and_keeps_its_log() -> None:
    world = World(Script().service("db", opens_after={"pg": 1.0}, logs=[(0.0, "starting"), (2.0, "ready")]))
    world.start("db")
    world.site.pause(1.0)
    world.site.act("db", Action.STOP)
    world.site.pause(5.0)
    world.site.act("db", Action.START)
    assert world.now == 6.6
    assert world.status("db") is Status.RUNNING
    assert not world.site.accepts("db", PG)
    world.site.pause(1.0)
    assert world.site.accepts("db", PG)
    assert world.site.logs("db") == (LogLine(EPOCH + 0.3, "starting"), LogLine(EPOCH + 6.6, "starting"))


def test_a_stopped_service_that_cannot_start_again_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.start("db")
    world.site.act("db", Action.STOP)
    monkeypatch.setattr(world.site, "_script", Script().service("db", start_fails="disk full"))
    with pytest.raises(ServiceError, match="disk full"):
        world.site.act("db", Action.START)
    assert world.status("db") is Status.STOPPED


def test_doing_what_is_already_done_changes_nothing() -> None:
    world = World()
    world.start("db")
    for action in (Action.START, Action.RESUME):
        world.site.act("db", action)
    assert world.status("db") is Status.RUNNING
    for action in (Action.PAUSE, Action.PAUSE):
        world.site.act("db", action)
    assert world.status("db") is Status.PAUSED
    for action in (Action.STOP, Action.STOP, Action.KILL):
        world.site.act("db", action)
    assert world.status("db") is Status.STOPPED
    assert world.site.exit_of("db") == Exit(143)
    assert world.now == 0.3


def test_stopping_a_service_that_has_exited_keeps_its_exit() -> None:
    world = World(Script().service("db", exits_after=1.0, exits_with=Exit(3)))
    world.start("db")
    world.site.pause(2.0)
    world.site.act("db", Action.STOP)
    assert world.status("db") is Status.STOPPED
    assert world.site.exit_of("db") == Exit(3)


def test_a_paused_services_own_time_stands_still() -> None:
    script = Script().service("db", opens_after={"pg": 4.0}, exits_after=5.0, logs=[(1.0, "one"), (3.0, "three")])
    world = World(script)
    world.start("db")
    world.site.pause(2.0)
    world.site.act("db", Action.PAUSE)
    assert world.site.pause(10.0, watching="db") is None
    assert world.status("db") is Status.PAUSED
    assert [line.text for line in world.site.logs("db")] == ["one"]
    world.site.act("db", Action.RESUME)
    world.site.pause(1.75)
    assert not world.site.accepts("db", PG)
    assert world.site.pause(0.25) is None
    assert world.site.accepts("db", PG)
    assert [line.at - EPOCH for line in world.site.logs("db")] == pytest.approx([1.3, 13.3], abs=1e-6)
    assert world.site.pause(60.0, watching="db") == Exit(0)
    assert world.now == pytest.approx(15.3)


@pytest.mark.parametrize("action", [Action.PAUSE, Action.RESUME])
def test_a_service_that_does_not_run_is_neither_paused_nor_resumed(action: Action) -> None:
    world = World()
    world.start("db")
    world.site.act("db", Action.STOP)
    with pytest.raises(ServiceError, match="`db` does not run"):
        world.site.act("db", action)


def test_a_removed_service_is_gone_with_its_log() -> None:
    world = World(Script().service("db", logs=[(0.0, "starting")]))
    world.start("db")
    world.site.act("db", Action.REMOVE)
    assert world.site.observe() == {}
    assert world.site.logs("db") == ()
    with pytest.raises(ServiceError, match="there is no service `db`"):
        world.site.act("db", Action.STOP)
