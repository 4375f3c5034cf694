"""Which enclave a demand gets, and what becomes of a run that failed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from pytest_enclave.enclave.demand import Demand
from pytest_enclave.enclave.enclave import Enclave, Observers
from pytest_enclave.enclave.sharing import Enclaves
from pytest_enclave.enclave.tenure import Tenure
from pytest_enclave.engine.protocol import EnclaveId, Leak
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import VerifyFailed
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import Options, Tools

NOBODY = Observers(lambda e, _: None, lambda e, _: None, lambda e, _: None, lambda e: None)
LEAK = Leak("network", "net", "in use", "docker network rm net")
GOOD = Source('def run(plan, name = "a"):\n    plan.add_service(name, ServiceConfig(image = "img"))')
BAD = Source('def run(plan):\n    plan.print("first")\n    plan.verify("a", "==", "b")')


@pytest.fixture
def enclaves(tools: Tools) -> Iterator[Enclaves]:
    """The enclaves of a session whose engine leaves a network behind for each."""
    enclaves = Enclaves(SimulatedEngine(Script().leaves(LEAK)), tools, Options(), NOBODY)
    yield enclaves
    enclaves.close()


def demand(package: Source | Path = GOOD, args: dict[str, str] | None = None, **how: object) -> Demand:
    return Demand(Request.of(package, args), **how)  # type: ignore[arg-type]


def obtain(enclaves: Enclaves, wanted: Demand, by: str = "test_one") -> Enclave:
    return enclaves.obtain(wanted, by, lambda enclave: None)


def test_the_same_package_and_arguments_share_one_enclave(enclaves: Enclaves):
    first = obtain(enclaves, demand())
    assert obtain(enclaves, demand(args={})) is first
    assert first.last_run is not None
    assert first.last_run.executed == 0, "the second demand found everything there"


def test_other_arguments_get_another_enclave(enclaves: Enclaves):
    assert obtain(enclaves, demand()) is not obtain(enclaves, demand(args={"name": "b"}))


def test_a_named_enclave_is_shared_by_different_packages_and_grows(enclaves: Enclaves):
    first = obtain(enclaves, demand(share="orders"))
    assert obtain(enclaves, demand(args={"name": "b"}, share="orders")) is first
    assert list(first.services) == ["a", "b"]
    assert first.name.startswith("orders-")


def test_an_isolated_enclave_is_nobody_elses(enclaves: Enclaves):
    alone = [obtain(enclaves, demand(isolate=True)) for _ in range(2)]
    assert len({*alone, obtain(enclaves, demand())}) == 3


def test_row_I16_without_reuse_everybody_gets_a_new_enclave(enclaves: Enclaves):
    enclaves.reuse = False
    first, second = obtain(enclaves, demand(share="x")), obtain(enclaves, demand(share="x"))
    assert first is not second
    assert second.last_run is not None
    assert second.last_run.executed == 1


def test_a_run_that_failed_is_not_repeated_for_somebody_else(enclaves: Enclaves):
    with pytest.raises(VerifyFailed) as first:
        obtain(enclaves, demand(BAD), "test_one")
    runs: list[Enclave] = []
    with pytest.raises(VerifyFailed) as second:
        enclaves.obtain(demand(BAD), "test_two", runs.append)
    assert second.value is first.value
    assert second.value.enclave == runs[0].name
    assert runs[0].last_run is not None
    assert runs[0].last_run.error is first.value, "no further run"


def test_who_met_the_failure_may_run_into_it_again(enclaves: Enclaves):
    failures = []
    for _ in range(2):
        with pytest.raises(VerifyFailed) as caught:
            obtain(enclaves, demand(BAD), "test_one")
        failures.append(caught.value)
    assert failures[0] is not failures[1], "as a plugin that repeats failed tests expects it"


def test_a_failure_concerns_only_the_same_request(enclaves: Enclaves):
    with pytest.raises(VerifyFailed):
        obtain(enclaves, demand(BAD, share="both"))
    assert list(obtain(enclaves, demand(GOOD, share="both"), "test_two").services) == ["a"]


def test_a_failure_in_an_isolated_enclave_concerns_nobody_else(enclaves: Enclaves):
    errors = []
    for by in ("test_one", "test_two"):
        with pytest.raises(VerifyFailed) as caught:
            obtain(enclaves, demand(BAD, isolate=True), by)
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_who_uses_an_enclave_is_told_before_anything_runs_in_it(enclaves: Enclaves):
    seen: list[int] = []
    enclaves.obtain(demand(), "test_one", lambda enclave: seen.append(len(enclave.services)))
    assert seen == [0]


@pytest.mark.parametrize(
    ("path", "name"),
    [("Shop_1", "shop-1"), ("Shop_1/main.star", "shop-1"), ("Shop_1/extra.star", "extra")],
)
def test_an_enclave_is_named_after_its_package(enclaves: Enclaves, tmp_path: Path, path: str, name: str):
    package = tmp_path / "Shop_1"
    package.mkdir()
    (package / "kurtosis.yml").write_text("name: github.com/example/shop\n")
    for file in ("main.star", "extra.star"):
        (package / file).write_text("def run(plan):\n    pass\n")
    enclave = obtain(enclaves, demand(tmp_path / path))
    assert enclave.name.rpartition("-")[0] == name


def test_closing_removes_all_and_returns_what_each_left(enclaves: Enclaves):
    held = [obtain(enclaves, demand(isolate=True)) for _ in range(3)]
    directory = held[0].files  # the mapping is empty, but its enclave has a directory of its own
    assert dict(directory) == {}
    enclaves.release(held[0])
    assert list(enclaves.close()) == [LEAK] * 3
    assert isinstance(enclaves.engine, SimulatedEngine)
    assert all(site.observe() == {} for site in enclaves.engine.sites.values())


def test_threads_that_ask_for_the_same_get_one_enclave(enclaves: Enclaves):
    together = Barrier(8)

    def ask(number: int) -> Enclave:
        together.wait()
        return obtain(enclaves, demand(), f"test_{number}")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert isinstance(enclaves.engine, SimulatedEngine)
    (site,) = enclaves.engine.sites.values()
    assert len(site.asked("start")) == 1


class PreparingEngine(SimulatedEngine):
    """An engine that remembers what it was told to expect."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[Collection[str]] = []
        self.opened: list[Collection[str]] = []

    def prepare(self, services: Collection[str]) -> None:
        """Remember them."""
        self.prepared.append(services)

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> SimulatedSite:
        """A new enclave; remember what for."""
        self.opened.append(services)
        return super().open(enclave, services)


