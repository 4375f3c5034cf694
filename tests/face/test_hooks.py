"""Each hook of `hookspecs.py`, as a `conftest.py` implements it."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

TEST = "def test_it(enclave): ..."


def test_the_engine_is_chosen_once(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", 'plan.add_service("db", ServiceConfig(image = "db:1"))')
    pytester.makeconftest(
        """
        from pytest_enclave.engine.simulated import SimulatedEngine

        made = []

        def pytest_enclave_engine(config):
            assert config.getoption("enclave_engine") == "simulated"
            made.append(SimulatedEngine())
            return made[-1]
        """
    )
    pytester.makepyfile(
        """
        from conftest import made

        def test_first(enclave):
            assert enclave.name in made[0].sites

        def test_second(enclave):
            assert len(made) == 1
        """
    )
    run().assert_outcomes(passed=2)


def test_an_instruction_is_added_and_used_from_starlark(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'plan.greet("Ada")')
    pytester.makeconftest(
        """
        from pytest_enclave.instructions.protocol import Defaults, Result
        from pytest_enclave.plan import checks
        from pytest_enclave.plan.footprint import Footprint, Replay
        from pytest_enclave.plan.parameters import Parameter

        class Greet(Defaults):
            name = "greet"
            parameters = (Parameter("name", checks.ANY, required=True),)

            def footprint(self, call):
                return Footprint(Replay.COMPARE)

            def execute(self, call, context):
                return Result(f"hello {call.get('name')}")

        def pytest_enclave_instructions(config):
            return [Greet()]
        """
    )
    pytester.makepyfile(
        """
        def test_it(enclave):
            (step,) = enclave.last_run.instructions
            assert (step.name, step.message) == ("greet", "hello Ada")
        """
    )
    run().assert_outcomes(passed=1)


def test_row_31_what_an_added_instruction_returns_and_how_it_fails_is_seen_by_the_script(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("good", 'plan.print("twice 4 is {}".format(plan.twice(4)))\nreturn plan.twice(21)')
    package("bad", "plan.twice(0)")
    pytester.makeconftest(
        """
        from pytest_enclave.errors import ExecutionError, InterpretationError
        from pytest_enclave.instructions.protocol import Defaults, Result
        from pytest_enclave.plan import checks
        from pytest_enclave.plan.footprint import Footprint, Replay
        from pytest_enclave.plan.parameters import Parameter

        class Twice(Defaults):
            name = "twice"
            parameters = (Parameter("number", checks.integer(), required=True),)

            def returns(self, call):
                return 2 * call.get("number")

            def footprint(self, call):
                return Footprint(Replay.COMPARE)

            def execute(self, call, context):
                if call.get("number") == 0:
                    raise ExecutionError("twice nothing is nothing", remedy="take another number")
                return Result("done")

        def pytest_enclave_instructions(config):
            return [Twice()]
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave("good")
        def test_good(enclave): assert enclave.output == 42

        @pytest.mark.enclave("bad")
        def test_bad(enclave): ...
        """
    )
    result = run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*: twice nothing is nothing", "*main.star:2:*", "*take another number*"])


def test_a_locator_of_another_package_is_resolved(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'return import_module("github.com/other/repository/lib.star").VALUE')
    (pytester.path / "lib.star").write_text("VALUE = 7\n")
    pytester.makeconftest(
        """
        from pathlib import Path

        def pytest_enclave_resolve(locator, config):
            assert locator == "github.com/other/repository/lib.star"
            return Path(__file__).with_name("lib.star")
        """
    )
    pytester.makepyfile("def test_it(enclave): assert enclave.output == 7")
    run("-k", "test_it").assert_outcomes(passed=1)


def test_the_life_of_an_enclave_is_told(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", 'plan.print("hello")')
    pytester.makeconftest(
        """
        told = []

        def pytest_enclave_before_execute(enclave, plan):
            told.append(("before", [call.name for call in plan.instructions], len(enclave.services)))

        def pytest_enclave_instruction(enclave, step):
            told.append((step.name, str(step.outcome)))

        def pytest_enclave_ready(enclave, run):
            assert enclave.last_run is run
            told.append(("ready", run.executed, run.skipped))

        def pytest_enclave_teardown(enclave):
            told.append(("teardown", enclave.name.rpartition("-")[0]))

        def pytest_unconfigure():
            for line in told:
                print(*line)
        """
    )
    pytester.makepyfile(test_it="def test_a(enclave): ...\ndef test_b(enclave): ...")
    result = run("test_it.py", "-s")
    name = pytester.path.name.replace("_", "-")[:30].strip("-")
    assert result.outlines[-7:] == [
        "before ['print'] 0",
        "print executed",
        "ready 1 0",
        "before ['print'] 0",
        "print skipped",
        "ready 0 1",
        f"teardown {name}",
    ]


def test_an_error_before_execution_stops_the_run_and_is_the_report(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(
        """
        def pytest_enclave_before_execute(plan):
            if len(plan.instructions) < 2:
                raise ValueError("the policy asks for more")

        def pytest_enclave_instruction():
            raise AssertionError("nothing may run")
        """
    )
    pytester.makepyfile(test_it=TEST)
    result = run("test_it.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_it*",
            '>*raise ValueError("the policy asks for more")',
            "E *ValueError: the policy asks for more",
            "conftest.py:*: ValueError",
        ]
    )


def test_an_error_of_ours_before_execution_is_explained(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(
        """
        from pytest_enclave.errors import PackageError

        def pytest_enclave_before_execute(enclave, plan):
            raise PackageError("the policy asks for more", remedy="ask for less")
        """
    )
    pytester.makepyfile(test_it=TEST)
    result = run("test_it.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["error?E1*?: the policy asks for more", "*= help: ask for less"])


def test_failing_tests_show_further_sections(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package("good")
    package("bad", 'fail("no")')
    pytester.makeconftest(
        """
        def pytest_enclave_failure_sections(enclave, error):
            return [("my section", f"of {type(enclave).__name__} after {type(error).__name__}")]
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave("good")
        def test_own_failure(enclave): assert 0

        @pytest.mark.enclave("bad")
        def test_failure(enclave): ...

        @pytest.mark.enclave("good")
        def test_success(enclave): ...

        def test_without_enclave(): assert 0
        """
    )
    result = run()
    result.assert_outcomes(failed=3, passed=1)
    assert [line for line in result.outlines if line.startswith("of ")] == [
        "of Enclave after NoneType",
        "of Enclave after ScriptFailed",
    ]
    assert sum("my section" in line for line in result.outlines) == 2


def test_a_teardown_hook_that_raises_is_told_and_fails_the_session(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(
        """
        def pytest_enclave_teardown(enclave):
            raise OSError("no dump")
        """
    )
    pytester.makepyfile(test_it=TEST)
    result = run("test_it.py")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*enclave: teardown failed*", "pytest_enclave_teardown for *: OSError: no dump"])


def test_leaks_are_told_in_a_section_of_their_own(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(
        """
        from pytest_enclave.engine.protocol import Leak
        from pytest_enclave.engine.simulated import Script, SimulatedEngine

        def pytest_enclave_engine():
            return SimulatedEngine(Script().leaves(Leak("network", "net-1", "has endpoints", "remove net-1")))
        """
    )
    pytester.makepyfile(test_it=TEST)
    result = run("test_it.py")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*= enclave: 1 leaked resource =*", "network  net-1  has endpoints", "remove with:  remove net-1"]
    )


def test_an_enclave_that_cannot_be_removed_for_an_unknown_reason_is_told_and_fails_the_session(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makepyfile(
        test_it="""
        def test_it(enclave):
            def close():
                raise OSError("no such device")
            enclave.close = close
        """
    )
    result = run("test_it.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*enclave: teardown failed*", "removing *: OSError: no such device"])
