"""`plan.exec` and `plan.request`: what they send, what they give back, what they accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_enclave.engine.protocol import ExecResult, HttpRequest, HttpResponse, NotReached
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import RecipeFailed, UnacceptableCode
from tests.laboratory import Laboratory

DB = 'plan.add_service("db", ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80)}))\n'
BODY = b'{"int": 7, "str": "x", "list": [1, "a"], "deep": {"b": [true]}, "float": 1.5, "whole": 2.0, "none": null}'


def exec_(command: str, **more: str) -> str:
    """A plan that returns what a command gives."""
    fields = "".join(f", {name} = {text}" for name, text in more.items() if name != "extract")
    extract = f", extract = {more['extract']}" if "extract" in more else ""
    return f'{DB}return plan.exec("db", ExecRecipe(command = {command}{extract}){fields})'


def get(more: str = "", options: str = "") -> str:
    """A plan that returns what a GET request gives."""
    return f'{DB}return plan.request("db", GetHttpRequestRecipe(port_id = "http", endpoint = "/x?y=1"{more}){options})'


def sent(lab: Laboratory) -> HttpRequest:
    """The last request."""
    return lab.engine.sites["lab-0"].asked("request")[-1]["request"]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (".int", 7),
        (".str", "x"),
        (".list", [1, "a"]),
        (".deep.b[0]", True),
        (".deep", {"b": [True]}),
        (".float", 1.5),
        (".whole", 2),
        (".int, .str", [7, "x"]),
        (".list | length", 2),
    ],
    ids=lambda value: f"row-105-{value}" if isinstance(value, str) and value[0] == "." else "",
)
def test_extracted_values_keep_their_types(laboratory: Callable[..., Laboratory], query: str, value: Any):
    lab = laboratory(Script().on_request("db", None, HttpResponse(200, {}, BODY)))
    found = lab.ok(get(f', extract = {{"key": "{query}"}}')).output["extract.key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("query", [".missing", ".list[9]", ".none", "..[", ".int | split(1)"], ids="row-106-{}".format)
def test_an_extraction_without_a_result_fails(laboratory: Callable[..., Laboratory], query: str):
    lab = laboratory(Script().on_request("db", None, HttpResponse(200, {}, BODY)))
    error = lab.error(get(f', extract = {{"key": "{query}"}}'))
    assert type(error) is RecipeFailed
    assert error.message.startswith("db GET /x?y=1: extract `key`: ")


def test_row_106_a_body_that_is_no_json_cannot_be_extracted_from(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_request("db", None, HttpResponse(200, {}, b"<html>")))
    assert type(lab.error(get(', extract = {"key": "."}'))) is RecipeFailed


@pytest.mark.parametrize(
    ("body", "query", "value"),
    [(b"1", ".", 1), (b'"hi"', "length", 2), (b'"bye"', ".", "bye")],
    ids=["row-107-number", "row-107-length", "row-107-string"],
)
def test_a_scalar_body_can_be_extracted_from(
    laboratory: Callable[..., Laboratory], body: bytes, query: str, value: Any
):
    lab = laboratory(Script().on_request("db", None, HttpResponse(200, {}, body)))
    assert lab.ok(get(f', extract = {{"key": "{query}"}}')).output["extract.key"] == value


def test_row_108_a_commands_output_is_extracted_from_as_one_string(lab: Laboratory):
    extract = '{"length": "length", "word": "split(\\"\\\\n\\") | .[0]"}'
    output = lab.ok(exec_('["echo", "hello"]', extract=extract)).output
    assert output == {"code": 0, "output": "hello\n", "extract.length": 6, "extract.word": "hello"}


def test_row_109_an_extracted_value_goes_into_the_body_of_the_next_request(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_request("db", None, HttpResponse(200, {}, BODY)))
    first = get(', extract = {"key": ".int"}').replace("return", "first =")
    post = 'PostHttpRequestRecipe(port_id = "http", endpoint = "/", body = "n=" + first["extract.key"])'
    lab.ok(f'{first}\nplan.request("db", {post})')
    assert sent(lab).body == b"n=7"


@pytest.mark.parametrize(
    ("fields", "headers", "body"),
    [
        pytest.param("", {"Content-Type": "application/json"}, b"", id="row-110"),
        pytest.param(', body = "{}"', {"Content-Type": "application/json"}, b"{}", id="row-110-body"),
        pytest.param(', content_type = "text/plain"', {"Content-Type": "text/plain"}, b"", id="row-110-content-type"),
        pytest.param(
            ', headers = {"X": "y"}', {"X": "y", "Content-Type": "application/json"}, b"", id="row-110-headers"
        ),
    ],
)
def test_a_post_has_a_content_type(lab: Laboratory, fields: str, headers: dict[str, str], body: bytes):
    lab.ok(f'{DB}plan.request("db", PostHttpRequestRecipe(port_id = "http", endpoint = "/"{fields}))')
    assert sent(lab) == HttpRequest("POST", "/", headers, body)


def test_a_get_has_its_endpoint_verbatim_and_no_content_type(lab: Laboratory):
    lab.ok(get())
    assert sent(lab) == HttpRequest("GET", "/x?y=1", {}, None)


def test_row_111_a_value_goes_into_the_command_of_a_wait(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("db", ["producer"], ExecResult(0, "bar")))
    ref = exec_('["producer"]').replace("return", "first =")
    recipe = 'ExecRecipe(command = ["echo", "hello", first["output"]])'
    assert lab.ok(f'{ref}\nreturn plan.wait("db", {recipe}, "code", "==", 0)').output["output"] == "hello bar\n"


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1)], ids=["row-142-true", "row-142-false"])
def test_any_code_is_fine_without_the_check(lab: Laboratory, command: str, code: int):
    output = lab.ok(exec_(f'["{command}"]', skip_code_check="True", acceptable_codes="[7]")).output
    assert output == {"code": code, "output": ""}


def test_row_143_a_code_that_is_not_acceptable_fails_with_the_output(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("db", ["ping"], ExecResult(2, "no route\n")))
    error = lab.error(exec_('["ping"]'))
    assert type(error) is UnacceptableCode
    assert isinstance(error, AssertionError)
    assert (error.code, error.acceptable, error.output) == (2, (0,), "no route\n")
    assert error.message.startswith("db $ ping: exit code 2 is not acceptable")


def test_row_144_a_command_is_not_read_by_a_shell(lab: Laboratory):
    assert lab.ok(exec_('["echo", "hello && hello"]')).output["output"] == "hello && hello\n"


@pytest.mark.parametrize(
    ("codes", "ok"),
    [("[1]", True), ("[0, 1]", True), ("[2]", False)],
    ids=["row-145-other", "row-145-both", "row-145-neither"],
)
def test_acceptable_codes_replace_the_usual_ones(lab: Laboratory, codes: str, ok: bool):
    assert (lab.run(exec_('["false"]', acceptable_codes=codes)).error is None) == ok


@pytest.mark.parametrize(("status", "ok"), [(200, True), (226, True), (209, False), (404, False), (302, False)])
def test_statuses_of_success_are_acceptable(laboratory: Callable[..., Laboratory], status: int, ok: bool):
    finished = laboratory(Script().on_request("db", None, HttpResponse(status, {}, b"body"))).run(get())
    assert (finished.error is None) == ok
    assert ok or f"status {status} is not acceptable" in str(finished.error)


def test_a_request_that_reaches_nobody_fails(laboratory: Callable[..., Laboratory]):
    error = laboratory(Script().on_request("db", None, NotReached("connection refused"))).error(get())
    assert type(error) is RecipeFailed
    assert (error.message.split("; ")[0], error.service) == ("db GET /x?y=1: connection refused", "db")


def test_row_112_a_returned_address_is_the_real_one(lab: Laboratory):
    plan = DB.replace("plan", "db = plan", 1) + 'return {"ip": db.ip_address, "at": db.hostname + ":80"}'
    assert lab.ok(plan).output == {"ip": "10.99.0.2", "at": "db:80"}
