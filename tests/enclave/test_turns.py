"""Runs come one after the other, changes wait for tests, and nobody waits for ever (design §4, rule 7)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_enclave.enclave.turns import Turns, Uses
from pytest_enclave.errors import EngineError
from pytest_enclave.ledger.locks import is_locked

TAKER = Path(__file__).with_name("turn_taker.py")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def process(home: Path) -> Callable[[], tuple[Turns, Uses]]:
    """One process's view of an enclave."""

    def make() -> tuple[Turns, Uses]:
        uses = Uses()
        return Turns(home, uses), uses

    return make


class Background:
    """Something that is done in a thread, and may have to wait."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def waits(self) -> bool:
        self._thread.join(0.1)
        return self._thread.is_alive()

    def ends(self) -> bool:
        self._thread.join(10)
        return not self._thread.is_alive()


def run(turns: Turns, *, changes: bool = False) -> None:
    with turns.taken() as be_alone:
        if changes:
            be_alone()


def test_runs_come_one_after_the_other(process: Callable[[], tuple[Turns, Uses]]) -> None:
    first, second = process()[0], process()[0]
    with first.taken():
        waiting = Background(lambda: run(second))
        assert waiting.waits()
    assert waiting.ends()


def test_a_run_that_only_adds_goes_on_beside_a_test(process: Callable[[], tuple[Turns, Uses]]) -> None:
    first, second = process()[0], process()[0]
    run(first)
    run(second)


def test_a_run_that_changes_waits_until_the_test_is_over(process: Callable[[], tuple[Turns, Uses]]) -> None:
    (first, test), (second, _) = process(), process()
    run(first)
    waiting = Background(lambda: run(second, changes=True))
    assert waiting.waits()
    test.end()
    assert waiting.ends()


def test_a_test_does_not_wait_for_itself(process: Callable[[], tuple[Turns, Uses]]) -> None:
    turns, _ = process()
    run(turns)
    run(turns, changes=True)
    run(turns, changes=True)


def test_what_a_test_has_run_is_not_changed_before_it_is_over(process: Callable[[], tuple[Turns, Uses]]) -> None:
    (first, test), (second, _) = process(), process()
    run(first, changes=True)
    waiting = Background(lambda: run(second, changes=True))
    assert waiting.waits()
    test.end()
    assert waiting.ends()


def test_a_test_that_begins_waits_while_something_is_changed(process: Callable[[], tuple[Turns, Uses]]) -> None:
    (first, _), (second, test) = process(), process()
    with first.taken() as be_alone:
        be_alone()
        waiting = Background(second.use)
        assert waiting.waits()
    assert waiting.ends()
    test.end()


def test_two_tests_that_both_change_what_both_use_wait_for_each_other_in_turn(
    process: Callable[[], tuple[Turns, Uses]],
) -> None:
    (first, one), (second, two) = process(), process()
    run(first)
    run(second)
    changing = Background(lambda: run(first, changes=True))
    assert changing.waits(), "the second test uses it"
    also = Background(lambda: run(second, changes=True))
    assert changing.ends(), "whoever waits uses nothing"
    one.end()
    assert also.ends()
    two.end()


def test_an_enclave_that_was_removed_meanwhile_holds_nobody_up(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    turns = Turns(home, uses := Uses())
    with turns.taken():
        for file in home.iterdir():
            file.unlink()
        home.rmdir()
    uses.end()


def test_a_turn_that_its_process_is_killed_in_is_free_at_once(home: Path) -> None:
    program = (
        "import sys, time; sys.path[:] = sys.argv[2:]\n"
        "from pathlib import Path; from pytest_enclave.enclave.turns import Turns, Uses\n"
        "with Turns(Path(sys.argv[1]), Uses()).taken() as be_alone:\n"
        "    be_alone(); print('alone', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(home), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        waiting = Background(lambda: run(Turns(home, Uses()), changes=True))
        assert waiting.waits()
        killed.kill()
        assert waiting.ends()


def test_many_processes_with_several_enclaves_neither_meet_a_change_nor_wait_for_ever(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "uses").touch()
    command = [sys.executable, str(TAKER), str(tmp_path)]
    takers = [
        subprocess.Popen(
            [*command, str(seed), "60", "3"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for seed in range(6)
    ]
    assert [taker.communicate(timeout=100)[0] for taker in takers] == [""] * 6
    assert [taker.returncode for taker in takers] == [0] * 6


def test_who_has_the_turn_may_take_it_again_and_has_it_until_the_outer_one_is_over(
    process: Callable[[], tuple[Turns, Uses]],
) -> None:
    first, second = process()[0], process()[0]
    with first.taken():
        run(first, changes=True)
        waiting = Background(lambda: run(second))
        assert waiting.waits()
    assert waiting.ends()


def test_who_holds_an_enclave_has_it_alone_until_it_lets_go(process: Callable[[], tuple[Turns, Uses]]) -> None:
    (first, test), (second, _), (third, _) = process(), process(), process()
    run(first)
    first.hold()
    running, using = Background(lambda: run(second)), Background(third.use)
    assert running.waits(), "also a run that would only add"
    assert using.waits()
    run(first, changes=True)
    assert running.waits(), "its own runs do not let others in"
    first.let_go()
    assert running.ends()
    assert using.ends()
    test.end()


def test_to_hold_an_enclave_waits_for_the_tests_that_use_it(process: Callable[[], tuple[Turns, Uses]]) -> None:
    (first, one), (second, two) = process(), process()
    run(first)
    run(second)
    holding = Background(first.hold)
    assert holding.waits()
    two.end()
    assert holding.ends()
    first.let_go()
    one.end()


def test_who_let_go_goes_on_using_it(process: Callable[[], tuple[Turns, Uses]]) -> None:
    (first, test), (second, _) = process(), process()
    first.hold()
    first.let_go()
    first.let_go()
    run(second)
    waiting = Background(lambda: run(second, changes=True))
    assert waiting.waits()
    test.end()
    assert waiting.ends()


def test_two_tests_that_hold_one_enclave_each_and_use_that_of_the_other_do_so_in_turn(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        home.mkdir()
    uses = Uses(), Uses()
    turns = [[Turns(home, mine) for home in homes] for mine in uses]
    for mine in turns:
        for enclave in mine:
            run(enclave)
    done = []

    def test(number: int) -> None:
        for _ in range(20):
            turns[number][number].hold()
            done.append(number)
            turns[number][number].let_go()
        uses[number].end()

    tests = [Background(lambda number=number: test(number)) for number in (0, 1)]
    assert [test.ends() for test in tests] == [True, True]
    assert len(done) == 40


@pytest.fixture
def two(tmp_path: Path) -> Callable[[], tuple[list[Turns], Uses]]:
    """A test of one process that uses two enclaves."""
    homes = [tmp_path / name for name in ("one", "other")]
    for home in homes:
        home.mkdir()

    def make() -> tuple[list[Turns], Uses]:
        uses = Uses()
        turns = [Turns(home, uses) for home in homes]
        for each in turns:
            run(each)
        return turns, uses

    return make


def test_two_tests_that_hold_the_same_two_enclaves_the_other_way_round_do_so_in_turn(
    two: Callable[[], tuple[list[Turns], Uses]],
) -> None:
    tests = two(), two()
    done: list[int] = []

    def test(number: int) -> None:
        turns, uses = tests[number]
        first, then = turns if number else reversed(turns)
        for _ in range(30):
            first.hold()
            then.hold()
            done.append(number)
            run(first, changes=True)
            first.let_go()
            first.hold()
            done.append(number)
            then.let_go()
            first.let_go()
        uses.end()

    both = [Background(lambda number=number: test(number)) for number in (0, 1)]
    assert [each.ends() for each in both] == [True, True]
    assert len(done) == 120
    assert done[::2] == done[1::2], "none came in between"


def test_who_holds_one_enclave_has_all_that_the_test_uses_until_its_last_fault_is_over(
    two: Callable[[], tuple[list[Turns], Uses]],
) -> None:
    ([one, other], test), ([_, theirs], them) = two(), two()
    them.end()
    one.hold()
    using = Background(theirs.use)
    assert using.waits()
    other.hold()
    one.let_go()
    assert using.waits(), "there is a fault in the other one"
    other.let_go()
    assert using.ends()
    waiting = Background(lambda: run(theirs, changes=True))
    assert waiting.waits(), "the test goes on using both"
    test.end()
    assert waiting.ends()


def test_to_hold_both_waits_for_a_test_that_uses_the_other_one_and_holds_nobody_up_meanwhile(
    two: Callable[[], tuple[list[Turns], Uses]],
) -> None:
    ([one, _], test), ([their_one, their_other], them), (_, others) = two(), two(), two()
    others.end()
    holding = Background(one.hold)
    assert holding.waits()
    # They use both, and go on to do so.
    their_one.use()
    their_other.use()
    assert holding.waits()
    them.end()
    assert holding.ends()
    one.let_go()
    test.end()


def test_the_end_of_a_test_lets_go_of_what_it_holds(two: Callable[[], tuple[list[Turns], Uses]]) -> None:
    ([one, _], test), ([theirs, _], them) = two(), two()
    them.end()
    one.hold()
    test.end()
    run(theirs, changes=True)
    them.end()


def test_an_enclave_that_was_removed_is_not_held_with_others(two: Callable[[], tuple[list[Turns], Uses]]) -> None:
    [one, other], test = two()
    for file in other.home.iterdir():
        file.unlink()
    other.home.rmdir()
    one.hold()
    one.let_go()
    test.end()


def test_who_holds_an_enclave_does_not_wait_for_another_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_enclave.enclave.turns.PATIENCE", 0.1)
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    (mine, elsewhere), also = (Uses(), Uses()), "while it is held"
    held, other = Turns(tmp_path / "mine", mine), Turns(tmp_path / "other", mine)
    held.hold()
    with Turns(tmp_path / "other", elsewhere).taken() as be_alone:
        be_alone()
        for wait in (other.use, lambda: run(other), other.hold):
            with pytest.raises(EngineError) as caught:
                wait()
            assert caught.value.message == (
                "this test has a fault in enclave mine, and waits for enclave other, which others have used for 0.1 s: "
                "they may wait for mine"
            ), also
            assert caught.value.remedy == "ask for all enclaves of a test before its first fault"
    elsewhere.end()
    run(other)
    held.let_go()
    mine.end()


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Uses, dict[str, Turns]]]:
    """Four enclaves `a` to `d`, as a test of one process sees them that waits for a moment only."""
    monkeypatch.setattr("pytest_enclave.enclave.turns.PATIENCE", 0.1)
    for name in "abcd":
        (tmp_path / name).mkdir()

    def make() -> tuple[Uses, dict[str, Turns]]:
        uses = Uses()
        return uses, {name: Turns(tmp_path / name, uses) for name in "abcd"}

    return make


def break_one_and_use_two(turns: dict[str, Turns]) -> None:
    turns["a"].hold()
    turns["b"].use()
    turns["c"].use()


def in_use(turns: dict[str, Turns]) -> str:
    """Which of them somebody uses."""
    return "".join(name for name, each in turns.items() if is_locked(each.home / "use"))


def test_who_waits_in_vain_goes_on_using_what_it_has_used(
    several: Callable[[], tuple[Uses, dict[str, Turns]]],
) -> None:
    (test, mine), (other, theirs) = several(), several()
    break_one_and_use_two(mine)
    with theirs["d"].taken() as be_alone:
        be_alone()
        for wait in (mine["d"].use, lambda: run(mine["d"]), mine["d"].hold):
            with pytest.raises(EngineError, match="waits for enclave d"):
                wait()
            assert in_use(mine) == "abcd"
    other.end()
    assert in_use(mine) == "abc"
    mine["a"].let_go()
    test.end()
    assert in_use(mine) == ""


def test_one_that_cannot_be_used_again_yet_keeps_no_other_from_it_and_is_used_later(
    several: Callable[[], tuple[Uses, dict[str, Turns]]],
) -> None:
    (test, mine), (other, theirs) = several(), several()
    break_one_and_use_two(mine)
    test.drop()
    assert in_use(mine) == "a"
    with theirs["b"].taken() as be_alone:
        be_alone()
        with pytest.raises(EngineError, match="waits for enclave b"):
            test.take_again()
    other.end()
    assert in_use(mine) == "ac"
    mine["a"].let_go()
    assert in_use(mine) == "abc"
    test.end()


def test_an_interrupt_while_it_waits_to_hold_leaves_in_use_what_was(
    several: Callable[[], tuple[Uses, dict[str, Turns]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (test, mine), (other, theirs) = several(), several()
    for name in "abc":
        mine[name].use()
    theirs["c"].use()
    original = test.wait

    def interrupt(*_: object) -> None:
        monkeypatch.setattr(test, "wait", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(test, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mine["a"].hold()
    other.end()
    assert in_use(mine) == "abc"
    for name in "abc":
        run(theirs[name])
    other.end()
    test.end()
    assert in_use(mine) == ""


@pytest.mark.parametrize("waits_for", ["the turn", "the use"])
def test_an_interrupt_while_it_waits_to_hold_leaves_nothing_held(
    process: Callable[[], tuple[Turns, Uses]], monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    (first, test), (second, other) = process(), process()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with second.taken():
        monkeypatch.setattr(test, "wait", interrupt)
        if waits_for == "the turn":
            with pytest.raises(KeyboardInterrupt):
                first.hold()
    if waits_for == "the use":
        with pytest.raises(KeyboardInterrupt):
            first.hold()
    monkeypatch.undo()
    run(second, changes=True)
    second.hold()
    second.let_go()
    other.end()
    first.hold()
    first.let_go()
    test.end()
