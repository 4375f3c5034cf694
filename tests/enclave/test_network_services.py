"""Services that a test kills, stops or pauses for a while, and that are as before afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from pytest_enclave.enclave.enclave import Enclave
from pytest_enclave.engine.protocol import Action, EnclaveId
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EngineError, ServiceError, UnknownService
from pytest_enclave.package.package import Source
from pytest_enclave.plan.connections import BLOCKED
from pytest_enclave.plan.facts import Status
from tests.laboratory import Laboratory, as_script

PLAN = """
plan.add_service("db", ServiceConfig(image = "i", ports = {"sql": PortSpec(number = 5432)}))
plan.add_service("api", ServiceConfig(image = "i"))
"""


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory], tmp_path: Path) -> Laboratory:
    """An enclave with a home, in which `db` takes two seconds to open its port."""
    lab = laboratory(Script().service("db", opens_after={"sql": 2.0}))
    home = tmp_path / "home"
    home.mkdir()
    lab = replace(lab, state=structs.replace(lab.state, id=EnclaveId("lab", str(home))))
    lab.ok(PLAN)
    return lab


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that tells other processes of faults."""
    return tmp_path / "home/faults"


@pytest.fixture
def enclave(lab: Laboratory) -> Iterator[Enclave]:
    enclave = lab.enclave()
    yield enclave
    enclave.heal()


@pytest.fixture
def site(lab: Laboratory) -> SimulatedSite:
    assert isinstance(lab.state.site, SimulatedSite)
    return lab.state.site


def status(site: SimulatedSite, name: str = "db") -> Status:
    return site.observe()[name].status


def acts(site: SimulatedSite) -> list[Action]:
    return [call["action"] for call in site.asked("act")]


@pytest.mark.parametrize(
    ("fault", "meanwhile", "acted"),
    [
        ("killed", Status.EXITED, [Action.KILL, Action.START]),
        ("stopped", Status.STOPPED, [Action.STOP, Action.START]),
        ("paused", Status.PAUSED, [Action.PAUSE, Action.RESUME]),
    ],
)
def test_it_is_so_until_the_with_ends(
    enclave: Enclave, site: SimulatedSite, fault: str, meanwhile: Status, acted: list[Action]
):
    with getattr(enclave.services["db"], fault)():
        assert status(site) is meanwhile
        assert status(site, "api") is Status.RUNNING
    assert status(site) is Status.RUNNING
    assert acts(site) == acted


def test_what_is_started_again_has_its_ports_open(enclave: Enclave, site: SimulatedSite, lab: Laboratory):
    with enclave.services["db"].killed():
        pass
    port = lab.state.configs()["db"].ports["sql"]
    assert site.accepts("db", port)


def test_of_several_faults_of_a_service_the_last_one_to_end_brings_it_back(enclave: Enclave, site: SimulatedSite):
    db = enclave.services["db"]
    paused = db.paused()
    killed = db.killed()
    assert status(site) is Status.EXITED
    paused.heal()
    assert status(site) is Status.EXITED
    paused = db.paused()
    killed.heal()
    assert status(site) is Status.PAUSED
    paused.heal()
    assert status(site) is Status.RUNNING


def test_two_that_keep_it_down_do_so_until_both_have_ended(enclave: Enclave, site: SimulatedSite):
    db = enclave.services["db"]
    with db.stopped():
        with db.killed():
            pass
        assert status(site) is Status.STOPPED
    assert status(site) is Status.RUNNING


def test_a_test_may_bring_it_back_by_itself(enclave: Enclave, site: SimulatedSite):
    db = enclave.services["db"]
    with db.stopped():
        db.start()
    assert acts(site) == [Action.STOP, Action.START]


def test_a_run_that_needs_it_brings_it_back_and_then_it_is_down_again(enclave: Enclave, site: SimulatedSite):
    with enclave.services["db"].stopped():
        run = enclave.run(Source(as_script(PLAN)))
        assert [str(step.outcome) for step in run.instructions] == ["updated", "skipped"]
        assert status(site) is Status.STOPPED
    assert status(site) is Status.RUNNING


def test_one_that_is_removed_meanwhile_stays_so(enclave: Enclave, site: SimulatedSite):
    with enclave.services["db"].stopped():
        enclave.run(Source(as_script('plan.remove_service("db")')))
    assert list(site.observe()) == ["api"]


def test_what_does_not_run_cannot_be_broken_and_is_left_as_it_is(enclave: Enclave, site: SimulatedSite):
    db = enclave.services["db"]
    db.stop()
    with pytest.raises(ServiceError) as caught:
        db.killed()
    assert str(caught.value) == "service `db` does not run, it is stopped: `kill:db` needs it to"
    assert caught.value.service == "db"
    assert acts(site) == [Action.STOP]
    assert enclave.faults == ()


