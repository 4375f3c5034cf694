"""Package code that would harm the process it is evaluated in: it ends with an error, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language import confined, interpret
from pytest_enclave.language.confined import Unanswered, apart, resident

MEMORY = "interpretation needs more memory than it may have"
DEPTH = "nested too deeply"


def repeated(statement: str, start: str, times: int = 60) -> str:
    return f"def run(plan):\n    x = {start}\n    for i in range({times}):\n        {statement}\n    return len(x)\n"


GROWING = {
    "text-added": repeated("x = x + x", "'ab'"),
    "text-added-in-place": repeated("x += x", "'ab'"),
    "text-in-a-dict": "def run(plan):\n    d = {'a': 'ab'}\n    for i in range(60):\n        d['a'] += d['a']\n",
    "text-repeated": repeated("x = x * 7", "'ab'"),
    "text-repeated-in-place": repeated("x *= 7", "'ab'"),
    "number-in-front": repeated("x = 7 * x", "'ab'"),
    "percent": repeated("x = '%s%s' % (x, x)", "'ab'"),
    "format": repeated("x = '{0}{0}'.format(x)", "'ab'"),
    "join": repeated("x = x.join(['a', 'b', 'c', 'd'])", "'ab'"),
    "join-of-many": "def run(plan):\n    y = ['a' * 60000] * 60000\n    return len(','.join(y))\n",
    "replace": repeated("x = x.replace('a', x)", "'ab'"),
    "list-added": repeated("x = x + x", "[1]"),
    "list-in-place": repeated("x += x", "[1]"),
    "list-extended": repeated("x.extend(x)", "[1]"),
    "list-repeated": repeated("x = x * 3", "[1]"),
    "method-kept": "def run(plan):\n    x = ['a']\n    f = x.extend\n    for i in range(60):\n        f(x)\n",
    "method-by-name": "def run(plan):\n    x = ['a']\n    for i in range(60):\n        getattr(x, 'extend')(x)\n",
    "straight": "def run(plan):\n    x = 'ab'\n" + "    x = x + x\n" * 60,
    "range": "def run(plan):\n    return len(list(range(1 << 30)))\n",
    "one-by-one": "def run(plan):\n    x = []\n    for i in range(1 << 30):\n        x.append('%d' % i)\n",
    "shown": "def run(plan):\n    x = []\n    for i in range(60):\n        x = [x, x]\n    return str(x)\n",
    "returned": "def run(plan):\n    x = {}\n    for i in range(60):\n        x = {'a': x, 'b': x}\n    return x\n",
    "printed": "def run(plan):\n    x = ()\n    for i in range(60):\n        x = (x, x)\n    plan.print(x)\n",
}

DEEP = {
    "list": "x = [x]",
    "tuple": "x = (x,)",
    "dict": "x = {'a': x}",
    "struct": "x = struct(a = x)",
    "closure": "x = (lambda y: lambda: y)(x)",
    "by-way-of-another": "y = [x]; x = y",
    "by-way-of-a-function": "x = wrap(x)",
    "in-place": "x[0] = [x[0]]",
}

ENDLESS = {
    "greatest": "def run(plan):\n    return max(range(1 << 30))\n",
    "compared": "def two():\n    x = []\n    for i in range(60):\n        x = [x, x]\n    return x\n"
    "def run(plan):\n    return two() == two()\n",
    "power": "def run(plan):\n    x = 3\n    for i in range(60):\n        x = x * x\n    return x == 0\n",
    "number-in-place": "def run(plan):\n    x = 3\n    for i in range(60):\n        x *= x\n    return x == 0\n",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in GROWING.items()])
def test_memory_is_bounded(plan_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(interpret, "TRUSTED", 16 << 20)
    monkeypatch.setattr(interpret, "MEMORY", 100 << 20)
    before = resident()
    with pytest.raises(InterpretationError, match=f"{MEMORY}|{DEPTH}") as caught:
        plan_of(text, timeout=60)
    assert caught.value.location is not None
    assert resident() - before < 100 << 20


@pytest.mark.parametrize("statement", [pytest.param(text, id=name) for name, text in DEEP.items()])
def test_values_nested_without_end(plan_of: Callable[..., Any], statement: str) -> None:
    made = f"def wrap(y):\n    return [y]\ndef made():\n    x = [1]\n    for i in range(200000):\n        {statement}\n"
    with pytest.raises(InterpretationError, match=DEPTH) as caught:
        plan_of(f"{made}    return x\nX = made()\ndef run(plan):\n    pass\n", timeout=30)
    assert caught.value.location is not None


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in ENDLESS.items()])
def test_what_no_check_can_interrupt_ends_in_time(plan_of: Callable[..., Any], text: str) -> None:
    started = time.monotonic()
    with pytest.raises(InterpretationError, match=r"interpretation took longer than 0.3 s"):
        plan_of(text, timeout=0.3)
    assert time.monotonic() - started < 5


def test_careful_evaluation_gives_the_same_plan(plan_of: Callable[..., Any]) -> None:
    text = (
        "def run(plan):\n    x = [1]\n    for i in range(3):\n        x = [x, i]\n"
        "    plan.add_service('a', ServiceConfig('image', memory_allocation = 64))\n    return ('é' * 70000, x)\n"
    )
    plan = plan_of(text)
    assert plan.output == ("é" * 70000, [[[[1], 0], 1], 2])
    assert [call.name for call in plan.instructions] == ["add_service"]
    assert [problem.subject for problem in plan.warnings] == ["ServiceConfig"]
    assert plan.sources == {"<source>": text}


def test_errors_of_careful_evaluation_keep_place_and_sources(plan_of: Callable[..., Any]) -> None:
    text = "def run(plan):\n    x = 'a' * 70000\n    fail('no', 1)\n"
    with pytest.raises(AssertionError, match="<source>:3:9: no 1") as caught:
        plan_of(text)
    assert caught.value.sources == {"<source>": text}  # type: ignore[attr-defined]
    assert caught.value.frames  # type: ignore[attr-defined]


def test_a_cancelled_careful_evaluation(plan_of: Callable[..., Any]) -> None:
    asked = iter([False] * 3)
    with pytest.raises(InterpretationError, match="interpretation was cancelled"):
        plan_of(ENDLESS["greatest"], cancelled=lambda: next(asked, True))


def _children() -> set[str]:
    """Of all threads of this process; the session may have some."""
    return {child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()}


def test_no_process_is_left_behind() -> None:
    before = _children()
    with pytest.raises(Unanswered, match="time"):
        apart(lambda: time.sleep(60), memory=1 << 30, deadline=time.monotonic() - 1, cancelled=lambda: False)
    assert _children() == before


def test_results_of_any_size_and_errors_of_any_kind() -> None:
    assert apart(lambda: "x" * 10_000_000, memory=1 << 30, deadline=None, cancelled=lambda: False) == "x" * 10_000_000
    with pytest.raises(KeyboardInterrupt):
        apart(_interrupt, memory=1 << 30, deadline=None, cancelled=lambda: False)
    with pytest.raises(Unanswered, match="memory"):
        apart(lambda: len("x" * (1 << 33)), memory=1 << 28, deadline=None, cancelled=lambda: False)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_fork_of_a_process_with_threads_is_no_warning(plan_of: Callable[..., Any]) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert plan_of("def run(plan):\n    return len('a' * 70000)\n").output == 70000
    finally:
        done.set()
        thread.join()


INTERRUPTED = """
import sys, time
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source
interpret(load(Source("def run(plan): pass")), built_in(), {})
print("ready", flush=True)
try:
    interpret(load(Source(sys.stdin.read())), built_in(), {}, timeout=60)
