"""Errors go from one process to another whole: every class, and what real runs fail with."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_enclave import errors
from pytest_enclave.engine.docker.translation import Refused, Unanswered
from pytest_enclave.engine.protocol import ExecResult, Exit
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import Attempt, EnclaveError, Problem
from pytest_enclave.plan.record import Origin, Outcome, Step
from pytest_enclave.plan.values import Struct
from pytest_enclave.source import Frame, Location
from tests.laboratory import Laboratory
from tests.report.samples import call

PLACE = Location("main.star", 3, 9)
PROBLEM = Problem("no such service", PLACE, "exec", "add it", "warning", "said")
MADE: dict[type[EnclaveError], Callable[[], EnclaveError]] = {
    errors.InterpretationError: lambda: errors.InterpretationError(
        "no", location=PLACE, remedy="r", frames=[Frame(PLACE, "run")], problems=[PROBLEM]
    ),
    errors.ScriptFailed: lambda: errors.ScriptFailed("no", frames=[Frame(PLACE, "run")]),
    errors.ExpectationFailed: lambda: errors.ExpectationFailed(
        "no", comparison=(Struct("struct", {"a": 1}), "==", (1,)), phase="execution"
    ),
    errors.ValidationError: lambda: errors.ValidationError([PROBLEM, PROBLEM], instructions=3),
    errors.ExecutionError: lambda: errors.ExecutionError("no", service="a", details=[("it", "was")], remedy="r"),
    errors.VerifyFailed: lambda: errors.VerifyFailed("no", value=[1, 1.0], assertion="==", target=Struct("s", {})),
    errors.WaitTimedOut: lambda: errors.WaitTimedOut(
        "no", service="a", condition="code == 200", timeout=2.0, interval=0.5, attempts=[Attempt(0.5, "refused")]
    ),
    errors.UnacceptableCode: lambda: errors.UnacceptableCode("no", service="a", code=1, acceptable=[0], output="o\x00"),
    errors.UnknownService: lambda: errors.UnknownService("a", ["b", "c"]),
    errors.ServiceExited: lambda: errors.ServiceExited("no", service="a", code=137, out_of_memory=True, remedy="r"),
    errors.PortNeverOpened: lambda: errors.PortNeverOpened("no", service="a", port="http", timeout=1.5),
    errors.EngineUnavailable: lambda: errors.EngineUnavailable("no", tried=[("docker", "refused")], remedy="r"),
    Refused: lambda: Refused("starting", 409, "conflict"),
    Unanswered: lambda: Unanswered("starting: no"),
}
"""Those that are made otherwise than `EnclaveError(message, location=, remedy=)`, or with more."""


def tree(kind: type[EnclaveError]) -> Iterator[type[EnclaveError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


CLASSES = sorted(
    {kind for kind in tree(EnclaveError) if kind.__module__.startswith("pytest_enclave.")},
    key=lambda kind: kind.__name__,
)


def same(one: BaseException, two: BaseException) -> bool:
    return (type(one), str(one), one.args, vars(one)) == (type(two), str(two), two.args, vars(two))


def sent(error: EnclaveError) -> EnclaveError:
    """The error as another process gets it."""
    received = pickle.loads(pickle.dumps(error))
    assert isinstance(received, EnclaveError)
    return received


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_of_every_class_arrives_with_all_its_data(kind: type[EnclaveError]):
    error = MADE.get(kind, lambda: kind("what went wrong", remedy="what to do"))()
    error.sources, error.enclave, error.reported_by = {"main.star": "def run(plan):"}, "shop-1", "test_it"
    error.location = PLACE
    if isinstance(error, errors.ExecutionError):
        request = call("request", PLACE, "a" * 32, recipe=Struct("GetHttpRequestRecipe", {"port_id": "http"}))
        error.instruction, error.logs = request, {"a": ["line", "line"]}
        error.origins = [Origin("code", 200, Step(request, Outcome.EXECUTED, 0.5, "message", "reason"))]
    assert same(sent(error), error)
    assert same(sent(sent(error)), error)
    assert isinstance(sent(error), AssertionError) == isinstance(error, AssertionError)


def test_what_was_set_on_an_error_and_what_was_noted_arrives_too():
    error: Any = errors.RunTimedOut("late")
    error.__notes__ = ["seen in the shop"]
    error.anything = 1
    received: Any = sent(error)
    assert (received.__notes__, received.anything) == (["seen in the shop"], 1)


A = 'plan.add_service("a", ServiceConfig(image = "img", ports = {"http": PortSpec(number = 80, wait = "1s")}))\n'
SLOW = A.replace('"http"', '"slow"')
CODE = 'code = plan.exec("a", ExecRecipe(command = ["x"]), acceptable_codes = [0, 1])["code"]\n'


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("InterpretationError", "nonsense"),
        ("InterpretationError", "def run(plan):\n    inner()\ndef inner():\n    return 1 / 0"),
        ("ScriptFailed", 'fail("no")'),
        ("ValidationError", 'plan.exec("b", ExecRecipe(command = ["x"]))'),
        ("VerifyFailed", A + CODE + 'plan.verify(code, "==", 7)'),
        ("WaitTimedOut", A + 'plan.wait("a", ExecRecipe(command = ["x"]), "code", "==", 7, timeout = "2s")'),
        ("UnacceptableCode", A + 'plan.exec("a", ExecRecipe(command = ["x"]))'),
        ("PortNeverOpened", SLOW),
        ("ServiceExited", SLOW.replace('"a"', '"short"')),
    ],
)
def test_what_a_run_fails_with_arrives_whole(laboratory: Callable[..., Laboratory], kind: str, script: str):
    answers = Script().service("*", opens_after={"slow": None}, logs=[(0.0, "says")])
    answers = answers.service("short", opens_after={"slow": None}, exits_after=0.2, exits_with=Exit(3))
    lab = laboratory(answers.on_exec("a", ["x"], ExecResult(1, "output")))
    error = lab.error(script)
    assert type(error).__name__ == kind
    assert same(sent(error), error)
