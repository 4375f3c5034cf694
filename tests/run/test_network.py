"""What is between services while plans run: told before anything starts, told once, and put right where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from pytest_enclave.engine.protocol import Action
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EngineError, ExecutionError
from pytest_enclave.package.package import Source
from pytest_enclave.plan.connections import BLOCKED, Connection, ConnectionMatrix, Delay
from pytest_enclave.run.forking import begin, freeze
from pytest_enclave.run.interpretation import Request
from pytest_enclave.run.pipeline import run as run_pipeline
from tests.laboratory import Laboratory, as_script

A = 'plan.add_service("a", ServiceConfig(image = "img", subnetwork = "x"))\n'
B = 'plan.add_service("b", ServiceConfig(image = "img", subnetwork = "y"))\n'
B2 = 'plan.add_service("b", ServiceConfig(image = "img", subnetwork = "y", cmd = ["2"]))\n'
C = 'plan.add_service("c", ServiceConfig(image = "img"))\n'
BLOCK = "plan.set_connection(config = kurtosis.connection.BLOCKED)\n"
ALLOW = "plan.set_connection(config = kurtosis.connection.ALLOWED)\n"
LOSE = 'plan.set_connection(("x", "y"), ConnectionConfig({}))\n'
REMOVE = 'plan.remove_connection(("x", "y"))\n'
MOVE = 'plan.update_service("b", UpdateServiceConfig("{}"))\n'
EXEC = 'plan.exec("a", ExecRecipe(command = ["true"]))\n'
IN_B = 'plan.exec("b", ExecRecipe(command = ["true"]))\n'


def both(one: str, other: str, connection: Connection) -> ConnectionMatrix:
    """The connection, each way."""
    return {(one, other): connection, (other, one): connection}


AB = both("a", "b", BLOCKED)
SLOW = both("a", "b", Connection(delay=Delay(7.0)))


def site_of(lab: Laboratory) -> SimulatedSite:
    """The lab's enclave as the engine has it."""
    return lab.engine.sites[lab.state.id.name]


def told(lab: Laboratory) -> list[ConnectionMatrix]:
    """What the engine was told to have between services, in order."""
    return [call["connections"] for call in site_of(lab).asked("shape")]


def doings(lab: Laboratory) -> list[str]:
    """What was started, run, and told of connections, in order."""
    found = []
    for call in site_of(lab).calls:
        if call.method == "shape":
            found.append(
                "+".join(sorted("".join(pair) for pair in call.details["connections"] if pair[0] < pair[1])) or "-"
            )
        elif call.method == "start":
            found.append(f"start {'+'.join(spec.name for spec in call.details['specs'])}")
        elif call.method == "exec":
            found.append("exec")
    return found


def test_a_plan_without_connections_tells_the_engine_nothing(lab: Laboratory):
    lab.ok(A + B + MOVE.format("z") + ALLOW + REMOVE + EXEC)
    assert told(lab) == []


def test_row_182_what_is_between_services_is_told_before_they_start(lab: Laboratory):
    lab.ok(BLOCK + A + B + C)
    assert doings(lab) == ["start a", "ab", "start b", "ab+ac+bc", "start c"]


def test_services_of_a_batch_are_kept_apart_before_any_starts(lab: Laboratory):
    lab.ok(BLOCK + 'plan.add_services({n: ServiceConfig(image = "img", subnetwork = n) for n in ["a", "b"]})')
    assert doings(lab) == ["ab", "start a+b"]


def test_each_change_is_told_once_and_those_after_which_all_is_as_before_are_not(lab: Laboratory):
    lab.ok(
        A + B + C + LOSE.format(100) + EXEC + BLOCK + LOSE.format(100.0) + MOVE.format("x") + MOVE.format("x") + REMOVE
    )
    assert doings(lab)[3:] == ["ab", "exec", "ab+ac+bc", "ac+bc"]


def test_what_is_removed_is_told_with_what_comes_next(lab: Laboratory):
    lab.ok(BLOCK + A + B + 'plan.remove_service("b")\n' + EXEC)
    assert told(lab) == [AB, {}]
    assert doings(lab)[-2:] == ["-", "exec"]
    lab.ok('plan.remove_service("a")')
    assert lab.state.topology().services == {}


def test_a_service_that_comes_again_is_where_it_says_then(lab: Laboratory):
    lab.ok(BLOCK + A + B + 'plan.remove_service("b")\nplan.add_service("b", ServiceConfig(image = "img"))')
    assert lab.state.site.shaped() == AB
    assert lab.state.topology().services == {"a": "x", "b": "default"}


def test_the_seed_of_the_run_is_that_of_losses(lab: Laboratory):
    lab.ok(A + B + LOSE.format(30))
    assert [call["seed"] for call in site_of(lab).asked("shape")] == [1]


