"""A run that finds everything as the run before left it looks, and does nothing else."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from pytest_enclave.engine.protocol import Action
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.plan.events import PhaseStarted, StepFinished
from pytest_enclave.run.interpretation import Interpretations
from pytest_enclave.store.plans import SETTLED, KeptPlans
from tests.laboratory import Laboratory

TWO = """
plan.add_service("db", ServiceConfig(image="db"))
plan.print("there")
"""


@pytest.fixture
def settled(lab: Laboratory) -> Laboratory:
    """An enclave in which the package has run, and then found nothing to do."""
    lab.ok(TWO)
    assert lab.ok(TWO).executed == 0
    lab.events.clear()
    return lab


def phases(lab: Laboratory) -> list[str]:
    return [event.phase for event in lab.events if isinstance(event, PhaseStarted)]


def test_it_validates_nothing_and_tells_every_step(settled):
    finished = settled.ok(TWO)
    assert phases(settled) == ["interpreting", "executing"]
    steps = [event for event in settled.events if isinstance(event, StepFinished)]
    assert [(str(each.step.outcome), each.number, each.total) for each in steps] == [
        ("skipped", 1, 2),
        ("skipped", 2, 2),
    ]
    assert (finished.executed, finished.skipped) == (0, 2)


def test_it_asks_the_engine_what_is_there_and_nothing_else(settled):
    calls = settled.state.site.calls
    calls.clear()
    settled.ok(TWO)
    assert {call.method for call in calls} <= {"observe", "shaped"}


def test_it_leaves_the_journal_alone(settled):
    files = sorted(settled.state.journal._path.parent.glob("journal*"))
    before = [file.read_bytes() for file in files]
    settled.ok(TWO)
    assert [file.read_bytes() for file in files] == before


def test_a_run_that_executed_something_is_not_taken_for_one_that_had_nothing_to_do(lab):
    lab.ok(TWO)
    lab.events.clear()
    assert lab.ok(TWO).skipped == 2
    assert "validating" in phases(lab)


def test_a_service_that_has_ended_meanwhile_is_seen(settled):
    settled.state.site.act("db", Action.KILL)
    assert settled.ok(TWO).executed > 0


def test_what_another_package_has_changed_is_seen(settled):
    settled.ok('plan.add_service("db", ServiceConfig(image="db", cmd=["other"]))')
    assert settled.ok(TWO).executed > 0


def test_what_another_process_has_changed_is_seen(settled):
    other = settled.elsewhere()
    other.ok('plan.add_service("db", ServiceConfig(image="db", cmd=["other"]))')
    other.state.journal.close()
    settled.state.refresh()
    assert settled.ok(TWO).executed > 0


def test_a_run_that_failed_is_run_again(lab):
    failing = 'plan.verify(value=1, assertion="==", target_value=2)'
    lab.error(failing)
    assert lab.error(failing).message
    assert lab.latest is not None
    assert lab.latest.error is not None


# in the next process

MORE = """
plan.upload_files(src = "/files", name = "files")
db = plan.add_service("db", ServiceConfig(image = "db", files = {"/f": "files"}))
return struct(host = db.hostname, ip = db.ip_address, count = 3)
"""

Next = Callable[[], Laboratory]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package on disk that uploads a file."""
    root = tmp_path / "package"
    (root / "files").mkdir(parents=True)
    (root / "kurtosis.yml").write_text("name: github.com/some/package\n")
    (root / "main.star").write_text("def run(plan):\n" + "".join(f"    {line}\n" for line in MORE.strip().split("\n")))
    (root / "files" / "page").write_text("hello")
    time.sleep(SETTLED * 1.5)
    return root


@pytest.fixture
def process(lab: Laboratory, tmp_path: Path) -> Iterator[Next]:
    """A further process that has the same enclave: it knows what lies in files alone."""
    made: list[Laboratory] = []

    def begin() -> Laboratory:
        other = lab.elsewhere()
        state = structs.replace(other.state, plans=KeptPlans(tmp_path / "plans"))
        interpretations = Interpretations(
            others=lab.tools.interpretations._others, kept=lab.tools.interpretations._kept
        )
        made.append(replace(other, state=state, tools=structs.replace(lab.tools, interpretations=interpretations)))
        return made[-1]

    yield begin
    for each in made:
        each.state.journal.close()


def settle(process: Next, package: str | Path) -> None:
    """Run it, and again, in a process that ends then."""
    before = process()
    before.ok(package)
    assert before.ok(package).executed == 0


