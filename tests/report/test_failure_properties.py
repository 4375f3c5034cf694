"""Whatever an error holds: a report is rendered, it is short, and no secret is in it."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_enclave import errors
from pytest_enclave.errors import Attempt, EnclaveError, ExecutionError, Problem
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Origin, Outcome, Step
from pytest_enclave.plan.values import Struct
from pytest_enclave.report.failure import render, render_again
from pytest_enclave.report.masking import Secrets
from pytest_enclave.source import Frame, Location
from tests.report.samples import call

SECRET = "hunter22 \"täglich'\\9"
"""With what is written differently in literals, JSON and URLs."""

BITS = ("plan.verify(", "value = ", 'resp["code"]', ", ", ")", "(", "[", "'''", '"""', '"', "#", "\n", "\t", "日本")
ODD = ("\x1b[31m", "\r", "\u2028", "é́", "  ", "x", "\\", "def f():\n", "{{kurtosis:", "\ud800")
PIECES = st.sampled_from([SECRET, f'"{SECRET}"', *BITS, *ODD])
TEXTS = st.lists(PIECES | st.text(max_size=12), max_size=14).map("".join)
LOCATIONS = st.none() | st.builds(
    Location, st.sampled_from(["main.star", "gone.star"]), st.integers(0, 12), st.integers(0, 60)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3)
        | st.dictionaries(st.text("ab", min_size=1), inner, max_size=2).map(lambda fields: Struct("struct", fields))
    ),
    max_leaves=6,
)
PROBLEMS = st.lists(st.builds(Problem, TEXTS, LOCATIONS, TEXTS, TEXTS), max_size=60)
NAMES = st.sampled_from(["verify", "wait", "exec", "run_sh", "add_service", "add_services", "print", "own"])
ARGUMENTS = st.dictionaries(
    st.sampled_from(["name", "value", "recipe", "run", "configs", "env_vars", "msg", "service_name"]), VALUES
)


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    return Instruction(draw(NAMES), draw(ARGUMENTS), draw(LOCATIONS) or Location("x"), draw(TEXTS), "f" * 32)


@st.composite
def execution_errors(draw: st.DrawFn) -> ExecutionError:
    message, remedy, service = draw(TEXTS), draw(TEXTS), draw(TEXTS)
    attempts = draw(st.lists(st.builds(Attempt, st.floats(0, 1e6), TEXTS), max_size=30))
    timeout = draw(st.floats(0, 1e6))
    value, target = draw(VALUES), draw(VALUES)
    error = draw(
        st.sampled_from(
            [
                ExecutionError(message, service=service, details=[(draw(TEXTS), draw(TEXTS))], remedy=remedy),
                errors.VerifyFailed(
                    message, value=value, assertion=draw(st.sampled_from(["==", "IN", "<"])), target=target
                ),
                errors.WaitTimedOut(
                    message, service=service, condition=draw(TEXTS), timeout=timeout, interval=1, attempts=attempts
                ),
                errors.UnacceptableCode(message, service=service, code=3, acceptable=[0], output=draw(TEXTS) * 9),
                errors.RecipeFailed(message, service=service),
                errors.ServiceExited(message, service=service, code=draw(st.integers(-1, 300)), remedy=remedy),
                errors.PortNeverOpened(message, service=service, port=draw(TEXTS), timeout=timeout),
            ]
        )
    )
    error.instruction = draw(st.none() | instructions())
    error.logs = draw(st.dictionaries(TEXTS, st.lists(TEXTS, max_size=30), max_size=3))
    steps = st.builds(Step, instructions(), st.just(Outcome.EXECUTED), st.floats(0, 1e5), TEXTS)
    error.origins = draw(st.lists(st.builds(Origin, TEXTS, VALUES, steps), max_size=8))
    return error


def other_errors() -> st.SearchStrategy[EnclaveError]:
    frames = st.lists(st.builds(Frame, LOCATIONS.filter(bool), TEXTS), max_size=20)
    tried = st.lists(st.tuples(TEXTS, TEXTS), max_size=50)
    return st.one_of(
        st.builds(EnclaveError, TEXTS, remedy=TEXTS),
        st.builds(errors.PackageError, TEXTS, remedy=TEXTS),
        st.builds(errors.InterpretationError, TEXTS, remedy=TEXTS, frames=frames, problems=PROBLEMS),
        st.builds(errors.ScriptFailed, TEXTS, frames=frames),
        st.builds(errors.ValidationError, PROBLEMS, instructions=st.integers(0, 99)),
        st.builds(errors.RunTimedOut, TEXTS),
        st.builds(errors.EngineUnavailable, TEXTS, tried=tried, remedy=TEXTS),
        st.builds(errors.ImageUnavailable, TEXTS),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    error=execution_errors() | other_errors(),
    location=LOCATIONS,
    sources=st.dictionaries(st.just("main.star"), TEXTS),
    verbose=st.booleans(),
    width=st.integers(1, 200),
)
def test_every_error_renders_without_secrets(
    error: EnclaveError, location: Location | None, sources: Mapping[str, str], verbose: bool, width: int
) -> None:
    error.location = location
    error.sources = sources
    owner = call("run_sh", Location("main.star"), env_vars={"DB_PASSWORD": SECRET, "MONKEY": "banana split"})
    secrets = Secrets.of_instructions([owner])
    report = render(error, verbose=verbose, width=width, secrets=secrets)
    again = render_again(error, "tests/test_a.py::test", secrets=secrets)
    for text in (str(report), report.headline, str(again)):
        assert "hunter22" not in text
        text.encode()
    assert "\n" not in report.headline
    assert report.headline.startswith("E")
    assert verbose or len(report.lines) <= 40
    for line in report.lines:
        assert not any(character in segment.text for segment in line for character in "\n\r\x1b\t")
