"""Reuse looks at what is really there: services, images and files that changed behind the enclave's back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import Action, Exit
from pytest_enclave.engine.simulated.behaviour import ScriptedImage
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.plan.facts import Status
from tests.laboratory import Laboratory

A = 'plan.add_service("a", ServiceConfig(image = "img"))\n'
B = 'plan.add_service("b", ServiceConfig(image = "img"))\n'
EXEC = 'plan.exec("b", ExecRecipe(command = ["true"]))\n'
STOP, START = 'plan.stop_service("a")\n', 'plan.start_service("a")\n'


@dataclass(frozen=True)
class Registry(Script):
    """A script whose tags can be moved to other images while an enclave lives."""

    tags: dict[str, str] = field(default_factory=dict)

    def image_of(self, reference: str) -> ScriptedImage:
        """The image that the tag is at now."""
        return ScriptedImage(self.tags[reference]) if reference in self.tags else Script.image_of(self, reference)


def reasons(lab: Laboratory, plan: str) -> list[tuple[str, str]]:
    """Outcome and reason, exit codes aside, of every instruction of a run that ends well."""
    steps = lab.ok(plan).instructions
    return [(str(step.outcome), re.sub(r" \(exit code \d+\)", "", step.reason)) for step in steps]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action.KILL, "service `a` was killed"),
        (Action.STOP, "service `a` was stopped, and not by the plan"),
        (Action.PAUSE, "service `a` was paused, and not by the plan"),
        (Action.REMOVE, "service `a` is gone, and not by the plan"),
    ],
)
def test_a_service_that_does_not_run_any_more_is_replaced(lab: Laboratory, action: Action, reason: str):
    lab.ok(A + B + EXEC)
    lab.state.site.act("a", action)
    assert reasons(lab, A + B + EXEC) == [
        ("updated", reason),
        ("skipped", "already done"),
        ("executed", "service `a` was replaced"),
    ]
    assert lab.state.site.observe()["a"].status is Status.RUNNING
    assert lab.ok(A + B + EXEC).executed == 0


def test_a_stopped_service_that_a_test_started_is_stopped_again(lab: Laboratory):
    lab.ok(A + STOP)
    lab.enclave().services["a"].start()
    assert reasons(lab, A + STOP) == [
        ("updated", "service `a` was started, and not by the plan"),
        ("executed", "service `a` was started, and not by the plan"),
    ]
    assert lab.state.site.observe()["a"].status is Status.STOPPED


@pytest.mark.parametrize(
    ("plan", "reason"),
    [(STOP, "service `a` was started, and not by the plan"), (STOP + START, "service `a` was killed")],
)
def test_an_action_alone_is_repeated_where_it_does_not_hold_any_more(lab: Laboratory, plan: str, reason: str):
    lab.ok(A + plan)
    lab.state.site.act("a", Action.START if plan == STOP else Action.KILL)
    assert reasons(lab, plan)[-1] == ("executed", reason)
    assert lab.ok(A + plan).executed == 0


def test_a_job_that_ended_well_is_not_run_again(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("a", exits_after=1.0, exits_with=Exit(0)))
    lab.ok(A)
    lab.engine.clock.advance(5.0)
    assert reasons(lab, A) == [("skipped", "already done")]


@pytest.mark.parametrize("ports", ["", ', ports = {"http": PortSpec(number = 80)}'])
def test_a_service_that_failed_or_should_serve_is_run_again(laboratory: Callable[..., Laboratory], ports: str):
    lab = laboratory(Script().service("a", exits_after=1.0, exits_with=Exit(0 if ports else 1)))
    plan = f'plan.add_service("a", ServiceConfig(image = "img"{ports}))'
    lab.ok(plan)
    lab.engine.clock.advance(5.0)
    assert lab.outcomes(plan) == ["updated"]


def test_a_service_whose_image_moved_is_replaced(laboratory: Callable[..., Laboratory]):
    registry = Registry(tags={"img": "sha256:one"})
    lab = laboratory(registry)
    lab.ok(A + B.replace("img", "other"))
    registry.tags["img"] = "sha256:two"
    assert reasons(lab, A + B.replace("img", "other")) == [
        ("updated", "service `a` runs from another image than recorded"),
        ("skipped", "already done"),
    ]
    assert lab.ok(A + B.replace("img", "other")).executed == 0
    # Also right after a run that had nothing to do.
    registry.tags["img"] = "sha256:three"
    assert lab.ok(A + B.replace("img", "other")).executed == 1


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that uploads a file, and mounts it in a service."""
    root = tmp_path / "package"
    root.mkdir()
    (root / "kurtosis.yml").write_text("name: github.com/example/uploads\n")
    (root / "settings.txt").write_text("one")
    (root / "main.star").write_text(
        "def run(plan):\n"
        '    f = plan.upload_files("./settings.txt", name = "settings")\n'
        '    plan.add_service("a", ServiceConfig(image = "img", files = {"/f": f}))\n'
        '    plan.add_service("b", ServiceConfig(image = "img"))\n'
        '    plan.exec("b", ExecRecipe(command = ["true"]))\n'
        '    return plan.exec("a", ExecRecipe(command = ["cat", "/f/settings.txt"]))["output"]\n'
    )
    return root


