"""Listing, removing and looking into enclaves, in place of a session."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from pytest_enclave.engine.protocol import EnclaveId, Leak
from pytest_enclave.engine.simulated.engine import SimulatedEngine
from pytest_enclave.errors import EngineError, EngineUnavailable
from pytest_enclave.face.commands.dispatch import error_text
from pytest_enclave.face.commands.known import Known, Standing, known_enclaves, standing_of
from pytest_enclave.face.commands.looking import looking_into
from pytest_enclave.face.commands.naming import find_service
from pytest_enclave.face.options import COMMANDS
from pytest_enclave.ledger.entry import Entry
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.ledger.locks import SharedLock, is_locked
from pytest_enclave.plan.values import Struct
from pytest_enclave.report.summary import moment

RunPytest = Callable[..., pytest.RunResult]

LATER = time.time() + 3600


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger that commands read here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Ledger(tmp_path / "state/pytest-enclave")


@pytest.fixture
def run(pytester: pytest.Pytester, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> RunPytest:
    """Run pytest in a process of its own, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "150")

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)

    return run


def entered(ledger: Ledger, name: str, **fields: object) -> Entry:
    """An enclave in the ledger that nobody uses."""
    entry = replace(Entry(name, "simulated", "s", time.time() - 130, package="shop"), **fields)  # type: ignore[arg-type]
    ledger.enter(entry).leave()
    return entry


def test_without_enclaves_that_is_said(run: RunPytest) -> None:
    for command in ("--enclave-ls", "--enclave-clean", "--enclave-clean=all"):
        result = run(command)
        assert (result.ret, result.outlines) == (0, ["there are no enclaves"])
    for command in ("--enclave-logs=db", "--enclave-shell=db"):
        result = run(command)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: {command}: there are no enclaves" in result.errlines


def test_no_test_is_collected_and_nothing_else_is_printed(
    pytester: pytest.Pytester, run: RunPytest, ledger: Ledger
) -> None:
    pytester.makepyfile("raise RuntimeError('imported')")
    entered(ledger, "shop-1")
    result = run("--enclave-ls")
    assert result.ret == 0
    assert [line.split()[0] for line in result.outlines] == ["NAME", "shop-1"]
    assert result.errlines == []


