"""Freezing and forking simulated enclaves."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import Action, EnclaveId, ExecResult, Exit, ServiceSpec
from pytest_enclave.engine.simulated import Script, SimulatedEngine, SimulatedSite
from pytest_enclave.errors import EngineError
from pytest_enclave.plan.facts import Status
from pytest_enclave.plan.service import PortSpec

PORT = PortSpec(5432)
FORK = EnclaveId("fork")


def site_with(*names: str, script: Script | None = None) -> tuple[SimulatedEngine, SimulatedSite]:
    engine = SimulatedEngine(script)
    site = engine.open(EnclaveId("origin"))
    site.start([ServiceSpec(name, "image", site.reserve(name), {"pg": PORT}) for name in names], {}, 1)
    return engine, site


def logged(site: SimulatedSite, name: str) -> list[str]:
    return [line.text for line in site.logs(name)]


def test_a_fork_has_the_same_services_at_the_same_addresses() -> None:
    engine, site = site_with("db", "api")
    site.freeze()
    fork = site.fork(FORK)
    assert fork.observe() == site.observe()
    assert fork.reserve("api") == site.reserve("api")
    assert fork.reserve("new").ip_address == "10.99.0.4"
    assert engine.sites == {"origin": site, "fork": fork}


def test_freezing_and_forking_take_no_time() -> None:
    engine, site = site_with("db")
    before = engine.clock.now()
    site.freeze()
    site.fork(FORK)
    assert engine.clock.now() == before


def test_an_enclave_that_was_not_frozen_cannot_be_forked() -> None:
    _, site = site_with("db")
    with pytest.raises(EngineError, match="enclave origin was never frozen"):
        site.fork(FORK)


def test_what_is_done_after_the_freeze_stays_with_who_does_it() -> None:
    _, site = site_with("db", "api")
    site.freeze()
    one = site.fork(EnclaveId("one"))
    one.act("db", Action.STOP)
    site.act("api", Action.REMOVE)
    other = site.fork(EnclaveId("other"))
    assert {name: fact.status for name, fact in other.observe().items()} == dict.fromkeys(("db", "api"), Status.RUNNING)
    assert site.observe()["db"].status is Status.RUNNING
    assert list(one.observe()) == ["db", "api"]


def test_what_did_not_run_does_not_run_in_the_fork() -> None:
    engine, site = site_with(
        "stopped", "job", "paused", script=Script().service("job", exits_after=1.0, exits_with=Exit(3))
    )
    site.act("stopped", Action.STOP)
    site.act("paused", Action.PAUSE)
    engine.clock.advance(2)
    site.freeze()
    facts = site.fork(FORK).observe()
    assert [facts[name].status for name in facts] == [Status.STOPPED, Status.EXITED, Status.PAUSED]
    assert facts["job"].exit_code == 3


def test_the_script_of_what_ran_begins_anew_and_its_log_goes_on() -> None:
    script = Script().service("db", opens_after={"pg": 2.0}, logs=[(0.0, "starting"), (2.0, "ready"), (9.0, "late")])
    engine, site = site_with("db", script=script)
    engine.clock.advance(3)
    site.freeze()
    assert not site.accepts("db", PORT)
    engine.clock.advance(20)
    assert logged(site, "db") == ["starting", "ready", "starting", "ready", "late"]
    fork = site.fork(FORK)
    assert not fork.accepts("db", PORT)
    assert logged(fork, "db") == ["starting", "ready", "starting"]
    engine.clock.advance(2)
    assert fork.accepts("db", PORT)


def test_answers_go_on_where_they_were_in_each() -> None:
    script = Script().on_exec("db", ["next"], [ExecResult(0, str(n)) for n in range(4)])
    _, site = site_with("db", script=script)

    def ask(where: SimulatedSite) -> str:
        return where.exec("db", ["next"], None).output

    assert ask(site) == "0"
    site.freeze()
    forks = [site.fork(EnclaveId(name)) for name in ("one", "other")]
    assert [ask(where) for where in (site, site, *forks, *forks)] == ["1", "2", "1", "1", "2", "2"]


def test_each_knows_only_its_own_calls() -> None:
    _, site = site_with("db")
    site.freeze()
    fork = site.fork(FORK)
    assert site.asked("fork") == [{"enclave": FORK}]
    assert fork.calls == []
    fork.observe()
    assert site.asked("observe") == []


def test_a_fork_lives_on_and_can_be_forked_itself() -> None:
    _, site = site_with("db")
    site.freeze()
    fork = site.fork(FORK)
    site.close()
    fork.start([ServiceSpec("api", "image", fork.reserve("api"))], {}, 1)
    fork.freeze()
    grandchild = fork.fork(EnclaveId("grandchild"))
    fork.close()
    assert list(grandchild.observe()) == ["db", "api"]


def test_freezing_again_moves_the_point() -> None:
    _, site = site_with("db")
    site.freeze()
    site.act("db", Action.REMOVE)
    assert list(site.fork(EnclaveId("one")).observe()) == ["db"]
    site.freeze()
    assert list(site.fork(EnclaveId("other")).observe()) == []
