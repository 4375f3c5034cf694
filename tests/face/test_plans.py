"""`--enclave-plan`: plans are printed, and nothing starts."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

NO_ENGINE = """
    def pytest_enclave_engine(config):
        raise RuntimeError("a plan needs no engine")
"""


def test_each_plan_is_printed_once_per_set_of_arguments(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    root = package("shop", 'plan.print("n is {}".format(n))', parameters="n = 0")
    pytester.makeconftest(NO_ENGINE)
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.enclave("shop")

        def test_a(enclave): open("ran", "w")
        def test_b(enclave): open("ran", "w")
        def test_without(): open("ran", "w")

        @pytest.mark.enclave(args={"n": 1})
        def test_c(enclave): open("ran", "w")
        """
    )
    result = run("--enclave-plan")
    assert result.ret == pytest.ExitCode.OK
    assert [line.strip(" -") for line in result.outlines if "plan of" in line] == [
        f"plan of {root}",
        f'plan of {root} with {{"n": 1}}',
    ]
    assert '  1  main.star:2  print("n is 0")' in result.outlines
    assert '  1  main.star:2  print("n is 1")' in result.outlines
    assert not (pytester.path / "ran").exists()


def test_row_134_what_would_run_is_shown_and_nothing_runs(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'plan.print("one")\nplan.verify(value = "a", assertion = "==", target_value = "b")')
    pytester.makeconftest(NO_ENGINE)
    result = run("--enclave-plan", ".")
    assert result.ret == pytest.ExitCode.OK
    assert [line for line in result.outlines if "main.star:" in line] == [
        '  1  main.star:2  print("one")',
        '  2  main.star:3  verify(a == "b")',
    ]


def test_only_selected_tests_count(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", 'plan.print("n is {}".format(n))', parameters="n = 0")
    pytester.makepyfile(
        """
        import pytest

        def test_a(enclave): ...

        @pytest.mark.enclave(args={"n": 1})
        def test_b(enclave): ...
        """
    )
    result = run("--enclave-plan", "-k", "test_b")
    assert [line for line in result.outlines if "print(" in line] == ['  1  main.star:2  print("n is 1")']


def test_a_package_on_the_command_line_has_a_plan(package: WritePackage, run: RunPytest) -> None:
    package("shop")
    assert '  1  main.star:2  print("hello")' in run("shop", "--enclave-plan").outlines


def test_a_broken_package_fails_the_session_and_the_others_are_printed(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("good")
    package("bad", "plan.print(nothing)")
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.enclave("bad")
        def test_bad(enclave): ...

        @pytest.mark.enclave("good")
        def test_good(enclave): ...
        """
    )
    result = run("--enclave-plan")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*no plan for test_it.py::test_bad*", "error?E1*nothing*", "*main.star:2:*", '*print("hello")']
    )


def test_workers_are_not_started_for_it(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package()
    pytester.makepyfile("def test_it(enclave): ...")
    result = run("--enclave-plan", "-n2")
    assert result.ret == pytest.ExitCode.OK
    assert '  1  main.star:2  print("hello")' in result.outlines


def test_collecting_only_collects(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package()
    pytester.makepyfile("def test_it(enclave): ...")
    result = run("--enclave-plan", "--collect-only")
    assert "plan of" not in result.stdout.str()


def test_without_a_terminal_the_exit_code_still_tells(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", "plan.print(nothing)")
    pytester.makepyfile("def test_it(enclave): ...")
    assert run("--enclave-plan", "-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED
