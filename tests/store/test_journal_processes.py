"""Processes that write a journal, read it meanwhile, and are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_enclave.store.journal import Journal

ROOT = Path(__file__).parents[2]


def writer(path: Path, *, count: int = 0, name: str = "w") -> subprocess.Popen[str]:
    how = "some" if count else "forever"
    command = [sys.executable, "-m", "tests.store.writer", str(path), how, str(count), name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def numbers(journal: Journal) -> list[int]:
    return [int(record.message.split()[1]) for record in journal.snapshot()]


def test_whenever_a_process_is_killed_nothing_that_it_acknowledged_is_lost(tmp_path: Path):
    moments = random.Random(5)
    for attempt in range(25):
        path = tmp_path / f"journal-{attempt}"
        process = writer(path)
        assert process.stdout is not None
        process.stdout.readline()
        reader = Journal(path)
        until = time.monotonic() + moments.uniform(0, 0.05)
        seen = 0
        while time.monotonic() < until:
            reader.refresh()
            found = numbers(reader)
            assert found == list(range(len(found)))
            assert len(found) >= seen
            seen = len(found)
        os.kill(process.pid, signal.SIGKILL)
        lines = process.stdout.read().split("\n")
        process.stdout.close()
        process.wait()
        acknowledged = int(([0] + [line for line in lines if line])[-1])
        after_the_kill = Journal(path)
        for journal in (after_the_kill, reader):
            journal.refresh()
            assert numbers(journal) == list(range(len(journal.records)))
            assert len(journal.records) > acknowledged
            assert not journal.interrupted
        latest = {f"w {number % 7}": number for number in range(acknowledged + 1)}
        assert all(int(after_the_kill.artifacts[name]) >= number for name, number in latest.items())
        reader.close()
        after_the_kill.close()


def test_several_processes_may_write_at_once(tmp_path: Path):
    path = tmp_path / "journal"
    processes = [writer(path, count=100, name=f"w{number}") for number in range(4)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    journal = Journal(path)
    messages = [record.message for record in journal.snapshot()]
    for number in range(4):
        assert [message for message in messages if message.startswith(f"w{number} ")] == [
            f"w{number} {count}" for count in range(100)
        ]
    journal.close()


def test_a_process_that_dies_in_the_middle_of_a_run_leaves_word_of_it(tmp_path: Path):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pytest_enclave.store.journal import Journal\n"
        "with Journal(Path(sys.argv[1])).running():\n"
        "    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "journal")], cwd=ROOT, check=True)
    journal = Journal(tmp_path / "journal")
    assert journal.interrupted
    journal.close()


@pytest.mark.parametrize("attempt", range(3))
def test_processes_may_open_a_new_journal_at_the_same_time(tmp_path: Path, attempt: int):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.store.test_journal_processes import Journal\n"
        "sys.stdin.read()\n"
        "for number in range(20):\n"
        "    Journal(Path(sys.argv[1]) / f'journal-{number}').close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) for _ in range(4)]
    time.sleep(0.5)
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in processes] == [0] * 4
