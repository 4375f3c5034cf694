"""Enclaves of several processes and sessions: who makes, finds, leaves, keeps and removes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_enclave.enclave.demand import Demand
from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.sharing import Enclaves
from pytest_enclave.enclave.tenure import KEPT, Keep, Tenure
from pytest_enclave.enclave.upkeep import FAILED
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import EngineError, HalfStarted, VerifyFailed
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.ledger.session import Session
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.store.journal import Journal
from tests.enclave.lasting_engine import LastingSite, Machine

NOBODY = Observers(lambda e, _: None, lambda e, _: None, lambda e, _: None, lambda e: None)
SHOP = Source(
    "def run(plan):\n"
    '    plan.render_templates({"f": struct(template = "x", data = {})}, name = "page")\n'
    '    plan.add_service("a", ServiceConfig(image = "img", files = {"/f": "page"}))'
)
BAD = Source('def run(plan):\n    plan.print("first")\n    plan.verify("a", "==", "b")')


def demand(package: Source = SHOP, **how: object) -> Demand:
    return Demand(Request.of(package, None), **how)  # type: ignore[arg-type]


def obtain(enclaves: Enclaves, wanted: Demand | None = None, by: str = "test_one") -> Enclave:
    return enclaves.obtain(wanted or demand(), by, lambda enclave: None)


def executed(enclave: Enclave) -> int:
    assert enclave.last_run is not None
    return enclave.last_run.executed


@dataclass
class World:
    """A machine and a user's ledger, on which sessions come and go."""

    ledger: Ledger
    tools: Tools
    machine: Machine = field(default_factory=Machine)
    processes: list[Enclaves] = field(default_factory=list)

    def main(self, keep: Keep = Keep.NEVER, *, script: Script | None = None, warm: bool = True) -> Enclaves:
        """The main process of a new session."""
        tenure = Tenure(self.ledger, self.ledger.begin_session(), keep, "project", warm)
        return self.process(tenure, script)

    def worker(self, main: Enclaves) -> Enclaves:
        """Another process of a session."""
        ours = main.upkeep.tenure
        tenure = Tenure(self.ledger, Session(ours.session.id, ours.session.holder, None), ours.keep, ours.scope)
        return self.process(tenure)

    def process(self, tenure: Tenure, script: Script | None = None) -> Enclaves:
        """A process that uses enclaves."""
        self.processes.append(Enclaves(self.machine.engine(script), self.tools, Options(), NOBODY, tenure))
        return self.processes[-1]

    def close(self) -> None:
        """Close the files of processes that did not end."""
        for process in self.processes:
            for enclave in process.upkeep._open:
                enclave._state.journal.close()

    def end(self, main: Enclaves) -> None:
        """The session ends in order."""
        main.close()
        main.upkeep.tenure.session.end()

    def kill(self, process: Enclaves) -> None:
        """A process goes, and does nothing any more."""
        process.upkeep.uses.end()
        for enclave, holding in process.upkeep._open.items():
            enclave._state.journal.close()
            enclave._turns._turn.release()  # type: ignore[union-attr]
            holding.home.lease.release()
        process.upkeep.tenure.session.end()

    @property
    def kept(self) -> list[Entry]:
        return [entry for entry in self.ledger.entries() if entry.kept_until is not None]

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.ledger.entries()]


@pytest.fixture
def world(tmp_path: Path, tools: Tools) -> Iterator[World]:
    world = World(Ledger(tmp_path / "ledger"), tools)
    yield world
    world.close()


@pytest.fixture
def session(world: World) -> Iterator[Enclaves]:
    """A session that keeps nothing."""
    main = world.main()
    yield main
    world.end(main)


def test_all_processes_of_a_session_share_one_enclave(world: World, session: Enclaves) -> None:
    worker, other = world.worker(session), world.worker(session)
    assert executed(first := obtain(worker)) == 2
    assert executed(second := obtain(other)) == 0
    assert first.name == second.name
    assert list(second.services) == ["a"]
    assert (second.files["page"] / "f").read_text() == "x"
    assert len(world.machine.opened) == 1
    assert world.machine.holders == {first.name: session.upkeep.tenure.session.holder}


