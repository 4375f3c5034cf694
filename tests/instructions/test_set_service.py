"""`plan.set_service`: another config for a service that the script has added."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import InterpretationError, ValidationError
from tests.laboratory import Laboratory

DB = (
    'db = plan.add_service("db", ServiceConfig(image = "img", cmd = ["x"], labels = {"a": "1"}, max_memory = 64, '
    'ports = {"sql": PortSpec(number = 5432, wait = None)}))\n'
)


def started(lab: Laboratory) -> list:
    """Every service that was started, in order."""
    return [spec for call in lab.engine.sites["lab-0"].asked("start") for spec in call["specs"]]


def test_the_service_is_started_once_with_both_configs(lab: Laboratory):
    finished = lab.ok(
        DB + 'plan.print(db.ports["sql"].number)\n'
        'plan.set_service("db", ServiceConfig(image = "other", labels = {"b": "2"}, max_cpu = 500))'
    )
    (spec,) = started(lab)
    assert (spec.image, spec.cmd, spec.labels, spec.max_cpu, spec.max_memory) == ("other", ("x",), {"b": "2"}, 500, 64)
    assert list(spec.ports) == ["sql"]
    assert finished.instructions[-1].message == "service `db` was added with this config"


def test_of_several_calls_the_last_counts_and_what_it_leaves_out_stays(lab: Laboratory):
    lab.ok(
        DB + 'plan.set_service("db", ServiceConfig(image = "second", max_memory = 32))\n'
        'plan.set_service("db", ServiceConfig(image = "third", user = User(uid = 5)))'
    )
    (spec,) = started(lab)
    assert (spec.image, spec.max_memory, spec.user) == ("third", 32, "5")


def test_it_counts_for_what_is_validated(lab: Laboratory):
    lab.ok(DB + 'plan.set_service("db", ServiceConfig(image = "img", tolerations = [Toleration(operator = "Exists")]))')
    warned = [event.problem for event in lab.events if hasattr(event, "problem")]
    assert [(problem.message, str(problem.location)) for problem in warned] == [
        ("`tolerations` has no effect: there is no Kubernetes here", "<source>:2:26")
    ]


def test_an_image_that_cannot_be_had_is_told_where_it_was_said(laboratory: Callable[[Script], Laboratory]):
    lab = laboratory(Script().image("gone", missing="there is no such image"))
    error = lab.error(
        DB + 'plan.set_service("db", ServiceConfig(image = "fine"))\n'
        'plan.set_service("db", ServiceConfig(image = "gone"))'
    )
    assert type(error) is ValidationError
    told = [(problem.subject, problem.message, str(problem.location)) for problem in error.problems]
    assert told == [
        ('set_service("image `gone`")', "image `gone` cannot be had: there is no such image", "<source>:4:21")
    ]


def test_an_image_that_only_add_service_says_is_told_there(laboratory: Callable[[Script], Laboratory]):
    lab = laboratory(Script().image("img", missing="there is no such image"))
    (problem,) = lab.error(DB).problems
    assert (problem.subject, str(problem.location)) == ('add_service("image `img`")', "<source>:2:26")


def test_an_image_that_is_built_by_no_engine_is_told_where_it_was_said(lab: Laboratory):
    flake = 'NixBuildSpec(flake_location_dir = "/x", image_name = "nix", build_context_dir = "/x")'
    (problem,) = lab.error(DB + f'plan.set_service("db", ServiceConfig(image = {flake}))').problems
    assert (problem.subject, str(problem.location)) == ('set_service("db")', "<source>:3:21")
    assert problem.message == "image `nix` would have to be built by Nix, which is not supported"


def test_the_same_script_again_executes_nothing(lab: Laboratory):
    plan = DB + 'plan.set_service("db", ServiceConfig(image = "other"))'
    lab.ok(plan)
    assert lab.outcomes(plan) == ["skipped", "skipped"]
    assert len(started(lab)) == 1


def test_without_it_the_service_is_as_it_was_added(lab: Laboratory):
    lab.ok(DB + 'plan.set_service("db", ServiceConfig(image = "other"))')
    assert lab.outcomes(DB) == ["updated"]
    assert [spec.image for spec in started(lab)] == ["other", "img"]


def test_a_service_that_is_added_again_is_changed_where_it_was_added_last(lab: Laboratory):
    lab.ok(DB + 'plan.remove_service("db")\n' + DB + 'plan.set_service("db", ServiceConfig(image = "other"))')
    assert [spec.image for spec in started(lab)] == ["img", "other"]


@pytest.mark.parametrize(
    ("script", "message", "remedy"),
    [
        ('plan.set_service("db", ServiceConfig(image = "o"))',
         "set_service: there is no service `db` that this script has added with `add_service`", ""),
        (DB + 'plan.set_service("dbx", ServiceConfig(image = "o"))',
         "set_service: there is no service `dbx` that this script has added with `add_service`", "did you mean `db`?"),
        ('plan.add_services({"a": ServiceConfig(image = "i")})\nplan.set_service("a", ServiceConfig(image = "o"))',
         "set_service: service `a` is added by `add_services`, which cannot be changed",
         "change its config there, or add it with `add_service`"),
        (DB + 'plan.remove_service("db")\nplan.set_service("db", ServiceConfig(image = "o"))',
         "set_service: service `db` does not exist any more: it is removed at <source>:3:24", ""),
        (DB + 'plan.set_service("db", "img")', 'set_service: `config` must be a ServiceConfig, not "img" (string)', ""),
        (DB + 'plan.set_service("db")', "set_service: `config` is missing", ""),
    ],
)  # fmt: skip
def test_what_it_cannot_change_is_told(lab: Laboratory, script: str, message: str, remedy: str):
    error = lab.error(script)
    assert type(error) is InterpretationError
    assert (error.message, error.remedy) == (message, remedy)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ports", "{}"), ("public_ports", "{}"), ("files", "{}"), ("entrypoint", "[]"), ("cmd", "[]"), ("env_vars", "{}")],
)
def test_what_the_service_offers_and_is_started_with_stays(lab: Laboratory, name: str, value: str):
    error = lab.error(DB + f'plan.set_service("db", ServiceConfig(image = "o", {name} = {value}))')
    assert error.message == (
        f"set_service: `config.{name}` cannot be changed by `set_service`: give it to the service's `add_service`"
    )


def test_a_service_of_an_earlier_run_is_not_the_scripts_to_change(lab: Laboratory):
    lab.ok(DB)
    error = lab.error('plan.set_service("db", ServiceConfig(image = "o"))')
    assert error.message == "set_service: there is no service `db` that this script has added with `add_service`"


LATER = 'plan.set_service("db", ServiceConfig(image = %s))\n'
EARLY = "the service is added with this config: add `db` after that "


@pytest.mark.parametrize(
    ("between", "value", "message", "remedy"),
    [
        ('r = plan.run_sh(run = "true")\n', '"img:" + r.output',
         "`output` of `run_sh` at <source>:3:20, which executes only after service `db` is added at <source>:2:26",
         EARLY + "`run_sh`"),
        ('c = plan.add_service("c", ServiceConfig(image = "i"))\n', "c.ip_address",
         "`ip_address` of `add_service` at <source>:3:25, which executes only after service `db` is added at "
         "<source>:2:26", EARLY + "`add_service`"),
        ('c = plan.add_services({"c": ServiceConfig(image = "i")})["c"]\nplan.remove_service("c")\n', "c.hostname",
         "`hostname` of `add_services` at <source>:3:26, which executes only after service `db` is added at "
         "<source>:2:26", EARLY + "`add_services`"),
        ("", "db.ip_address", "`ip_address` of service `db` itself, which is known only once the service is added",
         "leave it out: the service is added with this config"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_exist_when_the_service_is_added_is_refused(
    lab: Laboratory, between: str, value: str, message: str, remedy: str
):
    error = lab.error(DB + between + LATER % value)
    assert type(error) is InterpretationError
    assert (error.message, error.remedy) == (f"set_service: `config` has {message}", remedy)
    assert error.location.line == 3 + between.count("\n")
    assert started(lab) == []


def test_a_later_value_is_refused_inside_a_ready_condition_and_in_an_enclave_that_has_run_before(lab: Laboratory):
    plan = DB + 'r = plan.run_sh(run = "true")\n'
    lab.ok(plan)
    error = lab.error(
        plan + 'plan.set_service("db", ServiceConfig(image = "img", ready_conditions = ReadyCondition(\n'
        '    recipe = ExecRecipe(command = ["grep", r.output]), field = "code", assertion = "==", target_value = 0)))'
    )
    assert error.message.startswith("set_service: `config` has `output` of `run_sh` at <source>:3:20, which executes")


def test_values_that_exist_when_the_service_is_added_can_be_set(lab: Laboratory):
    other = 'c = plan.add_service("c", ServiceConfig(image = "i"))\n'
    lab.ok(
        other + 'r = plan.run_sh(run = "true")\n' + DB + 'plan.remove_service("c")\n' + other
        + 'plan.run_sh(run = "true")\n'
        'plan.set_service("db", ServiceConfig(image = "img", ready_conditions = ReadyCondition(\n'
        '    recipe = ExecRecipe(command = ["is", r.code, c.hostname]), field = "code", assertion = "==", '
        'target_value = 0)))'
    )  # fmt: skip
    assert ("is", "0", "c") in [tuple(call["command"]) for call in lab.engine.sites["lab-0"].asked("exec")]


def test_what_a_later_call_replaces_again_is_not_refused_before_and_stays_refused_after(lab: Laboratory):
    plan = DB + 'r = plan.run_sh(run = "true")\n' + LATER % '"plain"'
    assert lab.error(plan + LATER % "r.output").location.line == 5
    lab.ok(plan)


def test_a_real_service_runs_from_the_image_that_was_set(real: Laboratory):
    plan = (
        'plan.add_service("s", ServiceConfig(image = "enclave-test/redis:local", '
        'entrypoint = ["sleep", "1000000"]))\n'
        'plan.set_service("s", ServiceConfig(image = "enclave-test/busybox:local", user = User(uid = 33, gid = 44)))\n'
        'return plan.exec("s", ExecRecipe(command = ["sh", "-c", "id -u; id -g; busybox | head -n 1"]))["output"]'
    )
    uid, gid, version = real.ok(plan).output.splitlines()
    assert (uid, gid) == ("33", "44")
    assert version.startswith("BusyBox")