def test_a_service_that_was_never_there_is_told_with_those_that_are(enclave: Enclave):
    with pytest.raises(UnknownService) as told:
        enclave.services["bd"].killed()
    assert str(told.value) == "the enclave has no service `bd`: it has `db`, `api`"
    assert isinstance(told.value, KeyError)
    assert enclave.services.get("bd") is None


def test_losses_of_a_kept_enclave_follow_from_the_seed_of_the_session(lab: Laboratory, site: SimulatedSite):
    plan = (
        PLAN
        + """
plan.update_service("api", UpdateServiceConfig(subnetwork = "far"))
plan.set_connection(config = ConnectionConfig(packet_loss_percentage = 30))
"""
    )
    lab.ok(plan)
    lossy = site.shaped()
    assert lossy
    enclave = lab.enclave()
    enclave.forget_losses()
    assert site.shaped() == {}
    enclave.run(Source(as_script(plan)))
    assert site.shaped() == lossy
    assert [call["seed"] for call in site.asked("shape")][-1] == lab.options.seed


def test_a_service_that_is_gone_cannot_be_broken(enclave: Enclave, site: SimulatedSite):
    site.act("db", Action.REMOVE)
    with pytest.raises(ServiceError, match="service `db` does not run, it is gone: `pause:db` needs it to"):
        enclave.services["db"].paused()


# what other processes know


def test_there_is_a_mark_while_there_are_faults(enclave: Enclave, mark: Path):
    assert not mark.exists()
    with enclave.network.block("db", "api"):
        assert json.loads(mark.read_text()) == []
        with enclave.services["db"].stopped(), enclave.services["api"].paused():
            assert json.loads(mark.read_text()) == ["api", "db"]
        assert json.loads(mark.read_text()) == []
    assert not mark.exists()