def test_it_stays_when_a_worker_goes_and_goes_with_the_session(world: World, session: Enclaves) -> None:
    worker = world.worker(session)
    name = obtain(worker).name
    assert worker.close() == []
    assert world.names == [name]
    assert executed(obtain(world.worker(session))) == 0
    assert session.close() == []
    assert (world.names, world.machine.sites) == ([], {})


def test_a_worker_that_is_killed_neither_closes_nor_orphans_it(world: World, session: Enclaves) -> None:
    worker = world.worker(session)
    obtain(worker)
    world.kill(worker)
    assert executed(obtain(world.worker(session))) == 0
    session.close()
    assert world.machine.sites == {}


def test_enclaves_of_one_test_go_with_the_worker_that_was_killed(world: World, session: Enclaves) -> None:
    worker = world.worker(session)
    obtain(worker, demand(isolate=True))
    world.kill(worker)
    session.close()
    assert (world.names, world.machine.sites) == ([], {})


def test_what_one_process_adds_all_find(world: World, session: Enclaves) -> None:
    more = Source('def run(plan):\n    plan.add_service("b", ServiceConfig(image = "img"))')
    one, two = world.worker(session), world.worker(session)
    first = obtain(one, demand(share="x"))
    second = obtain(two, demand(more, share="x"))
    assert list(second.services) == ["a", "b"]
    assert executed(obtain(one, demand(more, share="x"))) == 0
    assert list(first.services) == ["a", "b"]


def test_a_run_that_failed_in_one_process_is_not_tried_again_in_another(world: World, session: Enclaves) -> None:
    one, two = world.worker(session), world.worker(session)
    with pytest.raises(VerifyFailed) as first:
        obtain(one, demand(BAD), "test_one")
    with pytest.raises(VerifyFailed) as second:
        obtain(two, demand(BAD), "test_two")
    assert str(second.value) == str(first.value)
    assert second.value.reported_by == "test_one"
    assert second.value.enclave == first.value.enclave
    with pytest.raises(VerifyFailed) as again:
        obtain(two, demand(BAD), "test_one")
    assert again.value.reported_by == "", "the test that has met it may run into it again"


# between sessions


def test_what_is_kept_is_found_by_the_next_session(world: World) -> None:
    first = world.main(Keep.ALWAYS)
    name = obtain(first).name
    world.end(first)
    (entry,) = world.kept
    assert entry.name == name
    assert entry.kept_until == pytest.approx(time.time() + KEPT, abs=60)
    assert world.machine.kept == {name: entry.kept_until}
    second = world.main(Keep.NEVER)
    assert obtain(second).name == name
    assert executed(obtain(second)) == 0
    assert world.machine.holders == {name: second.upkeep.tenure.session.holder}
    assert world.machine.kept == {}
    world.end(second)
    assert (world.names, world.machine.sites) == ([], {})


@pytest.mark.parametrize(("keep", "failed", "stays"), [
    (Keep.NEVER, True, False),
    (Keep.ON_FAILURE, False, False),
    (Keep.ON_FAILURE, True, True),
    (Keep.ALWAYS, False, True),
])  # fmt: skip
@pytest.mark.parametrize("in_worker", [False, True])
def test_which_shared_enclaves_stay(world: World, keep: Keep, failed: bool, stays: bool, in_worker: bool) -> None:
    main = world.main(keep)
    process = world.worker(main) if in_worker else main
    enclave = obtain(process)
    if failed:
        process.upkeep.mark(enclave, FAILED)
    if in_worker:
        process.close()
    world.end(main)
    assert bool(world.names) is stays
    assert bool(world.machine.sites) is stays
    assert len(world.kept) == stays