def test_a_file_that_changed_is_uploaded_again_and_whoever_mounts_it_replaced(lab: Laboratory, package: Path):
    assert lab.ok(package).output == "one"
    assert lab.ok(package).executed == 0
    (package / "settings.txt").write_text("two")
    finished = lab.ok(package)
    assert [(str(step.outcome), step.reason) for step in finished.instructions] == [
        ("updated", "the content of `./settings.txt` changed"),
        ("updated", "files artifact `settings` changed"),
        ("skipped", "already done"),
        ("executed", "service `a` was replaced"),
        ("executed", "service `a` was replaced"),
    ]
    assert finished.output == "two"
    assert lab.ok(package).executed == 0


def test_a_file_that_was_only_touched_changes_nothing(lab: Laboratory, package: Path):
    lab.ok(package)
    (package / "settings.txt").touch()
    assert lab.ok(package).executed == 0


def test_an_artifact_made_again_with_the_same_content_disturbs_nobody(lab: Laboratory):
    rendered = 'plan.render_templates({{"t": struct(template = "{0}", data = {{"A": "x"}})}}, name = "f")\n'
    mounted = 'plan.add_service("a", ServiceConfig(image = "img", files = {"/f": "f"}))'
    lab.ok(rendered.format("x") + mounted)
    assert lab.outcomes(rendered.format("{{.A}}") + mounted) == ["updated", "skipped"]


def test_a_service_is_replaced_when_one_of_several_artifacts_in_a_directory_changes(lab: Laboratory):
    plan = (
        'plan.render_templates({{"a": struct(template = "one", data = {{}})}}, name = "f")\n'
        'plan.render_templates({{"b": struct(template = "{0}", data = {{}})}}, name = "g")\n'
        'plan.add_service("s", ServiceConfig(image = "img", files = {{"/d": Directory(["f", "g"])}}))\n'
        'return plan.exec("s", ExecRecipe(command = ["cat", "/d/a", "/d/b"]))["output"]'
    )
    assert lab.ok(plan.format("two")).output == "onetwo"
    assert lab.ok(plan.format("two")).executed == 0
    finished = lab.ok(plan.format("three"))
    assert finished.output == "onethree"
    assert finished.instructions[2].reason == "files artifact `g` changed"


def test_a_persistent_directory_is_part_of_what_a_service_is(lab: Laboratory):
    plan = 'plan.add_service("s", ServiceConfig(image = "img", files = {{"/d": Directory(persistent_key = "{0}")}}))'
    assert [lab.outcomes(plan.format(key)) for key in ("one", "one", "other")] == [
        ["executed"], ["skipped"], ["updated"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "status", "verb"),
    [(STOP, Status.STOPPED, "stopped"), ('plan.remove_service("a")\n', None, "removed")],
)
@pytest.mark.parametrize("why", ["config", "disturbed"])
def test_what_runs_again_finds_the_service_that_the_plan_ends_later(
    lab: Laboratory, ending: str, status: Status | None, verb: str, why: str
):
    def plan(version: int) -> str:
        b = f'plan.add_service("b", ServiceConfig(image = "img", env_vars = {{"V": "{version}"}}))\n'
        return b + A + EXEC.replace("b", "a") + ending

    lab.ok(plan(1))
    if why == "disturbed":
        lab.state.site.act("b", Action.KILL)
    again = plan(2 if why == "config" else 1)
    reason = f"service `a` was {verb} later in the plan, and what uses it runs again"
    steps = lab.ok(again).instructions
    assert [str(step.outcome) for step in steps] == ["updated", "updated", "executed", "executed"]
    assert steps[1].reason == reason
    fact = lab.state.site.observe().get("a")
    assert (None if fact is None else fact.status) is status
    assert lab.ok(again).executed == 0


def test_a_service_that_the_plan_ends_later_is_left_alone_where_nothing_that_uses_it_runs_again(lab: Laboratory):
    plan = A + EXEC.replace("b", "a") + STOP
    lab.ok(plan + B)
    assert lab.outcomes(plan + B.replace("img", "other")) == ["skipped", "skipped", "skipped", "updated"]