@pytest.mark.parametrize("more", [True, False])
def test_the_engine_is_told_of_services_that_will_be_wanted_again_in_fresh_enclaves(tools: Tools, more: bool):
    engine = PreparingEngine()
    enclaves = Enclaves(engine, tools, Options(), NOBODY, expects_more=lambda _: more)
    other = demand(args={"name": "b"}, isolate=True)
    for wanted in (demand(isolate=True), demand(isolate=True), other, demand()):
        obtain(enclaves, wanted)
    assert engine.prepared == ([("a",), ("a",), ("b",)] if more else [])
    assert engine.opened == [(), ("a",) if more else (), (), ()]
    enclaves.close()


def test_the_engine_is_told_nothing_of_a_run_that_failed(tools: Tools):
    engine = PreparingEngine()
    enclaves = Enclaves(engine, tools, Options(), NOBODY, expects_more=lambda _: True)
    with pytest.raises(VerifyFailed):
        obtain(enclaves, demand(BAD, isolate=True))
    assert engine.prepared == []
    enclaves.close()


def test_an_enclave_that_cannot_be_closed_hides_nothing_of_the_others(
    enclaves: Enclaves, monkeypatch: pytest.MonkeyPatch
):
    bad, good = (obtain(enclaves, demand(isolate=True)) for _ in range(2))

    def close() -> list[Leak]:
        raise OSError("the engine went away")

    monkeypatch.setattr(bad._state.site, "close", close)
    assert list(enclaves.close()) == [LEAK]
    assert enclaves.upkeep.complaints == [f"removing {bad.name}: OSError: the engine went away"]
    assert enclaves.upkeep._closer._shutdown
    assert good.last_run is not None


def test_closing_ends_a_session_of_its_own_and_no_other(tools: Tools, tmp_path: Path):
    own = Enclaves(SimulatedEngine(), tools, Options(), NOBODY)
    tenure = own.upkeep.tenure
    assert tenure.ledger.lives(tenure.session.id)
    own.close()
    assert not tenure.ledger.lives(tenure.session.id)

    ledger = Ledger(tmp_path)
    given = Tenure(ledger, ledger.begin_session())
    Enclaves(SimulatedEngine(), tools, Options(), NOBODY, given).close()
    assert ledger.lives(given.session.id), "it is whoever began it that ends it"
    given.session.end()


@pytest.mark.parametrize(
    ("wanted", "kind", "args"),
    [
        (demand(), "shared", ""),
        (demand(args={"name": "b"}, share="orders"), "share=orders", '{"name": "b"}'),
        (demand(scope="tests/test_shop.py"), "module tests/test_shop.py", ""),
        (demand(scope="tests/test_shop.py::TestOrders"), "class TestOrders", ""),
        (demand(isolate=True), "isolated", ""),
        (demand(isolate="fork"), "fork", ""),
    ],
)
def test_the_ledger_tells_what_an_enclave_is_to_tests(
    tools: Tools, tmp_path: Path, wanted: Demand, kind: str, args: str
) -> None:
    ledger = Ledger(tmp_path)
    enclaves = Enclaves(SimulatedEngine(), tools, Options(), NOBODY, Tenure(ledger, ledger.begin_session()))
    name = obtain(enclaves, wanted).name
    told = {each.name: (each.kind, each.args) for each in ledger.entries()}
    assert told[name] == (kind, args)
    enclaves.close()
