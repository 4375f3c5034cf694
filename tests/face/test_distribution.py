"""Which worker of pytest-xdist runs which test."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdist.remote import Producer

from pytest_enclave.face.distribution import APART, FREE, Allotment, Group, publish, published
from pytest_enclave.face.scheduling import EnclaveScheduling
from tests.face.conftest import WritePackage

A, B, C = (Group("shared", name) for name in "abc")
GROWING = Group("together", "growing")
MODULE = Group("together", "module")


class Worker:
    """A worker as xdist's controller sees it: it begins a test when it knows the next, or that there is none."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.queue: list[int] = []
        self.ran: list[int] = []
        self.shutting_down = False

    def __repr__(self) -> str:
        return f"<{self.gateway.id}: {self.ran} then {self.queue}>"

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def goes_on(self) -> bool:
        return len(self.queue) >= 2 or (self.shutting_down and bool(self.queue))


class Session:
    """A distributed session, in which tests take no time, and workers crash when told."""

    def __init__(self, config: pytest.Config, groups: list[Group], workers: int, directory: Path) -> None:
        path = directory / "groups.json"
        path.unlink(missing_ok=True)
        if groups:
            publish(groups, path)
        self.tests = [f"test_{number}" for number in range(len(groups))]
        self.scheduler: Any = EnclaveScheduling(config, Producer("", enabled=False), path)
        self.scheduler.numnodes = workers
        self.workers: list[Worker] = []
        self.crashed: list[int] = []
        for _ in range(workers):
            self.scheduler.add_node(self.worker())
        for worker in self.workers:
            self.scheduler.add_node_collection(worker, self.tests)
        self.scheduler.schedule()
        self.end_where_finished()

    def worker(self) -> Worker:
        self.workers.append(Worker(f"gw{len(self.workers)}"))
        return self.workers[-1]

    def end_where_finished(self) -> None:
        if self.scheduler.tests_finished:
            for worker in self.workers:
                worker.shutdown()

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.goes_on]

    def step(self, worker: Worker) -> None:
        """The worker runs a test."""
        test = worker.queue.pop(0)
        worker.ran.append(test)
        self.scheduler.mark_test_complete(worker, test)
        self.end_where_finished()

    def crash(self, worker: Worker) -> None:
        """The worker ends while it runs a test; another one takes its place."""
        assert self.scheduler.remove_node(worker) == self.tests[worker.queue[0]]
        self.crashed.append(worker.queue[0])
        worker.queue = []
        other = self.worker()
        self.scheduler.add_node(other)
        self.scheduler.add_node_collection(other, self.tests)
        self.scheduler.schedule()
        self.end_where_finished()

    def run(self) -> list[list[int]]:
        """All workers at the same pace; what each has run."""
        while self.busy:
            for worker in self.busy:
                self.step(worker)
        return [worker.ran for worker in self.workers]


MakeSession = Callable[[list[Group], int], Session]


@pytest.fixture
def session(pytester: pytest.Pytester) -> MakeSession:
    """Make a session of so many workers, with tests of these groups."""
    config = pytester.parseconfig("-p", "xdist", "--tx=2*popen")
    return lambda groups, workers: Session(config, groups, workers, pytester.path)


def test_different_enclaves_are_begun_by_different_workers_the_largest_group_first(session: MakeSession) -> None:
    begun = session([A] * 3 + [B] * 5 + [C] * 4, 3)
    assert [worker.queue for worker in begun.workers] == [[3, 4], [8, 9], [0, 1]]


def test_tests_without_enclaves_wait_for_workers_that_begin_none(session: MakeSession) -> None:
    begun = session([FREE] * 20 + [A] * 4, 2)
    assert [worker.queue[:2] for worker in begun.workers] == [[20, 21], [0, 1]]


def test_more_enclaves_than_workers_are_begun_one_after_the_other(session: MakeSession) -> None:
    ran = session([A, A, B, B, C, C], 2).run()
    assert ran == [[0, 1, 4], [2, 3, 5]]


def test_a_worker_that_has_nothing_else_helps_where_the_environment_is_up(session: MakeSession) -> None:
    begun = session([A] * 9 + [B] * 8 + [FREE] * 2, 3)
    of_a, of_b, free = begun.workers
    assert [worker.queue for worker in begun.workers] == [[0, 1], [9, 10], [17, 18]]
    begun.step(of_b)
    begun.step(free)
    assert begun.scheduler.node2pending[free] == [18, 12]
    assert begun.scheduler.node2pending[of_a] == [0, 1]


def test_tests_of_one_enclave_are_run_by_all_workers_equally(session: MakeSession) -> None:
    assert sorted(len(ran) for ran in session([A] * 40, 4).run()) == [10, 10, 10, 10]