except KeyboardInterrupt:
    print("interrupted", time.time(), flush=True)
"""


@pytest.mark.parametrize(
    "text",
    [
        "def run(plan):\n    for a in range(1 << 17):\n        for b in range(1 << 17):\n            pass\n",
        ENDLESS["greatest"],
        ENDLESS["compared"],
    ],
    ids=["loop", "native", "comparison"],
)
def test_ctrl_c_works_during_interpretation(text: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.stdin.write(text)
        process.stdin.close()
        time.sleep(1)
        pressed = time.time()
        os.killpg(process.pid, signal.SIGINT)
        word, at = process.stdout.read().split()
    assert word == "interrupted"
    assert float(at) - pressed < 0.2 * (1 + os.getloadavg()[0])


@pytest.fixture
def held_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pipes whose ends for writing another process has as well, as a fork of another thread may."""
    kept: list[int] = []
    make = os.pipe

    def pipe() -> tuple[int, int]:
        reading, writing = make()
        kept.append(os.dup(writing))
        return reading, writing

    monkeypatch.setattr(os, "pipe", pipe)
    yield
    for descriptor in kept:
        os.close(descriptor)


@pytest.mark.usefixtures("held_open")
def test_an_answer_does_not_wait_for_others_who_have_the_pipe() -> None:
    assert apart(lambda: "x" * 3_000_000, memory=1 << 30, deadline=None, cancelled=lambda: False) == "x" * 3_000_000


@pytest.mark.usefixtures("held_open")
def test_a_fork_that_ends_without_an_answer_is_noticed() -> None:
    with pytest.raises(Unanswered, match="memory"):
        apart(lambda: os._exit(3), memory=1 << 30, deadline=time.monotonic() + 30, cancelled=lambda: False)


@pytest.mark.parametrize(
    ("end", "reason"), [(signal.SIGSEGV, "depth"), (signal.SIGBUS, "depth"), (signal.SIGKILL, "memory")]
)
def test_a_fork_that_a_signal_ends(end: int, reason: str) -> None:
    with pytest.raises(Unanswered, match=reason):
        apart(lambda: os.kill(os.getpid(), end), memory=1 << 30, deadline=None, cancelled=lambda: False)


def test_several_threads_have_forks_at_once() -> None:
    found: list[int] = []

    def one(number: int) -> None:
        found.append(apart(lambda: number * number, memory=1 << 30, deadline=None, cancelled=lambda: False))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [number * number for number in range(12)]


def test_memory_is_looked_at_where_the_system_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, which has no `/proc`, and does not keep the limit of address space."""
    monkeypatch.setattr(confined, "_OWN", "/nowhere")
    monkeypatch.setattr(confined, "_LOOK", 0.05)
    monkeypatch.setattr(confined, "resident", lambda: 0)

    def grow() -> None:
        kept = [bytearray(1 << 20) for _ in range(400)]
        time.sleep(30)
        kept.clear()

    with pytest.raises(Unanswered, match="memory"):
        apart(grow, memory=300 << 20, deadline=time.monotonic() + 20, cancelled=lambda: False)


def test_a_fork_that_someone_else_has_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = os.waitpid

    def stolen(pid: int, options: int) -> tuple[int, int]:
        wait(pid, options)
        return wait(pid, options)

    monkeypatch.setattr(os, "waitpid", stolen)
    assert apart(lambda: 7, memory=1 << 30, deadline=None, cancelled=lambda: False) == 7
