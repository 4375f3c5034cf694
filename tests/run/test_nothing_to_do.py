"""A run that finds everything as the run before left it looks, and does nothing else."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import Action
from pytest_enclave.plan.events import PhaseStarted, StepFinished
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
