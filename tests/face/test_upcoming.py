"""When an engine is told to get ready for more enclaves of the same kind."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

SERVICES = 'plan.add_service("db", ServiceConfig("image"))'


@pytest.fixture
def prepared(pytester: pytest.Pytester) -> str:
    """An engine that writes down what it is told to expect; how tests get at that."""
    pytester.makeconftest(
        """
        from pytest_enclave.engine.simulated.engine import SimulatedEngine

        told = []

        class Engine(SimulatedEngine):
            def prepare(self, services):
                told.append(tuple(services))

        def pytest_enclave_engine(config):
            return Engine()
        """
    )
    return "from conftest import told\nimport pytest\n"


def test_isolated_tests_are_prepared_for_while_at_least_three_are_to_come(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, prepared: str
) -> None:
    package(".", SERVICES, parameters="n = 0")
    pytester.makepyfile(
        prepared
        + """
@pytest.mark.enclave(isolate=True)
def test_a(enclave):
    assert told == [("db",)]

@pytest.mark.enclave(args={"n": 1}, isolate=True)
def test_others_do_not_count(enclave):
    assert len(told) == 1

def test_shared_ones_do_not_count(enclave): ...

def test_without_any(): ...

@pytest.mark.enclave(isolate=True)
def test_b(enclave):
    assert len(told) == 1

@pytest.mark.enclave(isolate=True)
def test_c(enclave):
    assert len(told) == 1

@pytest.mark.enclave(isolate=True)
def test_d(enclave): ...
"""
    )
    run().assert_outcomes(passed=7)


def test_without_cache_all_tests_of_a_package_are_prepared_for(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, prepared: str
) -> None:
    package(".", SERVICES)
    pytester.makepyfile(
        prepared
        + """
@pytest.mark.parametrize("count", [1, 2, 2, 2, 2])
def test_a(enclave, count):
    assert told == [("db",)] * count
"""
    )
    run("--enclave-no-cache").assert_outcomes(passed=5)
    run().assert_outcomes(failed=5)


def test_tests_that_will_be_wrong_do_not_count(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, prepared: str
) -> None:
    package(".", SERVICES)
    pytester.makepyfile(
        prepared
        + """
@pytest.mark.enclave(isolate=True)
def test_a(enclave):
    assert told == []

@pytest.mark.enclave("/no/such/package", isolate=True)
def test_b(enclave): ...
"""
    )
    run().assert_outcomes(passed=1, errors=1)
