"""Enclaves beside what else pytest, and other plugins, can do."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.face.conftest import RunPytest, WritePackage

VERIFY = 'plan.print("begun")\nplan.verify(value = "a", assertion = "==", target_value = "{}".format(want))'
TESTS = """
    import pytest

    def test_good(enclave): ...

    @pytest.mark.enclave(args={"want": "b"})
    def test_bad(enclave): ...

    def test_last(enclave): ...
"""


@pytest.fixture(autouse=True)
def shop(pytester: pytest.Pytester, package: WritePackage) -> None:
    """A package whose run fails when `want` is not `a`, and three tests, the second of which does that."""
    package("shop", VERIFY, parameters='want = "a"')
    pytester.makepyfile(**{"shop/test_it": TESTS})


def test_exit_first_stops_at_a_failed_run(run: RunPytest) -> None:
    run("shop/test_it.py", "-x").assert_outcomes(passed=1, failed=1)


def test_last_failed_runs_the_failed_one_again(pytester: pytest.Pytester) -> None:
    arguments = ("--enclave-engine=simulated", "shop/test_it.py", "--lf")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=2, failed=1)
    pytester.runpytest_inprocess(*arguments).assert_outcomes(failed=1, deselected=2)


def test_stepwise_goes_on_where_it_failed(pytester: pytest.Pytester) -> None:
    arguments = ("--enclave-engine=simulated", "shop/test_it.py", "--sw")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess(*arguments).assert_outcomes(failed=1, deselected=1)


def test_the_enclave_is_still_up_in_the_debugger(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        gone = []

        def pytest_enclave_teardown(enclave):
            gone.append(enclave)

        @pytest.hookimpl(tryfirst=True)
        def pytest_exception_interact(node):
            print("removed by then:", gone)
        """
    )
    pytester.makepyfile(**{"shop/test_it": "def test_it(enclave):\n    assert 0\n"})
    result = pytester.runpytest_inprocess("--enclave-engine=simulated", "--pdb", "-s", "shop/test_it.py")
    result.stdout.fnmatch_lines(["*removed by then: []"])


def test_the_setup_is_shown_and_planned_without_starting_anything(run: RunPytest) -> None:
    shown = run("shop/test_it.py::test_good", "--setup-show")
    shown.stdout.fnmatch_lines(
        ["*SETUP    F enclave", "*test_good (fixtures used: enclave, request)*", "*TEARDOWN F enclave"]
    )
    planned = run("shop/test_it.py::test_good", "--setup-plan")
    planned.stdout.fnmatch_lines(["*SETUP    F enclave"])
    assert "instruction" not in planned.stdout.str()


def test_without_a_terminal(run: RunPytest) -> None:
    assert run("shop/test_it.py", "-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("arguments", [("-s",), ("-p", "no:capture")])
def test_uncaptured_output_has_the_lines_of_the_run_once(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", "shop/test_it.py::test_bad", *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert sum(line.strip() == "begun" for line in result.outlines) == 1
    assert "Captured enclave" not in result.stdout.str()


def test_captured_output_is_in_the_report(run: RunPytest) -> None:
    result = run("shop/test_it.py", "-rA")
    assert sum("Captured enclave setup" in line for line in result.outlines) == 3
    result.stdout.fnmatch_lines(["*begun", "  2/2 verify(*) … failed after * ms *"])


def test_verbosity_decides_on_the_summary_line(run: RunPytest) -> None:
    line = "enclave: 6 instructions, 3 executed, 2 reused, 1 failed"
    assert line in run("shop/test_it.py").outlines
    assert line in run("shop/test_it.py", "-v").outlines
    assert line not in run("shop/test_it.py", "-q").outlines


def test_nothing_is_said_where_no_enclave_was_used(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(test_plain="def test_plain(): ...")
    assert "enclave:" not in run("test_plain.py").stdout.str()


def test_show_capture_no_hides_the_lines_of_the_run(run: RunPytest) -> None:
    assert "Captured enclave" not in run("shop/test_it.py", "--show-capture=no").stdout.str()


def test_junit_has_failures_with_their_message(pytester: pytest.Pytester, run: RunPytest) -> None:
    run("shop/test_it.py", "--junitxml=report.xml")
    suite = ElementTree.parse(pytester.path / "report.xml").getroot()[0]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.get("message") or "").startswith("E301 verify failed: ")
    assert "error[E301]" in (failure.text or "")


def test_warnings_as_errors_find_nothing(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", "shop/test_it.py", "-W", "error")
    result.assert_outcomes(passed=2, failed=1)
    assert "Warning" not in result.stdout.str()


def test_a_timeout_of_the_test_ends_its_interpretation(pytester: pytest.Pytester, package: WritePackage) -> None:
    package("endless", "for _ in range(1 << 30):\n    pass")
    pytester.makepyfile(**{"endless/test_it": "def test_it(enclave): ..."})
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", "--timeout=1", "endless/test_it.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *Failed: Timeout (>1.0s) from pytest-timeout."])


def test_a_run_that_is_not_named_is_not_collected_by_workers_either(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pytester.path / "shop")
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", "-n1")
    result.assert_outcomes(passed=2, failed=1)


def test_workers_have_enclaves_of_their_own_and_their_reports_lose_nothing(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        "--enclave-engine=simulated", "shop", "-n2", "--dist=each", "--color=yes", "-v"
    )
    result.assert_outcomes(passed=6, failed=2)
    plain = result.stdout.str()
    assert plain.count("\x1b[31m\x1b[1merror[E301]: ") == 2
    assert plain.count("test_bad\x1b[0m - E301 verify failed: ") == 2
    for worker in ("gw0", "gw1"):
        assert f"{worker}: enclave: 8 instructions, 3 executed, 4 reused, 1 failed" in result.outlines


def test_a_wrong_marker_is_an_error_of_its_test_in_a_worker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{"shop/test_it": "import pytest\n\n@pytest.mark.enclave(share=1)\ndef test_it(enclave): ...\n"}
    )
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", "shop/test_it.py", "-n1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: shop/test_it.py::test_it: enclave(share=1): share must be a name"])
