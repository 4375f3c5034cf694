"""Faults in a pytest session: the marker, how they end, what reports say of them, and the seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

WritePackage = Callable[..., Path]
RunPytest = Callable[..., pytest.RunResult]

SERVICES = """
for name in ["db", "api", "worker"]:
    plan.add_service(name, ServiceConfig(image = "i"))
"""


@pytest.fixture
def shop(package: WritePackage) -> Path:
    """A package with three services, where pytest runs."""
    return package(body=SERVICES)


def ids(result: pytest.RunResult) -> list[str]:
    """The ids of the tests that ran, with `-v`, in order."""
    return re.findall(r"^test_\w+\.py::(\S+\]?) (?:PASSED|FAILED|ERROR)", result.stdout.str(), re.M)


# the marker


def test_a_marked_test_runs_once_without_a_fault_and_once_with_each(
    shop: Path, run: RunPytest, pytester: pytest.Pytester
):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("kill:db", "partition:api|db,worker", "delay:api>db:200ms")
        def test_it(enclave, enclave_fault):
            print("with", enclave_fault, [str(live.fault) for live in enclave.faults])
        """
    )
    result = run("-v", "-rA")
    result.assert_outcomes(passed=4)
    told = [line for line in result.outlines if line.startswith("with ")]
    assert told == [
        "with  []",
        "with kill:db ['kill:db']",
        "with partition:api|db,worker ['partition:api|db,worker']",
        "with delay:api>db:200ms ['delay:api>db:200ms']",
    ]
    assert ids(result) == [
        "test_it[no-fault]",
        "test_it[kill:db]",
        "test_it[partition:api|db,worker]",
        "test_it[delay:api>db:200ms]",
    ]


def test_the_fault_is_there_after_the_setup_and_until_the_body_ends(
    shop: Path, run: RunPytest, pytester: pytest.Pytester
):
    pytester.makepyfile(
        """
        import pytest

        def state(enclave):
            return enclave._state.site.observe()["db"].status.value, len(enclave._state.site.shaped())

        @pytest.fixture
        def around(enclave):
            assert state(enclave) == ("running", 0)
            yield
            assert state(enclave) == ("running", 0)

        @pytest.mark.enclave_faults("pause:db", "block:api|db")
        def test_it(enclave, around, enclave_fault):
            assert state(enclave) == {
                "": ("running", 0), "pause:db": ("paused", 0), "block:api|db": ("running", 2)
            }[enclave_fault]
        """
    )
    run().assert_outcomes(passed=3)


def test_a_test_need_not_ask_which_fault_it_is_with(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("kill:db")
        class TestIt:
            @pytest.mark.enclave_faults("kill:api", "kill:db")
            @pytest.mark.parametrize("number", [1, 2])
            def test_it(self, enclave, number):
                pass
        """
    )
    result = run("-v")
    assert ids(result) == [
        f"TestIt::test_it[{n}-{fault}]" for n in (1, 2) for fault in ("no-fault", "kill:db", "kill:api")
    ]


def test_one_of_them_is_chosen_by_its_name(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("kill:db", "partition:api|db")
        def test_it(enclave):
            pass
        """
    )
    assert ids(run("-v", "test_one_of_them_is_chosen_by_its_name.py::test_it[partition:api|db]")) == [
        "test_it[partition:api|db]"
    ]


