"""When something of an enclave is killed, full or too much: one clear error, soon, and nothing is left."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine, run_directory
from pytest_enclave.engine.protocol import Action, Address, DeadlineExceeded, NotReached, ServiceSpec
from pytest_enclave.errors import EnclaveError, EngineError, ServiceError
from pytest_enclave.plan.facts import Status
from tests.engine.enclave_processes import Processes, descendants, kill, lives
from tests.engine.engine_enclave import FOREVER, PYTHON, Enclave, enclave_id

SOON = 2.0
"""Seconds."""


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    """An engine for each test: what is killed here is its own."""
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


@pytest.fixture
def enclave(engine: EmbeddedEngine, open_enclave: Callable[[EmbeddedEngine], Enclave]) -> Enclave:
    """A new enclave."""
    return open_enclave(engine)


# Killed processes


def tell_of(enclave: Enclave, calls: list[Callable[[], object]], attack: Callable[[], None], victim: str) -> None:
    """Make calls, each in a thread; all of them must end with one error soon after the attack."""
    told: list[tuple[str, float]] = []

    def call(what: Callable[[], object]) -> None:
        try:
            what()
            told.append(("no error", 0))
        except EnclaveError as error:
            told.append((str(error), time.monotonic()))
        except BaseException as error:
            told.append((repr(error), time.monotonic()))

    threads = [threading.Thread(target=call, args=(each,)) for each in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    attacked = time.monotonic()
    attack()
    for thread in threads:
        thread.join(10)
    assert len(told) == len(calls)
    assert {text.split(": ")[0] for text, _ in told} == {f"enclave {enclave.id.name} has ended"}
    assert max(at for _, at in told) - attacked < SOON
    if victim in ("keeper", "relay", "names"):
        assert "was killed by signal 9" in told[0][0]


@pytest.mark.parametrize("victim", ["supervisor", "init", "keeper"])
def test_those_who_wait_for_a_freeze_are_told(engine: EmbeddedEngine, enclave: Enclave, victim: str):
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None)\nwhile 1: time.sleep(9)"
    enclave.up("stubborn", PYTHON, cmd=("python3", "-c", ignoring))
    time.sleep(0.5)
    processes = Processes(engine)
    late = enclave.spec("late")

    def start() -> None:
        time.sleep(0.1)
        if error := enclave.start(late)["late"]:
            raise error

    calls: list[Callable[[], object]] = [enclave.site.freeze, start]
    tell_of(enclave, calls, lambda: kill(getattr(processes, victim)), victim)
    assert processes.gone(SOON)


@pytest.mark.parametrize("victim", ["supervisor", "boot", "init", "keeper", "relay", "names"])
def test_whatever_is_killed_everybody_is_told_and_nothing_is_left(
    engine: EmbeddedEngine, enclave: Enclave, victim: str
):
    enclave.up("a", PYTHON, cmd=FOREVER)
    site = enclave.site
    site.exec("a", ["true"], None)
    processes = Processes(engine)
    calls: list[Callable[[], object]] = [
        lambda: site.exec("a", ["sleep", "60"], None),
        lambda: site.exec("a", ["sleep", "60"], time.monotonic() + 60),
        lambda: site.pause(60),
        lambda: site.pause(60, watching="a"),
    ]
    tell_of(enclave, calls, lambda: kill(getattr(processes, victim)), victim)
    # What is asked later is told the same.
    for later in (site.observe, lambda: site.logs("a"), lambda: site.reserve("x"), lambda: site.act("a", Action.STOP)):
        with pytest.raises(EngineError, match="has ended"):
            later()
    late = ServiceSpec("late", "host:/", Address("late", "10.77.0.9"))
    assert isinstance(enclave.start(late)["late"], EngineError)
    assert processes.gone(SOON)
    assert site.close() == []
    assert not (run_directory(os.environ) / enclave.id.name).exists()
    again = enclave_id()
    other = Enclave(engine.open(again), again)
    other.up("b")
    assert other.site.close() == []


def test_the_launcher_may_be_killed(engine: EmbeddedEngine, enclave: Enclave):
    enclave.up("a")
    kill(Processes(engine).launcher)
    assert enclave.sh("a", "hostname") == "a"
    id_ = enclave_id()
    other = Enclave(engine.open(id_), id_)
    other.up("b")
    assert enclave.sh("a", "hostname") == "a"
    assert other.site.close() == []


@pytest.mark.parametrize("after", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_a_launcher_killed_while_it_works_is_told_or_replaced(engine: EmbeddedEngine, after: float):
    first = engine.open(enclave_id())
    process = engine._launcher._process
    assert process is not None
    timer = threading.Timer(after, process.kill)
    timer.start()
    error = "cannot make enclave"
    try:
        assert engine.open(enclave_id()).close() == []
    except EngineError as told:
        error = str(told)
    timer.join()
    process.wait(5)
    assert "cannot make enclave" in error
    assert engine.open(enclave_id()).close() == []
    assert first.close() == []


def test_a_command_that_is_killed_from_inside_is_told_as_a_shell_would(enclave: Enclave):
    enclave.up("a")
    assert enclave.site.exec("a", ["sh", "-c", "kill -9 $$"], None).code == 137


# Too much of something


def test_full_shared_memory_is_told_and_goes_by(enclave: Enclave):
    enclave.up("full")
    result = enclave.site.exec("full", ["sh", "-c", "dd if=/dev/zero of=/dev/shm/fill bs=1M; echo $?"], None)
    assert "No space left on device" in result.output
    enclave.sh("full", "rm /dev/shm/fill; echo works >/file")
    assert enclave.sh("full", "cat /file") == "works"


def test_thousands_of_log_lines_a_second_hold_nobody_up(enclave: Enclave):
    enclave.up("loud", cmd=("sh", "-c", "yes 0123456789abcdef"))
    enclave.up("quiet", cmd=("sh", "-c", "echo here; sleep 1000"))
    began = time.monotonic()
    for _ in range(20):
        enclave.sh("quiet", "hostname")
    assert time.monotonic() - began < 10
    lines = enclave.site.logs("loud")
    assert len(lines) > 1000
    assert {line.text for line in lines[1:-1]} == {"0123456789abcdef"}
    assert [line.text for line in enclave.site.logs("quiet")] == ["here"]


def test_two_hundred_services(enclave: Enclave):
    specs = [enclave.spec(f"s{number}") for number in range(200)]
    outcomes = enclave.start(*specs, parallelism=8)
    assert {name: error for name, error in outcomes.items() if error is not None} == {}
    found = enclave.site.observe()
    assert len(found) == 200
    assert {fact.status for fact in found.values()} == {Status.RUNNING}
    assert enclave.sh("s0", "ping -c 1 -w 5 s199 >/dev/null && echo there") == "there"
    began = time.monotonic()
    assert enclave.site.close() == []
    assert time.monotonic() - began < 10


def test_three_hundred_commands_from_sixteen_threads(enclave: Enclave):
    for name in ("a", "b", "c"):
        enclave.up(name)
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda n: enclave.sh("abc"[n % 3], f"hostname; echo {n}").split(), range(300)))
    assert told == [["abc"[number % 3], str(number)] for number in range(300)]


def test_a_hundred_megabytes_of_output(enclave: Enclave):
    enclave.up("a")
    result = enclave.site.exec("a", ["sh", "-c", "yes 0123456 | head -c 104857600"], None)
    assert len(result.output) == 104857600


def test_what_a_command_leaves_running_does_not_hold_it_up(enclave: Enclave):
    enclave.up("a")
    began = time.monotonic()
    result = enclave.site.exec("a", ["sh", "-c", "sleep 4321 & echo done"], None)
    assert (result.code, result.output) == (0, "done\n")
    assert time.monotonic() - began < SOON
    assert "sleep 4321" in enclave.sh("a", "ps")


def test_what_a_command_leaves_writing_does_not_hold_it_up(enclave: Enclave):
    enclave.up("a")
    began = time.monotonic()
    result = enclave.site.exec("a", ["sh", "-c", "echo first; yes & sleep 0.1; exit 4"], time.monotonic() + 20)
    assert result.code == 4
    assert result.output.startswith("first\n")
    assert time.monotonic() - began < SOON * 2


def test_a_command_that_writes_without_end_ends_at_its_deadline(enclave: Enclave):
    enclave.up("a")
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        enclave.site.exec("a", ["yes"], began + 0.5)
    assert time.monotonic() - began < SOON
    assert "yes" not in enclave.sh("a", "ps")


def test_a_megabyte_of_environment(enclave: Enclave):
    env = {f"V{number}": "x" * 10_000 for number in range(100)}
    enclave.up("a", env_vars=env)
    assert enclave.sh("a", "env | wc -c") > "1000000"
    error = enclave.start(enclave.spec("b", env_vars={"V": "x" * 1_000_000}))["b"]
    assert isinstance(error, ServiceError)
    assert "argument list too long" in error.message


@pytest.mark.parametrize("name", ["a-b", "a--b", "x" * 63, "0", "9a", "a.b", "ü"])
def test_odd_names(enclave: Enclave, name: str):
    enclave.up(name)
    assert enclave.sh(name, "hostname") == name
    enclave.site.act(name, Action.REMOVE)
    assert name not in enclave.site.observe()


def test_a_name_that_no_machine_can_have_is_told(enclave: Enclave):
    error = enclave.start(enclave.spec("x" * 65))["x" * 65]
    assert isinstance(error, ServiceError)
    assert enclave.site.observe() == {}


def test_out_of_descriptors_is_told_and_goes_by(
    engine: EmbeddedEngine, open_enclave: Callable[[EmbeddedEngine], Enclave]
):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    warm = open_enclave(engine)  # so that the launcher is there
    resource.prlimit(Processes(engine).launcher, resource.RLIMIT_NOFILE, (100, 100))
    assert warm.site.close() == []
    enclave = open_enclave(engine)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    outcomes = enclave.start(*[enclave.spec(f"s{number}") for number in range(30)])
    failed = [error for error in outcomes.values() if error is not None]
    assert failed
    assert [str(error) for error in failed if "Too many open files" not in str(error)] == []
    assert all(isinstance(error, ServiceError) and "Too many open files" in error.message for error in failed)
    running = [name for name, error in outcomes.items() if error is None]
    assert set(enclave.site.observe()) == set(running)
    for name in running[:5]:
        enclave.site.act(name, Action.REMOVE)
    assert enclave.sh(running[-1], "hostname") == running[-1]
    enclave.up("again")
    assert enclave.sh("again", "hostname") == "again"


def test_files_deeper_than_anybody_goes_are_removed(enclave: Enclave):
    deep = "import os\nfor _ in range(3000):\n os.mkdir('d'); os.chdir('d')"
    enclave.up("deep", PYTHON, cmd=FOREVER)
    assert enclave.site.exec("deep", ["python3", "-c", f"import os\nos.chdir('/tmp')\n{deep}"], None).code == 0
    enclave.site.act("deep", Action.REMOVE)
    enclave.up("deep", PYTHON, cmd=FOREVER)
    assert enclave.sh("deep", "ls /tmp") == ""


# At the same time


def test_the_same_name_started_at_once(enclave: Enclave):
    for _ in range(10):
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda _: enclave.start(enclave.spec("a"))["a"], range(4)))
        assert any(outcome is None for outcome in outcomes)
        for outcome in outcomes:
            assert outcome is None or "it is being started already" in str(outcome)
        assert enclave.sh("a", "hostname") == "a"


@pytest.mark.parametrize("action", list(Action))
def test_something_is_done_to_a_service_that_just_starts(enclave: Enclave, action: Action):
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            starting = pool.submit(enclave.start, enclave.spec("a"))
            doing = pool.submit(enclave.site.act, "a", action)
            assert set(starting.result(10)) == {"a"}
            assert isinstance(doing.exception(10), ServiceError | None)
            enclave.site.act("a", Action.REMOVE)
            assert enclave.site.observe() == {}


def test_random_actions_from_many_threads_end(enclave: Enclave):
    chosen = random.Random(4)
    plan = [(chosen.choice("ab"), chosen.choice([*Action, "start", "exec", "freeze"])) for _ in range(300)]

    def do(step: tuple[str, object]) -> None:
        name, action = step
        try:
            if isinstance(action, Action):
                enclave.site.act(name, action)
            elif action == "start":
                enclave.start(enclave.spec(name))
            elif action == "exec":
                enclave.site.exec(name, ["true"], time.monotonic() + 5)
            else:
                enclave.site.freeze()
        except (ServiceError, NotReached, DeadlineExceeded):
            pass

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(do, step) for step in plan]:
            future.result(60)
    for name in "ab":
        enclave.up(name)
        assert enclave.sh(name, "hostname") == name


@pytest.mark.parametrize("action", [Action.REMOVE, Action.KILL, Action.STOP])
def test_commands_end_with_their_service(enclave: Enclave, action: Action):
    enclave.up("a")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(enclave.site.exec, "a", ["sleep", "60"], None)
        time.sleep(0.1)
        enclave.site.act("a", action)
        assert running.result(SOON).code == 137


def test_freezing_ends_commands_and_waits_for_nobody_who_does_not_listen(enclave: Enclave):
    enclave.up("a")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(enclave.site.exec, "a", ["sleep", "60"], None)
        time.sleep(0.1)
        began = time.monotonic()
        enclave.site.freeze()
        assert time.monotonic() - began < SOON
        assert running.result(SOON).code == 137
    assert enclave.sh("a", "hostname") == "a"


def test_a_start_right_after_a_crash(enclave: Enclave):
    for _ in range(10):
        enclave.up("a", cmd=("sh", "-c", "exit 3"))
        enclave.site.pause(5, watching="a")
        enclave.site.act("a", Action.START)
        exit_ = enclave.site.pause(5, watching="a")
        assert exit_ is not None
        assert exit_.code == 3


def test_pausing_stops_all_processes_of_a_service(enclave: Enclave):
    script = "for n in 1 2 3; do (while :; do echo $n; sleep 0.02; done) & done; wait"
    enclave.up("a", cmd=("sh", "-c", script))
    while {line.text for line in enclave.site.logs("a")} != {"1", "2", "3"}:
        enclave.site.pause(0.02)
    enclave.site.act("a", Action.PAUSE)
    count = len(enclave.site.logs("a"))
    time.sleep(0.3)
    assert len(enclave.site.logs("a")) == count
    enclave.site.act("a", Action.RESUME)
    time.sleep(0.3)
    assert len(enclave.site.logs("a")) > count
    enclave.site.act("a", Action.PAUSE)
    enclave.site.act("a", Action.REMOVE)
    assert enclave.site.observe() == {}


# Ctrl-C


def interrupted(work: Callable[[], object], after: float) -> bool:
    """Do the work, and interrupt it after some time; whether it was."""
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(after, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    try:
        work()
        timer.join()
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
    return False


# Where Ctrl-C strikes is for Python to say: what it had just opened then is closed by its collector of garbage.
STRUCK = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_an_interrupted_command_is_killed(enclave: Enclave):
    enclave.up("a")
    assert interrupted(lambda: enclave.site.exec("a", ["sleep", "4321"], None), 0.2)
    assert "4321" not in enclave.sh("a", "ps")


@STRUCK
def test_an_interrupted_start_leaves_a_usable_enclave(enclave: Enclave):
    for number in range(20):
        try:
            interrupted(lambda: enclave.start(*[enclave.spec(f"s{each}") for each in range(3)]), 0.002 * number)
        except KeyboardInterrupt:
            continue
    # What was under way when we were interrupted comes to its end.
    while enclave.start(enclave.spec("s0"))["s0"] is not None:
        enclave.site.pause(0.05)
    assert enclave.sh("s0", "hostname") == "s0"


def open_files() -> list[str]:
    """What this process has open that has to do with enclaves; tests before this one may have left something."""
    return sorted(place for path in Path("/proc/self/fd").iterdir() if "enclave" in (place := os.path.realpath(path)))


@STRUCK
def test_an_interrupted_opening_leaves_nothing(engine: EmbeddedEngine):
    engine.open(enclave_id()).close()
    before = open_files()
    names = []
    for number in range(25):
        id_ = enclave_id()
        names.append(id_.name)
        try:
            interrupted(lambda id_=id_: engine.open(id_).close(), 0.003 * number)
        except KeyboardInterrupt:
            continue
    process = engine._launcher._process
    assert process is not None
    deadline = time.monotonic() + SOON
    while [each for each in descendants(process.pid)[1:] if lives(each)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [name for name in names if (run_directory(os.environ) / name).exists()] == []
    assert open_files() == before
