"""What services wrote since a test began is shown where it failed."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

SCRIPTED = """
    from pytest_enclave.engine.protocol import ExecResult
    from pytest_enclave.engine.simulated import Script, SimulatedEngine

    def pytest_enclave_engine(config):
        return SimulatedEngine(
            Script()
            .service("db", logs=[(0.0, "db says hunter2222"), (5.0, "late")])
            .service("api", logs=[(0.0, f"line {n:02}") for n in range(100)])
            .service("silent")
            .on_exec("db", ["false"], ExecResult(1, ""))
            .on_exec("db", ["sleep"], ExecResult(0, ""), takes=9.0)
        )
"""
SERVICES = """
plan.add_service("api", ServiceConfig(image = "api:1"))
plan.add_service("db", ServiceConfig(image = "db:1", env_vars = {"DB_PASSWORD": "hunter2222"}))
plan.add_service("silent", ServiceConfig(image = "silent:1"))
"""


def sections(result: pytest.RunResult) -> list[str]:
    """The services whose logs are shown, in order."""
    return [line.split(" · ")[1].split()[0] for line in result.outlines if " · " in line and line.startswith("---")]


def test_a_failing_test_shows_the_last_lines_of_each_service_without_secrets(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("shop", SERVICES)
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(**{"shop/test_it": "def test_it(enclave): assert 0"})
    result = run("shop/test_it.py")
    assert sections(result) == ["api", "db"]
    assert "… 40 earlier lines" in result.outlines
    assert "line 40" in result.outlines
    assert "line 39" not in result.outlines
    assert "db says ••••" in result.outlines
    assert "hunter2222" not in result.stdout.str()


def test_the_service_involved_comes_first(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package("shop", f'{SERVICES}plan.exec(service_name = "db", recipe = ExecRecipe(command = ["false"]))')
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(**{"shop/test_it": "def test_it(enclave): ..."})
    result = run("shop/test_it.py")
    assert sections(result) == ["db", "api"]
    assert "… 85 earlier lines" in result.outlines


def test_only_failing_tests_that_used_the_enclave_show_them(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("shop", SERVICES)
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import pytest

            def test_passing(enclave): ...
            def test_without(): assert 0

            @pytest.mark.enclave(isolate=True)
            def test_it(enclave): assert 0
            """
        }
    )
    assert sections(run("shop/test_it.py")) == ["api", "db"]


def test_an_enclave_of_a_wider_fixture_counts_as_used(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("shop", SERVICES)
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import pytest

            @pytest.fixture(scope="module")
            def shop(enclave_factory):
                return enclave_factory(".")

            def test_passing(shop): ...

            def test_failing(shop):
                shop.services["db"].exec(["sleep"])  # takes nine seconds
                assert 0
            """
        }
    )
    assert sections(run("shop/test_it.py")) == ["db"]


@pytest.mark.parametrize(("show", "shown"), [("no", []), ("log", ["api", "db"]), ("stdout", [])])
def test_show_capture_holds_for_them(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, show: str, shown: list[str]
) -> None:
    package("shop", SERVICES)
    pytester.makeconftest(SCRIPTED)
    pytester.makepyfile(**{"shop/test_it": "def test_it(enclave): assert 0"})
    assert sections(run("shop/test_it.py", f"--show-capture={show}")) == shown


def test_lines_from_before_the_test_are_not_shown(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("shop", SERVICES)
    pytester.makeconftest(SCRIPTED.replace("db says hunter2222", "early"))
    pytester.makepyfile(
        **{
            "shop/test_it": """
            def test_early(enclave): assert 0

            def test_late(enclave):
                enclave.services["db"].exec(["sleep"])  # takes nine seconds
                assert 0
            """
        }
    )
    result = run("shop/test_it.py")
    assert sections(result) == ["api", "db", "db"]
    assert [line for line in result.outlines if line in ("early", "late")] == ["early", "late"]
