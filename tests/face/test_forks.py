"""`isolate="fork"`: a test's own copy of the shared enclave, in sessions of pytest."""

from __future__ import annotations

import re

import pytest

from tests.face.conftest import RunPytest, WritePackage

SHOP = """
    plan.add_service(name = "db", config = ServiceConfig(image = "db:1"))
    plan.print("n is {}".format(n))
    return n
"""
FORK = '@pytest.mark.enclave(isolate="fork")'


@pytest.fixture
def shop(pytester: pytest.Pytester, package: WritePackage) -> None:
    """A package for all tests."""
    package("shop", SHOP, parameters="n = 0")
    pytester.makeini("[pytest]\nenclave_package = shop")


@pytest.fixture
def sites(pytester: pytest.Pytester) -> str:
    """What tests begin with, so that they get at the engine's enclaves and at what it was asked."""
    pytester.makeconftest(
        """
        from pytest_enclave.engine.simulated import SimulatedEngine

        engine = SimulatedEngine()

        def pytest_enclave_engine(config):
            return engine

        def asked(enclave, method):
            return len(engine.sites[enclave.name].asked(method))
        """
    )
    return "import pytest\nfrom conftest import asked, engine\n"


@pytest.mark.usefixtures("shop")
def test_a_fork_is_the_tests_own_and_as_nobody_has_touched_it(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        def test_shared(enclave):
            enclave.services["db"].stop()
            assert "-fork-" not in enclave.name

        names = []

        @pytest.mark.parametrize("time", [1, 2])
        {FORK}
        def test_forked(enclave, time):
            assert "-fork-" in enclave.name
            names.append(enclave.name)
            assert (enclave.output, list(enclave.services)) == (0, ["db"])
            assert enclave.services["db"].exec(["true"]).code == 0
            assert enclave.run().executed == 0
            enclave.services["db"].kill()

        def test_shared_again(enclave):
            assert len(set(names)) == 2
            assert [str(step.outcome) for step in enclave.last_run.instructions] == ["updated", "skipped"]
        """
    )
    result = run()
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["enclave: * instructions, *, 2 forks"])


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("first", ["test_fork", "test_shared"])
def test_one_enclave_is_the_base_and_the_shared_one_whoever_comes_first(
    pytester: pytest.Pytester, run: RunPytest, sites: str, first: str
) -> None:
    second = {"test_fork": "test_shared", "test_shared": "test_fork"}[first]
    pytester.makepyfile(
        sites
        + f"""
{FORK}
def test_fork(enclave):
    pass

def test_shared(enclave):
    assert asked(enclave, "freeze") == 1

def test_end():
    assert len(engine.sites) == 2
"""
    )
    name = "test_one_enclave_is_the_base_and_the_shared_one_whoever_comes_first.py"
    run(f"{name}::{first}", f"{name}::{second}", f"{name}::test_end").assert_outcomes(passed=3)


@pytest.mark.usefixtures("shop")
def test_nothing_is_frozen_where_no_selected_test_wants_a_fork(
    pytester: pytest.Pytester, run: RunPytest, sites: str
) -> None:
    pytester.makepyfile(
        sites
        + f"""
def test_shared(enclave):
    assert asked(enclave, "freeze") == 0

{FORK}
def test_fork(enclave): ...

@pytest.mark.enclave(args={{"n": 1}}, isolate="fork")
def test_fork_of_another(enclave): ...

{FORK}
def test_without_enclave(): ...
"""
    )
    run("-k", "not test_fork or another").assert_outcomes(passed=3, deselected=1)


@pytest.mark.usefixtures("shop")
def test_a_fork_goes_with_its_test(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makeconftest(
        """
        gone, forked = [], []

        def pytest_enclave_teardown(enclave):
            gone.append(enclave.name)

        def pytest_enclave_forked(enclave, origin):
            forked.append((enclave.name, origin))
        """
    )
    pytester.makepyfile(
        f"""
        import time
        import pytest
        from conftest import forked, gone

        {FORK}
        def test_forked(enclave):
            assert forked[0][0] == enclave.name

        def test_it_is_gone(enclave):
            assert forked[0][1] == enclave.name
            deadline = time.monotonic() + 10
            while not gone and time.monotonic() < deadline:
                time.sleep(0.01)
            assert gone == [forked[0][0]]
        """
    )
    run().assert_outcomes(passed=2)


@pytest.mark.usefixtures("shop")
def test_reports_tell_of_forks(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(f"import pytest\n\n{FORK}\ndef test_it(enclave): ...")
    result = run("-rP")
    out = result.stdout.str()
    assert re.search(r"^  shop-[0-9a-f]{6} frozen in 0 ms, for forks to begin from$", out, re.M)
    assert re.search(r"^  shop-fork-[0-9a-f]{6} forked from shop-[0-9a-f]{6} in 0 ms$", out, re.M)


def test_a_fork_of_a_run_that_failed_takes_one_line_and_has_the_same_status(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("bad", 'plan.verify("a", "==", "b")')
    package("broken", 'plan.add_service("db", 7)')
    pytester.makepyfile(
        """
        import pytest

        for package in ("bad", "broken"):
            for number, isolate in enumerate(["fork", False, "fork"]):
                @pytest.mark.enclave(package, isolate=isolate)
                def test(enclave): ...
                globals()[f"test_{package}_{number}"] = test
        del test
        """
    )
    result = run()
    result.assert_outcomes(failed=3, errors=3)
    again = [line for line in result.outlines if line.startswith("the enclave is unavailable: ")]
    assert [line.rpartition("::")[2] for line in again] == ["test_broken_0"] * 2 + ["test_bad_0"] * 2


@pytest.mark.usefixtures("shop")
def test_without_cache_a_fork_is_a_fresh_enclave(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        def test_shared(enclave): ...

        {FORK}
        def test_it(enclave):
            assert enclave.last_run.executed == 2
            assert "-fork-" not in enclave.name
        """
    )
    result = run("--enclave-no-cache")
    result.assert_outcomes(passed=2)
    assert "enclave: 4 instructions, 4 executed, 0 reused" in result.outlines


