"""`plan.get_service`, `get_services`, `get_files_artifact`, `get_cluster_type`: what a script can ask for."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import InterpretationError, ValidationError
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source
from tests.laboratory import Laboratory

DB = 'plan.add_service("db", ServiceConfig(image = "img", ports = {"sql": PortSpec(number = 5432, wait = None)}))\n'
WEB = 'plan.add_service("web", ServiceConfig(image = "img"))\n'
GET = 'return plan.get_service("db")'
ALL = "return [service.name for service in plan.get_services()]"


def test_a_service_that_the_script_has_added_is_what_add_service_gave(lab: Laboratory):
    finished = lab.ok(
        f"a = {DB}b = plan.get_service(name = 'db')\nreturn [repr(a) == repr(b), a.ports == b.ports, type(b)]"
    )
    assert finished.output == [True, True, "Service"]


def test_a_service_of_an_earlier_run_is_known_with_its_ports_and_its_address(lab: Laboratory):
    lab.ok(DB)
    found = lab.ok(GET).output
    assert (found["name"], found["hostname"], found["ip_address"]) == ("db", "db", "10.99.0.2")
    assert found["ports"] == {"sql": {"number": 5432, "transport_protocol": "TCP"}}


def test_a_service_of_an_earlier_run_can_be_used(lab: Laboratory):
    lab.ok(DB)
    finished = lab.ok(
        'db = plan.get_service("db")\nplan.add_service("web", ServiceConfig(image = "img", env_vars = {"DB": '
        '"%s:%d" % (db.ip_address, db.ports["sql"].number)}))'
    )
    assert [step.message for step in finished.instructions] == ["service `db`", "service `web` is up at 10.99.0.3"]
    assert lab.engine.sites["lab-0"].asked("start")[-1]["specs"][0].env_vars == {"DB": "10.99.0.2:5432"}


def test_it_runs_again_when_the_service_was_replaced(lab: Laboratory):
    plan = DB + 'plan.get_service("db")\nplan.get_services()'
    assert lab.outcomes(plan) == ["executed"] * 3
    assert lab.outcomes(plan) == ["skipped"] * 3
    assert lab.outcomes(plan.replace("img", "other")) == ["updated", "executed", "skipped"]


def test_all_services_are_those_of_earlier_runs_and_those_of_the_script(lab: Laboratory):
    assert lab.ok(ALL).output == []
    lab.ok(DB)
    assert lab.ok(WEB + ALL).output == ["db", "web"]
    assert lab.ok('plan.remove_service("db")\n' + ALL).output == ["web"]
    assert lab.ok(DB + ALL).output == ["web", "db"]


def test_services_of_a_batch_are_known_too(lab: Laboratory):
    finished = lab.ok(
        'plan.add_services({name: ServiceConfig(image = "img") for name in ["a", "b"]})\n'
        'plan.get_service("b")\nreturn [[s.name for s in plan.get_services()], plan.get_service("a").hostname]'
    )
    assert finished.output == [["a", "b"], "a"]


def test_the_same_script_finds_other_services_when_there_are_others(lab: Laboratory):
    assert lab.ok(ALL).output == []
    lab.ok(DB)
    assert lab.ok(ALL).output == ["db"]
    assert lab.ok(ALL).output == ["db"]


def test_a_script_that_is_interpreted_in_a_process_of_its_own_finds_them_too(lab: Laboratory):
    large = 'large = "x" * (1 << 17)\n'
    assert lab.ok(large + ALL).output == []
    lab.ok(DB)
    assert lab.ok(large + ALL).output == ["db"]
    assert lab.ok(large + DB + 'return plan.get_service("db").name').output == "db"


def test_each_enclave_has_its_own_services(laboratory):
    first, second = laboratory(), laboratory()
    first.ok(DB)
    assert [first.ok(ALL).output, second.ok(ALL).output] == [["db"], []]


def test_a_plan_is_kept_for_the_services_that_it_was_made_for_and_for_all_where_it_asks_for_none():
    def seen(script: str) -> object:
        return interpret(load(Source(f"def run(plan):\n    {script}\n")), built_in(), {}).seen

    assert seen("plan.print(1)") is None
    assert seen("plan.get_services()") == {}
    assert seen('plan.add_service("a", ServiceConfig("img")); plan.get_service("a")') is None


@pytest.mark.parametrize(
    ("before", "script", "message", "remedy"),
    [
        ("", GET, "get_service: there is no service `db` in the enclave, and none is added before", ""),
        ("", GET + "\n" + DB, "get_service: there is no service `db` in the enclave, and none is added before", ""),
        (DB, 'plan.get_service("dbx")',
         "get_service: there is no service `dbx` in the enclave, and none is added before",
         "did you mean `db`?"),
        (DB, WEB + 'plan.get_service("nothing-like-it")',
         "get_service: there is no service `nothing-like-it` in the enclave, and none is added before",
         "known here: `db`, `web`"),
        (DB, 'plan.remove_service("db")\n' + GET,
         "get_service: service `db` does not exist any more: it is removed at <source>:2:24", ""),
        ("", 'r = plan.run_sh(run = "x")\nplan.get_service(r.output)',
         "get_service: the service name is a value known only after execution", "pass the service's `name` instead"),
        ("", 'plan.get_service("")', 'get_service: `name` must be a non-empty string, not "" (string)', ""),
        ("", "plan.get_services(1)", "get_services: `description` must be a non-empty string, not 1 (int)", ""),
        ("", "plan.get_files_artifact()", "get_files_artifact: `name` is missing", ""),
        ("", "plan.get_cluster_type(name = 1)",
         "get_cluster_type: `name` is not an argument it takes (it takes `description`)", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told_by_the_interpretation(
    lab: Laboratory, before: str, script: str, message: str, remedy: str
):
    lab.ok(before or "pass")
    error = lab.error(script)
    assert type(error) is InterpretationError
    assert (error.message, error.remedy) == (message, remedy)


def test_the_error_is_where_the_service_is_asked_for(lab: Laboratory):
    assert str(lab.error("plan.print(1)\n" + GET).location) == "<source>:3:28"


def test_a_service_that_went_behind_the_enclaves_back_is_told_before_anything_starts(lab: Laboratory):
    lab.ok(DB)
    lab.state.site.act("db", Action.REMOVE)
    error = lab.error(GET)
    assert type(error) is ValidationError
    assert [problem.message for problem in error.problems] == ["service `db` does not exist at this point"]


def test_an_artifact_of_this_script_or_an_earlier_one_is_its_name(lab: Laboratory):
    made = 'plan.render_templates({"t": struct(template = "x", data = {})}, name = "conf")\n'
    get = 'return plan.get_files_artifact("conf")'
    assert lab.ok(made + get).output == "conf"
    assert lab.ok(get).output == "conf"
    assert [step.message for step in lab.ok(get).instructions] == ["files artifact `conf`"]


def test_it_runs_again_when_the_artifact_has_changed(lab: Laboratory):
    plan = 'plan.render_templates({{"t": struct(template = "{}", data = {{}})}}, name = "conf")\n'
    get = 'plan.get_files_artifact("conf")'
    lab.ok(plan.format(1) + get)
    assert lab.outcomes(plan.format(1) + get) == ["skipped", "skipped"]
    assert lab.outcomes(plan.format(2) + get) == ["updated", "executed"]


def test_an_artifact_that_nothing_makes_is_told_before_anything_starts(lab: Laboratory):
    error = lab.error(
        'plan.render_templates({"t": struct(template = "x", data = {})}, name = "conf")\nplan.get_files_artifact("cnf")'
    )
    assert type(error) is ValidationError
    problem = error.problems[0]
    assert (problem.message, problem.remedy) == (
        "files artifact `cnf` does not exist at this point",
        "did you mean `conf`?",
    )


def test_the_cluster_is_docker_on_every_engine(lab: Laboratory):
    finished = lab.ok('return "no" if plan.get_cluster_type() != "docker" else "yes"')
    assert finished.output == "yes"
    assert [step.message for step in finished.instructions] == ["docker"]


def test_services_are_listed_in_what_is_told(lab: Laboratory):
    finished = lab.ok("plan.get_services()\n" + DB + WEB + "plan.get_services()")
    assert [finished.instructions[index].message for index in (0, 3)] == [
        "there are no services",
        "services: `db`, `web`",
    ]


# With real services


def test_a_real_service_of_an_earlier_run_is_asked_by_its_address(real: Laboratory):
    real.ok(
        'plan.add_service("web", ServiceConfig(image = "enclave-test/nginx:local", '
        'ports = {"http": PortSpec(number = 80, application_protocol = "http")}))'
    )
    finished = real.ok(
        'web = plan.get_service("web")\n'
        'urls = [web.ports["http"].url, "http://%s" % web.ip_address]\n'
        'return [plan.run_sh(run = "wget -qO- " + url, image = "enclave-test/busybox:local").output for url in urls] + '
        "[plan.get_cluster_type()]"
    )
    by_name, by_address, cluster = finished.output
    assert by_name == by_address
    assert "Welcome to nginx" in by_name
    assert cluster == "docker"
