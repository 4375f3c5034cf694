"""Forks: copies of a shared enclave as it was before any test was given it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from msgspec.structs import replace

from pytest_enclave.enclave.demand import Demand
from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.sharing import Enclaves
from pytest_enclave.engine.protocol import Action, Address, EnclaveId, ExecResult
from pytest_enclave.engine.simulated import Script, SimulatedEngine, SimulatedSite
from pytest_enclave.errors import EnclaveError, EngineError, ServiceExited, VerifyFailed
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.package.package import Source
from pytest_enclave.plan.events import Event, Forked, Frozen
from pytest_enclave.plan.facts import Status
from pytest_enclave.run import forking
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools
from pytest_enclave.store.artifacts import ArtifactStore

SHOP = Source(
    "def run(plan, n = 0):\n"
    '    db = plan.add_service("db", ServiceConfig(image = "db:1"))\n'
    '    t = struct(template = "db at {{.At}}", data = {"At": db.ip_address})\n'
    '    f = plan.render_templates({"t": t}, name = "f")\n'
    '    plan.add_service("api", ServiceConfig(image = "api:1", env_vars = {"DB": db.ip_address}, files = {"/f": f}))\n'
    '    told = plan.exec("api", ExecRecipe(command = ["whereis", "db"]))\n'
    '    plan.print("n is {}, db at {}".format(n, db.ip_address))\n'
    '    return struct(db = db.ip_address, told = told["output"], n = n)\n'
)
MORE = Source('def run(plan):\n    plan.add_service("more", ServiceConfig(image = "more:1"))')
BAD = Source('def run(plan):\n    plan.add_service("db", ServiceConfig("db:1"))\n    plan.verify("a", "==", "b")')
SCRIPT = Script().on_exec("api", ["whereis", "db"], ExecResult(0, "10.99.0.2\n"))


class Session:
    """The enclaves of a session, and all that was told meanwhile."""

    def __init__(self, tools: Tools, engine: SimulatedEngine, expected: Collection[Demand] = ()) -> None:
        self.engine = engine
        self.events: list[Event] = []
        self.used: list[Enclave] = []
        observers = Observers(
            lambda _, event: self.events.append(event), lambda *_: None, lambda *_: None, lambda _: None
        )
        slots = [demand.slot for demand in expected]
        self.enclaves = Enclaves(engine, tools, Options(seed=1), observers, expects_fork=lambda d: d.slot in slots)

    def obtain(self, demand: Demand, by: str = "test_one") -> Enclave:
        return self.enclaves.obtain(demand, by, self.used.append)

    def site(self, enclave: Enclave | str) -> SimulatedSite:
        return self.engine.sites[enclave if isinstance(enclave, str) else enclave.name]

    def origin(self, fork: Enclave) -> str:
        """The name of what an enclave was forked from."""
        (origin,) = [e.origin for e in self.events if isinstance(e, Forked) and e.enclave == fork.name]
        return origin


def shared(package: Source = SHOP, args: dict[str, int] | None = None, share: str | None = None) -> Demand:
    return Demand(Request.of(package, args), share)


def fork(package: Source = SHOP, args: dict[str, int] | None = None, share: str | None = None) -> Demand:
    return replace(shared(package, args, share), isolate="fork")


@pytest.fixture
def session_of(tools: Tools) -> Iterator[Callable[..., Session]]:
    """Make sessions, of which some demands for forks are expected."""
    made: list[Session] = []

    def make(*expected: Demand, engine: SimulatedEngine | None = None) -> Session:
        made.append(Session(tools, engine or SimulatedEngine(SCRIPT), expected))
        return made[-1]

    yield make
    for session in made:
        session.enclaves.close()


@pytest.fixture
def session(session_of: Callable[..., Session]) -> Session:
    """A session in which nothing is expected."""
    return session_of()


def test_a_fork_has_all_that_the_shared_enclave_has(session: Session):
    copy = session.obtain(fork())
    original = session.obtain(shared())
    assert copy is not original
    assert list(copy.services) == ["db", "api"]
    assert copy.services["db"].ip_address == "10.99.0.2"
    assert {name: (path / "t").read_text() for name, path in copy.files.items()} == {"f": "db at 10.99.0.2"}
    assert copy.files["f"] != original.files["f"]
    assert copy.output == original.output == {"db": "10.99.0.2", "told": "10.99.0.2\n", "n": 0}
    assert copy.last_run is not None
    assert copy.last_run.executed == 5, "that of the original"


def test_an_unchanged_package_executes_nothing_in_a_fork_and_another_what_is_new(session: Session):
    copy = session.obtain(fork())
    assert (copy.run().executed, copy.run().skipped) == (0, 5)
    assert copy.run(MORE).executed == 1
    assert session.obtain(fork()).run().executed == 0


def test_the_names_of_forks_tell_what_they_are(session: Session):
    names = [session.obtain(fork()).name, session.obtain(fork(MORE, share="Orders")).name]
    assert [name.rpartition("-")[0] for name in names] == ["source-fork", "orders-fork"]


def test_a_fork_that_is_asked_for_first_leaves_its_base_to_those_who_share(session: Session):
    copy = session.obtain(fork())
    original = session.obtain(shared())
    assert session.origin(copy) == original.name
    assert original.last_run is not None
    assert original.last_run.executed == 0
    assert len(session.engine.sites) == 2


def test_an_enclave_of_which_forks_are_expected_is_frozen_before_a_test_gets_it(session_of: Callable[..., Session]):
    session = session_of(fork())
    original = session.obtain(shared())
    original.run(MORE)
    original.services["db"].stop()
    copy = session.obtain(fork())
    assert session.origin(copy) == original.name
    assert list(copy.services) == ["db", "api"]
    assert copy.run().executed == 0
    assert len(session.site(original).asked("freeze")) == 1


def test_an_enclave_of_which_none_are_expected_is_not_frozen(session_of: Callable[..., Session]):
    session = session_of(fork(args={"n": 7}))
    original = session.obtain(shared())
    assert session.site(original).asked("freeze") == []


def test_where_a_test_has_the_enclave_already_a_base_is_made_that_no_test_gets(session: Session):
    original = session.obtain(shared())
    original.services["db"].stop()
    copies = [session.obtain(fork()) for _ in range(2)]
    (base,) = {session.origin(copy) for copy in copies}
    assert base != original.name
    assert base.startswith("source-base-")
    assert base not in {enclave.name for enclave in session.used}
    assert all(copy.run().executed == 0 for copy in copies)
    assert session.obtain(shared()) is original


def test_changes_never_reach_the_original_nor_other_forks(session: Session):
    one, other = session.obtain(fork()), session.obtain(fork())
    original = session.obtain(shared())
    one.run(MORE)
    one.services["db"].stop()
    assert list(one.services) == ["db", "api", "more"]
    for enclave in (other, original, session.obtain(fork())):
        assert list(enclave.services) == ["db", "api"]
        assert enclave.run().executed == 0


# in enclaves that are shared by name


def test_of_a_named_enclave_a_fork_is_what_it_was_after_the_forks_own_run(session_of: Callable[..., Session]):
    session = session_of(fork(share="orders"))
    orders = session.obtain(shared(share="orders"))
    assert session.obtain(shared(MORE, share="orders")) is orders
    copy = session.obtain(fork(share="orders"))
    assert session.origin(copy) == orders.name
    assert list(copy.services) == ["db", "api"]


def test_where_that_is_over_what_led_there_is_done_again_in_the_same_order(session: Session):
    orders = session.obtain(shared(share="orders"))
    orders.services["db"].stop()
    session.obtain(shared(MORE, share="orders"))
    session.obtain(shared(args={"n": 1}, share="orders"))
    both = session.obtain(fork(MORE, share="orders"))
    assert list(both.services) == ["db", "api", "more"]
    assert both.run(SHOP).executed == 0
    assert session.origin(both).startswith("orders-base-")
    assert list(session.obtain(fork(share="orders")).services) == ["db", "api"]


def test_a_point_that_forks_come_from_is_not_moved(session: Session):
    first = session.obtain(fork(share="orders"))
    second = session.obtain(fork(MORE, share="orders"))
    assert session.origin(second) != session.origin(first)
    assert list(second.services) == ["db", "api", "more"]
    again = session.obtain(fork(share="orders"))
    assert session.origin(again) == session.origin(first)
    assert list(again.services) == ["db", "api"]
    assert list(session.obtain(shared(share="orders")).services) == ["db", "api"]


# what goes wrong


def test_a_fork_of_a_run_that_failed_fails_in_the_same_way(session: Session):
    with pytest.raises(VerifyFailed) as first:
        session.obtain(shared(BAD))
    with pytest.raises(VerifyFailed) as second:
        session.obtain(fork(BAD), "test_two")
    assert second.value is first.value
    assert session.used[0] is session.used[1]


def test_who_shares_fails_as_the_fork_before_did(session: Session):
    with pytest.raises(VerifyFailed) as first:
        session.obtain(fork(BAD))
    with pytest.raises(VerifyFailed) as again:
        session.obtain(fork(BAD))
    assert again.value is not first.value, "who met the failure may run into it again"
    with pytest.raises(VerifyFailed) as second:
        session.obtain(shared(BAD), "test_two")
    assert second.value is again.value
    assert not session.enclaves.alone(session.used[0])


def test_a_base_that_fails_is_nothing_to_those_who_share(session: Session, monkeypatch: pytest.MonkeyPatch):
    session.obtain(shared())

    def refuse(site: SimulatedSite) -> None:
        raise EngineError("no room")

    monkeypatch.setattr(SimulatedSite, "freeze", refuse)
    errors = []
    for by in ("test_one", "test_two"):
        with pytest.raises(EngineError, match="no room") as caught:
            session.obtain(fork(), by)
        errors.append(caught.value)
    assert errors[0] is errors[1]
    session.obtain(shared(), "test_three")


@pytest.fixture
def freezing_kills(monkeypatch: pytest.MonkeyPatch) -> list[SimulatedSite]:
    """No enclave can be frozen: a service does not start again. The list has those of which it was tried."""
    tried: list[SimulatedSite] = []

    def kill(site: SimulatedSite) -> None:
        tried.append(site)
        site.act("db", Action.KILL)
        raise EngineError("`db` did not start again")

    monkeypatch.setattr(SimulatedSite, "freeze", kill)
    return tried


def test_a_freeze_that_fails_after_a_good_run_is_nothing_to_those_who_share(
    session_of: Callable[..., Session], freezing_kills: list[SimulatedSite]
):
    session = session_of(fork())
    first = session.obtain(shared(), "test_one")
    assert session.obtain(shared(), "test_two") is first
    assert session.site(first).observe()["db"].status is Status.RUNNING, "what the freeze ended is up again"
    assert len(freezing_kills) == 1
    errors = []
    for by in ("test_three", "test_four"):
        with pytest.raises(EngineError, match="`db` did not start again") as caught:
            session.obtain(fork(), by)
        errors.append(caught.value)
    assert errors[0] is errors[1]
    assert errors[0].enclave == first.name
    assert len(freezing_kills) == 1, "who only hears of a failure does not run into it again"
    assert session.obtain(shared(), "test_five") is first


def test_a_fork_that_could_not_be_made_leaves_the_enclave_to_those_who_share(
    session_of: Callable[..., Session], freezing_kills: list[SimulatedSite]
):
    session = session_of(fork())
    with pytest.raises(EngineError, match="did not start again"):
        session.obtain(fork(), "test_one")
    original = session.obtain(shared(), "test_two")
    assert original is session.used[0]
    assert session.site(original).observe()["db"].status is Status.RUNNING
    assert len(freezing_kills) == 1


def test_a_service_that_does_not_bear_it_is_explained(
    session_of: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
):
    package = Source(
        'def run(plan):\n    plan.add_service("db", ServiceConfig("db:1", ports = {"pg": PortSpec(5432, wait = "2s")}))'
    )
    session = session_of(engine=SimulatedEngine(Script().service("db", opens_after={"pg": 1.0})))
    copy = session.obtain(fork(package))
    assert session.site(copy).accepts("db", copy._state.configs()["db"].ports["pg"])
    monkeypatch.setattr(SimulatedSite, "accepts", lambda *_: False)
    with pytest.raises(EngineError) as caught:
        session.obtain(fork(package))
    assert caught.value.message.startswith(
        f"{session.used[-1].name}, a fork of {session.origin(copy)}, did not come up: port `pg` (5432/TCP) of service"
    )
    assert "isolate=True" in caught.value.remedy
    assert caught.value.enclave == session.used[-1].name


def test_a_service_that_ends_before_what_it_needs_is_up_is_started_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    waited: list[str] = []

    def in_vain_at_first(context: Context, name: str, *_: object) -> None:
        waited.append(name)
        if len(waited) <= 3:
            context.site.act(name, Action.KILL)
            raise ServiceExited("there is no database", service=name, code=1)

    package = Source('def run(plan):\n    plan.add_service("api", ServiceConfig("a:1", ports = {"p": PortSpec(80)}))')
    session.obtain(shared(package))
    monkeypatch.setattr(forking, "await_ready", in_vain_at_first)
    copy = session.obtain(fork(package))
    assert len(waited) > 3
    assert session.site(copy).observe()["api"].status is Status.RUNNING


def test_an_enclave_in_which_nothing_has_run_cannot_be_frozen(session: Session):
    with pytest.raises(EnclaveError, match="nothing has run"):
        session.enclaves.upkeep.make("empty", session.engine.open).freeze()


def test_without_reuse_a_fork_is_a_fresh_enclave(session: Session):
    session.enclaves.reuse = False
    copy = session.obtain(fork())
    assert copy.last_run is not None
    assert copy.last_run.executed == 5
    assert len(session.engine.sites) == 1
    assert session.enclaves.alone(copy)


# how it goes


def test_freezing_and_forking_are_told(session: Session):
    copy = session.obtain(fork())
    told = [event for event in session.events if isinstance(event, (Frozen, Forked))]
    origin = session.origin(copy)
    assert told == [Frozen(origin, 0.0), Forked(copy.name, origin, 0.0)]


def test_forks_are_of_one_test_and_their_bases_are_not(session: Session):
    session.obtain(shared())
    copy = session.obtain(fork())
    base, original = (session.enclaves._remade, session.enclaves._shared)
    assert session.enclaves.alone(copy)
    assert not any(map(session.enclaves.alone, [*base.values(), *original.values()]))
    session.enclaves.release(copy)
    session.enclaves.close()
    assert all(site.observe() == {} for site in session.engine.sites.values())


def test_threads_that_ask_for_forks_get_one_each_of_the_same_base(session: Session):
    together = Barrier(8)

    def ask(number: int) -> Enclave:
        together.wait()
        return session.obtain(fork() if number % 2 else shared(), f"test_{number}")

    with ThreadPoolExecutor(8) as pool:
        forks = set(list(pool.map(ask, range(8)))[1::2])
    assert len(forks) == 4
    assert len({session.origin(copy) for copy in forks}) == 1


# other addresses


class MovingSite(SimulatedSite):
    """Its forks are on another network."""

    def fork(self, enclave: EnclaveId) -> SimulatedSite:
        """A fork, each address with another second number."""
        site = super().fork(enclave)
        for name, address in site._addresses.items():
            moved = Address(name, address.ip_address.replace("10.99.", "10.7."))
            process = site._processes[name]
            site._addresses[name] = moved
            site._processes[name] = replace(process, spec=replace(process.spec, address=moved))
        return site


class MovingEngine(SimulatedEngine):
    """An engine whose forks have other addresses."""

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> SimulatedSite:
        """A new enclave."""
        site = MovingSite(enclave, self.clock, self._script, self._know)
        self._know(site)
        return site


def test_where_addresses_are_others_recorded_values_and_files_have_them(session_of: Callable[..., Session]):
    session = session_of(engine=MovingEngine(SCRIPT))
    copy = session.obtain(fork())
    assert copy.services["db"].ip_address == "10.7.0.2"
    assert copy.output == {"db": "10.7.0.2", "told": "10.7.0.2\n", "n": 0}
    assert (copy.files["f"] / "t").read_text() == "db at 10.7.0.2"
    assert copy.last_run is not None
    assert copy.last_run.instructions[0].message == "service `db` is up at 10.7.0.2"
    assert copy.run().executed == 0
    assert copy.output == {"db": "10.7.0.2", "told": "10.7.0.2\n", "n": 0}
    original = session.obtain(shared())
    assert original.output == {"db": "10.99.0.2", "told": "10.99.0.2\n", "n": 0}
    assert (original.files["f"] / "t").read_text() == "db at 10.99.0.2"


def test_artifacts_are_as_they_were_at_the_fork_point(session_of: Callable[..., Session]):
    session = session_of(fork())
    original = session.obtain(shared())
    store = original._state.artifacts
    assert isinstance(store, ArtifactStore)
    store.store_files("f", {"t": b"other"})
    store.store_files("g", {"t": b"new"})
    copy = session.obtain(fork())
    assert {name: (path / "t").read_text() for name, path in copy.files.items()} == {"f": "db at 10.99.0.2"}