@pytest.mark.parametrize("how", ['share="one"', "isolate=True", 'isolate="module"', 'isolate="fork"'])
def test_it_goes_with_every_way_to_share_and_isolate(shop: Path, run: RunPytest, pytester: pytest.Pytester, how: str):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.enclave({how})
        @pytest.mark.enclave_faults("kill:db", "loss:api|db:30%")
        def test_it(enclave, enclave_fault):
            assert [str(live.fault) for live in enclave.faults] == ([enclave_fault] if enclave_fault else [])
        """
    )
    run().assert_outcomes(passed=3)


def test_every_wrong_text_is_told_with_its_place_when_tests_are_collected(
    shop: Path, run: RunPytest, pytester: pytest.Pytester
):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("kil:db", "delay:api|db:200", "kill:db")
        def test_it(enclave):
            pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "test_every_*.py:3: @pytest.mark.enclave_faults on test_it",
            "    kil:db",
            "    ^ there is no fault `kil`",
            "    help: did you mean `kill`?",
            "    delay:api|db:200",
            "                 ^ a delay ends with a time, as `200ms` or `0.2s+-20ms`",
            "    help: write it as `delay:api|db:200ms`",
        ],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("()", "    it names no fault"),
        ("(3)", "    3 is not a text"),
        ('(fault="kill:db")', "    it takes no argument 'fault'"),
    ],
)
def test_a_marker_without_texts_is_told(shop: Path, run: RunPytest, pytester: pytest.Pytester, marker: str, told: str):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.enclave_faults{marker}
        def test_it(enclave):
            pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told, '    help: it takes texts, as "kill:db"'], consecutive=True)


def test_a_test_without_an_enclave_has_no_faults(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("kill:db")
        def test_it():
            pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["    the test does not ask for an enclave", "    help: write def test_it(enclave)"])


def test_a_marker_of_a_module_is_for_those_of_its_tests_that_have_an_enclave(
    shop: Path, run: RunPytest, pytester: pytest.Pytester
):
    pytester.makepyfile(
        """
        import unittest

        import pytest

        pytestmark = pytest.mark.enclave_faults("kill:db")

        def test_it(enclave): ...
        def test_other(): ...
        class TestUnit(unittest.TestCase):
            def test_it(self): ...
        """
    )
    result = run("-v")
    assert ids(result) == ["test_it[no-fault]", "test_it[kill:db]", "test_other", "TestUnit::test_it"]


def test_so_is_a_marker_of_a_class(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("kill:db")
        class TestIt:
            def test_it(self, enclave): ...
            def test_other(self): ...
        """
    )
    assert ids(run("-v")) == ["TestIt::test_it[no-fault]", "TestIt::test_it[kill:db]", "TestIt::test_other"]


def test_the_seed_is_told_of_enclaves_of_the_test_only(package, run: RunPytest, pytester: pytest.Pytester):
    package(body=SERVICES + "plan.set_connection(config = ConnectionConfig(packet_loss_percentage = 5))\n")
    pytester.makepyfile(
        """
        def test_one(enclave_factory):
            enclave_factory(".")

        def test_two(enclave_factory):
            assert False
        """
    )
    result = run("-p", "no:randomly")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*repeat with --enclave-seed*")


def test_a_marker_that_is_added_too_late_is_told(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.enclave_faults("kill:db"))
        """
    )
    pytester.makepyfile("def test_it(enclave): ...")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: enclave_faults is for test functions, *"])


def test_what_pytest_cannot_run_several_times_is_told(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import unittest

        import pytest

        @pytest.mark.enclave_faults("kill:db")
        class TestIt(unittest.TestCase):
            def test_it(self):
                pass
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *TestIt::test_it: enclave_faults is for test functions, which pytest can run several times"]
    )


def test_a_service_that_the_enclave_does_not_have_is_told_when_that_is_known(
    shop: Path, run: RunPytest, pytester: pytest.Pytester
):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("block:api|dp")
        def test_it(enclave):
            pass
        """
    )
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            'error[[]E306[]]: enclave_faults("block:api|dp"): the enclave has no service `dp`: it has `db`, `api`, *',
            "  --> test_a_service_*.py:3",
            "*= help: name services of the test's package, which run when the test begins",
        ]
    )


# how faults end


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "assert False",
        "raise KeyboardInterrupt",
        "pytest.skip('enough')",
        "pytest.exit('enough')",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import time; time.sleep(30)",
    ],
)
def test_however_a_test_ends_its_faults_do_so_before_anybody_else_gets_the_enclave(
    shop: Path, pytester: pytest.Pytester, end: str
):
    pytester.makeconftest(
        """
        def pytest_enclave_teardown(enclave):
            site = enclave._state.site
            print("\\nat the end", site.shaped(), sorted({fact.status.value for fact in site.observe().values()}))
        """
    )
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.timeout(5, method="signal")
        def test_it(enclave):
            enclave.network.partition("db", {{"api", "worker"}})
            enclave.services["db"].paused()
            enclave.services["api"].killed()
            {end}
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-engine=simulated", "-s")
    result.stdout.fnmatch_lines(["at the end {} ['running']"])


