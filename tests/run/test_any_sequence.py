"""Whatever ran in an enclave before: what the last plan names is as if that plan had run in a fresh enclave.

What it does not name is untouched, and the same plan once more executes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_enclave.engine.protocol import Action
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.plan.facts import Status
from pytest_enclave.run.outcome import Run
from tests.laboratory import Laboratory
from tests.run.random_plans import ARTIFACTS, SERVICES, Step, series, written

SCRIPT = Script().service("*", files={"/data": "content"}, opens_after={"p": None})


def services(lab: Laboratory, names: set[str]) -> Mapping[str, Any]:
    """What each of the services is: its status, its image, its resolved config, and the files mounted in it."""
    facts, configs = lab.state.site.observe(), lab.state.configs()
    specs = {spec.name: spec for call in lab.engine.sites[lab.state.id.name].asked("start") for spec in call["specs"]}
    running = {name for name, fact in facts.items() if fact.status is Status.RUNNING}
    return {
        name: (
            facts[name].status,
            facts[name].image,
            configs[name],
            (specs[name].image, specs[name].cmd, specs[name].env_vars),
            lab.state.site.exec(name, ["cat", "/f/t"], None) if name in running else None,
        )
        for name in names & facts.keys() & configs.keys()
    }


def files(lab: Laboratory, names: set[str]) -> Mapping[str, Any]:
    """The content of each of the artifacts."""
    directories: Mapping[str, Path] = lab.state.artifacts.directories()
    return {
        name: {path.name: path.read_text() for path in directory.iterdir()}
        for name, directory in directories.items()
        if name in names
    }


def started_or_acted_on(lab: Laboratory, since: int) -> set[str]:
    """The services that the site was asked to change."""
    calls = lab.engine.sites[lab.state.id.name].calls[since:]
    acted = {call.details["name"] for call in calls if call.method == "act"}
    return acted | {spec.name for call in calls if call.method == "start" for spec in call.details["specs"]}


disturbances = st.lists(
    st.tuples(
        st.sampled_from(SERVICES),
        st.sampled_from([Action.KILL, Action.STOP, Action.START, Action.PAUSE, Action.REMOVE]),
    ),
    max_size=2,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=series(), works=st.lists(st.booleans(), min_size=4), disturbed=st.lists(disturbances, min_size=4))
def test_after_any_history_a_plan_leaves_what_it_leaves_in_a_fresh_enclave(
    laboratory: Callable[..., Laboratory],
    plans: list[list[Step]],
    works: list[bool],
    disturbed: list[list[tuple[str, Action]]],
):
    lab, fresh = laboratory(SCRIPT), laboratory(SCRIPT)
    *history, last = map(written, plans)
    for plan, whole, actions in zip(history, works, disturbed, strict=False):
        lab.run(plan.script if whole else plan.broken_script)
        disturb(lab, actions)
    others = {*SERVICES, *ARTIFACTS} - last.named
    before = services(lab, others), files(lab, others)
    asked = len(lab.engine.sites[lab.state.id.name].calls)

    finished: Run = lab.ok(last.script)
    expected: Run = fresh.ok(last.script)

    assert services(lab, last.named) == services(fresh, last.named)
    assert files(lab, last.named) == files(fresh, last.named)
    assert finished.output == expected.output
    assert (services(lab, others), files(lab, others)) == before
    assert started_or_acted_on(lab, asked) <= last.named
    assert lab.ok(last.script).executed == 0, "an identical run executes nothing"


def disturb(lab: Laboratory, actions: list[tuple[str, Action]]) -> None:
    """What a test may do to services behind the enclave's back."""
    for name, action in actions:
        fact = lab.state.site.observe().get(name)
        if fact is not None and (fact.status is Status.RUNNING) != (action is Action.START):
            lab.state.site.act(name, action)
