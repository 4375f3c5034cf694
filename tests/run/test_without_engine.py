"""`pytest_enclave.interpret`: plans for tools, without an engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_enclave import InterpretationError, PackageError, Plan, ScriptFailed, Source, interpret

ECHO = """
def run(plan, count = 0):
    plan.print("n is {}".format(count))

def other(plan):
    return "other"
"""
SPINNING = """
def run(plan):
    for _ in range(100000):
        [x for x in range(100000)]
"""
GIVEN = [(None, 0), ({"count": 3}, 3), ('{"count": 4}', 4), ("count: 4", 4), ("@args.yml", 5)]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the directory `shop` of the working directory, and a file of arguments beside it."""
    monkeypatch.chdir(tmp_path)
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "kurtosis.yml").write_text("name: github.com/me/shop\n")
    (shop / "main.star").write_text(ECHO)
    (tmp_path / "args.yml").write_text("count: 5\n")
    return shop


def printed(plan: Plan) -> str:
    text: str = plan.instructions[0].arguments["msg"]
    return text


@pytest.mark.parametrize("named", ["shop", "./shop", "shop/main.star"])
def test_paths_are_relative_to_the_working_directory(package: Path, named: str) -> None:
    assert printed(interpret(named)) == "n is 0"
    assert printed(interpret(package.parent / named)) == "n is 0"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("args", "n"), GIVEN)
def test_arguments_are_given_as_anywhere(args: object, n: int) -> None:
    assert printed(interpret("shop", args)) == f"n is {n}"  # type: ignore[arg-type]


def test_another_main_function_can_be_named() -> None:
    assert interpret(Source(ECHO), main="other").output == "other"


def test_what_is_wrong_with_the_package_is_raised() -> None:
    with pytest.raises(PackageError, match="there is no package at nowhere"):
        interpret("nowhere")
    with pytest.raises(InterpretationError, match="undefined name `x`") as undefined:
        interpret(Source("def run(plan):\n    x\n", "main.star"))
    assert str(undefined.value.location) == "main.star:2:5"
    with pytest.raises(ScriptFailed, match="no"):
        interpret(Source('def run(plan):\n    fail("no")\n'))


@pytest.mark.parametrize("wrong", [{"package": 3}, {"package": "shop", "main": 3}])
def test_arguments_of_other_types_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        interpret(**wrong)  # type: ignore[arg-type]


def test_time_is_limited() -> None:
    with pytest.raises(InterpretationError, match=r"interpretation took longer than 0\.2 s") as late:
        interpret(Source(SPINNING), timeout=0.2)
    assert late.value.remedy == "look for a loop that goes on for ever, or allow more with `timeout=`"


@pytest.mark.parametrize("timeout", ["5", None, True])
def test_a_timeout_is_a_number(timeout: object) -> None:
    with pytest.raises(TypeError) as wrong:
        interpret("nowhere", timeout=timeout)  # type: ignore[arg-type]
    assert str(wrong.value) == f"timeout is a number of seconds, not {timeout!r}"


@pytest.mark.parametrize("timeout", [0, -1, -0.5, float("inf"), float("nan")])
def test_a_timeout_is_more_than_nothing_and_ends(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout is") as wrong:
        interpret("nowhere", timeout=timeout)
    assert str(wrong.value) == f"timeout is a number of seconds, more than 0 and finite, not {timeout!r}"


def test_the_plan_is_not_validated() -> None:
    plan = interpret(Source('def run(plan):\n    plan.remove_service("nobody")\n'))
    assert [call.name for call in plan.instructions] == ["remove_service"]


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, pytest_enclave; before = len(sys.modules); assert 'starlark' not in sys.modules;"
        "pytest_enclave.interpret; assert not {'docker', 'urllib3', 'rich', 'pytest'} & set(sys.modules);"
        "print(sorted(name for name in sys.modules if name.startswith('pytest_enclave.engine.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout in ("[]\n", "['pytest_enclave.engine.protocol']\n")