def test_what_failed_in_an_earlier_session_does_not_count_in_the_next(world: World) -> None:
    first = world.main(Keep.ON_FAILURE)
    name = obtain(first).name
    first.upkeep.mark(obtain(first), FAILED)
    world.end(first)
    second = world.main(Keep.ON_FAILURE)
    assert obtain(second).name == name
    assert second.upkeep.taken_over == [name]
    world.end(second)
    assert world.names == []


def test_an_enclave_in_which_nothing_was_executed_does_not_stay(world: World) -> None:
    main = world.main(Keep.ALWAYS)
    obtain(main, demand(Source("def run(plan):\n    pass")))
    world.end(main)
    assert world.names == []


def test_of_enclaves_of_one_test_each_package_has_one(world: World, tmp_path: Path) -> None:
    main = world.main(Keep.ON_FAILURE)
    made = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.star").write_text('def run(plan):\n    plan.print("x")\n')
        request = Request.of(tmp_path / f"{name}.star")
        made.append(obtain(main, Demand(request, isolate=True)))
        main.upkeep.mark(made[-1], FAILED)
    world.end(main)
    assert sorted(world.names) == sorted(enclave.name for enclave in made)


def test_a_run_that_fails_is_a_failure_too(world: World) -> None:
    main = world.main(Keep.ON_FAILURE)
    with pytest.raises(VerifyFailed):
        obtain(main, demand(BAD))
    world.end(main)
    assert len(world.names) == 1


def test_of_enclaves_of_one_test_the_last_that_failed_stays(world: World) -> None:
    main = world.main(Keep.ALWAYS)
    made = [obtain(main, demand(isolate=True)) for _ in range(3)]
    for enclave in made[:2]:
        main.upkeep.mark(enclave, FAILED)
        main.release(enclave)
        while main.upkeep._closing and not main.upkeep._closing[-1].done():
            time.sleep(0.01)
    world.end(main)
    assert world.names == [made[1].name]
    assert [entry.name for entry in world.kept] == [made[1].name]
    assert list(world.machine.sites) == [made[1].name]


def test_of_one_package_the_latest_enclave_stays(world: World) -> None:
    older, newer = world.main(Keep.ALWAYS), world.main(Keep.ALWAYS)
    names = [obtain(session).name for session in (older, newer)]
    assert names[0] != names[1], "sessions at the same time have nothing in common"
    world.end(older)
    assert world.names == names
    world.end(newer)
    assert world.names == [names[1]]
    assert list(world.machine.sites) == [names[1]]


def test_what_the_engine_cannot_keep_is_removed_and_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(site: LastingSite, until: float) -> None:
        raise EngineError("it is in a pod")

    monkeypatch.setattr(LastingSite, "keep", refuse)
    main = world.main(Keep.ALWAYS)
    name = obtain(main).name
    world.end(main)
    assert (world.names, world.machine.sites) == ([], {})
    assert main.upkeep.notes == [f"enclave {name} could not be kept: it is in a pod"]


def test_without_reuse_nothing_is_taken_over(world: World) -> None:
    first = world.main(Keep.ALWAYS)
    obtain(first)
    world.end(first)
    second = world.main(warm=False)
    assert executed(obtain(second)) == 2
    world.end(second)


def test_another_project_takes_nothing_over(world: World) -> None:
    first = world.main(Keep.ALWAYS)
    obtain(first)
    world.end(first)
    session = world.ledger.begin_session()
    tenure = Tenure(world.ledger, session, Keep.NEVER, "another project")
    second = world.process(tenure)
    assert executed(obtain(second)) == 2
    world.end(second)


# what cannot be relied on


@pytest.fixture
def kept(world: World) -> Entry:
    """An enclave that a former session has kept."""
    first = world.main(Keep.ALWAYS)
    obtain(first)
    world.end(first)
    return world.kept[0]


def lose_the_services(world: World, kept: Entry) -> None:
    del world.machine.sites[kept.name]


def begin_a_run(journal: Journal) -> None:
    journal._mark(True)


