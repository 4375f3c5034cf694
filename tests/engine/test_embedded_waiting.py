"""While something that takes its time is done for one service, the others are answered as ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded.engine import EmbeddedEngine
from pytest_enclave.engine.embedded.site import EmbeddedSite
from pytest_enclave.engine.protocol import Action
from pytest_enclave.linux.cgroups import Cgroups
from pytest_enclave.plan.facts import Status
from tests.engine.enclave_processes import Processes, children, descendants
from tests.engine.engine_enclave import Enclave, enclave_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

LONGEST = 0.05
"""Seconds that an answer may take meanwhile."""

FILES = 100_000

MANY = f"import os; os.mkdir('/srv/many'); [open(f'/srv/many/{{n}}', 'w').close() for n in range({FILES})]"


@pytest.fixture
def engine() -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine()
    yield engine
    assert engine.close() == []


@pytest.fixture
def enclave(engine: EmbeddedEngine) -> Iterator[Enclave]:
    """With a service that many things happen beside."""
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    enclave.up("beside", "host:/")
    yield enclave
    assert enclave.site.close() == []


def within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


class Asking:
    """Observes all the time; `longest` is how long the answer took that came last of all."""

    def __init__(self, enclave: Enclave) -> None:
        self._enclave = enclave
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.longest = 0.0
        self.answers = 0

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.002):
            began = time.monotonic()
            assert self._enclave.site.observe()["beside"].status is Status.RUNNING
            self.longest = max(self.longest, time.monotonic() - began)
            self.answers += 1


def files_of_an_enclave(engine: EmbeddedEngine) -> int:
    """How many files its storage has."""
    found = os.statvfs(f"/proc/{Processes(engine).init}/root/sys")
    return found.f_files - found.f_ffree


def longest_answer(engine: EmbeddedEngine, enclave: Enclave) -> float:
    """Seconds, while a service is removed that has written many files."""
    enclave.up("writer", "host:/")
    before = files_of_an_enclave(engine)
    written = enclave.site.exec("writer", ["/usr/bin/python3", "-I", "-S", "-c", MANY], None)
    assert written.code == 0, written
    assert files_of_an_enclave(engine) > before + FILES
    with Asking(enclave) as asking:
        enclave.site.act("writer", Action.REMOVE)
        assert within(20, lambda: files_of_an_enclave(engine) <= before), "it goes all the same"
    assert asking.answers > 10
    assert within(2, lambda: len(children(Processes(engine).init)) == 4), "and who removed it has ended"
    return asking.longest


def test_others_are_answered_while_what_a_service_wrote_is_removed(engine: EmbeddedEngine, enclave: Enclave):
    # Whatever else this machine does may be in the way, but not each time.
    assert any(longest_answer(engine, enclave) < LONGEST for _ in range(3))


def test_an_enclave_ends_whether_or_not_what_a_service_wrote_is_gone(engine: EmbeddedEngine):
    id_ = enclave_id()
    enclave = Enclave(engine.open(id_), id_)
    enclave.up("writer", "host:/")
    assert enclave.site.exec("writer", ["/usr/bin/python3", "-I", "-S", "-c", MANY], None).code == 0
    enclave.site.act("writer", Action.REMOVE)
    processes = Processes(engine)
    assert len(descendants(processes.init)) == 5, "it is being removed"
    assert enclave.site.close() == []
    assert processes.gone()


def test_a_control_group_that_is_still_busy_keeps_nobody_waiting(enclave: Enclave):
    found = Cgroups.find()
    if found is None or os.geteuid() != 0 or found.unified:
        pytest.skip("needs control groups of version 1 that a process of another group can be put into")
    enclave.up("limited", "host:/", max_memory=64)
    (group,) = glob(f"{found.parents['memory']}/{enclave.id.name}/limited*")
    straggler = subprocess.Popen(["sleep", "60"])
    try:
        Path(group, "cgroup.procs").write_text(str(straggler.pid))
        with Asking(enclave) as asking:
            began = time.monotonic()
            enclave.site.act("limited", Action.REMOVE)
            enclave.up("limited", "host:/", max_memory=64)
            assert time.monotonic() - began < 1
        assert asking.longest < LONGEST
        assert len(glob(f"{found.parents['memory']}/{enclave.id.name}/limited*")) == 2
    finally:
        straggler.kill()
        straggler.wait()
    assert within(1, lambda: not os.path.exists(group)), "it is removed as soon as it can be"


def test_a_service_that_has_ended_keeps_no_network_namespace(engine: EmbeddedEngine, enclave: Enclave):
    assert isinstance(enclave.site, EmbeddedSite)
    enclave.up("brief", "host:/")
    names = Processes(engine).names
    before = len(os.listdir(f"/proc/{names}/fd"))
    enclave.site.act("brief", Action.STOP)
    assert within(2, lambda: len(os.listdir(f"/proc/{names}/fd")) == before - 2), "its sockets for names are closed"
    enclave.site.act("brief", Action.START)
    assert enclave.sh("brief", "getent ahostsv4 beside").split()[0] == enclave.site.reserve("beside").ip_address