@pytest.mark.usefixtures("shop")
def test_the_factory_makes_forks_that_collection_could_not_foresee(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        def test_it(enclave, enclave_factory):
            enclave.services["db"].stop()
            one, other = (enclave_factory("shop", isolate="fork") for _ in range(2))
            assert len({enclave, one, other}) == 3
            assert [each.run().executed for each in (one, other)] == [0, 0]
            one.run(args={"n": 1})
            assert other.run().executed == 0

        def test_by_name(enclave_factory):
            one = enclave_factory("shop", {"n": 5}, share="mine", isolate="fork")
            assert one.name.startswith("mine-fork-")
            assert one.output == 5
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["enclave: *, 3 forks"])


def test_a_script_of_the_simulated_engine_can_be_forked(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        from pytest_enclave import Script, Source

        DATABASE = Source('''
        def run(plan):
            plan.add_service("db", ServiceConfig("db:1", ports = {"pg": PortSpec(5432)}))
        '''.replace("\\n" + 8 * " ", "\\n"))

        def test_it(enclave_factory):
            script = Script().service("db", opens_after={"pg": 20.0})
            fork = enclave_factory(DATABASE, isolate="fork", simulate=script)
            assert 20 < fork.last_run.duration < 40
        """
    )
    run().assert_outcomes(passed=1)


def test_a_marker_further_out_may_name_what_is_forked(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("shop", SHOP, parameters="n = 0")
    package("api", 'plan.add_service("api", ServiceConfig("api:1"))')
    pytester.makepyfile(
        f"""
        import pytest

        pytestmark = pytest.mark.enclave("shop", share="orders")

        def test_shared(enclave):
            assert set(enclave.services) == {{"db"}}

        @pytest.mark.enclave("api")
        def test_grown(enclave):
            assert set(enclave.services) == {{"db", "api"}}

        {FORK}
        class TestForks:
            def test_as_after_the_own_run(self, enclave):
                assert enclave.name.startswith("orders-fork-")
                assert set(enclave.services) == {{"db"}}

            @pytest.mark.enclave("api")
            def test_as_after_both(self, enclave):
                assert set(enclave.services) == {{"db", "api"}}

            @pytest.mark.enclave(isolate=False)
            def test_not_forked(self, enclave):
                assert "-fork-" not in enclave.name
        """
    )
    run().assert_outcomes(passed=5)


@pytest.mark.usefixtures("shop")
def test_a_fresh_one_further_in_conflicts_with_a_name_and_a_fork_does_not(
    pytester: pytest.Pytester, run: RunPytest
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        pytestmark = pytest.mark.enclave(share="orders", isolate="fork")

        def test_fine(enclave): ...

        @pytest.mark.enclave(isolate=True)
        def test_wrong(enclave): ...
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        "ERROR: test_it.py::test_wrong: a test cannot both share an enclave and be isolated from all others"
    ]


@pytest.mark.usefixtures("shop")
def test_a_test_that_is_repeated_gets_another_fork(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for _ in range(3):
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    pytester.makepyfile(
        f"""
        import pytest

        names = set()

        {FORK}
        def test_it(enclave):
            names.add(enclave.name)
            enclave.run(args={{"n": len(names)}})
            assert len(names) == 3
        """
    )
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["enclave: *, 3 forks"])


@pytest.mark.usefixtures("shop")
def test_each_worker_of_xdist_has_bases_of_its_own(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.parametrize("time", range(6))
        {FORK}
        def test_forked(enclave, time):
            assert enclave.run().executed == 0
            enclave.services["db"].stop()

        @pytest.mark.parametrize("time", range(6))
        def test_shared(enclave, time):
            assert enclave.last_run is not None
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-engine=simulated", "-n2")
    result.assert_outcomes(passed=12)
    assert sum(int(count) for count in re.findall(r"^gw\d: enclave: .*, (\d) forks?$", result.stdout.str(), re.M)) == 6
