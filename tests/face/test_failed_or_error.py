"""Which failures are FAILED and which are ERROR, and how often each is told."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

SCRIPTED = """
    from pytest_enclave.engine.protocol import ExecResult, HttpResponse
    from pytest_enclave.engine.simulated import Script, SimulatedEngine

    def pytest_enclave_engine(config):
        return SimulatedEngine(
            Script()
            .image("missing:1", missing="manifest unknown")
            .on_exec("db", ["false"], ExecResult(1, "no\\n"))
            .on_exec("*", lambda command: "exit 3" in " ".join(command), ExecResult(3, "sad"))
            .on_request("db", "/", HttpResponse(500, {}, b"oops"))
            .service("exits", exits_after=0.1, opens_after={"a": 1.0})
            .service("deaf", opens_after={"http": None})
        )
"""

DB = """plan.add_service(
    name = "db", config = ServiceConfig(image = "db:1", ports = {"http": PortSpec(number = 80)}),
)
"""
GET = 'GetHttpRequestRecipe(port_id = "http", endpoint = "/")'
FALSE = 'ExecRecipe(command = ["false"])'

ASSERTIONS = {
    "verify": 'plan.verify(value = "a", assertion = "==", target_value = "b")',
    "wait": f'{DB}plan.wait("db", {GET}, "code", "==", 200, interval = "1s", timeout = "5s")',
    "ready": f"""plan.add_service(
        name = "db", config = ServiceConfig(image = "db:1", ready_conditions = ReadyCondition(
            recipe = {FALSE}, field = "code", assertion = "==", target_value = 0, timeout = "5s",
        )),
    )""",
    "exec": f'{DB}plan.exec(service_name = "db", recipe = {FALSE})',
    "request": f'{DB}plan.request(service_name = "db", recipe = {GET}, acceptable_codes = [200])',
    "run_sh": 'plan.run_sh(run = "exit 3")',
    "fail": 'fail("no luck")',
}

BROKEN = {
    "syntax": "plan.print(",
    "name": "plan.print(undefined)",
    "plan": 'plan.exec(service_name = "nobody", recipe = ExecRecipe(command = ["a"]))',
    "image": 'plan.add_service(name = "db", config = ServiceConfig(image = "missing:1"))',
    "exits": 'plan.add_service("exits", ServiceConfig(image = "a:1", ports = {"a": PortSpec(number = 1)}))',
}

TWO_TESTS = "def test_first(enclave): ...\ndef test_second(enclave): ..."


@pytest.mark.parametrize("kind", ASSERTIONS)
def test_a_check_that_does_not_hold_is_a_failure_of_the_call_told_in_full_once(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, kind: str
) -> None:
    package(".", ASSERTIONS[kind])
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(test_it=TWO_TESTS)
    result = run("-rA")
    result.assert_outcomes(failed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told_in_full = [line for line in result.outlines if line.startswith("error[")]
    told_again = [line for line in result.outlines if line.startswith("the enclave is unavailable: ")]
    assert (len(told_in_full), len(told_again)) == (1, 1)
    assert told_again[0].endswith(" — reported at test_it.py::test_first")


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_built_is_an_error_told_in_full_once(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, kind: str
) -> None:
    package(".", BROKEN[kind])
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(test_it=TWO_TESTS)
    result = run()
    result.assert_outcomes(errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told_in_full = [line for line in result.outlines if line.startswith("error[")]
    told_again = [line for line in result.outlines if line.startswith("the enclave is unavailable: ")]
    assert (len(told_in_full), len(told_again)) == (1, 1)


def test_the_failed_run_is_not_repeated(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", 'plan.print("once")\nplan.verify(value = "a", assertion = "==", target_value = "b")')
    pytester.makepyfile(TWO_TESTS)
    result = run()
    assert "enclave: 2 instructions, 1 executed, 0 reused, 1 failed" in result.outlines


def test_no_python_of_ours_is_shown(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", ASSERTIONS["verify"])
    pytester.makepyfile(TWO_TESTS)
    assert "pytest_enclave/" not in run().stdout.str()


@pytest.mark.parametrize("tb", ["short", "line", "native", "no"])
def test_every_style_of_traceback_has_the_summary(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, tb: str
) -> None:
    package(".", ASSERTIONS["verify"])
    pytester.makepyfile(test_it="def test_it(enclave): ...")
    run(f"--tb={tb}").stdout.fnmatch_lines(["FAILED test_it.py::test_it - E301 verify failed: *"])


def test_a_failed_check_counts_as_the_assertion_an_xfail_expects(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", ASSERTIONS["verify"])
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.xfail(raises=AssertionError, strict=True)
        def test_expected(enclave): ...

        @pytest.mark.xfail(raises=KeyError, strict=True)
        def test_expected_otherwise(enclave): ...

        def test_not_expected(enclave): ...
        """
    )
    result = run("-rx")
    result.assert_outcomes(xfailed=1, failed=2)
    # What an expected failure met was not told, so the next one tells it.
    assert len([line for line in result.outlines if line.startswith("error[E301]")]) == 1
    result.stdout.fnmatch_lines(["the enclave is unavailable: * — reported at test_it.py::test_expected_otherwise"])


def test_errors_can_be_expected_in_the_body_of_a_test(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("good")
    package("bad", ASSERTIONS["verify"])
    pytester.makepyfile(
        """
        import pytest
        from pytest_enclave.errors import PackageError, VerifyFailed

        def test_run(enclave_factory):
            enclave = enclave_factory("good")
            with pytest.raises(VerifyFailed, match='"a" == "b" does not hold'):
                enclave.run("bad")
            assert enclave.last_run.error.value == "a"

        def test_factory(enclave_factory):
            with pytest.raises(AssertionError):
                enclave_factory("bad")

        def test_no_package(enclave_factory):
            with pytest.raises(PackageError, match="there is no package at"):
                enclave_factory("nowhere")
        """
    )
    run().assert_outcomes(passed=3)


def test_an_error_that_a_test_expected_is_told_in_full_where_nobody_does(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("bad", ASSERTIONS["verify"])
    pytester.makepyfile(
        """
        import pytest

        def test_expecting(enclave_factory):
            with pytest.raises(AssertionError):
                enclave_factory("bad")

        @pytest.mark.enclave("bad")
        def test_not_expecting(enclave): ...
        """
    )
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(['error?E301?: verify failed: "a" == "b" does not hold'])


def test_a_failure_in_the_body_is_explained_too(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("bad", ASSERTIONS["verify"])
    pytester.makepyfile("def test_it(enclave_factory): enclave_factory('bad')")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['error?E301?: verify failed: "a" == "b" does not hold'])


def test_a_run_that_takes_too_long_is_an_error(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", f'{DB}plan.wait("db", {GET}, "code", "==", 1, interval = "1s", timeout = "50s")\nplan.print("late")')
    pytester.makepyfile("def test_it(enclave): ...")
    result = run("--enclave-timeout=2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["error*the run took longer than 2 s*"])


def test_what_a_test_does_to_a_service_in_vain_is_told_at_its_own_line(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'plan.add_service(name = "db", config = ServiceConfig(image = "db:1"))')
    pytester.makepyfile(
        test_it="""
        def test_it(enclave):
            enclave.services["db"].stop()
            enclave.services["db"].exec(["pg_dump", "--all"], timeout=1)
        """
    )
    result = run("test_it.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       enclave.services["db"].exec(["pg_dump", "--all"], timeout=1)',
            "E       pytest_enclave.errors.RecipeFailed: `pg_dump --all` in service `db`: *",
            "test_it.py:3: RecipeFailed",
        ]
    )