def test_isolated_tests_are_spread_evenly_though_they_are_neighbours(session: MakeSession) -> None:
    ran = session([APART] * 8 + [FREE] * 80, 4).run()
    assert [sum(test < 8 for test in tests) for tests in ran] == [2, 2, 2, 2]


def test_few_tests_are_shared_out_one_each(session: MakeSession) -> None:
    assert session([APART] * 4, 4).run() == [[0], [1], [2], [3]]
    assert session([A] * 3, 4).run() == [[0], [1], [2], []]
    assert session([FREE], 2).run() == [[0], []]


def test_what_stays_together_is_run_by_one_worker_in_order_and_others_do_not_wait(session: MakeSession) -> None:
    begun = session([GROWING, FREE, GROWING, MODULE, GROWING, MODULE], 3)
    assert sorted(begun.run()) == [[0, 2, 4], [1], [3, 5]]


def test_a_worker_with_a_single_test_does_not_wait_for_what_is_anothers(session: MakeSession) -> None:
    begun = session([GROWING] * 4 + [FREE], 2)
    _, other = begun.workers
    assert other.queue == [4]
    assert other.goes_on


def test_the_rest_of_what_stays_together_is_run_by_whoever_takes_the_place_of_a_crashed_worker(
    session: MakeSession,
) -> None:
    begun = session([GROWING] * 5 + [FREE] * 2, 2)
    first, _ = begun.workers
    begun.step(first)
    begun.crash(first)
    assert begun.run() == [[0], [5, 6], [2, 3, 4]]
    assert begun.crashed == [1]


def test_a_test_that_another_plugin_puts_back_is_run_again(session: MakeSession) -> None:
    begun = session([A] * 6, 2)
    first, second = begun.workers
    begun.crash(first)
    begun.scheduler.mark_test_pending("test_0")
    begun.run()
    assert sorted(second.ran + begun.workers[2].ran) == [0, 1, 2, 3, 4, 5]


