"""The scheduler for pytest-xdist, in the place of its default one (`load`). Imported by xdist's controller alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController

from pytest_enclave.face.distribution import Allotment, published

AHEAD = 2
"""Tests that a worker needs to have: it begins one when it knows the next, whose fixtures may be the same."""


class EnclaveScheduling(LoadScheduling):
    """Hands tests out as an `Allotment` says; where no test needs an enclave, as xdist does it."""

    def __init__(self, config: pytest.Config, log: Producer, groups: Path) -> None:
        super().__init__(config, log)
        self._groups = groups
        self._allotment: Allotment | None = None

    def schedule(self) -> None:
        """Begin, when all workers have collected; or go on, when one has come in the place of another."""
        begins = self.collection is None
        if begins:
            groups = published(self._groups)
            if len(groups) == len(next(iter(self.node2collection.values()))):
                self._allotment = Allotment(groups)
        super().schedule()
        if begins and self.collection and self._allotment is not None:
            # Who has got a single test would wait for another one before it begins.
            for node in self.nodes:
                self.check_schedule(node)

    def check_schedule(self, node: WorkerController, duration: float = 0) -> None:
        """See to it that a worker has something to do; let it end where there is nothing left that it may run."""
        if self._allotment is None:
            super().check_schedule(node, duration)
            return
        if node.shutting_down:
            return
        self._send_tests(node, AHEAD)
        if len(self.node2pending[node]) < AHEAD:
            node.shutdown()

    def _send_tests(self, node: WorkerController, num: int) -> None:
        if self._allotment is None:
            super()._send_tests(node, num)
            return
        pending = self.node2pending[node]
        enough = min(AHEAD, len(pending) + num)
        while len(pending) < enough:
            tests = self._allotment.take(node, len(self.nodes), self.maxschedchunk or len(self.pending))
            if not tests:
                return
            for test in tests:
                self.pending.remove(test)
            pending.extend(tests)
            node.send_runtest_some(tests)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """A test has run."""
        if self._allotment is not None:
            self._allotment.finished(item_index)
        super().mark_test_complete(node, item_index, duration)

    def mark_test_pending(self, item: str) -> None:
        """A test is to be run again, because its worker has crashed."""
        if self._allotment is not None and self.collection is not None:
            self._allotment.give_back([self.collection.index(item)])
        super().mark_test_pending(item)

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker has ended, or crashed: what it had not begun is for others."""
        if self._allotment is not None:
            lost: Sequence[int] = self.node2pending[node][1:]
            self._allotment.leave(node)
            self._allotment.give_back(lost)
        return super().remove_node(node)
