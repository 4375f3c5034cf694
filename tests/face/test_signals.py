"""A signal that comes while an enclave is made ends that, even where CPython drops what its handler raises."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pytest_enclave.face import signals
from pytest_enclave.face.signals import Signals
from tests.face.conftest import WritePackage


class Finalized:
    """An object during whose finalization a signal comes."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def lose(number: signal.Signals) -> None:
    """Have a signal whose exception is dropped."""
    dropped = []
    before, sys.unraisablehook = sys.unraisablehook, dropped.append
    try:
        Finalized(number)
    finally:
        sys.unraisablehook = before
    assert [each.exc_type.__mro__[-3] for each in dropped] == [KeyboardInterrupt]


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    """Signals as in a session with an enclave, and little patience."""
    monkeypatch.setattr(signals, "PATIENCE", 0.05)
    held = Signals()
    held.catch()
    yield held
    held.release()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_lost_signal_ends_a_long_wait(caught: Signals, number: signal.Signals) -> None:
    def work() -> None:
        lose(number)
        threading.Event().wait(60)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), caught.insisting():
        work()
    assert time.monotonic() - began < 30


def test_a_lost_signal_is_raised_at_the_end_at_the_latest(caught: Signals) -> None:
    with pytest.raises(KeyboardInterrupt), caught.insisting():
        lose(signal.SIGINT)


def test_nothing_is_sent_again_once_the_signal_has_ended_the_work(caught: Signals) -> None:
    with pytest.raises(KeyboardInterrupt), caught.insisting():
        signal.raise_signal(signal.SIGINT)
    time.sleep(3 * signals.PATIENCE)


def test_handlers_are_given_back(caught: Signals) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with caught.insisting():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_ignores_ctrl_c_goes_on_ignoring_it(caught: Signals) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with caught.insisting():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_signals(caught: Signals) -> None:
    found = []

    def work() -> None:
        with caught.insisting():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_an_interrupt_is_shown_without_the_places_where_it_came(
    pytester: pytest.Pytester, package: WritePackage
) -> None:
    package()
    pytester.makeconftest("def pytest_enclave_before_execute():\n    raise KeyboardInterrupt")
    pytester.makepyfile("def test_it(enclave): ...")
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", "--full-trace")
    assert result.ret is pytest.ExitCode.INTERRUPTED
    assert "fixtures.py" in result.stdout.str()
    assert "pipeline.py" not in result.stdout.str()