def test_the_same_plan_again_tells_nothing(lab: Laboratory):
    plan = A + B + LOSE.format(30) + EXEC + MOVE.format("z") + REMOVE
    lab.ok(plan)
    before = told(lab)
    assert lab.outcomes(plan) == ["skipped"] * 6
    assert told(lab) == before


# what somebody else has changed


def test_what_was_left_between_services_is_put_right_by_a_run_that_skips_all(lab: Laboratory):
    plan = A + B + C + LOSE.format(100)
    lab.ok(plan)
    lab.state.site.shape({**AB, **both("a", "c", BLOCKED)}, 0)
    assert lab.outcomes(plan) == ["skipped"] * 4
    assert lab.state.site.shaped() == AB
    lab.state.site.shape({}, 0)
    lab.ok(A + B + C + LOSE.format(100) + EXEC)
    assert doings(lab)[-3:] == ["-", "ab", "exec"]


def alone(lab: Laboratory, plan: str, healed: Callable[[], None] = lambda: None) -> list[str]:
    """Run a plan; what had been done when it asked to be alone."""
    asked: list[str] = []

    def be_alone() -> None:
        asked.append(doings(lab)[-1])
        healed()

    finished = run_pipeline(
        Request.of(Source(as_script(plan))), lab.state, lab.tools, lab.options, lambda e: None, lambda p: None, be_alone
    )
    assert finished.error is None
    return asked


def test_who_puts_it_right_waits_for_tests_that_use_the_enclave_and_looks_again(lab: Laboratory):
    lab.ok(A + B)
    lab.state.site.shape(AB, 0)
    assert alone(lab, A + B, lambda: lab.state.site.shape({}, 0)) == ["ab"]
    assert told(lab) == [AB, {}]


def test_who_changes_what_is_between_services_waits_for_those_who_use_them(lab: Laboratory):
    lab.ok(A + B + C)
    assert alone(lab, LOSE.format(100)) == ["start c"]
    assert alone(lab, A + B + C + LOSE.format(100)) == []
    assert alone(lab, MOVE.format("x")) == ["ab"]


def test_who_only_adds_services_does_not_wait(lab: Laboratory):
    lab.ok(BLOCK + A + B)
    assert alone(lab, C) == []
    assert alone(lab, 'plan.set_connection(("u", "v"), kurtosis.connection.BLOCKED)') == []
    assert ("a", "c") in lab.state.site.shaped()


def test_the_faults_of_the_running_test_stay_while_it_runs_something(lab: Laboratory):
    lab.ok(A + B)
    fault: Mapping[tuple[str, str], Connection] = {("a", "b"): BLOCKED, ("a", "gone"): BLOCKED}
    lab.state.faults.append(fault)
    lab.state.site.shape({("a", "b"): BLOCKED}, 0)
    lab.ok(LOSE.format(50) + C)
    assert lab.state.site.shaped() == {("a", "b"): BLOCKED, ("b", "a"): Connection(50.0)}
    assert told(lab)[1:] == [lab.state.site.shaped()]
    lab.state.faults.clear()
    lab.ok("pass")
    assert lab.state.site.shaped() == both("a", "b", Connection(50.0))


# what fails


