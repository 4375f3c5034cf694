"""Forms that packages of the first versions of Kurtosis have: they run, and one line says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError

SCRIPT = """service = add_service(
    "my-service",
    config = struct(
        image = "hello-world",
    )
)
print(service.ip_address)
"""


def test_a_script_without_run_has_its_instructions_as_globals(plan_of: Callable[..., Any]) -> None:
    plan = plan_of(SCRIPT)
    assert [(call.name, str(call.location)) for call in plan.instructions] == [
        ("add_service", "<source>:1:22"),
        ("print", "<source>:7:6"),
    ]
    assert plan.instructions[0].get("config").get("image") == "hello-world"
    assert [problem.message for problem in plan.warnings] == [
        "a script without `run`, with instructions as globals, is deprecated",
        "`config = struct(…)` is deprecated",
    ]


def test_what_such_a_script_imports_may_be_as_old(plan_of: Callable[..., Any]) -> None:
    plan = plan_of(
        {
            "main.star": 'lib = import_module("./lib.star")\nlib.start("a")\nprint("x")\n'
            'exec("a", ExecRecipe(["b"]))\n',
            "lib.star": "def start(name):\n    add_service(name = name, config = struct(image = 'i'))\n",
        },
    )
    assert [call.name for call in plan.instructions] == ["add_service", "print", "exec"]


def test_a_struct_with_ports_is_a_service_config(plan_of: Callable[..., Any]) -> None:
    ports = "{'a': struct(number = 80), 'b': PortSpec(81)}"
    plan = plan_of(
        f"def run(plan):\n    config = struct(image = 'i', ports = {ports})\n"
        "    plan.add_service('a', config)\n    plan.add_services({'b': config, 'c': ServiceConfig('i')})\n"
    )
    assert plan.instructions[0].text.startswith(
        'add_service(name="a", config=ServiceConfig(image="i", ports={"a": Port'
    )
    assert plan.instructions[0].get("config") == plan.instructions[1].get("configs")["b"]
    assert len(plan.warnings) == 1


def test_what_is_wrong_with_a_struct_is_told_as_of_a_service_config(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError, match=r"<source>:2:21: ServiceConfig: `image` is missing"):
        plan_of("def run(plan):\n    plan.add_service('a', struct(cmd = ['x']))\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "has no function `run`"),
        ("add_servce('a')\n", "undefined name `add_servce`"),
        ("add_service('a', struct(image = 'i'))\nwat()\n", "2 mistakes: undefined name `add_service`"),
        ("def run(plan):\n    add_service('a', 1)\n", "undefined name `add_service`"),
    ],
)
def test_other_scripts_are_refused_as_before(plan_of: Callable[..., Any], text: str, message: str) -> None:
    with pytest.raises(InterpretationError, match=message):
        plan_of(text)


def test_run_sh_takes_its_command_first(plan_of: Callable[..., Any]) -> None:
    plan = plan_of("def run(plan):\n    plan.run_sh('echo hi')\n")
    assert plan.instructions[0].get("run") == "echo hi"
    assert [problem.remedy for problem in plan.warnings] == ["write `run_sh(run = …)`"]