def test_chunks_are_no_larger_than_the_user_says(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig("-p", "xdist", "--tx=2*popen", "--maxschedchunk=3")
    begun = Session(config, [A] + [FREE] * 99, 2, pytester.path)
    assert [len(worker.queue) for worker in begun.workers] == [4, 3]


def test_where_no_test_needs_an_enclave_tests_are_distributed_as_by_xdist(pytester: pytest.Pytester) -> None:
    from xdist.scheduler import LoadScheduling

    config = pytester.parseconfig("-p", "xdist", "--tx=3*popen")
    ours: Any = EnclaveScheduling(config, Producer("", enabled=False), pytester.path / "none.json")
    theirs: Any = LoadScheduling(config)
    queues = []
    for scheduler in (ours, theirs):
        workers = [Worker(f"gw{number}") for number in range(3)]
        for worker in workers:
            scheduler.add_node(worker)
            scheduler.add_node_collection(worker, [f"test_{number}" for number in range(50)])
        scheduler.schedule()
        for worker in workers * 3:
            scheduler.mark_test_complete(worker, worker.queue.pop(0))
        scheduler.remove_node(workers[0])
        queues.append([worker.queue for worker in workers])
    assert queues[0] == queues[1]


GROUPS = st.lists(st.sampled_from([A, B, C, GROWING, MODULE, APART, FREE]), min_size=1, max_size=40)


@given(groups=GROUPS, workers=st.integers(1, 5), choices=st.lists(st.integers(0, 1000), max_size=80))
@settings(max_examples=300, deadline=None)
def test_whatever_the_pace_every_test_runs_once_and_nobody_waits_for_ever(
    groups: list[Group], workers: int, choices: list[int], one_directory: Path, one_config: pytest.Config
) -> None:
    begun = Session(one_config, groups, workers, one_directory)
    crashes = 0
    pace: Iterator[int] = iter(choices)
    while busy := begun.busy:
        choice = next(pace, 0)
        if choice > 950 and crashes < 3:
            crashes += 1
            begun.crash(busy[choice % len(busy)])
        else:
            begun.step(busy[choice % len(busy)])
    ran = [test for worker in begun.workers for test in worker.ran] + begun.crashed
    assert sorted(ran) == list(range(len(groups)))
    for group in (GROWING, MODULE):
        by = [[test for test in worker.ran if groups[test] == group] for worker in begun.workers]
        assert sum(map(bool, by)) <= 1 + crashes
        assert all(tests == sorted(tests) for tests in by)


@pytest.fixture(scope="session")
def one_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples."""
    return tmp_path_factory.mktemp("groups")


@pytest.fixture(scope="session")
def one_config() -> Any:
    """As much of a config as a scheduler needs."""
    options = {"tx": ["2*popen"], "maxschedchunk": None}
    return SimpleNamespace(getvalue=options.get, getoption=options.get, hook=None)


def test_groups_are_published_without_what_they_are_of(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    assert published(path) == []
    publish([FREE, Group("shared", "password=secret"), APART, FREE, Group("shared", "other")], path)
    assert "secret" not in path.read_text()
    found = published(path)
    assert [group.kind for group in found] == ["free", "shared", "apart", "free", "shared"]
    assert len(set(found)) == 4
    assert os.listdir(tmp_path) == ["groups.json"]


def test_an_allotment_has_nothing_for_a_worker_where_all_is_given_away() -> None:
    allotment = Allotment([GROWING, GROWING])
    assert allotment.take("one", 2, 9) == [0]
    assert allotment.take("other", 2, 9) == []
    allotment.leave("one")
    assert allotment.take("other", 2, 9) == [1]


# with workers that are processes


class Told:
    """What tests have written down: who ran what, in which enclave."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "told"

    @property
    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def workers_of(self, test: str) -> set[str]:
        return {line["worker"] for line in self.lines if test in line["test"]}


@pytest.fixture
def told(pytester: pytest.Pytester) -> Told:
    """Tests that request the fixture `note` are written down."""
    pytester.makeconftest(
        """
        import json, os, pathlib, pytest

        @pytest.fixture
        def note(request):
            enclave = request.getfixturevalue("enclave").name if "enclave" in request.fixturenames else ""
            worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
            line = json.dumps({"test": request.node.nodeid, "worker": worker, "enclave": enclave})
            with open(pathlib.Path(__file__).with_name("told"), "a") as file:
                file.write(line + "\\n")
        """
    )
    return Told(pytester.path)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest on the simulated engine, with workers."""
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-engine=simulated", *arguments)


@pytest.fixture
def two_shops(pytester: pytest.Pytester, package: WritePackage) -> None:
    """Two packages with tests, the second with more of them; and tests without an enclave."""
    for name, count in (("books", 4), ("wine", 6)):
        package(name)
        pytester.makepyfile(
            **{
                f"{name}/test_{name}": f"""
                import time, pytest

                @pytest.mark.parametrize("n", range({count}))
                def test_it(enclave, note, n):
                    time.sleep(0.05)
                """
            }
        )
    pytester.makepyfile(
        test_free="""
        import pytest

        @pytest.mark.parametrize("n", range(8))
        def test_it(note, n): ...
        """
    )


@pytest.mark.usefixtures("two_shops")
def test_workers_begin_with_different_enclaves(pytester: pytest.Pytester, told: Told) -> None:
    result = run(pytester, "-n2", "-v")
    result.assert_outcomes(passed=18)
    result.stdout.fnmatch_lines(["*scheduling tests via EnclaveScheduling"])
    first: dict[str, str] = {}
    for line in told.lines:
        first.setdefault(line["worker"], line["test"])
    assert {test.split("/")[0] for test in first.values()} == {"books", "wine"}


@pytest.mark.usefixtures("two_shops", "told")
@pytest.mark.parametrize(
    ("arguments", "scheduler"),
    [
        (["-n2", "--dist=load"], "LoadScheduling"),
        (["-d", "--tx=2*popen"], "LoadScheduling"),
        (["-n2", "--dist=worksteal"], "WorkStealingScheduling"),
        (["-n2", "--dist=loadfile"], "LoadFileScheduling"),
        (["-n1"], "EnclaveScheduling"),
    ],
)
def test_how_the_user_says_tests_are_distributed(
    pytester: pytest.Pytester, arguments: list[str], scheduler: str
) -> None:
    result = run(pytester, "-v", *arguments)
    result.assert_outcomes(passed=18)
    result.stdout.fnmatch_lines([f"*scheduling tests via {scheduler}"])


@pytest.mark.usefixtures("two_shops", "told")
def test_the_ini_file_may_say_it_too(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --dist=load")
    run(pytester, "-n2", "-v").stdout.fnmatch_lines(["*scheduling tests via LoadScheduling"])


@pytest.mark.usefixtures("two_shops")
def test_without_workers_nothing_is_distributed(pytester: pytest.Pytester, told: Told) -> None:
    run(pytester, "-n0").assert_outcomes(passed=18)
    assert {line["worker"] for line in told.lines} == {"main"}


@pytest.mark.usefixtures("two_shops", "told")
def test_no_file_is_left(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run(pytester, "-n2").assert_outcomes(passed=18)
    assert not list(tmp_path.glob("pytest-enclave-*"))


def test_a_session_without_enclaves_has_its_workers_import_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys, pytest

        @pytest.mark.parametrize("n", range(4))
        def test_it(n):
            heavy = {"starlark", "pytest_enclave.enclave.demand", "pytest_enclave.face.scheduling"}
            assert heavy.isdisjoint(sys.modules)
        """
    )
    run(pytester, "-n2").assert_outcomes(passed=4)