def test_the_mark_is_there_before_anything_is_broken(
    enclave: Enclave, site: SimulatedSite, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    real, seen = site.act, list[str]()

    def act(name: str, action: Action) -> None:
        seen.append(mark.read_text())
        real(name, action)

    monkeypatch.setattr(site, "act", act)
    with enclave.services["db"].killed():
        pass
    assert seen == ['["db"]', '["db"]'], "and until all is healed"


def leave_broken(lab: Laboratory, mark: Path) -> Enclave:
    """What a process that is killed leaves: what was begun, and nobody who ends it. The enclave as another has it."""
    lost = lab.enclave()
    lost.network.block("db", "api")
    lost.services["db"].stopped()
    lost.services["api"].paused()
    lab.state.faults.clear()
    assert mark.exists()
    return lab.enclave()


def test_what_a_killed_process_has_left_is_healed_by_the_next_test_that_uses_the_enclave(
    lab: Laboratory, site: SimulatedSite, mark: Path
):
    leave_broken(lab, mark).use()
    assert site.shaped() == {}
    assert {name: fact.status for name, fact in site.observe().items()} == dict.fromkeys(["db", "api"], Status.RUNNING)
    assert not mark.exists()


def test_and_by_the_next_run_before_which_nothing_has_to_be_made_again(
    lab: Laboratory, site: SimulatedSite, mark: Path
):
    run = leave_broken(lab, mark).run(Source(as_script(PLAN)))
    assert [str(step.outcome) for step in run.instructions] == ["skipped", "skipped"]
    assert site.shaped() == {}
    assert not mark.exists()


def test_what_does_not_start_again_is_made_again_by_the_next_run(
    lab: Laboratory, site: SimulatedSite, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    next_one, real = leave_broken(lab, mark), site.act

    def act(name: str, action: Action) -> None:
        if action is Action.START:
            raise ServiceError("it does not start", service=name)
        real(name, action)

    monkeypatch.setattr(site, "act", act)
    run = next_one.run(Source(as_script(PLAN)))
    assert [str(step.outcome) for step in run.instructions] == ["updated", "skipped"]
    assert {name: fact.status for name, fact in site.observe().items()} == dict.fromkeys(["db", "api"], Status.RUNNING)


def test_a_process_that_is_killed_while_it_adds_a_fault_has_told_of_the_others(
    enclave: Enclave, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    enclave.services["db"].stopped()
    told = mark.read_text()

    def killed(self: Path, text: str, encoding: str) -> int:
        self.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            enclave.services["api"].paused()
    assert mark.read_text() == told


@pytest.mark.parametrize("fault", ["paused", "killed", "stopped"])
def test_what_a_plan_stops_during_a_fault_stays_stopped(enclave: Enclave, site: SimulatedSite, fault: str):
    if fault == "paused":
        with enclave.services["db"].paused():
            enclave.run(Source(as_script('plan.stop_service("db")')))
    else:
        enclave.run(Source(as_script('plan.stop_service("db")')))
        with enclave.services["api"].paused():
            pass
    assert status(site) is Status.STOPPED


def test_an_interrupt_before_a_fault_begins_leaves_the_enclave_to_others(
    enclave: Enclave, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    faults, let_go = enclave._all_faults(), []
    monkeypatch.setattr(faults._turns, "let_go", lambda: let_go.append(True))
    monkeypatch.setattr(faults, "_check_running", lambda fault: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        enclave.services["db"].stopped()
    assert let_go == [True]
    assert not enclave.is_broken
    assert not mark.exists()


def test_a_fault_is_laid_over_what_another_process_has_set_meanwhile(
    lab: Laboratory, enclave: Enclave, site: SimulatedSite
):
    other = lab.elsewhere()
    other.ok(
        PLAN
        + """
plan.add_service("far", ServiceConfig(image = "i", subnetwork = "far"))
plan.set_connection(("default", "far"), kurtosis.connection.BLOCKED)
"""
    )
    other.state.journal.close()
    set_by_plan = {pair: BLOCKED for name in ("db", "api") for pair in ((name, "far"), ("far", name))}
    assert site.shaped() == set_by_plan
    with enclave.network.block("db", "api"):
        assert site.shaped() == {**set_by_plan, ("db", "api"): BLOCKED, ("api", "db"): BLOCKED}
        with enclave.network.block("far", "api"):
            pass
    assert site.shaped() == set_by_plan


def test_who_has_faults_does_not_take_them_for_left_ones(enclave: Enclave, site: SimulatedSite):
    with enclave.network.block("db", "api"):
        enclave.use()
        enclave.run(Source(as_script(PLAN)))
        assert site.shaped() == {("db", "api"): BLOCKED, ("api", "db"): BLOCKED}


def test_what_cannot_be_healed_is_left_to_the_next_one(
    enclave: Enclave, site: SimulatedSite, mark: Path, monkeypatch: pytest.MonkeyPatch, lab: Laboratory
):
    enclave.network.block("db", "api")
    with monkeypatch.context() as patch:
        patch.setattr(site, "shape", _refuse)
        with pytest.raises(EngineError, match="no answer"):
            enclave.heal()
    assert mark.exists()
    assert enclave.faults == ()
    lab.enclave().use()
    assert site.shaped() == {}
    assert not mark.exists()


def test_an_interrupt_while_a_fault_is_healed_leaves_that_to_the_end_of_the_test(
    enclave: Enclave, site: SimulatedSite, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), enclave.network.block("db", "api"):
        monkeypatch.setattr(site, "shape", interrupt)
    monkeypatch.undo()
    assert mark.exists()
    assert len(site.shaped()) == 2
    enclave.heal()
    assert site.shaped() == {}
    assert not mark.exists()


def test_what_could_not_be_undone_when_a_fault_failed_is_known_at_the_end_of_the_test(
    enclave: Enclave, site: SimulatedSite, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(site, "shape", _refuse)
        with pytest.raises(EngineError, match="no answer"):
            enclave.network.block("db", "api")
        site._shaped = {("db", "api"): BLOCKED}
        with pytest.raises(EngineError, match="no answer"):
            enclave.network.block("db", "api")
    assert enclave.is_broken
    enclave.heal()
    assert site.shaped() == {}
    assert not enclave.is_broken
    assert not mark.exists()


def test_an_interrupt_while_a_fault_begins_leaves_none(
    enclave: Enclave, site: SimulatedSite, mark: Path, monkeypatch: pytest.MonkeyPatch
):
    real = site.act

    def interrupt(name: str, action: Action) -> None:
        real(name, action)
        if action is Action.STOP:
            raise KeyboardInterrupt

    monkeypatch.setattr(site, "act", interrupt)
    with pytest.raises(KeyboardInterrupt):
        enclave.services["db"].stopped()
    assert status(site) is Status.RUNNING
    assert not mark.exists()


def test_what_one_service_lacks_does_not_keep_others_from_being_healed(
    enclave: Enclave, site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
):
    services = enclave.services
    services["api"].killed()
    services["db"].killed()
    real = site.act

    def act(name: str, action: Action) -> None:
        if name == "api":
            raise ServiceError("it does not start", service=name)
        real(name, action)

    monkeypatch.setattr(site, "act", act)
    with pytest.raises(ServiceError, match="it does not start"):
        enclave.heal()
    assert status(site) is Status.RUNNING


def _refuse(*_: object) -> None:
    raise EngineError("no answer")


def test_a_kept_enclave_has_no_faults(enclave: Enclave, site: SimulatedSite, mark: Path):
    enclave.network.block("db", "api")
    enclave.keep(0.0)
    assert site.shaped() == {}
    assert not mark.exists()