def test_without_a_command_nothing_of_them_is_imported(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile("import sys\ndef test_it(): assert 'pytest_enclave.face.commands' not in sys.modules")
    run().assert_outcomes(passed=1)


def test_commands_are_in_the_help(run: RunPytest) -> None:
    shown = " ".join(run("--help").stdout.str().split())
    for command in COMMANDS:
        assert command.flag in shown
        assert command.help in shown


def test_the_list_tells_who_lives_for_an_enclave(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "left-1", created=time.time() - 7300)
    entered(ledger, "kept-1", kept_until=LATER, created=time.time() - 130)
    with ExitStack() as held:
        home = ledger.enter(Entry("used-1", "simulated", "s", time.time() - 3))
        held.callback(home.leave)
        result = run("--enclave-ls")
    rows = [" ".join(line.split()) for line in result.outlines]
    assert rows[:3] == [
        "NAME ENGINE PACKAGE SERVICES AGE STATE",
        "left-1 simulated shop none 2 h left behind",
        f"kept-1 simulated shop none 2 min kept until {moment(LATER)}",
    ]
    assert rows[3].startswith("used-1 simulated - none ")
    assert rows[3].endswith(" in use")


def test_an_enclave_of_a_living_session_is_in_use_also_between_its_workers(ledger: Ledger) -> None:
    session = ledger.begin_session()
    entry = entered(ledger, "shop-1", key="k", session=session.id)
    assert standing_of(ledger, entry) is Standing.IN_USE
    session.end()
    assert standing_of(ledger, entry) is Standing.LEFT_BEHIND


def test_what_was_kept_too_long_is_left_behind(ledger: Ledger) -> None:
    assert standing_of(ledger, entered(ledger, "shop-1", kept_until=time.time() - 1)) is Standing.LEFT_BEHIND


def test_a_damaged_journal_is_told_and_stays_as_it_is(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "shop-1")
    journal = ledger.path("shop-1") / "journal.sqlite"
    journal.write_bytes(b"no journal at all" * 100)
    result = run("--enclave-ls")
    assert result.ret == 0
    assert " ".join(result.outlines[1].split()) == "shop-1 simulated shop ? 2 min left behind"
    assert result.outlines[2] == "  its journal is not a journal: file is not a database"
    assert journal.read_bytes() == b"no journal at all" * 100
    assert not (ledger.root / "set-aside").exists()


def test_the_list_tells_what_it_is_to_tests_and_its_arguments_without_secrets(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "shop-1", kind="share=orders", args='{"replicas": 3, "password": "correct-horse"}', created=1.0)
    entered(ledger, "shop-2", kind="isolated", args="no JSON")
    result = run("--enclave-ls")
    assert result.outlines[2::2] == ['  share=orders, args {"replicas": 3, "password": "••••"}', "  isolated"]


def damage(ledger: Ledger, name: str, *files: str) -> None:
    for file in files:
        (ledger.path(name) / file).write_text("{")


def test_a_damaged_entry_is_told_with_the_remedy(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "shop-1", created=1.0, kept_until=LATER)
    damage(ledger, "shop-1", "entry.json")
    entered(ledger, "shop-2")
    damage(ledger, "shop-2", "entry.json", "made.json")
    with ExitStack() as held:
        held.callback(ledger.enter(Entry("shop-3", "simulated", "s", time.time() + 5)).leave)
        damage(ledger, "shop-3", "entry.json")
        result = run("--enclave-ls")
    assert result.ret == 0
    lines = [" ".join(line.split()) for line in result.outlines]
    remedy = "its entry in the ledger is not JSON; pytest --enclave-clean={} removes what there is of it"
    assert re.fullmatch(r"shop-1 simulated shop none \d+ d damaged", lines[1])
    assert lines[2] == remedy.format("shop-1")
    assert re.fullmatch(r"shop-2 \? - none \d s damaged", lines[3])
    assert lines[4] == remedy.format("shop-2")
    assert re.fullmatch(r"shop-3 simulated - none \d s in use", lines[5])
    assert lines[6:] == [remedy.format("shop-3")]


@pytest.mark.parametrize("asked", ["", "=all", "=shop-1"])
def test_a_damaged_one_is_removed(run: RunPytest, ledger: Ledger, asked: str) -> None:
    entered(ledger, "shop-1")
    damage(ledger, "shop-1", "entry.json")
    result = run(f"--enclave-clean{asked}")
    assert (result.ret, result.outlines) == (0, ["removed shop-1 (simulated, damaged)"])
    assert ledger.entries() == []
    entered(ledger, "shop-1")
    damage(ledger, "shop-1", "entry.json", "made.json")
    result = run(f"--enclave-clean{asked}")
    assert (result.ret, result.outlines) == (0, ["removed shop-1 (damaged)"])
    assert ledger.entries() == []


def test_into_a_damaged_one_nobody_can_look_unless_its_engine_is_known(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "shop-1")
    damage(ledger, "shop-1", "entry.json", "made.json")
    (ledger.path("shop-1") / "journal.sqlite").write_text("damaged as well")
    result = run("--enclave-logs=shop-1/db")
    assert result.ret == 1
    assert result.errlines == [
        "ERROR: it is not known which engine enclave shop-1 is on: its entry in the ledger is not JSON",
        "  pytest --enclave-clean=shop-1 removes what there is of it on the engines that are here",
    ]


def test_an_enclave_that_is_just_being_made_gets_no_journal_by_looking(ledger: Ledger) -> None:
    entered(ledger, "shop-1")
    before = sorted(path.name for path in ledger.path("shop-1").iterdir())
    assert [(each.name, dict(each.services), each.trouble) for each in known_enclaves(ledger)] == [("shop-1", {}, "")]
    assert sorted(path.name for path in ledger.path("shop-1").iterdir()) == before


# removing


def test_what_nobody_uses_is_removed(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "left-1", created=1.0)
    entered(ledger, "kept-1", kept_until=LATER, created=2.0)
    home = ledger.enter(Entry("used-1", "simulated", "s", 3.0))
    result = run("--enclave-clean")
    home.leave()
    assert result.ret == 0
    assert sorted(result.outlines) == [
        "removed kept-1 (simulated, kept)",
        "removed left-1 (simulated, left behind)",
        "used-1 stays: a session uses it",
    ]
    assert [entry.name for entry in ledger.entries()] == ["used-1"]


def test_one_that_is_named_is_removed_alone(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "shop-1", kept_until=LATER)
    entered(ledger, "shop-2", kept_until=LATER)
    result = run("--enclave-clean=shop-2")
    assert (result.ret, result.outlines) == (0, ["removed shop-2 (simulated, kept)"])
    assert [entry.name for entry in ledger.entries()] == ["shop-1"]


def test_one_that_is_in_use_is_removed_by_all_alone(run: RunPytest, ledger: Ledger) -> None:
    home = ledger.enter(Entry("shop-1", "simulated", "s", time.time()))
    result = run("--enclave-clean=shop-1")
    assert result.ret == 1
    assert result.outlines == [
        "shop-1 was not removed: a session uses it (--enclave-clean=all removes it all the same)"
    ]
    assert home.path.exists()
    result = run("--enclave-clean=all")
    home.leave()
    assert (result.ret, result.outlines) == (0, ["removed shop-1 (simulated, in use)"])
    assert ledger.entries() == []


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (["shop-1"], "tests/", "there is no enclave `tests/`; there is `shop-1`"),
        (["shop-1", "market-2"], "x", "there is no enclave `x`; there are `market-2`, `shop-1`"),
        (
            ["shop-1a2b3c", "market-2"],
            "shop-1a2b3d",
            "there is no enclave `shop-1a2b3d`; did you mean `shop-1a2b3c`? there are `market-2`, `shop-1a2b3c`",
        ),
        ([], "tests", "there is no enclave `tests`; there are no enclaves"),
    ],
)
def test_a_name_that_is_none_is_a_usage_error(
    run: RunPytest, ledger: Ledger, names: Sequence[str], asked: str, message: str
) -> None:
    for name in names:
        entered(ledger, name)
    for arguments in ([f"--enclave-clean={asked}"], ["--enclave-clean", asked]):
        result = run(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: --enclave-clean={asked}: {message}" in result.errlines
    assert len(ledger.entries()) == len(names)


def test_an_engine_that_does_not_answer_keeps_only_its_own(
    run: RunPytest, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    endpoint = f"unix://{tmp_path}/nowhere.sock"
    entered(ledger, "lost-1", engine="docker", endpoint=endpoint, created=1.0)
    entered(ledger, "shop-1")
    result = run("--enclave-clean")
    assert result.ret == 1
    assert result.outlines[0].startswith("lost-1 could not be removed: ")
    assert f"{tmp_path}/nowhere.sock" in result.outlines[0]
    assert result.outlines[1:] == ["removed shop-1 (simulated, left behind)"]
    assert [entry.name for entry in ledger.entries()] == ["lost-1"]


def test_an_engine_that_is_not_known_here_is_told(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "moon-1", engine="moon")
    result = run("--enclave-clean")
    assert (result.ret, result.outlines) == (1, ["moon-1 could not be removed: there is no engine `moon` here"])


MOON = """
from pytest_enclave.engine.protocol import Leak
from pytest_enclave.engine.simulated.engine import SimulatedEngine

class Moon(SimulatedEngine):
    name = "moon"

    def remove(self, enclave):
        if enclave.name == "half-1":
            return [Leak("crater", "copernicus", "it is too deep", "moonctl rm copernicus")]
        return []

def pytest_enclave_engine(config):
    return Moon()
"""


def test_what_could_not_be_removed_is_told_with_its_command(
    pytester: pytest.Pytester, run: RunPytest, ledger: Ledger
) -> None:
    pytester.makeconftest(MOON)
    entered(ledger, "half-1", engine="moon")
    entered(ledger, "moon-1", engine="moon")
    result = run("--enclave-clean")
    assert result.ret == 1
    assert result.outlines == [
        "removed moon-1 (moon, left behind)",
        "enclave: 1 leaked resource",
        "crater  copernicus  it is too deep",
        "remove with:  moonctl rm copernicus",
    ]
    assert [entry.name for entry in ledger.entries()] == ["half-1"]
    assert not is_locked(ledger.path("half-1") / "lease")


def test_homes_that_were_never_finished_go_too(run: RunPytest, ledger: Ledger) -> None:
    entered(ledger, "shop-1")
    half = ledger.path(".half-1")
    half.mkdir()
    os.utime(half, (1, 1))
    assert run("--enclave-clean").ret == 0
    assert not half.exists()


# what is meant


def known(name: str, *services: str, standing: Standing = Standing.KEPT, **fields: object) -> Known:
    """An enclave with these services."""
    entry = replace(Entry(name, "docker", "s", 1.0, kept_until=LATER), **fields)  # type: ignore[arg-type]
    return Known(entry, standing, {service: Struct("ServiceConfig", {}) for service in services})


def test_a_service_is_that_of_the_enclave_in_use_else_of_the_one_kept_last() -> None:
    first, second = known("a", "db"), known("b", "db", kept_until=LATER + 5)
    used, left = known("c", "db", standing=Standing.IN_USE), known("d", "db", standing=Standing.LEFT_BEHIND)
    assert find_service("db", [second, first, left], "--enclave-exec") == (second, "db")
    assert find_service("db", [used, second, first], "--enclave-exec") == (used, "db")
    assert find_service("db", [left], "--enclave-exec") == (left, "db")
    assert find_service("a/db", [used, second, first], "--enclave-exec") == (first, "db")


def test_a_journal_that_cannot_be_read_keeps_nobody_from_naming_its_service() -> None:
    broken = Known(Entry("a", "docker", "s", 1.0), Standing.KEPT, trouble="is damaged")
    assert find_service("a/db", [broken], "--enclave-logs") == (broken, "db")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("cache", "2 enclaves have such a service; say which: `c/cache`, `d/cache`"),
        ("dbb", "no enclave has a service `dbb`; did you mean `db`?"),
        (
            "x",
            "no enclave has a service `x`; there are `a/db`, `c/cache`, `d/cache`",
        ),
        ("a/dbb", "there is no service `dbb` in enclave `a`; did you mean `db`? there is `db`"),
        ("a/x", "there is no service `x` in enclave `a`; there is `db`"),
        ("e/x", "there is no service `x` in enclave `e`; it has none"),
        ("zzz/db", "there is no enclave `zzz`; there are `a`, `c`, `d`, `e`"),
    ],
)
def test_what_is_not_there_or_not_clear_is_told_with_what_there_is(asked: str, message: str) -> None:
    enclaves = [
        known("a", "db"),
        known("c", "cache", standing=Standing.IN_USE),
        known("d", "cache", standing=Standing.IN_USE),
        known("e"),
    ]
    with pytest.raises(pytest.UsageError) as error:
        find_service(asked, enclaves, "--enclave-logs")
    assert str(error.value) == f"--enclave-logs={asked}: {message}"


