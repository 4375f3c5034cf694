"""What is wrong with a plan is found before anything starts: all of it at once, each problem with its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import Problem, ValidationError
from pytest_enclave.plan.events import Warned
from pytest_enclave.plan.facts import Capacity
from tests.laboratory import Laboratory

DB = 'plan.add_service("db", ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80)}))\n'
GET = 'GetHttpRequestRecipe(port_id = "http", endpoint = "/")'
NAMES = "use 1 to 63 lower-case letters, digits and `-`, beginning with a letter and not ending with `-` (RFC 1035)"
PORTS = "use 1 to 15 lower-case letters, digits and `-`, beginning with a letter and not ending with `-`"

NO_NAME = "a name is not empty, and has no `=` and no NUL"
HOST = 'image "host:/" is the root file system of this machine, which only the embedded engine can use'
HOST_REMEDY = "`--enclave-engine=embedded`, or name an image of a registry"
MADE = 'plan.render_templates({"t": struct(template = "", data = {})}, name = "f")\n'


def added(**fields: str) -> str:
    """A service `s` with these fields, as Starlark."""
    given = ", ".join(f"{name} = {text}" for name, text in fields.items())
    return f'plan.add_service("s", ServiceConfig(image = "img", {given}))'


# row, plan, line:column of the problem, message, remedy
ROWS = [
    ("row-113-service-name", 'plan.add_service("this;.is:invalid", ServiceConfig(image = "img"))', "2:21",
     "`this;.is:invalid` is no service name", NAMES),
    ("row-113-task-name", 'plan.run_sh(run = "true", name = "No")', "2:16", "`No` is no service name", NAMES),
    ("row-114", DB + 'plan.request("db", GetHttpRequestRecipe(port_id = "htp", endpoint = "/"))', "3:17",
     "service `db` has no port `htp`", "did you mean `http`?"),
    ("row-115", DB + 'plan.wait("db", GetHttpRequestRecipe(port_id = "x", endpoint = "/"), "code", "==", 200)', "3:14",
     "service `db` has no port `x`", "known here: `http`"),
    ("row-116", f'plan.request("db", {GET})', "2:17", "service `db` does not exist at this point", ""),
    ("row-117", DB + f'plan.wait("dbs", {GET}, "code", "==", 200)', "3:14",
     "service `dbs` does not exist at this point", "did you mean `db`?"),
    ("row-118-cpu", added(min_cpu="1000000"), "2:21",
     "it needs at least 1000000 millicores of CPU, and 8000 are left", ""),
    ("row-118-memory", added(min_memory="51200000"), "2:21",
     "it needs at least 51200000 megabytes of memory, and 16384 are left", ""),
    ("row-120", DB + DB, "3:21", "service `db` is already added at <source>:2:21", "give one of them another name"),
    ("row-122", 'plan.exec("db", ExecRecipe(command = ["true"]))', "2:14",
     "service `db` does not exist at this point", ""),
    ("row-123", DB + f'plan.remove_service("db")\nplan.request("db", {GET})', "4:17",
     "service `db` does not exist any more: it is removed at <source>:3:24", ""),
    ("row-124", added(files='{"/f": "nowhere"}'), "2:21",
     "files artifact `nowhere` does not exist at this point", ""),
    ("row-124-task", 'plan.run_sh(run = "true", files = {"/f": "nowhere"})', "2:16",
     "files artifact `nowhere` does not exist at this point", ""),
    ("row-126", 2 * 'plan.render_templates({"t": struct(template = "", data = {})}, name = "f")\n', "3:26",
     "files artifact `f` is already made at <source>:2:26", "give one of them another name"),
    ("row-130", 'plan.run_sh(run = "true", store = ["/a", "/b", "/a"])', "2:16",
     "`store` names `/a` more than once", ""),
    ("row-131-long", added(ports='{"abcdefghijklmnop": PortSpec(number = 1)}'), "2:21",
     "`abcdefghijklmnop` is no port name", PORTS),
    ("row-131-capital", added(public_ports='{"Http": PortSpec(number = 1)}'), "2:21", "`Http` is no port name", PORTS),
    ("remove", 'plan.remove_service("db")', "2:24", "service `db` does not exist at this point", ""),
    ("start", 'plan.start_service("db")', "2:23", "service `db` does not exist at this point", ""),
    ("stop", 'plan.stop_service("db")', "2:22", "service `db` does not exist at this point", ""),
    ("store", 'plan.store_service_files("db", "/f")', "2:29", "service `db` does not exist at this point", ""),
    ("port clash", added(ports='{"a": PortSpec(number = 80), "b": PortSpec(number = 80)}'), "2:21",
     "port `b` is 80/TCP, which `a` is already", ""),
    ("public port clash", added(public_ports='{"a": PortSpec(number = 80), "b": PortSpec(number = 80)}'), "2:21",
     "public port `b` is 80/TCP, which `a` is already", ""),
    ("ready condition's port",
     added(ports='{"web": PortSpec(number = 80)}', ready_conditions="ReadyCondition(recipe = "
           + GET.replace("http", "wbe") + ', field = "code", assertion = "==", target_value = 200)'), "2:21",
     "its ready condition asks port `wbe`, which it does not declare", "did you mean `web`?"),
    ("no ports", 'plan.add_service("s", ServiceConfig(image = "img"))\n' + f'plan.request("s", {GET})', "3:17",
     "service `s` has no port `http`", "it declares no ports: add one to its `ServiceConfig`"),
    ("relative mount", MADE + added(files='{"a/": "f"}'), "3:21",
     'the path "a/" in `files` is not absolute', 'write "/a"'),
    ("mount at the root", MADE + added(files='{"//": "f"}'), "3:21",
     'the path "//" in `files` is the root, where nothing can be mounted', ""),
    ("mounts at one path", MADE + added(files='{"/a": "f", "/a/./": "f"}'), "3:21",
     'the paths "/a" and "/a/./" in `files` are the same', ""),
    ("mount with NUL", MADE + added(files='{"/a\\000": "f"}'), "3:21",
     'the path "/a\\u0000" in `files` has a NUL character', ""),
    ("key of a persistent directory", added(files='{"/a": Directory(persistent_key = "No")}'), "2:21",
     '"No" is no key of a persistent directory', NAMES),
    ("persistent directory at the root", added(files='{"/": Directory(persistent_key = "a")}'), "2:21",
     'the path "/" in `files` is the root, where nothing can be mounted', ""),
    ("unknown artifact in a directory", MADE + added(files='{"/a": Directory(artifact_names = ["f", "g"])}'), "3:21",
     "files artifact `g` does not exist at this point", "known here: `f`"),
    ("variable without name", added(env_vars='{"": "x"}'), "2:21",
     '"" in `env_vars` is no name of a variable', NO_NAME),
    ("variable with =", added(env_vars='{"A=B": "x"}'), "2:21",
     '"A=B" in `env_vars` is no name of a variable', NO_NAME),
    ("variable with NUL", added(env_vars='{"A": "\\000"}'), "2:21",
     "the value of `A` in `env_vars` has a NUL character", ""),
    ("command with NUL", added(cmd='["a", "\\000"]'), "2:21", "`cmd[1]` has a NUL character", ""),
    ("entrypoint with NUL", added(entrypoint='["\\000"]'), "2:21", "`entrypoint[0]` has a NUL character", ""),
    ("cpu limits", added(min_cpu="2", max_cpu="1"), "2:21",
     "min_cpu is 2 millicores, more than max_cpu, which is 1", ""),
    ("memory limits", added(min_memory="10", max_memory="9"), "2:21",
     "min_memory is 10 megabytes, more than max_memory, which is 9", ""),
    ("task named like a service", DB + 'plan.run_sh(run = "true", name = "db")', "3:16",
     "there is a service `db` already", "give the task another name"),
    ("the machine's root", 'plan.add_service("s", ServiceConfig(image = "host:/"))', "2:21", HOST, HOST_REMEDY),
    ("the machine's root for a task", 'plan.run_sh(run = "true", image = "host:/")', "2:16", HOST, HOST_REMEDY),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "place", "message", "remedy"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_problem_is_told_with_its_place(lab: Laboratory, plan: str, place: str, message: str, remedy: str):
    error = lab.error(plan)
    assert type(error) is ValidationError
    assert [(str(p.location), p.message, p.remedy) for p in error.problems] == [(f"<source>:{place}", message, remedy)]
    assert untouched(lab)


def untouched(lab: Laboratory) -> bool:
    """Whether nothing was started, acted on or asked."""
    return {call.method for call in lab.engine.sites["lab-0"].calls} <= {"observe"}


def test_row_128_all_problems_are_told_at_once_and_no_image_is_fetched(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().image("far", local=False))
    config = 'ServiceConfig(image = "far", files = {"/f": "nowhere"}, ports = {"P": PortSpec(number = 1)})'
    error = lab.error(f'plan.add_service("Bad", {config})\nplan.request("other", {GET})\nplan.stop_service("third")')
    assert [(p.location.line, p.subject) for p in error.problems] == [
        (2, 'add_service("Bad")'),
        (2, 'add_service("Bad")'),
        (2, 'add_service("Bad")'),
        (3, 'request("other")'),
        (4, 'stop_service("third")'),
    ]
    assert str(error).startswith("5 problems in the plan: <source>:2:21: `Bad` is no service name; ")
    assert error.instructions == 3
    assert lab.engine.local_images(["far"]) == {"far": None}
    assert untouched(lab)


def test_one_mistake_is_told_once(lab: Laboratory):
    error = lab.error('plan.add_service("Bad", ServiceConfig(image = "img"))\nplan.stop_service("Bad")')
    assert len(error.problems) == 1, "the service counts as added, so that stopping it is no second problem"


def test_row_129_every_image_that_cannot_be_had_is_told_with_its_place(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().image("one", missing="manifest unknown").image("two", missing="denied"))
    error = lab.error(
        'plan.add_service("a", ServiceConfig(image = "one"))\n'
        'plan.add_service("b", ServiceConfig(image = "img"))\n'
        'plan.run_sh(run = "true", image = "two")'
    )
    assert [(str(p.location), p.message) for p in error.problems] == [
        ("<source>:2:21", "image `one` cannot be had: manifest unknown"),
        ("<source>:4:16", "image `two` cannot be had: denied"),
    ]
    assert untouched(lab)


@pytest.mark.parametrize("before", [DB, 'plan.add_services({"db": ServiceConfig(image = "img")})\n'])
def test_row_121_a_removed_name_may_be_used_again(lab: Laboratory, before: str):
    assert lab.outcomes(before + 'plan.remove_service("db")\n' + before) == ["executed"] * 3


def test_row_119_removing_a_service_frees_its_ports_and_what_it_needs(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().capacity(Capacity(cpu=1000, memory=100)))
    big = 'plan.add_service("{}", ServiceConfig(image = "img", min_cpu = 800, min_memory = 80))\n'
    error = lab.error(big.format("a") + big.format("b") + 'plan.remove_service("a")\n' + big.format("c"))
    assert [(p.location.line, p.message) for p in error.problems] == [
        (3, "it needs at least 800 millicores of CPU, and 200 are left"),
        (3, "it needs at least 80 megabytes of memory, and 20 are left"),
        (5, "it needs at least 800 millicores of CPU, and 200 are left"),
        (5, "it needs at least 80 megabytes of memory, and 20 are left"),
    ]
    assert lab.outcomes(big.format("a") + 'plan.remove_service("a")\n' + big.format("c")) == ["executed"] * 3


def test_where_the_capacity_is_not_known_nothing_is_too_much(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().capacity(None))
    assert lab.outcomes(added(min_cpu="1000000")) == ["executed"]


def test_row_124_an_artifact_made_earlier_in_the_plan_can_be_mounted(lab: Laboratory):
    rendered = 'f = plan.render_templates({"t": struct(template = "", data = {})})\n'
    assert lab.outcomes(rendered + added(files='{"/f": f}')) == ["executed", "executed"]


def test_row_125_an_artifact_that_was_there_before_is_replaced(lab: Laboratory):
    rendered = 'plan.render_templates({{"t": struct(template = "{0}", data = {{}})}}, name = "f")'
    lab.ok(rendered.format("one"))
    assert lab.outcomes('plan.print("")\n' + rendered.format("two")) == ["executed", "executed"]
    assert (lab.state.artifacts.directory("f") / "t").read_text() == "two"


def test_ports_of_one_number_and_two_protocols_do_not_clash(lab: Laboratory):
    ports = '{"a": PortSpec(number = 53), "b": PortSpec(number = 53, transport_protocol = "UDP", wait = None)}'
    assert lab.outcomes(added(ports=ports)) == ["executed"]


def test_what_the_engine_cannot_do_is_told_and_only_errors_stop(laboratory: Callable[..., Laboratory]):
    problems = [Problem("no such driver"), Problem("slow disk", severity="warning")]
    lab = laboratory(Script().service("s", problems=problems).service("t", problems=problems[1:]))
    error = lab.error(added(cmd="[]"))
    assert [(p.message, str(p.location), p.subject) for p in error.problems] == [
        ("no such driver", "<source>:2:21", 'add_service("s")')
    ]
    lab.ok('plan.add_service("t", ServiceConfig(image = "img"))')
    warned = [event.problem.message for event in lab.events if isinstance(event, Warned)]
    assert warned == ["slow disk", "slow disk"]


def test_what_was_executed_is_not_judged_again(lab: Laboratory):
    lab.ok(DB + 'plan.remove_service("db")')
    assert lab.outcomes('plan.remove_service("db")') == ["skipped"]
