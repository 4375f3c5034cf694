"""Whatever ran in an enclave before: what the last plan names is as if that plan had run in a fresh enclave.

The plans are random, and each is complete in itself, so that it can run in a fresh enclave as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_enclave.engine.protocol import Action
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.plan.facts import Status
from pytest_enclave.run.outcome import Run
from tests.laboratory import Laboratory

SERVICES, ARTIFACTS, VERSIONS = ("a", "b"), ("f", "g"), ("1", "2")
SCRIPT = Script().service("*", files={"/data": "content"}, opens_after={"p": None})


@dataclass
class Draft:
    """A plan under construction: its lines, and which services and artifacts it has at their end."""

    lines: list[str] = field(default_factory=list)
    running: dict[str, bool] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    values: int = 0

    @property
    def script(self) -> str:
        """The plan, returning every value that it has found out."""
        body = "".join(f"    {line}\n" for line in self.lines)
        return f"def run(plan):\n{body}    return [" + ", ".join(f"v{n}" for n in range(self.values)) + "]\n"

    def with_other_version(self, number: int) -> Draft:
        """The same plan, but for the versions in one line."""
        lines = list(self.lines)
        lines[number] = lines[number].replace('"1"', "''").replace('"2"', '"1"').replace("''", '"2"')
        return replace(self, lines=lines)

    @property
    def broken_script(self) -> str:
        """The same plan, but no service of it ever listens."""
        return self.script.replace("ServiceConfig(", 'ServiceConfig(ports = {"p": PortSpec(number = 1, wait = "1s")}, ')


@st.composite
def plans(draw: st.DrawFn) -> Draft:
    """A plan of up to six instructions that a fresh enclave accepts."""
    plan = Draft()
    for _ in range(draw(st.integers(1, 6))):
        choices: list[tuple[Callable[..., None], str]] = [(say, version) for version in VERSIONS]
        choices += [(add, name) for name in SERVICES if name not in plan.running]
        choices += [(remove, name) for name in plan.running]
        choices += [(stop if runs else start, name) for name, runs in plan.running.items()]
        choices += [(work, name) for name, runs in plan.running.items() if runs]
        choices += [(make, name) for name in ARTIFACTS if name not in plan.artifacts]
        if not plan.running:
            choices.append((add_both, ""))
        step, argument = draw(st.sampled_from(choices))
        step(plan, argument, draw)
    return plan


def say(plan: Draft, text: str, _: st.DrawFn) -> None:
    plan.lines.append(f'plan.print("{text}")')


def config(plan: Draft, draw: st.DrawFn) -> str:
    mounted = draw(st.sampled_from([None, *sorted(plan.artifacts)]))
    fields = [f'image = "{draw(st.sampled_from(VERSIONS))}"', f'cmd = ["{draw(st.sampled_from(VERSIONS))}"]']
    if mounted:
        fields.append(f'files = {{"/f": "{mounted}"}}')
    if plan.values and draw(st.booleans()):
        fields.append(f'env_vars = {{"V": v{draw(st.integers(0, plan.values - 1))}}}')
    return f"ServiceConfig({', '.join(fields)})"


def add(plan: Draft, name: str, draw: st.DrawFn) -> None:
    plan.lines.append(f'plan.add_service("{name}", {config(plan, draw)})')
    plan.running[name] = True
    plan.named.add(name)


def add_both(plan: Draft, _: str, draw: st.DrawFn) -> None:
    entries = ", ".join(f'"{name}": {config(plan, draw)}' for name in SERVICES)
    plan.lines.append(f"plan.add_services({{{entries}}})")
    plan.running |= dict.fromkeys(SERVICES, True)
    plan.named |= set(SERVICES)


def remove(plan: Draft, name: str, _: st.DrawFn) -> None:
    plan.lines.append(f'plan.remove_service("{name}")')
    del plan.running[name]


def stop(plan: Draft, name: str, _: st.DrawFn) -> None:
    plan.lines.append(f'plan.stop_service("{name}")')
    plan.running[name] = False


def start(plan: Draft, name: str, _: st.DrawFn) -> None:
    plan.lines.append(f'plan.start_service("{name}")')
    plan.running[name] = True


def work(plan: Draft, name: str, draw: st.DrawFn) -> None:
    said = draw(st.sampled_from(VERSIONS))
    plan.lines.append(f'v{plan.values} = plan.exec("{name}", ExecRecipe(command = ["echo", "{said}"]))["output"]')
    plan.values += 1
    if draw(st.booleans()):
        plan.lines.append(f'plan.verify(v{plan.values - 1}, "!=", "")')


def make(plan: Draft, name: str, draw: st.DrawFn) -> None:
    running = sorted(service for service, runs in plan.running.items() if runs)
    if running and draw(st.booleans()):
        plan.lines.append(f'plan.store_service_files("{running[0]}", "/data", name = "{name}")')
    else:
        template = draw(st.sampled_from(VERSIONS))
        rendered = f'{{"t": struct(template = "{template}", data = {{}})}}'
        plan.lines.append(f'plan.render_templates({rendered}, name = "{name}")')
    plan.artifacts.add(name)
    plan.named.add(name)


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
    st.tuples(st.sampled_from(SERVICES), st.sampled_from([Action.KILL, Action.STOP, Action.PAUSE])), max_size=2
)


@st.composite
def series(draw: st.DrawFn) -> list[Draft]:
    """Plans to run one after the other; most differ in one line from one before."""
    found = [draw(plans())]
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.integers(0, 3)):
            earlier = draw(st.sampled_from(found))
            changed = draw(st.integers(0, len(earlier.lines) - 1))
            found.append(earlier.with_other_version(changed))
        else:
            found.append(draw(plans()))
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=series(), works=st.lists(st.booleans(), min_size=3), disturbed=st.lists(disturbances, min_size=3))
def test_after_any_history_a_plan_leaves_what_it_leaves_in_a_fresh_enclave(
    laboratory: Callable[..., Laboratory],
    plans: list[Draft],
    works: list[bool],
    disturbed: list[list[tuple[str, Action]]],
):
    lab, fresh = laboratory(SCRIPT), laboratory(SCRIPT)
    *history, last = plans
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
        if fact is not None and fact.status is Status.RUNNING:
            lab.state.site.act(name, action)
