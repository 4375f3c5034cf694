"""Plans as text, and instructions in one line."""

from __future__ import annotations

from textwrap import dedent

import pytest

from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.instruction import Instruction, Plan
from pytest_enclave.plan.values import Struct
from pytest_enclave.report.plan_text import render_plan
from pytest_enclave.report.short_call import short_call
from pytest_enclave.report.text import cells
from pytest_enclave.run.reuse import Action, Decision
from pytest_enclave.source import Location
from tests.report.samples import REQUEST, call, request

HERE = Location("src/db.star", 9, 5)
EXEC = Struct("ExecRecipe", {"command": ["pg_isready", "-U", "app"]})
CODE = str(Future(REQUEST, "code"))


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (call("add_service", HERE, name="db", config=Struct("ServiceConfig", {})), 'add_service("db")'),
        (call("add_services", HERE, configs={"a": None, "b": None}), 'add_services("a", "b")'),
        (call("exec", HERE, service_name="db", recipe=EXEC), 'exec("db", $ pg_isready -U app)'),
        (request(), 'request("api", GET /health)'),
        (
            call("wait", HERE, service_name="db", recipe=EXEC, field="code", assertion="==", target_value=0),
            'wait("db", $ pg_isready -U app → code == 0)',
        ),
        (call("verify", HERE, value=CODE, assertion="==", target_value=200), "verify(‹code› == 200)"),
        (call("print", HERE, msg=f"got {CODE}\n"), r'print("got ‹code›\n")'),
        (call("upload_files", HERE, src="./conf", name="conf"), 'upload_files("./conf", "conf")'),
        (call("run_sh", HERE, run="a\n  b"), "run_sh($ a b)"),
        (call("own", HERE, first=1, config=Struct("Own", {}), third=3), "own(1, Own(…))"),
        (call("exec", HERE, other=[1]), "exec([1])"),
    ],
)
def test_an_instruction_in_one_line(instruction: Instruction, expected: str) -> None:
    assert short_call(instruction) == expected


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_short_call_is_never_longer_than_the_width(width: int) -> None:
    shown = short_call(call("run_sh", HERE, run="日本 " * 80), width)
    assert cells(shown) <= width
    assert shown.endswith("…)")


PLAN = Plan(
    (
        call(
            "add_service", HERE, name="db", config=Struct("ServiceConfig", {"env_vars": {"DB_PASSWORD": "tell-nobody"}})
        ),
        Instruction(
            "request", {**request().arguments, "description": "ask tell-nobody"}, Location("main.star", 41), "", ""
        ),
        call("run_sh", Location("main.star", 107), run="login tell-nobody"),
    )
)


def test_a_plan_lists_its_instructions() -> None:
    assert render_plan(PLAN) == dedent("""\
        3 instructions
          1  src/db.star:9  add_service("db")
          2  main.star:41   request("api", GET /health)
                            “ask ••••”
          3  main.star:107  run_sh($ login ••••)""")


def test_a_plan_with_decisions_says_what_would_be_done_and_why() -> None:
    decisions = [
        Decision(Action.SKIP, "already done"),
        Decision(Action.UPDATE, "it changed"),
        Decision(Action.RUN),
    ]
    assert render_plan(Plan(PLAN.instructions[:1] + PLAN.instructions[2:] * 2), decisions) == dedent("""\
        3 instructions
          1  src/db.star:9  add_service("db")     reuse: already done
          2  main.star:107  run_sh($ login ••••)  update: it changed
          3  main.star:107  run_sh($ login ••••)  run""")


def test_an_empty_plan_says_so() -> None:
    assert render_plan(Plan()) == "the plan has no instructions"
