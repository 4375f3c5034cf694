"""Future references are replaced in exactly the places that behaviour.md §4.2 lists; elsewhere they stay literal.

In every script `ref` is a future reference to the text `value`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.engine.protocol import ExecResult, HttpRequest
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import ExecutionError, ValidationError
from pytest_enclave.plan.events import Printed
from tests.laboratory import Laboratory

BEFORE = """
plan.add_service("db", ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80)}))
ref = plan.exec("db", ExecRecipe(command = ["producer"]))["output"]
"""
UNKNOWN = "{{kurtosis:" + "0" * 32 + ":code.runtime_value}}"


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """Services in which `producer` writes `value`."""
    return laboratory(Script().on_exec("*", ["producer"], ExecResult(0, "value")))


def asked(lab: Laboratory, method: str) -> Mapping[str, Any]:
    """What the site was asked for last."""
    return lab.engine.sites["lab-0"].asked(method)[-1]


def request(lab: Laboratory) -> HttpRequest:
    """The last request."""
    return asked(lab, "request")["request"]


def added(lab: Laboratory, field: str) -> Any:
    """A field of the service that was started last."""
    return getattr(asked(lab, "start")["specs"][0], field)


def rendered(lab: Laboratory) -> str:
    """The rendered file."""
    return Path(lab.state.artifacts.directory("f") / "t").read_text()


def printed(lab: Laboratory) -> str:
    """What was printed last."""
    return [event.text for event in lab.events if isinstance(event, Printed)][-1]


REPLACED: dict[str, tuple[str, Callable[[Laboratory], Any], Any]] = {
    "print": ('plan.print("<" + ref + ">")', printed, "<value>"),
    "print a list": ('plan.print([ref, {"k": ref}])', printed, '["value", {"k": "value"}]'),
    "print a key": ("plan.print({ref: 1})", printed, '{"value": 1}'),
    "template data's key": (
        'plan.render_templates({"t": struct(template = "{{.value}}", data = {ref: "x"})}, name = "f")', rendered, "x",
    ),
    "entrypoint": (
        'plan.add_service("s", ServiceConfig(image = "img", entrypoint = ["sh", ref]))',
        lambda lab: added(lab, "entrypoint"), ("sh", "value"),
    ),
    "cmd": (
        'plan.add_service("s", ServiceConfig(image = "img", cmd = [ref + "!"]))',
        lambda lab: added(lab, "cmd"), ("value!",),
    ),
    "env value": (
        'plan.add_services({"s": ServiceConfig(image = "img", env_vars = {"A": ref})})',
        lambda lab: added(lab, "env_vars"), {"A": "value"},
    ),
    "exec command": (
        'plan.exec("db", ExecRecipe(command = ["echo", ref]))',
        lambda lab: asked(lab, "exec")["command"], ("echo", "value"),
    ),
    "wait command": (
        'plan.wait("db", ExecRecipe(command = ["echo", ref]), "code", "==", 0)',
        lambda lab: asked(lab, "exec")["command"], ("echo", "value"),
    ),
    "ready condition": (
        'plan.add_service("s", ServiceConfig(image = "img", ready_conditions = ReadyCondition('
        'recipe = ExecRecipe(command = [ref]), field = "code", assertion = "==", target_value = 0)))',
        lambda lab: asked(lab, "exec")["command"], ("value",),
    ),
    "post body": (
        'plan.request("db", PostHttpRequestRecipe(port_id = "http", endpoint = "/", body = "<" + ref + ">"))',
        lambda lab: request(lab).body, b"<value>",
    ),
    "template data": (
        'plan.render_templates({"t": struct(template = "{{.A}} {{.B}}", data = {"A": ref, "B": [ref]})}, name = "f")',
        rendered, "value [value]",
    ),
    "run_sh run": (
        'plan.run_sh(run = "echo " + ref)',
        lambda lab: asked(lab, "exec")["command"], ("/bin/sh", "-c", "echo value"),
    ),
    "run_sh env": (
        'plan.run_sh(run = "true", env_vars = {"A": ref})',
        lambda lab: added(lab, "env_vars"), {"A": "value"},
    ),
}  # fmt: skip

LITERAL: dict[str, tuple[str, Callable[[Laboratory], Any], Callable[[str], Any]]] = {
    "env key": (
        'plan.add_service("s", ServiceConfig(image = "img", env_vars = {ref: "A"}))',
        lambda lab: added(lab, "env_vars"), lambda ref: {ref: "A"},
    ),
    "mount path": (
        'plan.add_service("s", ServiceConfig(image = "img", files = {"/" + ref: '
        'plan.render_templates({"t": struct(template = "", data = {})}, name = "f")}))',
        lambda lab: added(lab, "files"), lambda ref: {"/" + ref: "f"},
    ),
    "endpoint": (
        'plan.request("db", GetHttpRequestRecipe(port_id = "http", endpoint = "/" + ref))',
        lambda lab: request(lab).endpoint, lambda ref: "/" + ref,
    ),
    "header": (
        'plan.request("db", GetHttpRequestRecipe(port_id = "http", endpoint = "/", headers = {"X": ref}))',
        lambda lab: request(lab).headers, lambda ref: {"X": ref},
    ),
    "template text": (
        'plan.render_templates({"t": struct(template = "{{`" + ref + "`}}", data = {})}, name = "f")',
        rendered, lambda ref: ref,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "seen", "expected"), REPLACED.values(), ids=REPLACED)
def test_a_reference_is_replaced_by_its_text(
    lab: Laboratory, line: str, seen: Callable[[Laboratory], Any], expected: Any
):
    lab.ok(BEFORE + line)
    assert seen(lab) == expected


@pytest.mark.parametrize(("line", "seen", "expected"), LITERAL.values(), ids=LITERAL)
def test_a_reference_stays_literal(
    lab: Laboratory, line: str, seen: Callable[[Laboratory], Any], expected: Callable[[str], Any]
):
    finished = lab.ok(BEFORE + line)
    producer = finished.plan.instructions[1].producer
    assert seen(lab) == expected("{{kurtosis:" + producer + ":output.runtime_value}}")


@pytest.mark.parametrize(
    ("line", "type_seen"),
    [
        ('plan.verify(code, "==", 0)', None),
        ('plan.verify("0", "==", code)', '"0" is a string and 0 an int'),
        ('plan.verify(code + "", "==", 0)', None),
        ('plan.verify("" + code + " ", "==", 0)', '"0 " is a string and 0 an int'),
        ('plan.verify("value", "IN", [ref])', '"value" IN ["{{kurtosis:'),
    ],
)
def test_verify_keeps_the_type_of_a_whole_reference_and_leaves_items_of_a_list(
    lab: Laboratory, line: str, type_seen: str | None
):
    code = 'code = plan.exec("db", ExecRecipe(command = ["true"]))["code"]\n'
    error = lab.run(BEFORE + code + line).error
    assert (error is None) if type_seen is None else type_seen in str(error)


@pytest.mark.parametrize("assertion", ["==", "!="])
def test_the_target_of_a_wait_stays_literal(lab: Laboratory, assertion: str):
    line = f'plan.wait("db", ExecRecipe(command = ["producer"]), "output", "{assertion}", ref, timeout = "1s")'
    assert (lab.run(BEFORE + line).error is None) == (assertion == "!=")


def test_a_reference_as_a_services_name_is_a_problem_that_says_what_to_pass(lab: Laboratory):
    (problem,) = lab.error(BEFORE + 'plan.exec(ref, ExecRecipe(command = ["true"]))').problems
    assert problem.message == "the service name is a value known only after execution"
    assert problem.remedy == "pass the service's `name` instead"


def test_a_reference_as_an_image_is_a_problem_of_its_own(lab: Laboratory):
    (problem,) = lab.error(BEFORE + 'plan.add_service("s", ServiceConfig(image = ref))').problems
    assert (problem.message, problem.remedy) == (
        "the image is a value known only after execution", "write the image's name",
    )  # fmt: skip


def test_a_reference_as_an_artifacts_name_does_not_exist(lab: Laboratory):
    error = lab.error(BEFORE + 'plan.add_service("s", ServiceConfig(image = "img", files = {"/f": ref}))')
    assert isinstance(error, ValidationError)
    assert "does not exist at this point" in str(error)


def test_row_92_a_reference_that_nothing_produced_ends_its_instruction(lab: Laboratory):
    error = lab.error(f'plan.print("first")\nplan.print("{UNKNOWN}")')
    assert type(error) is ExecutionError
    assert error.message.startswith("the value `code` it refers to does not exist")
    assert str(error.location) == "<source>:3:15"
    assert lab.kept == ["print"]


def test_a_returned_reference_that_nothing_produced_ends_the_run(lab: Laboratory):
    error = lab.error(f'return "{UNKNOWN}"')
    assert type(error) is ExecutionError
    assert error.message.startswith("what the main function returns cannot be resolved: the value `code`")
