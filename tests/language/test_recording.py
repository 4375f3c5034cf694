"""What an instruction says of itself: place, text, producer, files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError, ScriptFailed
from pytest_enclave.plan.futures import find

EXEC = 'plan.exec("db", ExecRecipe(["x"]))'


def test_equal_calls_have_producers_of_their_own(plan_of: Callable[..., Any]) -> None:
    plan = plan_of(f"def run(plan):\n    a = {EXEC}\n    b = {EXEC}\n    return [a['code'], b['code']]\n")
    producers = [call.producer for call in plan.instructions]
    assert len(set(producers)) == 2
    assert [future.producer for future in find(plan.output)] == producers


def test_producers_do_not_depend_on_what_stands_before(plan_of: Callable[..., Any]) -> None:
    alone = plan_of(f"def run(plan):\n    {EXEC}\n").instructions[-1]
    later = plan_of(f'def run(plan):\n    plan.print("x")\n\n\n    {EXEC}\n').instructions[-1]
    assert (alone.text, alone.producer) == (later.text, later.producer)
    assert alone.location != later.location


def test_positional_and_keyword_arguments_are_the_same_instruction(plan_of: Callable[..., Any]) -> None:
    plan = plan_of(
        "def run(plan):\n"
        '    plan.add_service("db", ServiceConfig("img", cmd = ["x"]))\n'
        '    plan.add_service(config = ServiceConfig(cmd = ["x"], image = "img"), name = "db")\n'
    )
    assert plan.instructions[0].text == plan.instructions[1].text


def test_a_description_is_no_part_of_the_text(plan_of: Callable[..., Any]) -> None:
    plan = plan_of('def run(plan):\n    plan.print("x")\n    plan.print("x", description = "says x")\n')
    assert plan.instructions[0].text == plan.instructions[1].text
    assert plan.instructions[1].get("description") == "says x"


def test_files_are_digested_by_content(plan_of: Callable[..., Any]) -> None:
    files = {"main.star": 'def run(plan):\n    return plan.upload_files("./f", name = "f")\n', "f": "1"}
    first = plan_of(files).instructions[0].files["src"]
    again = plan_of(files).instructions[0].files["src"]
    other = plan_of({**files, "f": "2"}).instructions[0].files["src"]
    assert first == again
    assert first.digest != other.digest


def test_two_calls_on_one_line_leave_the_column_open(plan_of: Callable[..., Any]) -> None:
    plan = plan_of("def run(plan):\n    plan.print(1); plan.print(2)\n")
    assert [str(call.location) for call in plan.instructions] == ["<source>:2", "<source>:2"]


def test_a_call_by_another_name_is_placed(plan_of: Callable[..., Any]) -> None:
    plan = plan_of("def run(plan):\n    say = plan.print\n    say(1)\n")
    assert str(plan.instructions[0].location) == "<source>:3:8"


def test_fail_is_a_failure_of_the_script(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(ScriptFailed) as caught:
        plan_of('def check(x):\n    fail("x is", x)\n\ndef run(plan):\n    check([1.0])\n')
    assert isinstance(caught.value, AssertionError)
    assert caught.value.message == "x is [1.0]"
    assert [(str(f.location), f.function) for f in caught.value.frames] == [
        ("<source>:5:10", "run"),
        ("<source>:2:9", "check"),
    ]


@pytest.mark.parametrize(
    ("returned", "failing", "message"),
    [
        ("x.foo", "x.foo", "`x` (of type int) has no field `foo`"),
        ("1 if not x else x.foo", "x.foo", "`x` (of type int) has no field `foo`"),
        ('1 + "a"', "1", "operation `+` not supported for types `int` and `string`"),
        ("(1, 2)[x]", "(1", "index 7 is out of range"),
        ("[-struct()]", "-", "operation `-` not supported on type `struct`"),
        ("PortSpec(number = 0)", "(", "PortSpec: `number` must be an integer between 1 and 65535, not 0 (int)"),
    ],
)
@pytest.mark.parametrize("between", [" ", "\n    ", '\n    """Documented."""\n    pass\n    '])
def test_an_error_in_a_function_that_only_returns_is_placed_inside_of_it(
    plan_of: Callable[..., Any], returned: str, failing: str, message: str, between: str
) -> None:
    function = f"def f(x):{between}return {returned}"
    line, last = function.count("\n") + 1, function.splitlines()[-1]
    main = 'lib = import_module("./lib.star")\n\ndef run(plan):\n    b = lib.f(7)\n'
    with pytest.raises(InterpretationError) as caught:
        plan_of({"lib.star": function, "main.star": main})
    assert caught.value.message == message
    column = last.index(returned) + returned.index(failing) + 1
    assert [(str(f.location), f.function) for f in caught.value.frames] == [
        ("main.star:4:14", "run"),
        (f"lib.star:{line}:{column}", "f"),
    ]


def test_an_error_in_a_chain_of_functions_that_only_return_has_every_call(plan_of: Callable[..., Any]) -> None:
    text = "def f(x): return x[0]\ndef g(x): return f(x)\ndef run(plan):\n    return g([])\n"
    with pytest.raises(InterpretationError, match="index 0 is out of range") as caught:
        plan_of(text)
    assert [str(f.location) for f in caught.value.frames] == ["<source>:4:13", "<source>:2:19", "<source>:1:18"]


def test_every_wrong_argument_is_a_problem_of_its_own(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError) as caught:
        plan_of("def run(plan):\n    PortSpec(\n        'x',\n        nummer = 1,\n    )\n")
    assert [(problem.subject, problem.message) for problem in caught.value.problems] == [
        ("PortSpec", "`nummer` is not an argument it takes — did you mean `number`?"),
        ("PortSpec", '`number` must be an integer between 1 and 65535, not "x" (string)'),
    ]
    assert str(caught.value.location) == "<source>:2:13"


@pytest.mark.parametrize("count", [3])
def test_add_services_gives_a_dict_in_order(plan_of: Callable[..., Any], count: int) -> None:
    text = (
        "def run(plan):\n"
        f'    all = plan.add_services({{"s%d" % (9 - i): ServiceConfig("img") for i in range({count})}})\n'
        "    return [all.keys(), type(all['s9']), all['s9'].name]\n"
    )
    assert plan_of(text).output == [["s9", "s8", "s7"], "Service", "s9"]