def stop_half_way(world: World, kept: Entry) -> None:
    journal = Journal(world.ledger.path(kept.name) / "journal.sqlite")
    begin_a_run(journal)
    journal.close()


def damage(world: World, kept: Entry) -> None:
    (world.ledger.path(kept.name) / "journal.sqlite").write_bytes(b"no database" * 1000)


def lose_an_artifact(world: World, kept: Entry) -> None:
    (artifact,) = (world.ledger.path(kept.name) / "artifacts").iterdir()
    artifact.rename(artifact.with_name("elsewhere"))


@pytest.mark.parametrize(("spoil", "told"), [
    (lose_the_services, "there is no enclave {name} any more"),
    (stop_half_way, "a run in it was killed"),
    (damage, "is not a journal"),
    (lose_an_artifact, "the files of its artifact `page` are gone"),
])  # fmt: skip
def test_what_cannot_be_relied_on_is_removed_and_made_anew(
    world: World, session: Enclaves, kept: Entry, spoil: Callable[[World, Entry], None], told: str
) -> None:
    spoil(world, kept)
    enclave = obtain(session)
    assert executed(enclave) == 2
    assert world.names == [enclave.name]
    assert list(world.machine.sites) == [enclave.name]
    (note,) = session.upkeep.notes
    assert note.startswith(f"enclave {kept.name} was not used again: ")
    assert told.format(name=kept.name) in note


def test_a_damaged_journal_is_set_aside(world: World, session: Enclaves, kept: Entry) -> None:
    damage(world, kept)
    obtain(session)
    (path,) = (world.ledger.root / "set-aside").glob("*.sqlite")
    assert path.read_bytes().startswith(b"no database")
    assert session.upkeep.notes[0].endswith(f"; its journal was set aside: {path}")


def test_an_enclave_in_which_a_run_was_killed_is_not_used_by_the_other_processes_again(
    world: World, session: Enclaves
) -> None:
    one, two = world.worker(session), world.worker(session)
    first, _ = obtain(one), obtain(two)
    begin_a_run(first._state.journal)
    world.kill(one)
    second = obtain(two)
    assert second.name != first.name
    assert executed(second) == 2
    assert f"enclave {first.name} is half-started: a run in it was killed" in two.upkeep.notes[0]
    two.close()
    session.close()
    assert world.machine.sites == {}


def test_processes_that_are_killed_again_and_again_are_told_of(
    world: World, session: Enclaves, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(enclave: Enclave, *_: object) -> None:
        raise HalfStarted(f"enclave {enclave.name} is half-started")

    monkeypatch.setattr(Enclave, "execute", half)
    with pytest.raises(HalfStarted, match="killed again and again"):
        obtain(session)
    assert world.machine.sites == {}


def test_what_could_not_be_removed_is_tried_again_by_the_next_session(world: World) -> None:
    leak = Leak("network", "net", "in use", "docker network rm net")
    first = world.main(script=Script().leaves(leak))
    name = obtain(first).name
    assert list(first.close()) == [leak]
    first.upkeep.tenure.session.end()
    assert world.names == [name]
    del world.machine.sites[name]
    world.end(world.main())
    assert world.names == []


def test_what_killed_sessions_leave_goes_with_the_next_one(world: World) -> None:
    first = world.main()
    obtain(first)
    obtain(first, demand(isolate=True))
    world.kill(first)
    assert len(world.names) == 2
    world.end(world.main())
    assert (world.names, world.machine.sites) == ([], {})


# forks


def test_a_fork_begins_where_no_test_of_any_process_has_been(world: World, session: Enclaves) -> None:
    one, two = world.worker(session), world.worker(session)
    shared = obtain(one)
    fork = obtain(two, demand(isolate="fork"))
    assert list(fork.services) == ["a"]
    assert len(world.machine.opened) == 2, "the shared one, and a base that no test gets"
    assert world.machine.opened[0] == shared.name
    for process in (one, two, session):
        process.close()
    assert [name for name in world.machine.sites if "fork" not in name] == []
