"""What is known of a session's tests: engines get ready for more enclaves, workers learn what belongs together."""

from __future__ import annotations

import json
from collections.abc import Callable

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


@pytest.fixture
def groups(pytester: pytest.Pytester, run: RunPytest) -> Callable[..., list[tuple[str, str]]]:
    """The group of each test as workers are told: its kind, and a letter for what it has in common with others."""
    pytester.makeconftest(
        """
        import json, pathlib
        from pytest_enclave.face.session import SESSION
        from pytest_enclave.face.upcoming import groups_of

        def pytest_collection_finish(session):
            told = groups_of(session.items, session.config.stash[SESSION].settings)
            pathlib.Path("groups").write_text(json.dumps(told))
        """
    )

    def groups(*arguments: str) -> list[tuple[str, str]]:
        run("--collect-only", *arguments)
        told = json.loads((pytester.path / "groups").read_text())
        letters = {
            key: letter for letter, key in zip("abcdef", dict.fromkeys(key for _, key in told if key), strict=False)
        }
        return [(kind, letters.get(key, "")) for kind, key in told]

    return groups


GROUPS = """
import pytest

def test_free(): ...

def test_shared(enclave): ...

@pytest.mark.enclave(args={"n": 1})
def test_with_other_arguments(enclave): ...

@pytest.mark.enclave(args='n: 0')
def test_with_args(enclave): ...

@pytest.mark.enclave(isolate="fork")
def test_fork(enclave): ...

@pytest.mark.enclave(isolate=True)
def test_alone(enclave): ...

@pytest.mark.enclave(share="name")
def test_named(enclave): ...

@pytest.mark.enclave(share="growing")
@pytest.mark.parametrize("n", [pytest.param(n, marks=pytest.mark.enclave(args={"n": n})) for n in (1, 2)])
def test_growing(enclave, n): ...

@pytest.mark.enclave(isolate="module")
def test_module(enclave): ...

@pytest.mark.enclave("/no/such/package\\0")
def test_wrong(enclave): ...
"""


def test_workers_are_told_which_tests_are_of_one_enclave(
    pytester: pytest.Pytester, package: WritePackage, groups: Callable[..., list[tuple[str, str]]]
) -> None:
    package(".", SERVICES, parameters="n = 0")
    pytester.makepyfile(GROUPS)
    assert groups() == [
        ("free", ""),
        ("shared", "a"),
        ("shared", "b"),
        ("shared", "c"),
        ("shared", "a"),
        ("apart", ""),
        ("shared", "d"),
        ("together", "e"),
        ("together", "e"),
        ("together", "f"),
        ("free", ""),
    ]


def test_tests_with_faults_in_a_shared_enclave_stay_with_one_worker(
    pytester: pytest.Pytester, package: WritePackage, groups: Callable[..., list[tuple[str, str]]]
) -> None:
    package()
    pytester.makepyfile(
        """
        import pytest

        FAULTS = pytest.mark.enclave_faults("kill:db", "pause:db")

        @FAULTS
        def test_shared(enclave): ...

        @FAULTS
        @pytest.mark.enclave(isolate=True)
        def test_alone(enclave): ...

        @FAULTS
        @pytest.mark.enclave(isolate="fork")
        def test_fork(enclave): ...

        @FAULTS
        @pytest.mark.enclave(isolate="module")
        def test_module(enclave): ...
        """
    )
    shared, faulty = ("shared", "a"), ("together", "b")
    assert groups() == [shared, faulty, faulty, *[("apart", "")] * 3, *[shared] * 3, *[("together", "c")] * 3]


def test_workers_are_told_that_nothing_is_shared_without_cache(
    pytester: pytest.Pytester, package: WritePackage, groups: Callable[..., list[tuple[str, str]]]
) -> None:
    package(".", SERVICES, parameters="n = 0")
    pytester.makepyfile(GROUPS)
    told = groups("--enclave-no-cache")
    assert told == [("free", ""), *[("apart", "")] * 9, ("free", "")]


def test_workers_are_told_nothing_where_no_test_needs_an_enclave(
    pytester: pytest.Pytester, groups: Callable[..., list[tuple[str, str]]]
) -> None:
    pytester.makepyfile("def test_free(): ...")
    assert groups() == []


def test_workers_are_told_of_unit_tests_in_starlark_where_these_have_services(
    pytester: pytest.Pytester, package: WritePackage, groups: Callable[..., list[tuple[str, str]]]
) -> None:
    package()
    (pytester.path / "it_test.star").write_text("def test_it(plan):\n    pass\n")
    assert groups() == []
    assert groups("--enclave-star-tests=engine") == [("apart", "")]


def test_a_package_that_is_named_is_of_the_group_of_its_tests(
    pytester: pytest.Pytester, package: WritePackage, groups: Callable[..., list[tuple[str, str]]]
) -> None:
    package("shop")
    pytester.makepyfile(**{"shop/test_it": "def test_it(enclave): ..."})
    assert groups("shop") == [("shared", "a"), ("shared", "a")]
