"""Beside plugins that run tests again, in another order, or in forks; with real services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.face.conftest import WritePackage

SERVICE = 'plan.add_service("db", ServiceConfig("host:/", cmd = ["sleep", "1000"]))'

SECOND_TIME = f"""
{SERVICE}
plan.exec("db", ExecRecipe(["sh", "-c", "echo >> /tmp/tries; test $(wc -l < /tmp/tries) = 2"]))
"""
"""A package whose run fails the first time in an enclave, and succeeds the second time."""

FORKING = '''
"""Runs tests in forks as pytest-forked does, which cannot take reports of pytest 9.2 to its parent (1.7.5)."""

import os, pickle
import pytest
from _pytest.runner import runtestprotocol

def pytest_addoption(parser):
    parser.addoption("--forked", action="store_true", dest="forked")

def pytest_configure(config):
    config.addinivalue_line("markers", "forked: always fork for this test")

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if not (item.config.option.forked or item.get_closest_marker("forked")):
        return None
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with open(writing, "wb") as file:
            pickle.dump([report._to_json() for report in runtestprotocol(item, log=False)], file)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        reports = [pytest.TestReport._from_json(report) for report in pickle.load(file)]
    os.waitpid(child, 0)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.session._setupstate.teardown_exact(nextitem)
    return True
'''


@pytest.fixture(autouse=True)
def ledger(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where enclaves are recorded."""
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    return pytester.path / "state/pytest-enclave/enclaves"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest on the embedded engine; no enclave stays."""
    return pytester.runpytest_subprocess("--enclave-engine=embedded", "--enclave-keep=never", *arguments)


# pytest-rerunfailures


def test_a_run_that_failed_is_tried_again_by_the_rerun_of_its_test_and_then_others_get_the_enclave(
    pytester: pytest.Pytester, package: WritePackage, ledger: Path
) -> None:
    package(".", SECOND_TIME)
    pytester.makepyfile(
        """
        names = []

        def test_first(enclave):
            names.append(enclave.name)

        def test_second(enclave):
            assert [enclave.name] == names
            assert enclave.last_run.executed == 0
        """
    )
    result = run(pytester, "--reruns=1")
    assert result.parseoutcomes() == {"passed": 2, "rerun": 1}
    assert not list(ledger.iterdir())


def test_without_reruns_nobody_tries_again(pytester: pytest.Pytester, package: WritePackage) -> None:
    package(".", SECOND_TIME)
    pytester.makepyfile("def test_first(enclave): ...\ndef test_second(enclave): ...")
    result = run(pytester)
    assert result.parseoutcomes() == {"failed": 2}
    result.stdout.fnmatch_lines(["the enclave is unavailable: * reported at *::test_first"])


def test_the_rerun_of_another_test_does_not_try_again(pytester: pytest.Pytester, package: WritePackage) -> None:
    package(".", SECOND_TIME)
    pytester.makepyfile(
        """
        import pytest

        def test_first(enclave): ...

        @pytest.mark.flaky(reruns=2)
        def test_second(enclave): ...
        """
    )
    assert run(pytester).parseoutcomes() == {"failed": 2, "rerun": 2}


def test_the_rerun_of_a_test_gets_the_shared_enclave_again_and_an_isolated_one_fresh(
    pytester: pytest.Pytester, package: WritePackage, ledger: Path
) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        """
        import pytest

        names = {"shared": [], "alone": [], "fork": []}

        def test_shared(enclave):
            names["shared"].append(enclave.name)
            assert len(names["shared"]) == 2
            assert len(set(names["shared"])) == 1

        @pytest.mark.enclave(isolate=True)
        def test_alone(enclave):
            names["alone"].append(enclave.name)
            assert len(names["alone"]) == 2
            assert len(set(names["alone"])) == 2

        @pytest.mark.enclave(isolate="fork")
        def test_fork(enclave):
            names["fork"].append(enclave.name)
            assert len(names["fork"]) == 2
            assert len(set(names["fork"])) == 2
        """
    )
    assert run(pytester, "--reruns=1").parseoutcomes() == {"passed": 3, "rerun": 3}
    assert not list(ledger.iterdir())


def test_reruns_of_the_tests_of_a_module_have_its_enclave(pytester: pytest.Pytester, package: WritePackage) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        """
        import pytest

        names = []

        @pytest.mark.enclave(isolate="module")
        @pytest.mark.parametrize("n", range(2))
        def test_it(enclave, n):
            names.append(enclave.name)
            assert len(names) % 2 == 0
            assert len(set(names)) == 1
        """
    )
    assert run(pytester, "--reruns=1").parseoutcomes() == {"passed": 2, "rerun": 2}


def test_reruns_in_workers(pytester: pytest.Pytester, package: WritePackage, ledger: Path) -> None:
    package(".", SECOND_TIME)
    pytester.makepyfile(
        """
        import pytest

        tries = []

        @pytest.mark.parametrize("n", range(6))
        def test_it(enclave, n):
            tries.append(n)
            assert n != 3 or tries.count(3) == 2
        """
    )
    result = run(pytester, "-n2", "--reruns=2", "--reruns-delay=0.2")
    assert result.parseoutcomes()["passed"] == 6
    assert not list(ledger.iterdir())


# other orders, other choices


def test_what_failed_is_run_again_first_or_alone(pytester: pytest.Pytester, package: WritePackage) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        """
        import pathlib, pytest

        @pytest.mark.enclave(isolate="module")
        def test_first(enclave): ...

        def test_second(enclave): ...

        @pytest.mark.parametrize("n", range(2))
        def test_failing(enclave, n):
            assert enclave.services["db"].exec(["true"]).code == 0
            assert pathlib.Path("mended").exists()

        @pytest.mark.enclave(isolate="module")
        def test_last(enclave): ...
        """
    )
    run(pytester).assert_outcomes(passed=3, failed=2)
    run(pytester, "--lf").assert_outcomes(failed=2)
    run(pytester, "--ff", "-x").assert_outcomes(failed=1)
    run(pytester, "--sw").assert_outcomes(passed=2, failed=1)
    (pytester.path / "mended").touch()
    run(pytester, "--sw").assert_outcomes(passed=3, deselected=2)


def test_any_order_will_do(pytester: pytest.Pytester, package: WritePackage, ledger: Path) -> None:
    package("small", SERVICE)
    package("large", f'{SERVICE}\nplan.add_service("api", ServiceConfig("host:/", cmd = ["sleep", "1000"]))')
    pytester.makeconftest(
        """
        import random

        def pytest_collection_modifyitems(items):
            random.Random(7).shuffle(items)
        """
    )
    for name in ("one", "two"):
        pytester.makepyfile(
            **{
                f"test_{name}": """
                import pytest

                @pytest.mark.parametrize("n", range(3))
                @pytest.mark.parametrize("isolate", [
                    pytest.param(how, marks=pytest.mark.enclave(isolate=how)) for how in (False, True, "module", "fork")
                ])
                @pytest.mark.enclave("small")
                def test_small(enclave, isolate, n):
                    assert set(enclave.services) == {"db"}

                @pytest.mark.parametrize("n", range(2))
                @pytest.mark.parametrize("package", [
                    pytest.param(name, marks=pytest.mark.enclave(name)) for name in ("small", "large")
                ])
                @pytest.mark.enclave(share="growing")
                def test_growing(enclave, package, n):
                    assert {"db"} <= set(enclave.services)
                """
            }
        )
    run(pytester).assert_outcomes(passed=32)
    assert not list(ledger.iterdir())


# forks of the process, as with pytest-forked


@pytest.fixture
def forking(pytester: pytest.Pytester) -> tuple[str, str]:
    """The options with which every test runs in a fork."""
    pytester.makepyfile(pytest_forked=FORKING)
    return ("-ppytest_forked", "--forked")


def test_all_forks_share_one_enclave_which_their_parent_removes(
    pytester: pytest.Pytester, package: WritePackage, forking: tuple[str, str], ledger: Path
) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        """
        import os, pathlib, pytest

        @pytest.mark.parametrize("n", range(3))
        def test_it(enclave, n):
            assert enclave.last_run.executed == (1 if n == 0 else 0)
            assert enclave.services["db"].exec(["echo", "hi"]).output.strip() == "hi"
            with open("names", "a") as file:
                file.write(f"{enclave.name} {os.getpid()}\\n")
        """
    )
    run(pytester, *forking).assert_outcomes(passed=3)
    lines = [line.split() for line in (pytester.path / "names").read_text().splitlines()]
    assert len({name for name, _ in lines}) == 1
    assert len({process for _, process in lines}) == 3
    assert not list(ledger.iterdir())


def test_what_is_the_fork_s_own_goes_with_it(
    pytester: pytest.Pytester, package: WritePackage, forking: tuple[str, str], ledger: Path
) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        f"""
        import pathlib, pytest

        @pytest.mark.enclave(isolate=True)
        def test_alone(enclave): ...

        @pytest.mark.enclave(isolate="module")
        def test_module(enclave): ...

        @pytest.mark.enclave(isolate="fork")
        def test_fork(enclave): ...

        def test_factory(enclave_factory):
            enclave_factory(".", isolate=True)

        def test_gone():
            shared = pathlib.Path({str(ledger)!r}).iterdir()
            assert len(list(shared)) == 1
        """
    )
    run(pytester, *forking).assert_outcomes(passed=5)
    assert not list(ledger.iterdir())


def test_a_failure_in_a_fork_is_told_as_ever(
    pytester: pytest.Pytester, package: WritePackage, forking: tuple[str, str]
) -> None:
    package(".", f'{SERVICE}\nplan.exec("db", ExecRecipe(["false"]))')
    pytester.makepyfile("def test_first(enclave): ...\ndef test_second(enclave): ...")
    result = run(pytester, *forking)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["error[[]E303]: *", "the enclave is unavailable: * reported at *::test_first"])


def test_forks_of_a_process_that_has_enclaves_open_use_the_same(
    pytester: pytest.Pytester, package: WritePackage, forking: tuple[str, str], ledger: Path
) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        """
        import os, pytest

        names = []

        def test_before(enclave):
            names.append(enclave.name)

        @pytest.mark.forked
        def test_forked(enclave):
            assert [enclave.name] == names
            assert enclave.last_run.executed == 0
            assert enclave.services["db"].exec(["echo", "hi"]).output.strip() == "hi"

        @pytest.mark.forked
        @pytest.mark.enclave(isolate=True)
        def test_alone(enclave):
            assert enclave.name not in names

        def test_after(enclave):
            assert [enclave.name] == names
            assert enclave.services["db"].exec(["echo", "hi"]).output.strip() == "hi"
        """
    )
    run(pytester, forking[0]).assert_outcomes(passed=4)
    assert not list(ledger.iterdir())


def test_forks_of_workers(
    pytester: pytest.Pytester, package: WritePackage, forking: tuple[str, str], ledger: Path
) -> None:
    package(".", SERVICE)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(6))
        def test_it(enclave, n):
            with open("names", "a") as file:
                file.write(f"{enclave.name}\\n")
        """
    )
    run(pytester, *forking, "-n2").assert_outcomes(passed=6)
    names = (pytester.path / "names").read_text().split()
    assert len(names) == 6
    assert len(set(names)) == 1
    assert not list(ledger.iterdir())