def test_the_next_process_just_looks_too(process, package):
    settle(process, package)
    last, then = process(), process()
    known = last.ok(package)
    finished = then.ok(package)
    assert phases(then) == ["interpreting", "executing"]
    assert [str(step) for step in finished.instructions] == [str(step) for step in known.instructions]
    assert [step.message for step in finished.instructions] == [step.message for step in known.instructions]
    assert {step.reason for step in finished.instructions} == {"already done"}
    assert finished.output == {"host": "db", "ip": then.state.site.observe()["db"].ip_address, "count": 3}
    assert (finished.executed, finished.skipped, finished.recorded) == (0, 2, 2)


def test_it_imports_nothing_that_executes(process, package, monkeypatch):
    settle(process, package)
    for name in ("execute", "network", "reuse", "validate"):
        monkeypatch.setitem(sys.modules, f"pytest_enclave.run.{name}", None)
    assert process().ok(package).skipped == 2


def test_it_leaves_the_journal_alone_and_asks_what_is_there(process, package):
    settle(process, package)
    then = process()
    calls, before = then.state.site.calls, then.state.journal.fingerprint
    calls.clear()
    then.ok(package)
    assert {call.method for call in calls} <= {"observe", "shaped"}
    assert then.state.journal.fingerprint == before


def test_connections_that_are_taken_away_for_the_seed_of_the_next_session_are_made_again(process, package):
    lines = [
        *(f'plan.add_service("{name}", ServiceConfig(image = "i", subnetwork = "{name}"))' for name in ("a", "b")),
        'plan.set_connection(("a", "b"), config = ConnectionConfig(packet_loss_percentage = 50.0))',
    ]
    (package / "main.star").write_text("def run(plan):\n" + "".join(f"    {line}\n" for line in lines))
    time.sleep(SETTLED * 1.5)
    settle(process, package)
    same, then = process(), process()
    same.ok(package)
    assert phases(same) == ["interpreting", "executing"]
    then.state.site.shape({}, 0)
    then.state.site.calls.clear()
    then.events.clear()
    assert then.ok(package).executed == 0
    assert phases(then) == ["interpreting", "validating", "executing"]
    assert [call.details["seed"] for call in then.state.site.calls if call.method == "shape"] == [then.options.seed]


def test_it_goes_on_looking(process, package):
    settle(process, package)
    then = process()
    then.ok(package)
    then.state.site.act("db", Action.KILL)
    assert then.ok(package).executed > 0


def test_a_service_that_has_ended_between_processes_is_seen(process, package):
    settle(process, package)
    process().state.site.act("db", Action.KILL)
    assert process().ok(package).executed > 0


def test_another_image_under_the_same_name_is_seen(process, package, monkeypatch):
    settle(process, package)
    monkeypatch.setattr(SimulatedEngine, "local_images", lambda _, names: dict.fromkeys(names, "sha256:new"))
    assert process().ok(package).executed > 0


@pytest.mark.parametrize("name", ["main.star", "files/page"])
def test_a_file_that_was_changed_between_processes_is_seen(process, package, name):
    settle(process, package)
    path = package / name
    path.write_text(path.read_text().replace("3", "4").replace("hello", "bye"))
    time.sleep(SETTLED * 1.5)
    finished = process().ok(package)
    assert (finished.executed > 0) == (name == "files/page")
    assert finished.output["count"] == (4 if name == "main.star" else 3)


def test_what_another_package_has_changed_between_processes_is_seen(process, package):
    settle(process, package)
    process().ok('plan.add_service("db", ServiceConfig(image = "db", cmd = ["other"]))')
    assert process().ok(package).executed > 0


def test_packages_that_share_an_enclave_are_settled_side_by_side(process, package):
    other = 'plan.add_service("other", ServiceConfig(image = "db"))'
    for each in (package, other, package, other):
        settle(process, each)
    then = process()
    for each in (package, other, package, other):
        then.ok(each)
    assert "validating" not in phases(then)


def test_a_mark_that_cannot_be_read_is_made_anew(process, package, tmp_path):
    settle(process, package)
    (mark,) = (tmp_path / "plans").glob("*-settled")
    whole = mark.read_bytes()
    for content in (b"", whole[: len(whole) // 2], pickle.dumps("something else"), pickle.dumps({b"": 1})):
        mark.write_bytes(content)
        then = process()
        assert then.ok(package).skipped == 2
        assert "validating" in phases(then)
        assert pickle.loads(mark.read_bytes()) == pickle.loads(whole)


def test_a_run_that_found_something_to_do_leaves_no_mark(process, package, tmp_path):
    process().ok(package)
    assert not list((tmp_path / "plans").glob("*-settled"))


def test_instructions_of_plugins_may_do_anything(process, package, tmp_path):
    first, types = process(), Registry()
    types.is_extended = True
    first.tools = structs.replace(first.tools, types=types)
    first.ok(package)
    assert first.ok(package).executed == 0
    assert not (tmp_path / "plans").exists()
