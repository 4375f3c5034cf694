"""Where no engine answers; and what the header says of the one that does."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.docker import discovery
from pytest_enclave.engine.embedded import probe
from pytest_enclave.engine.embedded.probe import Examination
from pytest_enclave.engine.embedded.refusals import Refusal
from tests.face.conftest import WritePackage

TESTS = "def test_first(enclave): ...\ndef test_second(enclave): ...\ndef test_without(): ..."
NOWHERE = "unix:///nowhere/docker.sock"


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch, package: WritePackage, pytester: pytest.Pytester) -> None:
    """A package and its tests, and a Docker host that does not exist."""
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    package("shop")
    pytester.makepyfile(**{"shop/test_it": TESTS})


def test_tests_that_need_an_enclave_are_errors_and_the_engine_is_asked_once(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("shop/test_it.py")
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            f"error?E401?: no Docker engine answers at {NOWHERE} (DOCKER_HOST): *",
            f"*= tried {NOWHERE}*",
            "*= help: start it, or unset DOCKER_HOST",
            "the enclave is unavailable: E401 no Docker engine answers * — reported at shop/test_it.py::test_first",
        ]
    )


def test_they_can_be_skipped_instead(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("shop/test_it.py", "--enclave-unavailable=skip", "-rs")
    result.assert_outcomes(skipped=2, passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            f"SKIPPED ?1? shop/test_it.py:1: no engine for enclaves: no Docker engine answers at {NOWHERE} (*",
            "SKIPPED ?1? shop/test_it.py:2: no engine for enclaves: *",
        ]
    )


def test_an_engine_that_does_not_exist_is_told_with_the_remedy(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("shop/test_it.py", "--enclave-docker-host=/nowhere/else.sock")
    result.stdout.fnmatch_lines(["error?E401?: *unix:///nowhere/else.sock (--enclave-docker-host): *"])


def header(result: pytest.RunResult) -> list[str]:
    """Our lines above the first test."""
    return [line for line in result.outlines[: result.outlines.index("")] if line.startswith("enclave: ")]


def test_the_header_tells_why_there_is_no_engine(pytester: pytest.Pytester) -> None:
    (line,) = header(pytester.runpytest_inprocess("shop"))
    assert line.startswith(f"enclave: no engine — no Docker engine answers at {NOWHERE} (DOCKER_HOST): ")


def test_the_header_tells_of_the_simulated_engine(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("shop", "--enclave-engine=simulated")
    assert header(result) == ["enclave: simulated engine (no services, virtual time)"]


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    """No Docker engine is named, and none answers."""
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("HOME", str(pytester.path))
    monkeypatch.setattr(discovery, "DEFAULT_SOCKET", "/nowhere/docker.sock")


def examined(monkeypatch: pytest.MonkeyPatch, outcome: Examination) -> None:
    """What examining this machine gives."""
    monkeypatch.setattr(probe, "examine", lambda: outcome)


HERE = Examination(None, "this machine, as root", notes=("limits do not hold",))


@pytest.mark.usefixtures("nothing_named")
def test_the_header_tells_of_the_embedded_engine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    examined(monkeypatch, HERE)
    result = pytester.runpytest_inprocess("shop", "--collect-only")
    assert header(result) == ["enclave: embedded on this machine, as root (no Docker engine answers)"]
    result = pytester.runpytest_inprocess("shop", "--collect-only", "--enclave-engine=embedded")
    assert header(result) == ["enclave: embedded on this machine, as root (--enclave-engine=embedded)"]


@pytest.mark.usefixtures("nothing_named")
def test_the_header_tells_what_works_in_part_when_verbose(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined(monkeypatch, HERE)
    pytester.makeini("[pytest]\nenclave_engine = embedded")
    assert header(pytester.runpytest_inprocess("shop", "--collect-only", "-v")) == [
        "enclave: embedded on this machine, as root (enclave_engine = embedded)",
        "enclave: limits do not hold",
    ]


@pytest.mark.usefixtures("nothing_named")
def test_all_that_was_tried_is_told_once(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Refusal("no user namespace can be made", "the kernel allows none", "`sudo sysctl -w a=1`")
    examined(monkeypatch, Examination(refused))
    result = pytester.runpytest_inprocess("shop/test_it.py")
    result.assert_outcomes(errors=2, passed=1)
    told = "no Docker engine answers, and the embedded engine cannot run here: no user namespace can be made"
    assert header(result) == [f"enclave: no engine — {told}"]
    result.stdout.fnmatch_lines(
        [
            f"error?E401?: {told}",
            "   = tried unix:///nowhere/docker.sock: there is no such socket",
            "   = tried the embedded engine:         no user namespace can be made: the kernel allows none",
            "   = help: for Docker: start Docker, or say where it is: --enclave-docker-host or DOCKER_HOST",
            "           for the embedded engine: `sudo sysctl -w a=1`",
            f"the enclave is unavailable: E401 {told} — reported at shop/test_it.py::test_first",
        ]
    )


@pytest.mark.usefixtures("nothing_named")
def test_tests_are_skipped_where_neither_engine_can_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined(monkeypatch, Examination(Refusal("it needs Linux", "this is macOS")))
    result = pytester.runpytest_inprocess("shop/test_it.py", "--enclave-unavailable=skip", "-rs")
    result.assert_outcomes(skipped=2, passed=1)


@pytest.mark.parametrize("arguments", [("shop", "--enclave-plan"), ("test_plain.py",)])
def test_the_header_is_silent_where_no_enclave_is_in_sight(pytester: pytest.Pytester, arguments: list[str]) -> None:
    pytester.makepyfile(test_plain="def test_plain(): ...")
    assert header(pytester.runpytest_inprocess(*arguments)) == []


def test_the_header_is_silent_when_quiet(pytester: pytest.Pytester) -> None:
    assert "enclave: no engine" not in pytester.runpytest_inprocess("shop", "-q").stdout.str()


@pytest.mark.parametrize(
    "argument", ["shop", "shop/test_it.py", "shop/test_it.py::test_first", "--enclave-package=shop"]
)
def test_a_package_is_in_sight_however_it_is_named(pytester: pytest.Pytester, argument: str) -> None:
    assert len(header(pytester.runpytest_inprocess(argument))) == 1


MARKED = """
    import pytest

    @pytest.mark.enclave("shop")
    def test_it(enclave): ...
"""


def test_a_package_that_only_a_marker_names_is_told_after_the_collection(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_marked=MARKED)
    (line,) = header(pytester.runpytest_inprocess("test_marked.py"))
    assert line.startswith("enclave: no engine — ")
    assert "enclave: no engine" not in pytester.runpytest_inprocess("test_marked.py", "-q").stdout.str()
    assert header(pytester.runpytest_inprocess("test_marked.py", "--enclave-plan")) == []
