"""What package code cannot do: run for ever, swallow Ctrl-C, recurse without end, reach the host."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_enclave.errors import InterpretationError, PackageError, ScriptFailed
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.values import Value

ENDLESS = {
    "loop-in-run": "def run(plan):\n    for a in range(1 << 30):\n        for b in range(1 << 30):\n            pass\n",
    "loop-at-load": "x = [a for a in range(1000000000) for b in range(1000000000)]\ndef run(plan):\n    pass\n",
    "calls-without-loops": "def f0(): return 1\n"
    + "".join(f"def f{i}(): return f{i - 1}() + f{i - 1}()\n" for i in range(1, 60))
    + "def run(plan):\n    return f59()\n",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in ENDLESS.items()])
def test_endless_code_is_stopped_in_time(plan_of: Callable[..., Any], text: str) -> None:
    started = time.monotonic()
    with pytest.raises(InterpretationError) as caught:
        plan_of(text, timeout=0.2)
    assert time.monotonic() - started < 2
    assert caught.value.message == "interpretation took longer than 0.2 s"
    assert "--enclave-interpret-timeout" in caught.value.remedy
    assert caught.value.location is not None
    assert caught.value.location.line > 0


def test_a_cancelled_interpretation_says_so(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError, match="interpretation was cancelled"):
        plan_of(ENDLESS["loop-in-run"], cancelled=lambda: True)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_the_cancel_check_raises_comes_through(plan_of: Callable[..., Any], raised: type[BaseException]) -> None:
    def cancelled() -> bool:
        raise raised

    with pytest.raises(raised):
        plan_of(ENDLESS["loop-in-run"], cancelled=cancelled)


class Interrupted:
    """An instruction during which the user presses Ctrl-C."""

    name = "interrupted"
    aliases: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    locators: tuple[str, ...] = ()

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        return {}

    def returns(self, call: Instruction) -> Value:
        raise KeyboardInterrupt


def test_an_interrupt_inside_an_instruction_comes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        interpret(load(Source("def run(plan):\n    plan.interrupted()\n")), [Interrupted()], {})


def test_interpreting_works_in_several_threads_at_once(plan_of: Callable[..., Any]) -> None:
    outputs: list[int] = []

    def work(number: int) -> None:
        package = load(Source(f"def run(plan):\n    return [x for x in range(20000)][-1] + {number}\n"))
        outputs.append(interpret(package, built_in(), {}).plan.output)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == [19999, 20000, 20001, 20002]


@pytest.mark.parametrize(
    "name", ["open", "eval", "exec", "__import__", "globals", "native_record", "P__", "call_stack"]
)
def test_there_is_no_way_to_the_host(plan_of: Callable[..., Any], name: str) -> None:
    with pytest.raises(InterpretationError, match=f"undefined name `{name}`"):
        plan_of(f"def run(plan):\n    {name}\n")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x = " + "+".join(["1"] * 5000), id="sum"),
        pytest.param("x = " + "lambda: " * 3000 + "1", id="lambda"),
        pytest.param("x = " + "not " * 5000 + "1", id="not"),
        pytest.param("x = " + "[" * 150 + "]" * 150 + " + " + "-" * 5000 + "1", id="minus"),
        pytest.param("x = " + "1 if 1 else " * 3000 + "1", id="if-else"),
        pytest.param("x = y" + ".a" * 5000, id="attributes"),
    ],
)
def test_code_nested_beyond_reason_is_refused(plan_of: Callable[..., Any], text: str) -> None:
    with pytest.raises(InterpretationError, match="nested too deeply"):
        plan_of(text)


FRAGMENTS = (
    *("def run(plan):\n", "    ", "\n", "\t", "x", "plan", "plan.print(", ")", "(", "[", "]", "{", "}", ":", "=", "=="),
    *(",", "1", "1.5", "'a'", '"', "'''", "#", "\\", "%", ".format(", ".", "if ", "else", "for", " in ", "lambda "),
    *(
        "return ",
        "assert",
        "import_module(",
        "'./x.star'",
        "struct(",
        "ServiceConfig(",
        "é",
        "\x00",
        "\r\n",
        "*",
        "**",
        "- ",
        "not ",
        "f'",
        "b'",
        "...",
    ),
)
SNIPPETS = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)


@given(st.text() | SNIPPETS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("\ud800")
@example("x = '\\ud800'\ndef run(plan): return x")
@example("def run(plan):\n    plan.print('%(' % {})\n")
@example("def run(plan): return [1] * (1 << 62)")
@example("def run(plan): return '{}'.format")
@example("def run(plan): return 9" + "9" * 5000)
@example("True = 1")
def test_any_text_gives_a_plan_or_a_clear_error(text: str) -> None:
    told = ""
    try:
        interpret(load(Source(text)), built_in(), {}, timeout=2)
    except PackageError as error:
        told = str(error)
    assert "Traceback" not in told
    assert "native_" not in told
    assert "__" not in told or "__" in text


def test_sources_of_any_length_of_line(tmp_path: Path) -> None:
    text = "def run(plan):\n    return len('" + "x" * 1_000_000 + "')\n"
    assert interpret(load(Source(text)), built_in(), {}).plan.output == 1_000_000


def test_a_chain_of_thousands_of_functions_is_checked_in_one_pass(plan_of: Callable[..., Any]) -> None:
    chain = "".join(f"def f{i}():\n    return f{i - 1}()\n" for i in range(1, 3000))
    started = time.monotonic()
    assert plan_of(f"def f0():\n    return 1\n{chain}def run(plan):\n    return f10()\n", timeout=5).output == 1
    assert time.monotonic() - started < 4


def test_each_circle_of_functions_is_told_once_by_its_shortest_way(plan_of: Callable[..., Any]) -> None:
    calls = {"a": "b", "b": "c", "c": "a", "d": "a", "e": "e", "f": "d"}
    text = "".join(f"def {name}():\n    return {callee}()\n" for name, callee in calls.items())
    with pytest.raises(InterpretationError) as caught:
        plan_of(text + "def run(plan):\n    return f()\n")
    assert [problem.message for problem in caught.value.problems] == [
        "`a` calls itself (`a` → `b` → `c` → `a`)",
        "`e` calls itself",
    ]


def test_static_passes_are_stopped_in_time(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError, match="took longer than 0 s"):
        plan_of("def run(plan):\n    return undefined_name\n", timeout=0)


@pytest.mark.parametrize("ending", ["pass", "fail('no')"])
def test_no_garbage_is_collected_while_code_is_evaluated_and_afterwards_it_is(
    plan_of: Callable[..., Any], ending: str
) -> None:
    meanwhile = set()

    def note() -> bool:
        meanwhile.add(gc.isenabled())
        return False

    source = f"def run(plan):\n    for number in range(1000):\n        plan.print(number)\n    {ending}\n"
    with contextlib.suppress(ScriptFailed):
        plan_of(source, cancelled=note)
    assert meanwhile == {False}
    assert gc.isenabled()