class Refusing:
    """An engine that is told of connections in vain, so many times after some."""

    def __init__(self, site: SimulatedSite, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
        self.left = times
        self._shape = site.shape
        monkeypatch.setattr(site, "shape", self)

    def __call__(self, connections: ConnectionMatrix, seed: int) -> None:
        self.left -= 1
        if self.left >= 0:
            raise EngineError("no room for rules")
        self._shape(connections, seed)


@pytest.mark.parametrize(
    ("before", "failing"),
    [
        pytest.param(LOSE.format(50), LOSE.format(100), id="row-172-override"),
        pytest.param("", LOSE.format(100), id="row-172-new-override"),
        pytest.param("", BLOCK, id="row-173"),
        pytest.param(BLOCK, ALLOW, id="row-173-default-before"),
        pytest.param(BLOCK, MOVE.format("x"), id="row-174"),
        pytest.param(BLOCK + LOSE.format(50), REMOVE, id="remove-connection"),
    ],
)
def test_a_change_that_the_engine_refuses_has_not_happened(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch, before: str, failing: str
):
    lab.ok(A + B + before)
    topology, matrix, kept = lab.state.topology(), lab.state.site.shaped(), lab.kept
    refusing = Refusing(site_of(lab), monkeypatch)
    error = lab.error(failing)
    assert (error.message, error.location.line) == ("no room for rules", 2)
    assert refusing.left == -1, "what was before is told again"
    assert lab.state.topology() == topology
    assert lab.state.site.shaped() == matrix
    assert lab.kept == kept
    lab.ok(failing)
    assert lab.state.site.shaped() != matrix


def test_row_172_a_changed_connection_that_is_refused_stays_as_it_was_in_its_place(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
):
    lab.ok(A + B + LOSE.format(50) + EXEC)
    Refusing(site_of(lab), monkeypatch)
    lab.error(A + B + LOSE.format(100) + EXEC)
    assert lab.state.site.shaped() == both("a", "b", Connection(50.0))
    assert lab.outcomes(A + B + LOSE.format(100) + EXEC) == ["skipped", "skipped", "updated", "executed"]
    assert lab.state.site.shaped() == AB


def test_services_do_not_start_where_they_cannot_be_kept_apart(lab: Laboratory, monkeypatch: pytest.MonkeyPatch):
    lab.ok(BLOCK + A)
    Refusing(site_of(lab), monkeypatch)
    assert type(lab.error(B)) is EngineError
    assert doings(lab) == ["start a", "-"]
    assert lab.state.topology().services == {"a": "x"}
    lab.ok(B)
    assert lab.state.site.shaped() == AB


def test_where_what_was_before_is_refused_too_the_next_run_tells_it(lab: Laboratory, monkeypatch: pytest.MonkeyPatch):
    lab.ok(A + B + LOSE.format(100))
    site_of(lab)._shaped = {}
    refusing = Refusing(site_of(lab), monkeypatch, times=2)
    assert lab.error(A + B + LOSE.format(100)).message == "no room for rules"
    lab.error(EXEC)
    assert refusing.left == 0
    lab.ok(EXEC)
    assert lab.state.site.shaped() == AB


def test_a_service_that_does_not_come_up_is_between_no_others_afterwards(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("b", start_fails="it does not start"))
    lab.ok(BLOCK + A)
    assert isinstance(lab.error(B), ExecutionError)
    assert told(lab) == [AB, {}]


# what runs again finds the network as it was at its place


def test_what_runs_again_finds_connections_as_they_were_then(lab: Laboratory):
    plan = A + B + EXEC + LOSE.format(100) + EXEC
    lab.ok(plan)
    done = len(doings(lab))
    changed = A + B2 + EXEC + LOSE.format(100) + EXEC
    assert lab.outcomes(changed) == ["skipped", "updated", "executed", "skipped", "executed"]
    assert doings(lab)[done:] == ["-", "start b", "exec", "ab", "exec"]


def test_towards_services_that_come_later_the_network_is_as_the_whole_plan_has_it(lab: Laboratory):
    plan = B + IN_B + BLOCK + A
    lab.ok(plan)
    done = len(doings(lab))
    assert lab.outcomes(B2 + IN_B + BLOCK + A) == ["updated", "executed", "skipped", "skipped"]
    assert doings(lab)[done:] == ["start b", "exec"]
    assert lab.state.site.shaped() == AB


def test_a_service_that_is_replaced_is_moved_again_by_the_plan_alone(lab: Laboratory):
    lab.ok(BLOCK + A + B + MOVE.format("x"))
    done = len(doings(lab))
    assert lab.outcomes(BLOCK + A + B2 + MOVE.format("x")) == ["skipped", "skipped", "updated", "skipped"]
    assert doings(lab)[done:] == ["ab", "start b", "-"]
    assert lab.state.topology().services["b"] == "x"


def test_services_that_the_plan_has_removed_since_are_between_no_others(lab: Laboratory):
    plan = A + B + BLOCK + EXEC + 'plan.remove_service("b")\n'
    lab.ok(plan)
    before = told(lab)
    assert lab.outcomes(plan.replace('"x"', '"x", cmd = ["2"]'))[3] == "executed"
    assert told(lab) == before


# forks


def test_a_fork_has_the_connections_of_its_origin(lab: Laboratory, laboratory: Callable[..., Laboratory]):
    last = lab.ok(A + B + LOSE.format(100))
    point = freeze(lab.state, last, lab.tools, lab.options, lambda e: None)
    lab.ok(LOSE.format(50))
    other = laboratory()
    fork: Any = point.fork(other.state.id)
    assert fork.shaped() == AB
    fork._shaped = {}
    state = replace(other.state, site=fork, engine=lab.engine)
    begin(point, state, lab.tools, lab.options, lambda e: None)
    assert fork.shaped() == AB
    assert state.topology().matrix() == AB
    assert lab.state.site.shaped() == both("a", "b", Connection(50.0))


def test_a_killed_service_keeps_its_connections(lab: Laboratory):
    lab.ok(A + B + LOSE.format(100))
    lab.state.site.act("b", Action.KILL)
    lab.ok(A + B + LOSE.format(100))
    assert told(lab) == [AB, {}, AB]
