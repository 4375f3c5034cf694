"""Who shares which enclave, and that nothing runs twice in one."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

TWO_STEPS = """
    plan.add_service(name = "db", config = ServiceConfig(image = "db:1"))
    plan.print("n is {}".format(n))
"""
API = 'plan.add_service(name = "api", config = ServiceConfig(image = "api:1"))'


def test_the_second_test_of_a_package_executes_nothing(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", TWO_STEPS, parameters="n = 0")
    pytester.makepyfile(
        """
        def outcomes(enclave):
            return [(step.name, str(step.outcome)) for step in enclave.last_run.instructions]

        def test_first(enclave):
            assert outcomes(enclave) == [("add_service", "executed"), ("print", "executed")]

        def test_second(enclave):
            assert outcomes(enclave) == [("add_service", "skipped"), ("print", "skipped")]
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    assert "enclave: 4 instructions, 2 executed, 2 reused" in result.outlines


def test_other_arguments_mean_another_enclave(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", TWO_STEPS, parameters="n = 0")
    pytester.makepyfile(
        """
        import pytest

        names = {}

        @pytest.mark.enclave(args={"n": 0})
        def test_zero(enclave): names["zero"] = enclave.name

        @pytest.mark.enclave(args='{"n": 0}')
        def test_zero_in_other_words(enclave): assert names["zero"] == enclave.name

        @pytest.mark.enclave(args={"n": 1})
        def test_one(enclave): assert names["zero"] != enclave.name

        def test_none(enclave): assert names["zero"] != enclave.name
        """
    )
    run().assert_outcomes(passed=4)


def test_a_named_enclave_grows_with_every_package_that_is_run_in_it(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("db", TWO_STEPS, parameters="n = 0")
    package("db_and_api", f"{TWO_STEPS}    {API}", parameters="n = 0")
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.enclave(share="orders")

        @pytest.mark.enclave("db")
        def test_small(enclave):
            assert enclave.name.startswith("orders-")
            assert set(enclave.services) == {"db"}

        @pytest.mark.enclave("db_and_api")
        def test_grown(enclave):
            assert set(enclave.services) == {"db", "api"}
            assert [str(step.outcome) for step in enclave.last_run.instructions] == ["skipped", "skipped", "executed"]
        """
    )
    run().assert_outcomes(passed=2)


def test_isolated_tests_get_enclaves_of_their_own_that_go_with_them(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", TWO_STEPS, parameters="n = 0")
    pytester.makeconftest(
        """
        names = []

        def pytest_enclave_teardown(enclave):
            names.append(enclave.name)
        """
    )
    pytester.makepyfile(
        """
        import time
        import pytest
        from conftest import names

        made = []

        @pytest.mark.parametrize("n", [1, 2])
        @pytest.mark.enclave(isolate=True)
        def test_alone(enclave, n):
            assert enclave.last_run.executed == 2
            made.append(enclave.name)

        def test_they_are_gone(enclave):
            assert enclave.last_run.executed == 2
            deadline = time.monotonic() + 10
            while len(names) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert sorted(names) == sorted(made)
        """
    )
    run().assert_outcomes(passed=3)


def test_an_isolated_enclave_whose_run_fails_goes_with_its_test_too(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'fail("no")')
    pytester.makeconftest(
        """
        gone = []

        def pytest_enclave_teardown(enclave):
            gone.append(enclave.name)
        """
    )
    pytester.makepyfile(
        """
        import time
        import pytest
        from conftest import gone

        @pytest.mark.enclave(isolate=True)
        def test_alone(enclave): ...

        def test_it_is_gone():
            deadline = time.monotonic() + 10
            while not gone and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(gone) == 1
        """
    )
    run().assert_outcomes(failed=1, passed=1)


def test_without_cache_every_test_starts_from_nothing(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", TWO_STEPS, parameters="n = 0")
    pytester.makepyfile("def test_a(enclave): ...\ndef test_b(enclave): ...")
    result = run("--enclave-no-cache")
    assert "enclave: 4 instructions, 4 executed, 0 reused" in result.outlines


def test_the_factory_makes_enclaves_of_packages_beside_the_test(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("below/shop", TWO_STEPS, parameters="n = 0")
    pytester.makepyfile(
        **{
            "below/test_it": """
            def test_by_path(enclave_factory):
                assert set(enclave_factory("shop", {"n": 1}).services) == {"db"}

            def test_shared_with_the_first(enclave_factory):
                assert enclave_factory("shop", {"n": 1}).last_run.executed == 0

            def test_not_shared(enclave_factory):
                assert enclave_factory("shop", {"n": 1}, isolate=True).last_run.executed == 2

            def test_shared_by_name(enclave_factory):
                one = enclave_factory("shop", share="mine")
                assert enclave_factory("shop", {"n": 5}, share="mine") is one
                assert enclave_factory("shop") is not one
            """
        }
    )
    run().assert_outcomes(passed=4)


def test_the_factory_takes_text_and_a_script_of_the_simulated_engine(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        from pytest_enclave.engine.protocol import ExecResult
        from pytest_enclave.engine.simulated import Script
        from pytest_enclave.package.package import Source

        PACKAGE = Source('''
        def run(plan):
            plan.add_service(name = "db", config = ServiceConfig(image = "db:1"))
            return plan.exec(service_name = "db", recipe = ExecRecipe(command = ["whoami"]))["output"]
        '''.replace("\\n" + 8 * " ", "\\n"))

        def test_scripted(enclave_factory):
            script = Script().on_exec("db", ["whoami"], ExecResult(0, "nobody"))
            assert enclave_factory(PACKAGE, simulate=script).output == "nobody"
        """
    )
    run().assert_outcomes(passed=1)


def test_a_test_runs_more_in_its_enclave_and_its_report_tells_so(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", TWO_STEPS, parameters="n = 0")
    pytester.makepyfile(
        """
        def test_it(enclave):
            again = enclave.run(args={"n": 2})
            assert [str(step.outcome) for step in again.instructions] == ["updated", "executed"]
            assert enclave.last_run is again
        """
    )
    result = run("-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*Captured enclave setup*", "*n is 0", "*Captured enclave call*", "*n is 2"])


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ("None", "TypeError", "enclave_factory(package=None): package must be a path or a Source"),
        ("3", "TypeError", "enclave_factory(package=3): package must be a path or a Source"),
        ("''", "ValueError", "enclave_factory(package=''): package must be a path or a Source"),
        ("'.', [1]", "TypeError", "enclave_factory(args=[1]): args must be a dict, or JSON or YAML text"),
        ("'.', main=3", "TypeError", "enclave_factory(main=3): main must be the name of a function"),
        ("'.', share=3", "TypeError", "enclave_factory(share=3): share must be a name"),
        ("'.', share=''", "ValueError", "enclave_factory(share=''): share must be a name"),
        ("'.', isolate=1", "TypeError", 'enclave_factory(isolate=1): isolate must be True, False or "fork"'),
        (
            "'.', isolate='knife'",
            "TypeError",
            "enclave_factory(isolate='knife'): isolate must be True, False or \"fork\"",
        ),
        ("'.', isolate=''", "ValueError", "enclave_factory(isolate=''): isolate must be True, False or \"fork\""),
        ("'.', simulate=3", "TypeError", "enclave_factory(simulate=3): simulate must be a Script"),
        (
            "'.', share='a', isolate=True",
            "ValueError",
            "enclave_factory(share='a', isolate=True): an enclave cannot be both shared and isolated",
        ),
    ],
)
def test_the_factory_refuses_what_the_marker_refuses(
    pytester: pytest.Pytester, run: RunPytest, arguments: str, kind: str, text: str
) -> None:
    pytester.makepyfile(f"def test_it(enclave_factory):\n    enclave_factory({arguments})")
    result = run()
    result.assert_outcomes(failed=1)
    assert f"E       {kind}: {text}" in result.outlines


def test_paths_in_python_are_relative_to_the_file_of_the_running_test(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    for directory, size in (("one", 1), ("two", 2)):
        package(f"{directory}/shop", f'return "{directory} {{}}".format(size)', parameters="size = 0")
        (pytester.path / directory / "args.yml").write_text(f"size: {size}")
        pytester.makepyfile(
            **{
                f"{directory}/test_{directory}": f"""
                def test_factory(enclave_factory):
                    assert enclave_factory("shop", "@args.yml").output == "{directory} {size}"

                def test_fixture_of_a_conftest(make):
                    assert make("shop", "@args.yml").output == "{directory} {size}"

                def test_run(enclave):
                    assert enclave.run("shop", "@args.yml").output == "{directory} {size}"
                """
            }
        )
    package("common")
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def make(enclave_factory):
            return lambda *arguments: enclave_factory(*arguments)
        """
    )
    run("--enclave-package=common").assert_outcomes(passed=6)