def test_the_next_test_finds_an_enclave_without_faults(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def test_one(enclave):
            enclave.network.block("db", "api")
            enclave.services["db"].stopped()
            assert False

        def test_two(enclave):
            assert enclave.faults == ()
            assert enclave._state.site.shaped() == {}
            assert {str(step.outcome) for step in enclave.last_run.instructions} == {"skipped"}
        """
    )
    run().assert_outcomes(passed=1, failed=1)


def test_a_rerun_begins_without_the_faults_of_the_first_attempt(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        attempts = []

        def test_it(enclave):
            assert enclave.faults == ()
            assert enclave._state.site.shaped() == {}
            enclave.network.block("db", "api")
            attempts.append(1)
            assert len(attempts) == 2
        """
    )
    result = run("--reruns=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["* 1 passed, 1 rerun in *"])


def test_faults_that_cannot_be_healed_are_told_at_the_end(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        from pytest_enclave import EngineError

        def test_it(enclave, monkeypatch):
            enclave.network.block("db", "api")
            site = enclave._state.site

            def shape(connections, seed):
                raise EngineError("no answer")

            site.shape = shape
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*enclave: teardown failed*", "healing the faults of a test in *: no answer"])


# what reports say


def test_a_failing_test_tells_its_faults_and_the_seed(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave_faults("delay:api|db:200ms")
        def test_it(enclave):
            with enclave.network.block("db", "worker"):
                enclave._state.site.pause(1.5)
            assert False
        """
    )
    result = run("-k", "delay", "--enclave-seed=1234")
    result.stdout.fnmatch_lines(
        [
            "*- enclave *faults -*",
            "delay:api|db:200ms  in effect when the test failed",
            "block:db|worker  in effect for 1.50 s, and healed",
            "seed 1234: repeat with --enclave-seed=1234",
        ]
    )
    result.stdout.fnmatch_lines(["FAILED test_*.py::test_it[[]delay:api|db:200ms[]] - *"])


def test_a_fault_that_has_not_ended_was_in_effect_then(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def test_it(enclave):
            enclave.network.block("db", "worker")
            assert False
        """
    )
    run().stdout.fnmatch_lines(["block:db|worker  in effect when the test failed"])


def test_the_seed_is_told_where_the_package_has_connections(
    package: WritePackage, run: RunPytest, pytester: pytest.Pytester
):
    package(
        body="""
        plan.set_connection(config = ConnectionConfig(packet_loss_percentage = 5))
        plan.add_service("a", ServiceConfig(image = "i", subnetwork = "one"))
        plan.add_service("b", ServiceConfig(image = "i", subnetwork = "two"))
        """
    )
    pytester.makepyfile("def test_it(enclave): assert False")
    result = run("--enclave-seed=7")
    result.stdout.fnmatch_lines(["*- enclave *connections -*", "seed 7: repeat with --enclave-seed=7"])


def test_other_tests_tell_of_neither(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def test_before(enclave):
            with enclave.network.block("db", "worker"):
                pass

        def test_it(enclave):
            assert False
        """
    )
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*seed*")
    result.stdout.no_fnmatch_line("*block*")


def test_a_wrong_name_in_a_test_is_shown_at_its_own_line(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def test_it(enclave):
            with enclave.network.block("db", "wroker"):
                pass
        """
    )
    result = run()
    result.stdout.fnmatch_lines(
        [
            '>       with enclave.network.block("db", "wroker"):',
            "E       *UnknownService: the enclave has no service `wroker`: it has `db`, `api`, `worker`",
            "test_a_wrong_name*.py:2: UnknownService",
        ]
    )


# the seed


SHOWS_SEED = """
    def test_it(enclave):
        with enclave.network.loss("db", "api", percent=30):
            print("seed", enclave._state.site.asked("shape")[-1]["seed"])
"""


def test_the_seed_of_the_option_is_what_the_engine_is_told(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(SHOWS_SEED)
    run("-s", "--enclave-seed=42").stdout.fnmatch_lines(["*seed 42"])
    pytester.makeini("[pytest]\nenclave_seed = 43")
    run("-s").stdout.fnmatch_lines(["*seed 43"])


def test_without_one_it_is_another_each_time(shop: Path, run: RunPytest, pytester: pytest.Pytester):
    pytester.makepyfile(SHOWS_SEED)
    seeds = {re.search(r"seed (\d+)", run("-s").stdout.str())[1] for _ in range(3)}  # type: ignore[index]
    assert len(seeds) > 1


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "²"])
def test_a_seed_is_a_whole_number(shop: Path, run: RunPytest, value: str):
    result = run(f"--enclave-seed={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --enclave-seed takes a whole number of at least 0, not {value!r}"])


def test_workers_have_the_seed_of_their_controller(shop: Path, pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(enclave, number):
            with enclave.network.loss("db", "api", percent=30):
                assert False
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-engine=simulated", "-n2")
    result.assert_outcomes(failed=4)
    seeds = re.findall(r"^seed (\d+): repeat with --enclave-seed=\1$", result.stdout.str(), re.M)
    assert (len(seeds), len(set(seeds))) == (4, 1)
