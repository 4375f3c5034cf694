"""Looking into enclaves with real services: what a session kept, has left behind, or uses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
from tests.face.user_terminal import UserTerminal

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

PROMPT = "[$#] "

PACKAGE = """
def run(plan):
    config = ServiceConfig(
        "{image}",
        cmd = ["sh", "-c", "echo begun with $API_TOKEN; echo; echo ready; while true; do sleep 1; done"],
        env_vars = {{"API_TOKEN": "correct-horse"}},
    )
    plan.add_service("db", config)
    plan.add_service("gone", config)
    plan.remove_service("gone")
    plan.add_service("done", ServiceConfig("{image}", cmd = ["true"]))
"""

TEST = """
import os, pathlib, time

def test_it(enclave):
    pathlib.Path("begun").write_text(enclave.name)
    while "WAIT" in os.environ and not pathlib.Path("go").exists():
        time.sleep(0.05)
    assert False
"""


@dataclass(frozen=True)
class Shop:
    """A directory with a package and a test that fails, and a ledger of its own."""

    path: Path
    engine: str

    @property
    def environment(self) -> dict[str, str]:
        own = {"XDG_STATE_HOME": str(self.path / "state"), "COLUMNS": "200", "PS1": "$ ", "TERM": "xterm"}
        return {**os.environ, **own}

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.path / "state/pytest-enclave")

    def write(self) -> None:
        image = "host:/" if "embedded" in self.engine else "enclave-test/busybox:local"
        (self.path / "kurtosis.yml").write_text("name: github.com/face/shop\n")
        (self.path / "main.star").write_text(PACKAGE.format(image=image))
        (self.path / "test_it.py").write_text(TEST)

    def test(self) -> Entry:
        """Run the test, and have its enclave kept."""
        result = self.pytest(self.engine, "--enclave-keep=on-failure", "test_it.py")
        assert result.returncode == 1, result.stdout
        (entry,) = self.ledger.entries()
        return entry

    def exec(self, *command: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command in the service db, with that as its input."""
        return subprocess.run(
            [*PYTEST, "--enclave-exec=db", "--", *command],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            input=given,
            timeout=100,
        )

    def pytest(self, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PYTEST, *arguments],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            input=typed,
            timeout=100,
        )

    def begin(self, **environment: str) -> subprocess.Popen[str]:
        """Begin a session whose test waits, and be told when it has its enclave."""
        session = subprocess.Popen(
            [*PYTEST, self.engine, "--enclave-keep=on-failure", "test_it.py"],
            cwd=self.path,
            env={**self.environment, "WAIT": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (self.path / "begun").exists():
            assert session.poll() is None, session.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return session


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, on_engine: str) -> Iterator[Shop]:
    """A shop whose enclave was kept; most tests leave it as it is."""
    shop = Shop(tmp_path_factory.mktemp("kept"), on_engine)
    shop.write()
    shop.test()
    yield shop
    assert shop.pytest("--enclave-clean=all").returncode == 0


@pytest.fixture
def shop(tmp_path: Path, on_engine: str) -> Iterator[Shop]:
    """A shop of which nothing is kept so far."""
    shop = Shop(tmp_path, on_engine)
    shop.write()
    yield shop
    assert shop.pytest("--enclave-clean=all").returncode == 0
    assert shop.ledger.entries() == []


@pytest.fixture
def sit(kept: Shop) -> Iterator[Callable[..., UserTerminal]]:
    """Sit in front of a terminal on which pytest runs."""
    opened = []

    def sit(*arguments: str) -> UserTerminal:
        opened.append(UserTerminal([*PYTEST, *arguments], kept.path, kept.environment))
        return opened[-1]

    yield sit
    for each in opened:
        each.close()


@pytest.fixture(autouse=True)
def fate(request: pytest.FixtureRequest) -> Iterator[None]:
    """Looking at the kept enclave changes nothing about it."""
    if "kept" not in request.fixturenames:
        yield
        return
    shop: Shop = request.getfixturevalue("kept")
    before = shop.ledger.entries()
    yield
    assert shop.ledger.entries() == before
    assert shop.pytest("--enclave-exec=db", "--", "true").returncode == 0


def test_the_list_tells_of_it(kept: Shop) -> None:
    (entry,) = kept.ledger.entries()
    row = kept.pytest("--enclave-ls").stdout.splitlines()[1]
    assert re.match(rf"{entry.name}  {kept.engine.partition('=')[2]}\b", row)
    assert "  db, done  " in row
    assert re.search(r"  kept until \d\d \w{3} \d\d:\d\d$", row)


def test_its_logs_are_shown_without_secrets_and_with_times_if_verbose(kept: Shop) -> None:
    assert kept.pytest("--enclave-logs=db").stdout == "begun with ••••\n\nready\n"
    lines = kept.pytest("--enclave-logs=db", "-v").stdout.splitlines()
    assert all(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  ?", line) for line in lines)
    assert [line[25:] for line in lines] == ["begun with ••••", "", "ready"]


def test_a_command_runs_in_it_as_it_is_written(kept: Shop) -> None:
    result = kept.pytest("--enclave-exec=db", "--", "sh", "-c", "echo $0 $1 $API_TOKEN; exit 7", "a b", "-x")
    assert (result.returncode, result.stdout) == (7, "a b -x correct-horse\n")
    (entry,) = kept.ledger.entries()
    result = kept.pytest(f"--enclave-exec={entry.name}/db", "--", "printf", "no end")
    assert (result.returncode, result.stdout, result.stderr) == (0, "no end", "")


def test_a_command_that_is_not_there_is_exit_code_127(kept: Shop) -> None:
    result = kept.pytest("--enclave-exec=db", "--", "nosuch")
    assert (result.returncode, result.stdout.count("\n")) == (127, 1)
    assert '"nosuch": executable file not found in $PATH' in result.stdout


def test_services_that_are_removed_or_do_not_run_are_told(kept: Shop) -> None:
    (entry,) = kept.ledger.entries()
    result = kept.pytest("--enclave-logs=gone")
    assert result.returncode == 4
    assert "ERROR: --enclave-logs=gone: no enclave has a service `gone`" in result.stderr
    for command in (["--enclave-exec=done", "--", "true"], ["--enclave-shell=done"]):
        result = kept.pytest(*command)
        told = (
            f'ERROR: service "done" of enclave {entry.name} cannot be asked: the service has ended with exit code 0\n'
        )
        assert (result.returncode, result.stderr) == (1, told)


def test_a_damaged_journal_keeps_nobody_from_its_services(kept: Shop) -> None:
    (entry,) = kept.ledger.entries()
    journal = kept.ledger.path(entry.name) / "journal.sqlite"
    content = journal.read_bytes()
    journal.write_bytes(b"garbage" * 1000)
    try:
        row, kind, told = kept.pytest("--enclave-ls").stdout.splitlines()[1:]
        assert kind == "  shared"
        assert "  ?  " in row
        assert told.startswith("  its journal is")
        assert kept.pytest(f"--enclave-exec={entry.name}/db", "--", "true").returncode == 0
        result = kept.pytest(f"--enclave-exec={entry.name}/x", "--", "true")
        assert result.returncode == 1
        assert result.stderr == (
            f'ERROR: service "x" of enclave {entry.name} is not there any more\n  services there: db, done\n'
        )
    finally:
        journal.write_bytes(content)


def test_a_command_reads_what_is_piped_into_it(kept: Shop) -> None:
    result = kept.exec("sh", "-c", "cat; echo end; exit 5", given=b"some\nwords")
    assert (result.returncode, result.stdout, result.stderr) == (5, b"some\nwordsend\n", b"")
    assert kept.exec("cat").stdout == b""


def test_what_is_piped_through_a_command_stays_as_it_is(kept: Shop) -> None:
    every_byte = bytes(range(256)) * 20_000
    result = kept.exec("cat", given=every_byte)
    assert result.returncode == 0
    assert result.stdout == every_byte


def test_a_command_need_not_read_what_is_piped_into_it(kept: Shop) -> None:
    result = kept.exec("sh", "-c", "read line; echo got $line; exit 3", given=b"first\n" + b"more\n" * 1_000_000)
    assert (result.returncode, result.stdout) == (3, b"got first\n")
    assert kept.exec("sh", "-c", "exec <&-; sleep 1; echo deaf", given=b"x" * 1_000_000).stdout == b"deaf\n"


def test_a_command_is_told_at_once_what_is_typed(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-exec=db", "--", "sh", "-c", "while read line; do echo got $line; done; exit 4")
    terminal.type("one\n")
    terminal.until("got one")
    terminal.type("two\n")
    terminal.until("got two")
    terminal.type("\x04")
    assert terminal.end() == 4
    assert terminal.restored()


def test_ctrl_c_ends_a_command(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-exec=db", "--", "sh", "-c", "sleep 777")
    # A shell that is about to start it may let the signal pass.
    until(lambda: bool(sleepers(kept)))
    terminal.type("\x03")
    assert terminal.end() == 130
    until(lambda: not sleepers(kept))


def test_a_command_ends_when_its_caller_is_killed(kept: Shop) -> None:
    caller = subprocess.Popen(
        [*PYTEST, "--enclave-exec=db", "--", "sh", "-c", "echo begun; sleep 777 & sleep 777"],
        cwd=kept.path,
        env=kept.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"begun\n"
        until(lambda: sleepers(kept).count("sleep 777") == 2)
        caller.kill()
    until(lambda: not sleepers(kept))


def test_a_shell_and_its_jobs_end_when_their_caller_is_killed(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db")
    terminal.until(PROMPT)
    terminal.type("sleep 777 &\necho be''gun; sleep 777\n")
    terminal.until("begun")
    until(lambda: sleepers(kept).count("sleep 777") == 2)
    terminal.signal(signal.SIGKILL)
    until(lambda: not sleepers(kept))


def test_what_a_command_leaves_running_is_not_waited_for(kept: Shop) -> None:
    began = time.monotonic()
    result = kept.exec("sh", "-c", "sleep 20 & echo $!")
    assert time.monotonic() - began < 15
    assert kept.exec("kill", result.stdout.decode().strip()).returncode == 0


def test_a_pipe_whose_reader_has_enough_is_no_error(kept: Shop) -> None:
    command = " ".join([*PYTEST, "--enclave-exec=db", "--", "seq", "100000", "|", "head", "-1"])
    result = subprocess.run(
        ["sh", "-c", command], cwd=kept.path, env=kept.environment, capture_output=True, text=True, timeout=100
    )
    assert (result.stdout, result.stderr) == ("1\n", "")


# a shell


def test_a_shell_is_the_services(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db")
    terminal.type("echo a$((1 + 1))b $TERM $API_TOKEN\n")
    terminal.until("a2b xterm correct-horse")
    terminal.type("test -t 0 && test -t 1 && test -t 2 && echo all of it is a t''erminal\n")
    terminal.until("all of it is a terminal")
    terminal.type("stty size\n")
    terminal.until("31 97")
    terminal.resize(23, 45)
    terminal.type("sleep 1; stty size\n")
    terminal.until("23 45")
    terminal.type("exit 3\n")
    assert terminal.end() == 3
    assert terminal.restored()


def test_ctrl_c_ends_what_runs_in_the_shell_and_nothing_else(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db")
    terminal.until(PROMPT)
    terminal.type("echo be''gun; sleep 1000; echo en''ded\n")
    terminal.until("begun")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.type("echo code $?\n")
    terminal.until("code 130")
    terminal.type("sleep 1000\n")
    time.sleep(0.5)
    terminal.type("\x1a")
    terminal.until("Stopped")
    terminal.type("kill %1; echo still $((6 * 7))\n")
    terminal.until("still 42")
    # A shell may want to be told twice, where there are jobs.
    terminal.type("exit\nexit\n")
    terminal.end()
    assert terminal.restored()


def test_a_command_has_the_terminal_too(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db", "--", "sh", "-c", "read line; echo got $line; exit 9")
    terminal.type("some words\n")
    terminal.until("got some words")
    assert terminal.end() == 9
    assert terminal.restored()


def test_much_that_is_shown_arrives_whole(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db", "--", "seq", "200000")
    assert terminal.end() == 0
    assert [int(line) for line in terminal.shown.split()] == list(range(1, 200001))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(
    kept: Shop, sit: Callable[..., UserTerminal], number: signal.Signals
) -> None:
    terminal = sit("--enclave-shell=db")
    terminal.until(PROMPT)
    terminal.type("sleep 777\n")
    until(lambda: bool(sleepers(kept)))
    terminal.signal(number)
    assert terminal.end() == 128 + number
    assert terminal.restored()
    until(lambda: not sleepers(kept))


DEAF = """sh -c 'trap "" HUP; exec sleep 777' >/dev/null 2>&1 &"""
JOBS = f"(sleep 777 & sleep 777 &); sleep 777 & {DEAF} echo be''gun; sleep 777\n"
"""On a terminal each is in a group of its own; the parent of two is gone, and one does not hear of hanging up."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, None])
def test_jobs_of_a_shell_that_is_cut_off_end_with_it(
    kept: Shop, sit: Callable[..., UserTerminal], number: signal.Signals | None
) -> None:
    terminal = sit("--enclave-shell=db")
    terminal.until(PROMPT)
    terminal.type(JOBS)
    terminal.until("begun")
    until(lambda: sleepers(kept).count("777") == 5)
    if number is None:
        terminal.hang_up()
    else:
        terminal.signal(number)
        assert terminal.end() == 128 + number
    until(lambda: not sleepers(kept))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_jobs_of_a_command_that_is_cut_off_end_with_it(kept: Shop, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*PYTEST, "--enclave-exec=db", "--", "sh", "-c", JOBS],
        cwd=kept.path,
        env=kept.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    until(lambda: not sleepers(kept))


def test_what_a_shell_that_ends_by_itself_has_detached_stays(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db", "--", "sh", "-c", f"{DEAF} sleep 1")
    assert terminal.end() == 0
    assert sleepers(kept).count("777") == 1
    assert kept.exec("sh", "-c", "kill -9 $(pidof sleep)").returncode == 0


def until(condition: Callable[[], bool]) -> None:
    """Wait until that is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def sleepers(shop: Shop) -> str:
    """What is left in the service of what was typed into a shell."""
    script = "for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $each | grep '^sleep 777'; done"
    return shop.pytest("--enclave-exec=db", "--", "sh", "-c", script).stdout


def test_without_a_terminal_input_is_typed_until_its_end(kept: Shop) -> None:
    result = kept.pytest("--enclave-shell=db", typed="echo a$((1 + 1))b\n")
    assert result.returncode == 0, result.stderr
    assert "a2b" in result.stdout
    result = kept.pytest("--enclave-shell=db", "--", "cat", typed="some words")
    assert (result.returncode, result.stdout.count("some words")) == (0, 2)


def test_a_program_that_is_not_there_is_exit_code_127_in_a_terminal_too(
    kept: Shop, sit: Callable[..., UserTerminal]
) -> None:
    terminal = sit("--enclave-shell=db", "--", "nosuch")
    assert terminal.end() in (126, 127)
    assert '"nosuch"' in terminal.shown


def test_what_is_typed_before_the_shell_is_there_is_not_lost(kept: Shop, sit: Callable[..., UserTerminal]) -> None:
    terminal = sit("--enclave-shell=db")
    terminal.type("echo typed a''head\n")
    terminal.until("typed ahead")
    terminal.type("exit 0\n")
    assert terminal.end() == 0


# others' sessions


def test_a_session_goes_on_while_one_looks_at_its_enclave(shop: Shop) -> None:
    session = shop.begin()
    name = (shop.path / "begun").read_text()
    assert [entry.holder for entry in shop.ledger.entries()] == [session.pid]
    assert re.search(rf"^{name} .* in use$", shop.pytest("--enclave-ls").stdout, re.M)
    assert shop.pytest("--enclave-exec=db", "--", "echo", "hello").stdout == "hello\n"
    result = shop.pytest(f"--enclave-clean={name}")
    assert result.returncode == 1
    assert result.stdout == (
        f"{name} was not removed: a session uses it (--enclave-clean=all removes it all the same)\n"
    )
    assert shop.pytest("--enclave-clean").stdout == f"{name} stays: a session uses it\n"
    (shop.path / "go").touch()
    output, _ = session.communicate(timeout=60)
    assert session.returncode == 1
    assert f"enclave: {name} ({shop.path}) is kept until " in output
    result = shop.pytest("--enclave-clean")
    assert result.returncode == 0
    assert re.fullmatch(rf"removed {name} \(\w+.*, kept\)\n", result.stdout)


def test_a_session_does_not_end_sooner_because_one_looks(shop: Shop) -> None:
    session = shop.begin()
    looking = subprocess.Popen([*PYTEST, "--enclave-exec=db", "--", "sleep", "3"], cwd=shop.path, env=shop.environment)
    time.sleep(1.5)
    (shop.path / "go").touch()
    session.communicate(timeout=60)
    assert looking.wait(60) == 0
    (entry,) = shop.ledger.entries()
    assert entry.kept_until is not None
    assert shop.pytest("--enclave-exec=db", "--", "echo", "hello").stdout == "hello\n"


def test_all_are_removed_also_under_a_session(shop: Shop) -> None:
    session = shop.begin()
    name = (shop.path / "begun").read_text()
    result = shop.pytest("--enclave-clean=all")
    assert result.returncode == 0
    assert re.fullmatch(rf"removed {name} \(\w+.*, in use\)\n", result.stdout)
    (shop.path / "go").touch()
    session.communicate(timeout=60)
    assert session.returncode != 0


def test_what_a_killed_session_has_left_is_told_and_removed(shop: Shop) -> None:
    session = shop.begin()
    name = (shop.path / "begun").read_text()
    session.kill()
    session.communicate()
    shown = shop.pytest("--enclave-ls").stdout
    if name in shown:
        # What looks after killed sessions may just be at it.
        assert re.search(rf"^{name} .* (left behind|in use)$", shown, re.M)
        assert shop.pytest("--enclave-clean").returncode == 0
    until(lambda: shop.pytest("--enclave-ls").stdout == "there are no enclaves\n")