def test_one_command_at_a_time(run: RunPytest) -> None:
    result = run("--enclave-ls", "--enclave-clean", "--enclave-logs=db")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --enclave-ls, --enclave-clean and --enclave-logs: one at a time" in result.errlines


@pytest.mark.parametrize("arguments", [["--enclave-exec=db"], ["--enclave-exec=db", "--"], ["--enclave-exec=db", "ls"]])
def test_exec_needs_a_command_after_two_dashes(run: RunPytest, arguments: Sequence[str]) -> None:
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: --enclave-exec takes a command after `--`, for example: pytest --enclave-exec=db -- ls /"
    ) in result.errlines


def test_an_error_is_told_with_all_that_was_tried_and_what_to_do() -> None:
    error = EngineUnavailable("no engine answers", tried=[("a socket", "refused")], remedy="start it\nor another")
    assert error_text(error) == ("ERROR: no engine answers\n  tried a socket: refused\n  start it\n  or another")


# looking without changing anything


class Looked:
    """An engine, and its site: what was asked of them."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.calls: list[object] = []
        self.leaks: Sequence[Leak] = []
        self.during = during

    def attach(self, enclave: EnclaveId) -> Looked:
        self.calls.append(enclave)
        self.during()
        return self

    def keep(self, until: float) -> None:
        self.calls.append(until)

    def leave(self) -> None:
        self.calls.append("left")

    def remove(self, enclave: EnclaveId) -> Sequence[Leak]:
        self.calls.append(f"removed {enclave.name}")
        return self.leaks


def look(ledger: Ledger, entry: Entry, engine: Looked) -> Iterator[Looked]:
    with looking_into(ledger, entry, engine) as site:  # type: ignore[arg-type]
        yield site  # type: ignore[misc]


def test_what_lives_for_a_session_goes_on_doing_so(ledger: Ledger) -> None:
    session = ledger.begin_session()
    entry = entered(ledger, "shop-1", key="k", session=session.id, holder=4711)
    engine = Looked()
    list(look(ledger, entry, engine))
    assert engine.calls == [EnclaveId("shop-1", str(ledger.path("shop-1")), 4711), "left"]
    assert ledger.entries() == [entry]
    session.end()


def test_what_is_kept_stays_kept(ledger: Ledger) -> None:
    entry = entered(ledger, "shop-1", kept_until=LATER, holder=4711)
    engine = Looked()
    list(look(ledger, entry, engine))
    # Its holder has ended: meanwhile it lives for us.
    assert engine.calls == [EnclaveId("shop-1", str(ledger.path("shop-1"))), LATER, LATER, "left"]
    assert ledger.entries() == [entry]


def test_what_was_kept_lives_for_the_session_that_has_taken_it_over(ledger: Ledger) -> None:
    entered(ledger, "shop-1", key="k", kept_until=LATER, holder=4711, ready=True)
    session = ledger.begin_session()
    claimed = ledger.claim("k", session, kept=True)
    assert claimed is not None
    assert [each.holder for each in (claimed.entry, *ledger.entries())] == [os.getpid()] * 2
    claimed.home.leave()
    session.end()


def test_what_is_left_behind_is_so_afterwards(ledger: Ledger) -> None:
    entry = entered(ledger, "shop-1", holder=4711)
    engine = Looked()
    list(look(ledger, entry, engine))
    assert engine.calls == [EnclaveId("shop-1", str(ledger.path("shop-1"))), "left"]
    assert ledger.entries() == [entry]


def test_what_its_session_keeps_meanwhile_is_kept(ledger: Ledger) -> None:
    session = ledger.begin_session()
    entry = entered(ledger, "shop-1", key="k", session=session.id, holder=4711)
    engine = Looked()
    for _ in look(ledger, entry, engine):
        ledger.change("shop-1", kept_until=LATER)
        session.end()
    assert engine.calls[1:] == [LATER, "left"]
    assert standing_of(ledger, ledger.entries()[0]) is Standing.KEPT


def test_what_its_session_could_not_remove_meanwhile_is_removed_afterwards(ledger: Ledger) -> None:
    session = ledger.begin_session()
    entry = entered(ledger, "shop-1", key="k", session=session.id, holder=4711)
    engine = Looked()
    for _ in look(ledger, entry, engine):
        session.end()
        assert ledger.condemn(entry, alive=True) is None
    assert engine.calls[1:] == ["left", "removed shop-1"]
    assert ledger.entries() == []


def test_nobody_else_removes_it_meanwhile(ledger: Ledger) -> None:
    entry = entered(ledger, "shop-1", kept_until=LATER)
    for _ in look(ledger, entry, Looked()):
        assert standing_of(ledger, entry) is Standing.IN_USE
        assert ledger.condemn(entry, alive=True) is None
    assert not is_locked(ledger.path("shop-1") / "lease")


def test_one_that_is_being_removed_is_not_looked_into(ledger: Ledger) -> None:
    entry = entered(ledger, "shop-1", kept_until=LATER)
    condemned = ledger.condemn(entry, alive=True)
    assert condemned is not None
    for _ in range(2):
        with pytest.raises(EngineError) as error:
            list(look(ledger, entry, Looked()))
        assert str(error.value) == "enclave shop-1 is not there any more: it has just been removed"
        ledger.forget(condemned)


def test_an_enclave_that_cannot_be_attached_is_let_go_of(ledger: Ledger) -> None:
    entry = entered(ledger, "shop-1", kept_until=LATER)

    def fail() -> None:
        raise EngineError("it is gone")

    with pytest.raises(EngineError, match="it is gone"):
        list(look(ledger, entry, Looked(fail)))
    assert SharedLock(ledger.path("shop-1") / "lease").take(wait=False)


def test_nothing_simulated_has_a_terminal() -> None:
    site = SimulatedEngine().open(EnclaveId("shop-1"))
    with pytest.raises(EngineError) as error:
        site.terminal("db", ["sh"], {})
    assert str(error.value) == "service `db` is simulated: there is nothing in it that could have a terminal"


def test_the_configs_secrets_are_masked_and_no_names() -> None:
    from pytest_enclave.report.masking import Secrets

    config: Mapping[str, str] = {"DB_PASSWORD": "correct-horse", "MODE": "battery-staple"}
    secrets = Secrets.of_configs({"db": Struct("ServiceConfig", {"image": "postgres", "env_vars": config})})
    assert secrets.mask("correct-horse battery-staple") == "•••• battery-staple"


@pytest.mark.parametrize("option", ["--enclave-clean=", "--enclave-logs=", "--enclave-shell="])
def test_a_value_that_is_empty_means_nothing(pytester: pytest.Pytester, option: str) -> None:
    told = pytester.runpytest_subprocess(option)
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines([f"*{option} is given nothing*"])