def test_an_enclave_that_grows_stays_with_one_worker_and_in_order(
    pytester: pytest.Pytester, package: WritePackage, told: Told
) -> None:
    package("small", 'plan.add_service("db", ServiceConfig("image"))')
    package("large", 'plan.add_service("db", ServiceConfig("image"))\nplan.add_service("api", ServiceConfig("image"))')
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.enclave(share="growing")

        @pytest.mark.enclave("small")
        def test_small(enclave, note):
            assert set(enclave.services) == {"db"}

        @pytest.mark.parametrize("n", range(5))
        def test_free(note, n): ...

        @pytest.mark.enclave("large")
        @pytest.mark.parametrize("n", range(4))
        def test_large(enclave, note, n):
            assert set(enclave.services) == {"db", "api"}
            assert enclave.last_run.executed == (1 if n == 0 else 0)
        """
    )
    run(pytester, "-n3").assert_outcomes(passed=10)
    assert len(told.workers_of("test_small") | told.workers_of("test_large")) == 1


def test_the_enclave_of_a_module_or_class_is_one_worker_s(
    pytester: pytest.Pytester, package: WritePackage, told: Told
) -> None:
    package()
    for name in ("one", "two"):
        pytester.makepyfile(
            **{
                f"test_{name}": """
                import pytest

                @pytest.mark.enclave(isolate="module")
                @pytest.mark.parametrize("n", range(4))
                def test_module(enclave, note, n): ...

                @pytest.mark.enclave(isolate="class")
                class TestIt:
                    def test_a(self, enclave, note): ...
                    def test_free(self, note): ...
                    def test_b(self, enclave, note): ...
                """
            }
        )
    run(pytester, "-n3").assert_outcomes(passed=14)
    enclaves = defaultdict(set)
    for line in told.lines:
        if line["enclave"]:
            enclaves[re.sub(r"\W[an0-9b]\w*\W?$|_[ab]$", "", line["test"])].add((line["worker"], line["enclave"]))
    assert len(enclaves) == 4
    assert all(len(found) == 1 for found in enclaves.values())
    assert len(set.union(*enclaves.values())) == 4


def test_the_end_of_a_worker_loses_no_other_test(pytester: pytest.Pytester, package: WritePackage, told: Told) -> None:
    package()
    pytester.makepyfile(
        """
        import os, signal, time, pytest

        @pytest.mark.parametrize("n", range(12))
        def test_it(enclave, note, n):
            time.sleep(0.02)
            if n == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        @pytest.mark.enclave(isolate="module")
        @pytest.mark.parametrize("n", range(4))
        def test_module(enclave, note, n):
            if n == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result = run(pytester, "-n2")
    result.assert_outcomes(passed=14, failed=2)
    assert sorted(line["test"] for line in told.lines) == sorted({line["test"] for line in told.lines})
    assert len(told.lines) == 16


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_failure_ends_the_session_where_it_is_to(
    pytester: pytest.Pytester, package: WritePackage, told: Told, option: str
) -> None:
    package()
    pytester.makepyfile(
        """
        import time, pytest

        @pytest.mark.enclave(isolate="module")
        @pytest.mark.parametrize("n", range(30))
        def test_module(enclave, note, n):
            time.sleep(0.05)

        @pytest.mark.parametrize("n", range(10))
        def test_it(enclave, note, n):
            assert n != 1
        """
    )
    result = run(pytester, "-n2", option)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.parseoutcomes()["failed"] == 1
    assert len(told.lines) < 15


def test_what_failed_last_is_distributed_too(pytester: pytest.Pytester, package: WritePackage, told: Told) -> None:
    package()
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(10))
        def test_it(enclave, note, n):
            assert n % 3

        def test_free(note): ...
        """
    )
    arguments = ("--enclave-engine=simulated", "-n2")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=7, failed=4)
    assert len(told.lines) == 11
    pytester.runpytest_subprocess(*arguments, "--lf").assert_outcomes(failed=4)
    assert len(told.lines) == 15
    pytester.runpytest_subprocess(*arguments, "--ff").assert_outcomes(passed=7, failed=4)


def test_workers_that_collected_different_tests_are_told_of_as_ever(
    pytester: pytest.Pytester, package: WritePackage
) -> None:
    package()
    pytester.makepyfile(
        """
        import os, pytest

        @pytest.mark.parametrize("worker", [os.environ["PYTEST_XDIST_WORKER"]])
        def test_it(enclave, worker): ...
        """
    )
    result = run(pytester, "-n2")
    result.stdout.fnmatch_lines(["*Different tests were collected between gw? and gw?*"])
